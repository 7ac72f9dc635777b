package explain

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/gopacket"
)

// Bounds on what a hostile packet may repeat: what is beyond them is shown as
// data. No real packet comes near.
const (
	maxDepth      = 8  // tunnels in tunnels, and IP in IP
	maxTags       = 8  // VLAN tags of a frame
	maxExtensions = 32 // extension headers of an IPv6 packet
)

// span is a piece of the packet. Bytes [off, end) are here; on the wire it went
// on to wire, which is beyond end only where the capture kept less, or where
// other fragments have the rest.
type span struct{ off, end, wire int }

func (s span) here() int { return s.end - s.off }

func (s span) onWire() int { return s.wire - s.off }

// from returns the span n bytes further on.
func (s span) from(n int) span {
	return span{min(s.off+n, s.end), s.end, max(s.wire, min(s.off+n, s.end))}
}

// dissector takes one packet apart, from the outside in.
type dissector struct {
	e     *Explanation
	b     []byte
	ports []uint16

	depth  int // tunnels entered; also the summary line being written
	nested int // IP in IP
	tags   int // VLAN tags of the frame at hand

	// fragment is set inside the first fragment of a tunnel's packet: what is
	// missing there is in the others.
	fragment bool

	// quoting is set while the packet in an ICMP error is read: what that one
	// quotes is left alone.
	quoting bool

	lines []strings.Builder

	checks []check // checksums to judge when all layers are known
}

// problem records what is malformed.
func (d *dissector) problem(off int, layer, format string, args ...any) {
	d.e.Problems = append(d.e.Problems, Problem{Offset: off, Layer: layer, Text: fmt.Sprintf(format, args...)})
}

// cut records that bytes are not here though the sender sent them.
func (d *dissector) cut(off int, layer, verb string, want, have int) {
	where := "the capture kept"
	if d.fragment {
		where = "this fragment has"
	}
	text := fmt.Sprintf("%s %s, %s %s", verb, count(want, "byte"), where, had(have))
	d.e.Problems = append(d.e.Problems, Problem{Offset: off, Layer: layer, Text: text, Cut: true})
}

// broken is the word for a header that the last problem kept from being read.
func (d *dissector) broken() string {
	if n := len(d.e.Problems); n > 0 && d.e.Problems[n-1].Cut {
		return "cut short"
	}
	return "malformed"
}

// need says whether n bytes are here, and records why not.
func (d *dissector) need(s span, n int, layer string) bool {
	switch {
	case s.here() >= n:
		return true
	case s.onWire() >= n:
		d.cut(s.off, layer, "needs", n, s.here())
	default:
		d.problem(s.off, layer, "needs %s, there %s", count(n, "byte"), left(s.here()))
	}
	return false
}

// narrow returns the first n bytes of s, which a length field asks for. A field
// that asks for more than there is gives what there is.
func (d *dissector) narrow(s span, n, at int, layer, field string) span {
	switch {
	case s.off+n > s.wire:
		d.problem(at, layer, "%s says %s, there %s", field, count(n, "byte"), left(s.onWire()))
		return s
	case s.off+n > s.end:
		d.missing(at, layer, n, s.here())
	}
	return span{s.off, min(s.end, s.off+n), s.off + n}
}

// missing records once a packet that the capture cut short in its payload.
func (d *dissector) missing(at int, layer string, want, have int) {
	for _, p := range d.e.Problems {
		if p.Cut {
			return
		}
	}
	d.cut(at, layer, "has", want, have)
}

func count(n int, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

func had(n int) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%d", n)
}

func left(n int) string {
	switch n {
	case 0:
		return "are none"
	case 1:
		return "is 1"
	}
	return fmt.Sprintf("are %d", n)
}

// printf appends to the summary line of the frame at hand.
func (d *dissector) printf(format string, args ...any) {
	for len(d.lines) <= d.depth {
		d.lines = append(d.lines, strings.Builder{})
	}
	fmt.Fprintf(&d.lines[d.depth], format, args...)
}

