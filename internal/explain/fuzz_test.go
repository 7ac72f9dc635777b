package explain_test

import (
	"testing"

	"github.com/govxlan/govxlan/internal/explain"
)

// Any bytes, begun anywhere, captured whole or in part: an explanation whose
// layers fit, whose sums add up, whose text is clean and whose JSON is valid.
func FuzzPacket(f *testing.F) {
	for _, name := range captures {
		for i, e := range read(f, name+".pcap") {
			if i < 40 {
				f.Add(e.Bytes, uint8(e.Start), uint16(e.Length-len(e.Bytes)))
			}
		}
	}
	f.Add([]byte{}, uint8(0), uint16(0))
	f.Add([]byte{0x45}, uint8(explain.IP), uint16(1000))
	f.Fuzz(func(t *testing.T, b []byte, from uint8, missing uint16) {
		e := explain.Packet(b, explain.Start(from%8), explain.Options{
			Number: 1, Length: len(b) + int(missing%2000), Ports: []uint16{7}, Comment: string(b[:min(len(b), 9)]),
		})
		check(t, e)
	})
}

// An inner frame deep inside: what the packet claims about lengths, at every
// level, must not lead out of it.
func FuzzLengths(f *testing.F) {
	f.Add(uint16(16), uint16(38), uint16(66), uint16(0), uint16(0xffff), uint16(8), uint8(1))
	packets := read(f, "v4-wire.pcap")
	packets = append(packets, read(f, "crafted.pcap")...)
	packets = append(packets, read(f, "groups.pcap")...)
	f.Fuzz(func(t *testing.T, at1, at2, at3, v1, v2, v3 uint16, which uint8) {
		e := packets[int(which)%len(packets)]
		b := append([]byte(nil), e.Bytes...)
		for _, p := range [][2]uint16{{at1, v1}, {at2, v2}, {at3, v3}} {
			off := int(p[0]) % (len(b) - 1)
			b[off], b[off+1] = byte(p[1]>>8), byte(p[1])
		}
		check(t, explain.Packet(b, e.Start, explain.Options{}))
	})
}
