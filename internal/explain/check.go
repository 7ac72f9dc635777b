package explain

import (
	"fmt"

	"github.com/govxlan/govxlan/internal/checksum"
)

// check is a checksum to judge once every layer is known: that of an outer UDP
// datagram may have been computed for what the inner one will be.
type check struct {
	layer, field int // where the verdict goes
	s            span
	at           int   // offset of the checksum
	flow         *flow // nil: no pseudo-header
	proto        uint8
	tunnel       bool // the outer UDP of a tunnel
}

// fill is a checksum that offload has still to fill in.
type fill struct {
	at   int
	want uint16
}

// judge gives every checksum its verdict, from the inside out.
func (d *dissector) judge() {
	var fills []fill
	for i := len(d.checks) - 1; i >= 0; i-- {
		c := &d.checks[i]
		f := &d.e.Layers[c.layer].Fields[c.field]
		var add *fill
		f.Meaning, f.Verdict, add = d.verdict(c, fills)
		if add != nil {
			fills = append(fills, *add)
		}
	}
}

func (d *dissector) verdict(c *check, fills []fill) (string, Verdict, *fill) {
	field := uint16(d.u16(c.at))
	if field == 0 && c.proto == protoUDP {
		switch {
		case !c.flow.v6 && c.tunnel:
			return "0, none: what RFC 7348 asks for on IPv4", Plain, nil
		case !c.flow.v6:
			return "0, none: allowed on IPv4", Plain, nil
		case c.tunnel:
			return "0, none: on IPv6 only by agreement (RFC 6935)", Note, nil
		}
		return "0, none: not allowed on IPv6", Bad, nil
	}
	if c.flow != nil && c.flow.fragment() {
		return "not judged: it covers all fragments", Plain, nil
	}
	if c.s.wire > c.s.end {
		return "not judged: only a part of it is here", Plain, nil
	}
	segment := d.b[c.s.off:c.s.end]
	var pseudo uint64
	if c.flow != nil {
		pseudo = checksum.Pseudo(c.flow.src.AsSlice(), c.flow.dst.AsSlice(), c.proto, len(segment))
	}
	sum := checksum.Sum(segment, pseudo)
	if checksum.Fold(sum) == 0xffff {
		return "correct", Good, nil
	}
	want := wanted(segment, c.at-c.s.off, pseudo)
	if c.proto == protoUDP && want == 0 {
		want = 0xffff // 0 means none (RFC 768)
	}
	if c.flow != nil && field == checksum.Fold(pseudo) {
		return "partial (pseudo-header sum only: a capture before checksum offload)", Note, &fill{c.at, want}
	}
	if d.rightWhenFilled(c, fills, pseudo) {
		return "correct once offload fills in the inner one", Good, nil
	}
	return fmt.Sprintf("wrong, should be 0x%04x", want), Bad, nil
}

// wanted is the checksum that belongs at offset at of segment.
func wanted(segment []byte, at int, initial uint64) uint16 {
	sum := checksum.Sum(segment[:at], initial)
	return checksum.Checksum(segment[at+2:], sum)
}

// rightWhenFilled says whether c holds for the packet with the inner checksums
// that offload has yet to fill in. Linux computes the outer one for them in
// advance ("local checksum offload").
func (d *dissector) rightWhenFilled(c *check, fills []fill, pseudo uint64) bool {
	segment := append([]byte(nil), d.b[c.s.off:c.s.end]...)
	n := 0
	for _, f := range fills {
		if f.at < c.s.off || f.at+2 > c.s.end {
			continue
		}
		segment[f.at-c.s.off] = byte(f.want >> 8)
		segment[f.at-c.s.off+1] = byte(f.want)
		n++
	}
	return n > 0 && checksum.Fold(checksum.Sum(segment, pseudo)) == 0xffff
}

// toJudge adds a checksum that judge will look at; layer's field named
// "checksum" takes the verdict.
func (d *dissector) toJudge(layer int, c check) {
	c.layer = layer
	for i, f := range d.e.Layers[layer].Fields {
		if f.Name == "checksum" {
			c.field = i
		}
	}
	d.checks = append(d.checks, c)
}
