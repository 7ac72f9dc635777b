package vxlan

import (
	"bytes"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func TestGBPBytes(t *testing.T) {
	for _, tt := range []struct {
		name string
		gbp  GBP
		want string
	}{
		{"group 0", GBP{}, "88000000 00100100"},
		{"group 1", GBP{ID: 1}, "88000001 00100100"},
		{"each byte its own", GBP{ID: 0x1234}, "88001234 00100100"},
		{"highest", GBP{ID: 0xFFFF}, "8800ffff 00100100"},
		{"do not learn", GBP{ID: 5, DontLearn: true}, "88400005 00100100"},
		{"applied", GBP{ID: 5, Applied: true}, "88080005 00100100"},
		{"both", GBP{ID: 0xABCD, DontLearn: true, Applied: true}, "8848abcd 00100100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := unhex(t, tt.want)
			got := make([]byte, HeaderLen)
			Header{4097}.Put(got)
			tt.gbp.Put(got)
			if !bytes.Equal(got, want) {
				t.Errorf("Put: % x, want % x", got, want)
			}
			if g, ok := ParseGBP(want); g != tt.gbp || !ok {
				t.Errorf("ParseGBP: %+v, %v", g, ok)
			}
			// What stood there before is gone.
			copy(got, unhex(t, "ff ff ff ff 00 10 01 00"))
			tt.gbp.Put(got)
			if g, ok := ParseGBP(got); g != tt.gbp || !ok {
				t.Errorf("over another: %+v, %v", g, ok)
			}
			if bits := ReservedBits(want); bits&^GBPBits != 0 || bits != tt.gbp.Bits() {
				t.Errorf("bits %#x", bits)
			}
			h, _, err := Parse(append(want, arpFrame()...))
			if h.VNI != 4097 || err != nil {
				t.Errorf("VNI %v, %v", h.VNI, err)
			}
		})
	}
}

// Without the G bit the others mean nothing.
func TestGBPWithoutG(t *testing.T) {
	for _, header := range []string{"08000000 00100100", "08480005 00100100", "7fffffff ffffffff"} {
		if g, ok := ParseGBP(unhex(t, header)); ok || g != (GBP{}) {
			t.Errorf("%s: %+v, %v", header, g, ok)
		}
	}
}

// gopacket agrees, but for the A bit, of which version 1.1.19 reads the highest
// bit of its byte.
func TestGBPByGopacket(t *testing.T) {
	for id := range 0x10000 {
		for flags := range 4 {
			g := GBP{ID: uint16(id), DontLearn: flags&1 != 0, Applied: flags&2 != 0}
			b := make([]byte, HeaderLen, HeaderLen+EthernetLen)
			Header{0xABCDEF}.Put(b)
			g.Put(b)
			var l layers.VXLAN
			if err := l.DecodeFromBytes(append(b, make([]byte, EthernetLen)...), gopacket.NilDecodeFeedback); err != nil {
				t.Fatal(err)
			}
			if !l.GBPExtension || l.GBPDontLearn != g.DontLearn || l.GBPGroupPolicyID != g.ID || l.VNI != 0xABCDEF || !l.ValidIDFlag {
				t.Fatalf("%+v: gopacket reads %+v", g, l)
			}
			if l.GBPApplied {
				t.Fatalf("gopacket has the A bit right: compare it here")
			}
		}
	}
}

func FuzzGBP(f *testing.F) {
	f.Add([]byte{0x88, 0x48, 0x12, 0x34, 0, 0x10, 1, 0})
	f.Add([]byte{8, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderLen {
			return
		}
		g, ok := ParseGBP(b)
		if ok != (b[0]&0x80 != 0) {
			t.Fatalf("% x: ok %v", b[:8], ok)
		}
		if !ok {
			return
		}
		again := bytes.Clone(b)
		g.Put(again)
		if !bytes.Equal(again, b) {
			t.Fatalf("% x: written again % x", b[:8], again[:8])
		}
	})
}
