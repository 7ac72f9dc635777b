package explain

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Options say what is known about a packet beside its bytes. The zero value is
// a packet of which nothing else is known.
type Options struct {
	// Ports carry VXLAN too, beside 4789, 8472 (Linux's default) and 4790
	// (VXLAN-GPE). Optional.
	Ports []uint16

	// Number counts the packets of a capture, from 1. Optional.
	Number int

	// Time is when the packet was captured; WriteText shows it in its own
	// location. Optional.
	Time time.Time

	// Length is the packet's length on the wire in bytes, where the capture kept
	// only its beginning. Zero means len(b).
	Length int

	// Comment is what the capture says about the packet. Optional.
	Comment string
}

// Explanation is one packet taken apart. It never fails to exist: what could
// not be understood is in Problems.
type Explanation struct {
	Number  int
	Time    time.Time
	Comment string

	// Bytes is the packet as it was given, aliased and not copied.
	Bytes []byte

	// Length is the packet's length on the wire; more than len(Bytes) when the
	// capture kept only its beginning.
	Length int

	// Start is where the bytes begin: as it was told, or as it was detected.
	Start Start

	// Layers are in the order of their bytes, headers and payload, without gaps
	// as long as nothing was malformed.
	Layers []Layer

	// Lines are the summary in tcpdump's manner: the outer packet first, then
	// the inner frame of each tunnel.
	Lines []string

	// VNIs are the network identifiers of the VXLAN headers, outermost first.
	VNIs []uint32

	// Problems are what is malformed or missing, in the order it was met.
	Problems []Problem
}

// Layer is one header, or one piece of payload.
type Layer struct {
	Name  string // as people write it: "IPv4"
	Key   string // as programs read it: "ipv4"
	Depth int    // tunnels entered before it: 0 is the underlay once there is a tunnel

	Offset int // bytes from the start of the packet
	Size   int // bytes

	Fields []Field

	// Payload marks bytes that no protocol here explains: they are shown as a
	// hexdump.
	Payload bool
}

// Field is one field of a header: where it is, what it holds, what that means.
type Field struct {
	Name    string
	Offset  int    // bytes from the start of the packet
	Size    int    // bytes; 0 for a part smaller than a byte
	Value   any    // uint64, bool or string
	Text    string // the value as people read it
	Meaning string // one clause, empty when the value says it all
	Verdict Verdict
	Parts   []Field // the bits of a flags field, the options of a header

	// brief leaves the parts out of the text: Meaning says the same in words.
	brief bool
}

// Verdict judges a field.
type Verdict uint8

// The verdicts.
const (
	Plain Verdict = iota // nothing to judge
	Good                 // checked, and right
	Note                 // legal, but worth a look
	Bad                  // wrong
)

// String returns the word that JSON carries; empty for Plain.
func (v Verdict) String() string {
	switch v {
	case Good:
		return "good"
	case Note:
		return "note"
	case Bad:
		return "bad"
	}
	return ""
}

// Problem is one thing that is malformed, or missing from the capture.
type Problem struct {
	Offset int    // bytes from the start of the packet
	Layer  string // name of the layer it was met in
	Text   string // one sentence without a full stop

	// Cut says that the bytes are right as far as they go and the capture, not
	// the sender, left the rest out.
	Cut bool
}

// String names the place and the problem.
func (p Problem) String() string {
	return fmt.Sprintf("%s at byte %d: %s", p.Layer, p.Offset, p.Text)
}

// Packet explains the bytes of one packet. It never panics, whatever they are.
// The Explanation aliases b.
func Packet(b []byte, from Start, opt Options) *Explanation {
	e := &Explanation{
		Number:  opt.Number,
		Time:    opt.Time,
		Comment: opt.Comment,
		Bytes:   b,
		Length:  max(opt.Length, len(b)),
		Start:   from,
	}
	d := &dissector{e: e, b: b, ports: opt.Ports}
	all := span{0, len(b), e.Length}
	if from == Detect {
		e.Start = DetectStart(b)
	}
	switch {
	case len(b) == 0:
		d.problem(0, "packet", "it has no bytes")
	case e.Start == Detect:
		d.problem(0, "packet", "neither an Ethernet, an IP nor a VXLAN header is recognisable at its start")
		d.payload(all, "data")
	default:
		d.start(e.Start, all)
	}
	d.judge()
	e.judgeECN()
	for i := range d.lines {
		e.Lines = append(e.Lines, strings.TrimSpace(d.lines[i].String()))
	}
	return e
}

// ErrUndecodable is wrapped by [Explanation.Err].
var ErrUndecodable = errors.New("not decodable")

// Err returns nil when at least one header was understood, and else an error
// that wraps ErrUndecodable and names the first problem.
func (e *Explanation) Err() error {
	for _, l := range e.Layers {
		if !l.Payload {
			return nil
		}
	}
	if len(e.Problems) == 0 {
		return ErrUndecodable
	}
	return fmt.Errorf("%w: %s", ErrUndecodable, e.Problems[0])
}

// HasVNI says whether a VXLAN header of the packet carries vni.
func (e *Explanation) HasVNI(vni uint32) bool {
	for _, v := range e.VNIs {
		if v == vni {
			return true
		}
	}
	return false
}

// HasInner says whether the packet carries a frame in a tunnel.
func (e *Explanation) HasInner() bool {
	for _, l := range e.Layers {
		if l.Depth > 0 {
			return true
		}
	}
	return false
}

// tunnelled says whether "outer" and "inner" mean anything.
func (e *Explanation) tunnelled() bool { return len(e.VNIs) > 0 }

// Side names the layer's side of the tunnel: "outer", "vxlan" for the tunnel
// header itself, "inner", "inner 2" inside a tunnel in a tunnel; empty when the
// packet has no tunnel.
func (e *Explanation) Side(l *Layer) string {
	switch {
	case !e.tunnelled():
		return ""
	case l.Key == keyVXLAN || l.Key == keyGPE:
		return "vxlan"
	case l.Depth == 0:
		return "outer"
	case l.Depth == 1:
		return "inner"
	}
	return fmt.Sprintf("inner %d", l.Depth)
}

// Title is the layer's name with its side: "Outer IPv4", "VXLAN", "Inner ARP".
func (e *Explanation) Title(l *Layer) string {
	side := e.Side(l)
	if side == "" || side == "vxlan" {
		return upperFirst(l.Name)
	}
	return upperFirst(side) + " " + l.Name
}

func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