// u8, u16 and u32 read the packet at an absolute offset; the caller has checked
// that it is there.
func (d *dissector) u8(off int) uint64  { return uint64(d.b[off]) }
func (d *dissector) u16(off int) uint64 { return uint64(binary.BigEndian.Uint16(d.b[off:])) }
func (d *dissector) u32(off int) uint64 { return uint64(binary.BigEndian.Uint32(d.b[off:])) }

// layer adds a header of size bytes and returns its index, which stays good
// while others are added.
func (d *dissector) layer(name, key string, off, size int, fields ...Field) int {
	d.e.Layers = append(d.e.Layers, Layer{
		Name: name, Key: key, Depth: d.depth,
		Offset: off, Size: size,
		Fields: fields,
	})
	return len(d.e.Layers) - 1
}

// payload adds bytes that nothing here explains.
func (d *dissector) payload(s span, name string) {
	if s.onWire() <= 0 && s.here() <= 0 {
		return
	}
	d.e.Layers = append(d.e.Layers, Layer{
		Name: name, Key: strings.ReplaceAll(name, " ", "_"), Depth: d.depth,
		Offset: s.off, Size: s.here(),
		Payload: true,
	})
}

// decoder is what decode needs of a layer of gopacket.
type decoder interface {
	DecodeFromBytes(b []byte, df gopacket.DecodeFeedback) error
}

// decode runs one of gopacket's layers over b. Some of them index past the end
// of hostile bytes; that is one more way of being malformed.
func decode(l decoder, b []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("its lengths contradict each other")
		}
	}()
	return l.DecodeFromBytes(b, gopacket.NilDecodeFeedback)
}

// Constructors of fields. The number forms keep the number for JSON and the
// text for people.

func number(name string, off, size int, v uint64, meaning string) Field {
	return Field{Name: name, Offset: off, Size: size, Value: v, Text: fmt.Sprint(v), Meaning: meaning}
}

func hexed(name string, off, size int, v uint64, meaning string) Field {
	return Field{Name: name, Offset: off, Size: size, Value: v, Text: fmt.Sprintf("0x%0*x", 2*size, v), Meaning: meaning}
}

func word(name string, off, size int, v, meaning string) Field {
	return Field{Name: name, Offset: off, Size: size, Value: v, Text: v, Meaning: meaning}
}

// bits is one flag, or one group of bits, of the field in which it is: width
// bits long in all, of which mask are meant.
func bits(name string, off, width int, v, mask uint64, meaning string) Field {
	f := Field{Name: name, Offset: off, Value: v & mask >> trailing(mask), Text: pattern(v, mask, width), Meaning: meaning}
	if mask&(mask-1) == 0 {
		f.Value = v&mask != 0
	}
	return f
}

func trailing(mask uint64) int {
	n := 0
	for mask != 0 && mask&1 == 0 {
		mask >>= 1
		n++
	}
	return n
}

// pattern draws a flag in its place: ".... 1...".
func pattern(v, mask uint64, width int) string {
	var s strings.Builder
	for i := width - 1; i >= 0; i-- {
		switch bit := uint64(1) << i; {
		case mask&bit == 0:
			s.WriteByte('.')
		case v&bit != 0:
			s.WriteByte('1')
		default:
			s.WriteByte('0')
		}
		if i%4 == 0 && i > 0 {
			s.WriteByte(' ')
		}
	}
	return s.String()
}

func (f Field) judged(v Verdict) Field {
	f.Verdict = v
	return f
}

// reason is a decoder's error in the middle of a sentence.
func reason(err error) string {
	s := err.Error()
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		s = strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// pick is the choice of a word.
func pick(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}

// printable makes text from the wire fit for a terminal: a name in a packet
// must not be able to move the cursor.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '.'
		}
		return r
	}, string(b))
}
