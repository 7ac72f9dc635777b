package explain_test

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/explain"
)

// sums lists the checksum fields of a packet with what is said of them.
func sums(e *explain.Explanation) (all []explain.Field) {
	for _, l := range e.Layers {
		for _, f := range l.Fields {
			if strings.HasSuffix(f.Name, "checksum") {
				all = append(all, f)
			}
		}
	}
	return all
}

// On a wire all checksums are right; across a veth pair with its offloads some
// are only begun, and the outer one may be meant for the inner one's final value.
func TestChecksumsOfCaptures(t *testing.T) {
	const (
		correct = "correct"
		partial = "partial (pseudo-header sum only: a capture before checksum offload)"
		filled  = "correct once offload fills in the inner one"
		none    = "0, none: what RFC 7348 asks for on IPv4"
		cut     = "not judged: only a part of it is here"
		pieces  = "not judged: it covers all fragments"
	)
	for name, want := range map[string]map[string]int{
		// Counted over the capture: how often each judgement occurs.
		"v4-wire":    {none: 0},
		"v6-wire":    {none: 0},
		"v4-offload": {},
		"v6-offload": {},
		"superframe": {correct: 20, partial: 11, filled: 9},
		"gbp-8472":   {none: 6},
		"fragments":  {pieces: 2, cut: 2},
	} {
		got := map[string]int{}
		for _, e := range read(t, name+".pcap") {
			for _, f := range sums(e) {
				got[f.Meaning]++
				if f.Verdict == explain.Bad {
					t.Errorf("%s, packet %d: %s at %d is %s", name, e.Number, f.Name, f.Offset, f.Meaning)
				}
			}
		}
		wire := strings.HasSuffix(name, "-wire")
		for said, n := range got {
			if wire && said != correct {
				t.Errorf("%s: %d times %q: on a wire all are correct", name, n, said)
			}
			if n, ok := want[said]; ok && got[said] != n {
				t.Errorf("%s: %q %d times, want %d", name, said, got[said], n)
			}
		}
		if strings.HasSuffix(name, "-offload") && (got[correct] == 0 || got[partial] == 0 || got[filled] == 0) {
			t.Errorf("%s: want correct, partial and to be filled in, got %v", name, got)
		}
	}
}

