package explain

import (
	"fmt"
	"strings"
)

// Sizes say where the bytes of a packet go.
type Sizes struct {
	Total    int // bytes on the wire, from Start on
	Inner    int // bytes of the inner frame; 0 without a tunnel
	Overhead int // bytes of everything else; 0 without a tunnel
	Parts    []Part
}

// Part is one summand: of the overhead where there is a tunnel, else of the
// whole.
type Part struct {
	Name string
	Size int
}

// Sizes adds up the packet. Parts always sum to Overhead, or to Total without a
// tunnel.
func (e *Explanation) Sizes() Sizes {
	s := Sizes{Total: e.Length}
	sum := 0
	add := func(name string, n int) {
		if n <= 0 {
			return
		}
		sum += n
		if k := len(s.Parts); k > 0 && s.Parts[k-1].Name == name {
			s.Parts[k-1].Size += n
			return
		}
		s.Parts = append(s.Parts, Part{name, n})
	}
	for i := range e.Layers {
		if l := &e.Layers[i]; l.Depth == 0 {
			add(l.Name, l.Size)
		}
	}
	if e.HasInner() {
		s.Overhead = sum
		s.Inner = e.Length - sum
		return s
	}
	add("not captured", e.Length-len(e.Bytes))
	add("other", e.Length-sum)
	return s
}

// sizesLine is the sum in words: "148 bytes on the wire = 98 inner + 50 (14
// Ethernet + 20 IPv4 + 8 UDP + 8 VXLAN)".
func (e *Explanation) sizesLine() string {
	s := e.Sizes()
	var parts []string
	for _, p := range s.Parts {
		parts = append(parts, fmt.Sprintf("%d %s", p.Size, p.Name))
	}
	sum := strings.Join(parts, " + ")
	where := ""
	switch e.Start {
	case Ethernet:
		where = " on the wire"
	case IP:
		where = " from the IP header on"
	case VXLAN:
		where = " from the VXLAN header on"
	}
	head := fmt.Sprintf("%s%s", count(s.Total, "byte"), where)
	switch {
	case len(s.Parts) == 0:
		return head
	case !e.HasInner():
		return head + " = " + sum
	case len(s.Parts) == 1:
		return fmt.Sprintf("%s = %d inner + %s", head, s.Inner, sum)
	}
	return fmt.Sprintf("%s = %d inner + %d (%s)", head, s.Inner, s.Overhead, sum)
}
