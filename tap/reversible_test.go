package tap

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
)

// following is the i-th frame of a run that f begins: identification and
// sequence number counted on, checksums right if fix says so. A frame that is
// neither TCP nor UDP is repeated.
func following(f []byte, i int, fix bool) []byte {
	f = bytes.Clone(f)
	var p parsed
	if p.parse(f) == opaque {
		return f
	}
	if !p.v6 {
		binary.BigEndian.PutUint16(f[p.l3+4:], p.id+uint16(i))
		headerLen := int(f[p.l3]&0xF) * 4
		f[p.l3+10], f[p.l3+11] = 0, 0
		binary.BigEndian.PutUint16(f[p.l3+10:], checksum.Checksum(f[p.l3:p.l3+headerLen], 0))
	}
	field := p.l4 + udpChecksum
	if p.tcp {
		binary.BigEndian.PutUint32(f[p.l4+4:], p.seq+uint32(i*p.payload))
		field = p.l4 + tcpChecksum
	}
	if fix {
		f[field], f[field+1] = 0, 0
		pseudo := checksum.Pseudo(p.src, p.dst, p.proto, p.end-p.l4)
		binary.BigEndian.PutUint16(f[field:], checksum.Checksum(f[p.l4:p.end], pseudo))
	}
	return f
}

// FuzzCoalesceIsReversible: what the Coalescer makes of a run of frames, one of
// them damaged somewhere, is after taking apart what it makes of each of them
// alone.
func FuzzCoalesceIsReversible(f *testing.F) {
	for _, fl := range []flow{
		{src: 1, dst: 2, df: true, window: 3}, {src: 1, dst: 2}, {v6: true, src: 1, dst: 2},
		{udp: true, src: 1, dst: 2}, {udp: true, v6: true, src: 1, dst: 2}, {vlan: 5, src: 1, dst: 2},
	} {
		f.Add(fl.frame(f, 5, 7, pattern(100, 0)), uint8(5), uint16(0), uint8(0), true)
		f.Add(fl.frame(f, 5, 7, pattern(1000, 0)), uint8(70), uint16(40), uint8(1), true)
		f.Add(fl.frame(f, 5, 7, pattern(10, 0)), uint8(3), uint16(15), uint8(4), false)
	}
	f.Fuzz(func(t *testing.T, first []byte, count uint8, at uint16, flip uint8, fix bool) {
		if len(first) < 14 || len(first) > 14+testMTU {
			return
		}
		var frames [][]byte
		for i := range int(count)%100 + 1 {
			frames = append(frames, following(first, i, fix))
		}
		middle := frames[len(frames)/2]
		middle[int(at)%len(middle)] ^= flip

		merge := func(frames ...[]byte) [][]byte {
			c := Coalescer{MTU: testMTU}
			for _, b := range frames {
				// Damage may make a frame one of another flow, never an
				// oversize one: they are all as long as the first.
				if c.Add(bytes.Clone(b), 0) != Accepted {
					t.Fatalf("a frame of %d bytes was not accepted", len(b))
				}
			}
			return plainFrames(t, c.Vectors())
		}
		var want [][]byte
		for _, b := range frames {
			want = append(want, merge(b)...)
		}
		got := merge(frames...)
		if flip != 0 {
			// The damaged one may be of another flow, and those may overtake.
			slices.SortFunc(got, bytes.Compare)
			slices.SortFunc(want, bytes.Compare)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d frames in, %d out; they differ, or their order", len(want), len(got))
		}
	})
}