// reference is RFC 1071 word by word, with nothing of the code under test.
func reference(b []byte, sum uint32) uint16 {
	for len(b) >= 2 {
		sum += uint32(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// The IPv4 header checksum, against the reference, in every capture.
func TestHeaderChecksumAgainstReference(t *testing.T) {
	n := 0
	for _, name := range captures {
		for _, e := range read(t, name+".pcap") {
			for _, l := range e.Layers {
				if l.Key != "ipv4" {
					continue
				}
				right := reference(e.Bytes[l.Offset:l.Offset+l.Size], 0) == 0
				for _, f := range l.Fields {
					if f.Name == "header checksum" {
						n++
						if (f.Verdict == explain.Good) != right {
							t.Errorf("%s, packet %d: said %q, the reference %v", name, e.Number, f.Meaning, right)
						}
					}
				}
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d headers were looked at", n)
	}
}

var shouldBe = regexp.MustCompile(`^wrong, should be 0x([0-9a-f]{4})$`)

// A flipped bit makes every checksum over it wrong; writing in what is said it
// should be makes it right again.
func TestWrongChecksumsAreRepairable(t *testing.T) {
	repaired := 0
	for _, name := range []string{"v4-wire", "v6-wire"} {
		for _, e := range read(t, name+".pcap") {
			if e.Number%4 != 0 {
				continue // enough of them
			}
			for bit := 0; bit < len(e.Bytes)*8; bit += 41 {
				b := slices.Clone(e.Bytes)
				b[bit/8] ^= 1 << (bit % 8)
				flipped := explain.Packet(b, explain.Ethernet, explain.Options{})
				if len(flipped.Problems) > 0 || len(flipped.Layers) != len(e.Layers) {
					continue // a length or a type: another packet altogether
				}
				// From the inside out: an outer sum covers the inner field.
				wrong := 0
				for {
					fields := sums(explain.Packet(b, explain.Ethernet, explain.Options{}))
					slices.Reverse(fields)
					i := slices.IndexFunc(fields, func(f explain.Field) bool { return f.Verdict == explain.Bad })
					if i < 0 {
						break
					}
					m := shouldBe.FindStringSubmatch(fields[i].Meaning)
					if m == nil || wrong > 10 {
						t.Fatalf("%s, packet %d, bit %d: %q", name, e.Number, bit, fields[i].Meaning)
					}
					v, _ := strconv.ParseUint(m[1], 16, 16)
					binary.BigEndian.PutUint16(b[fields[i].Offset:], uint16(v))
					wrong++
				}
				// All that no checksum covers is the outer Ethernet header.
				if bit/8 >= 14 && wrong == 0 && name == "v4-wire" {
					t.Errorf("%s, packet %d: nothing noticed bit %d", name, e.Number, bit)
				}
				repaired += wrong
			}
		}
	}
	if repaired < 200 {
		t.Errorf("only %d checksums were repaired", repaired)
	}
}

// A zero UDP checksum means another thing on each side and version.
func TestZeroChecksum(t *testing.T) {
	for _, c := range []struct {
		capture string
		packet  int
		where   string // Side of the UDP header to clear
		want    string
		verdict explain.Verdict
	}{
		{"v4-wire", 1, "outer", "0, none: what RFC 7348 asks for on IPv4", explain.Plain},
		{"v6-wire", 1, "outer", "0, none: on IPv6 only by agreement (RFC 6935)", explain.Note},
		{"v4-wire", 15, "inner", "0, none: allowed on IPv4", explain.Plain},
		{"v6-wire", 19, "inner", "0, none: not allowed on IPv6", explain.Bad},
	} {
		t.Run(fmt.Sprint(c.capture, " ", c.where), func(t *testing.T) {
			e := read(t, c.capture+".pcap")[c.packet-1]
			b := slices.Clone(e.Bytes)
			for i := range e.Layers {
				if l := &e.Layers[i]; l.Key == "udp" && e.Side(l) == c.where {
					b[l.Offset+6], b[l.Offset+7] = 0, 0
				}
			}
			e = explain.Packet(b, explain.Ethernet, explain.Options{})
			for i := range e.Layers {
				l := &e.Layers[i]
				if l.Key != "udp" || e.Side(l) != c.where {
					continue
				}
				f := l.Fields[3]
				if f.Meaning != c.want || f.Verdict != c.verdict {
					t.Errorf("%q (%v), want %q (%v)", f.Meaning, f.Verdict, c.want, c.verdict)
				}
				return
			}
			t.Fatalf("packet %d has no %s UDP header", c.packet, c.where)
		})
	}
}

// RFC 6040: congestion marked on the way over a packet that cannot carry the
// mark means a drop.
func TestECNOfTunnel(t *testing.T) {
	packet := slices.Clone(read(t, "v4-wire.pcap")[2].Bytes) // a ping
	const outer, inner = 14, 64
	mark := func(off int, ecn byte) {
		packet[off+1] = packet[off+1]&^3 | ecn
		binary.BigEndian.PutUint16(packet[off+10:], 0)
		binary.BigEndian.PutUint16(packet[off+10:], reference(packet[off:off+20], 0))
	}
	for _, c := range []struct {
		outer, inner byte
		want         explain.Verdict
	}{
		{0, 0, explain.Plain}, {2, 2, explain.Plain}, {3, 2, explain.Plain}, {3, 3, explain.Plain},
		{3, 0, explain.Bad}, {1, 0, explain.Note}, {1, 3, explain.Note},
	} {
		mark(outer, c.outer)
		mark(inner, c.inner)
		e := explain.Packet(packet, explain.Ethernet, explain.Options{})
		for _, f := range e.Layers[1].Fields {
			if f.Name == "ECN" && f.Verdict != c.want {
				t.Errorf("outer %d, inner %d: %v (%s), want %v", c.outer, c.inner, f.Verdict, f.Meaning, c.want)
			}
		}
	}
}
