package vxlan

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
)

// RFC 6040 section 4.1, normal mode: the outer field is a copy of the inner one.
func TestRFC6040_4_1_EncapCopies(t *testing.T) {
	for _, e := range []ECN{NotECT, ECT1, ECT0, CE} {
		if got := EncapECN(e); got != e {
			t.Errorf("EncapECN(%v) = %v", e, got)
		}
	}
}

// RFC 6040 section 4.2, figure 4: all 16 pairs. Where the figure has exclamation
// marks and still delivers, the verdict is an alert.
func TestRFC6040_4_2_Figure4(t *testing.T) {
	for _, tt := range []struct {
		inner, outer ECN
		want         ECN
		verdict      ECNVerdict
	}{
		{NotECT, NotECT, NotECT, ECNDeliver},
		{NotECT, ECT0, NotECT, ECNAlert},
		{NotECT, ECT1, NotECT, ECNAlert},
		{NotECT, CE, NotECT, ECNDrop},

		{ECT0, NotECT, ECT0, ECNDeliver},
		{ECT0, ECT0, ECT0, ECNDeliver},
		{ECT0, ECT1, ECT1, ECNDeliver},
		{ECT0, CE, CE, ECNDeliver},

		{ECT1, NotECT, ECT1, ECNDeliver},
		{ECT1, ECT0, ECT1, ECNAlert},
		{ECT1, ECT1, ECT1, ECNDeliver},
		{ECT1, CE, CE, ECNDeliver},

		{CE, NotECT, CE, ECNDeliver},
		{CE, ECT0, CE, ECNDeliver},
		{CE, ECT1, CE, ECNAlert},
		{CE, CE, CE, ECNDeliver},
	} {
		got, verdict := DecapECN(tt.outer, tt.inner)
		if got != tt.want || verdict != tt.verdict {
			t.Errorf("inner %v, outer %v: %v, %v; want %v, %v", tt.inner, tt.outer, got, verdict, tt.want, tt.verdict)
		}
	}
}

func TestECNNames(t *testing.T) {
	for e, want := range map[ECN]string{NotECT: "Not-ECT", ECT1: "ECT(1)", ECT0: "ECT(0)", CE: "CE"} {
		if e.String() != want {
			t.Errorf("%d: %q, want %q", e, e, want)
		}
	}
	for v, want := range map[ECNVerdict]string{ECNDeliver: "deliver", ECNAlert: "alert", ECNDrop: "drop", 9: "unknown"} {
		if v.String() != want {
			t.Errorf("%d: %q, want %q", v, v, want)
		}
	}
}

// Of IPv4 the checksum comes along; nothing else in the frame changes; in stays
// what a new parse says.
func TestSetECN(t *testing.T) {
	segment := tcp(20)
	for _, tt := range []struct {
		name  string
		frame func(tos uint8) []byte
	}{
		{"IPv4", func(tos uint8) []byte { return ethernet(etherTypeIPv4, ipv4(tos, protoTCP, 0, segment...)...) }},
		{"IPv4 tagged", func(tos uint8) []byte {
			return tagged(ethernet(etherTypeIPv4, ipv4(tos, protoTCP, 0, segment...)...), 5)
		}},
		{"IPv6", func(tos uint8) []byte { return ethernet(etherTypeIPv6, ipv6(tos, protoTCP, segment...)...) }},
		{"IPv6 tagged", func(tos uint8) []byte {
			return tagged(ethernet(etherTypeIPv6, ipv6(tos, protoTCP, segment...)...), 5)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for tos := range 256 {
				for e := NotECT; e <= CE; e++ {
					frame := tt.frame(uint8(tos))
					// The helpers compute the checksum anew.
					want := tt.frame(uint8(tos)&^3 | uint8(e))
					var in, again Inner
					if err := in.Parse(frame); err != nil {
						t.Fatal(err)
					}
					SetECN(frame, &in, e)
					if !bytes.Equal(frame, want) {
						t.Fatalf("tos %#02x, ECN %v:\n% x, want\n% x", tos, e, frame, want)
					}
					if err := again.Parse(frame); err != nil || again != in || in.ECN() != e {
						t.Fatalf("in is %+v, a new parse says %+v", in, again)
					}
				}
			}
		})
	}
}

// A header that arrived broken must not leave with a checksum that holds.
func TestSetECNKeepsAWrongChecksumWrong(t *testing.T) {
	frame := tcp4Frame(60)
	frame[24] ^= 0x10
	var in Inner
	if err := in.Parse(frame); err != nil {
		t.Fatal(err)
	}
	before := checksum.Checksum(frame[14:34], 0)
	SetECN(frame, &in, CE)
	if after := checksum.Checksum(frame[14:34], 0); after != before || after == 0 {
		t.Errorf("the header was off by %#04x, and is now by %#04x", before, after)
	}
}

func TestSetECNWithoutIP(t *testing.T) {
	for _, frame := range [][]byte{arpFrame(), ethernet(etherTypeIPv4, 0x45, 0, 0, 20)} {
		want := bytes.Clone(frame)
		var in Inner
		if err := in.Parse(frame); err != nil {
			t.Fatal(err)
		}
		SetECN(frame, &in, CE)
		if !bytes.Equal(frame, want) || in.DSField != 0 {
			t.Errorf("changed a frame without IP: % x", frame)
		}
	}
}

// The checksum field 0x0000 and 0xFFFF are one number; going round through every
// DSCP must end at one that verifies.
func TestSetECNChecksumAroundZero(t *testing.T) {
	frame := tcp4Frame(60)
	for id := range 0x10000 {
		h := frame[14:34]
		binary.BigEndian.PutUint16(h[4:], uint16(id))
		h[1], h[10], h[11] = 0, 0, 0
		binary.BigEndian.PutUint16(h[10:], checksum.Checksum(h, 0))
		var in Inner
		if err := in.Parse(frame); err != nil {
			t.Fatal(err)
		}
		SetECN(frame, &in, CE)
		if checksum.Checksum(h, 0) != 0 {
			t.Fatalf("id %#04x: checksum is wrong after SetECN: % x", id, h)
		}
		field := binary.BigEndian.Uint16(h[10:])
		h[10], h[11] = 0, 0
		if want := checksum.Checksum(h, 0); field != want {
			t.Fatalf("id %#04x: field %#04x, computed anew %#04x", id, field, want)
		}
	}
}
