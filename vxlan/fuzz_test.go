package vxlan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/internal/captured"
	"github.com/govxlan/govxlan/internal/checksum"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{8, 0, 0, 0, 0, 0x10, 0x01})
	f.Add(append([]byte{8, 0, 0, 0, 0, 0x10, 0x01, 0}, arpFrame()...))
	f.Add(append([]byte{0xFF, 1, 2, 3, 4, 5, 6, 7}, tcp4Frame(60)...))
	for _, d := range captured.Datagrams(f) {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		h, frame, err := Parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("Parse changed its input")
		}
		var want error
		switch {
		case len(b) < 8:
			want = ErrShort
		case b[0]&8 == 0:
			want = ErrFlags
		case len(b) < 22:
			want = ErrFrame
		}
		if err != want {
			t.Fatalf("error %v, want %v", err, want)
		}
		if err != nil {
			return
		}
		if !h.VNI.Valid() || len(frame) != len(b)-8 || &frame[0] != &b[8] {
			t.Fatalf("header %v, frame of %d of %d bytes", h, len(frame), len(b))
		}
		// What RFC 7348 defines and what it reserves make up the header.
		var again [8]byte
		h.Put(again[:])
		if got := binary.BigEndian.Uint64(again[:]) | ReservedBits(b); got != binary.BigEndian.Uint64(b) {
			t.Fatalf("header % x became %016x", b[:8], got)
		}
		if g, _, err := Parse(append(again[:], frame...)); g != h || err != nil {
			t.Fatalf("read again: %v, %v, want %v", g, err, h)
		}
	})
}

func FuzzParsePacket(f *testing.F) {
	for _, tt := range stacks {
		f.Add(unhex(f, tt.bytes))
	}
	f.Add(packet(f, stackOuter(false, false), tcp4Frame(60)))
	f.Add(packet(f, stackOuter(true, false), tcp6Frame(80)))
	for _, p := range captured.Packets(f) {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		// The fuzzer does not find checksums by itself.
		for _, l3 := range []int{14, 18} {
			if len(b) >= l3+IPv4Len && b[l3-2] == 8 && b[l3-1] == 0 && b[l3] == 0x45 {
				fixHeader(b[l3 : l3+IPv4Len])
			}
		}
		comparePacket(t, b)

		before := bytes.Clone(b)
		p, err := ParsePacket(b)
		if err != nil {
			if err != ErrHeaderChecksum && p.Frame != nil {
				t.Fatalf("with %v came a frame", err)
			}
			return
		}
		right := p.ChecksumOK()
		if !bytes.Equal(b, before) {
			t.Fatal("reading changed the packet")
		}

		// Written again, the packet reads the same.
		pkt := make([]byte, p.Outer.Len()+len(p.Frame))
		copy(pkt[p.Outer.Len():], p.Frame)
		if err := p.Outer.Put(pkt); err != nil {
			t.Fatalf("%+v does not write: %v", p.Outer, err)
		}
		q, err := ParsePacket(pkt)
		if err != nil || q.Outer != p.Outer || !bytes.Equal(q.Frame, p.Frame) {
			t.Fatalf("%+v, %v, want %+v", q, err, p)
		}
		if q.ChecksumOK() != (!p.ZeroChecksum || p.Src.Is4()) {
			t.Fatalf("%+v was written with a wrong checksum", q)
		}

		// Where there are no options, padding, reserved bits or wrong checksums, it
		// is the same bytes.
		l3 := EthernetLen
		if p.Tagged {
			l3 += VLANTagLen
		}
		header := b[len(b)-len(p.Frame)-HeaderLen:]
		if (right || p.ZeroChecksum) && ReservedBits(header) == 0 && isPlain(b[l3:]) && !bytes.Equal(pkt, b) {
			t.Fatalf("written again:\n% x, was\n% x", pkt, b)
		}
	})
}

// isPlain reports whether an outer IP packet has only what Outer can say: no
// options, no reserved flag, the checksum as it is computed and not its other
// form, and lengths that are those of the bytes.
func isPlain(ip []byte) bool {
	if ip[0]>>4 == 6 {
		return int(binary.BigEndian.Uint16(ip[4:])) == len(ip)-IPv6Len &&
			int(binary.BigEndian.Uint16(ip[IPv6Len+4:])) == len(ip)-IPv6Len
	}
	return ip[0] == 0x45 && ip[6]&0x80 == 0 && binary.BigEndian.Uint16(ip[10:]) != 0xFFFF &&
		int(binary.BigEndian.Uint16(ip[2:])) == len(ip) &&
		int(binary.BigEndian.Uint16(ip[IPv4Len+4:])) == len(ip)-IPv4Len
}

func FuzzInnerParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(arpFrame())
	f.Add(tcp4Frame(60))
	f.Add(tagged(tagged(tcp6Frame(80), 1), 2))
	f.Add(tcp6ExtensionFrame())
	f.Add(ethernet(etherTypeIPv6, ipv6(0, 44, join(fragmentHeader(protoUDP, 8, true), udp(1, 2))...)...))
	f.Add(ethernet(etherTypeIPv4, ipv4Options(3, protoUDP, udp(1, 2)...)...))
	for _, frame := range captured.Frames(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		frame := bytes.Clone(b)[:len(b):len(b)]
		var in Inner
		err := in.Parse(frame)
		if (err != nil) != (len(b) < EthernetLen) || err != nil && err != ErrFrame {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(frame, b) {
			t.Fatal("Parse changed the frame")
		}
		checkInner(t, frame, &in)
		compareInner(t, frame)

		// Parse sets every field, and looks neither behind the frame, even where
		// the slice has room, nor behind the IP packet.
		other := Inner{L3: -1, L4: -1, End: -1, Hash: 1, FlowLabel: 1, EtherType: 1, VLAN: 1, Tagged: true,
			Fragment: true, DF: true, Proto: 1, DSField: 1, HopLimit: 1}
		long := append(bytes.Clone(frame), bytes.Repeat([]byte{0xA5}, 64)...)
		if err := other.Parse(long[:len(frame)]); err != nil || other != in {
			t.Fatalf("%+v, %v; with room behind it %+v", in, err, other)
		}
		if in.L3 != 0 {
			for i := in.End; i < len(frame); i++ {
				long[i] ^= 0xFF
			}
			if err := other.Parse(long[:len(frame)]); err != nil || other != in {
				t.Fatalf("%+v; with other padding %+v", in, other)
			}
			if err := other.Parse(frame[:in.End:in.End]); err != nil || other != in {
				t.Fatalf("%+v; without padding %+v", in, other)
			}
		}

		// The ECN field can be set to anything; nothing else changes but the IPv4
		// checksum, which stays as right or wrong as it was.
		for e := NotECT; e <= CE; e++ {
			got, set := bytes.Clone(frame), in
			SetECN(got, &set, e)
			if in.L3 == 0 {
				if !bytes.Equal(got, frame) || set != in {
					t.Fatal("SetECN changed a frame without IP")
				}
				continue
			}
			if err := other.Parse(got); err != nil || other != set || set.ECN() != e {
				t.Fatalf("after SetECN %+v, a new parse says %+v", set, other)
			}
			want := bytes.Clone(frame)
			want[in.L3], want[in.L3+1] = got[in.L3], got[in.L3+1]
			if in.EtherType == etherTypeIPv4 {
				n := in.L3 + int(frame[in.L3]&15)*4
				before, after := checksum.Fold(checksum.Sum(frame[in.L3:n], 0)), checksum.Fold(checksum.Sum(got[in.L3:n], 0))
				if before%0xFFFF != after%0xFFFF {
					t.Fatalf("header sum %#04x became %#04x", before, after)
				}
				copy(want[in.L3+10:in.L3+12], got[in.L3+10:])
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("SetECN made\n% x of\n% x", got, frame)
			}
		}
	})
}

func FuzzOuterPut(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef0123456789abcdef01234567"), arpFrame())
	f.Add(bytes.Repeat([]byte{0xFF}, 56), tcp4Frame(61))
	f.Add(make([]byte, 56), ethernet(0x88B5))
	f.Fuzz(func(t *testing.T, b, frame []byte) {
		if len(b) < 56 || len(frame) < EthernetLen {
			return
		}
		o := Outer{
			DstMAC: MAC(b[0:6]), SrcMAC: MAC(b[6:12]), TTL: b[12], TOS: b[13],
			SrcPort: binary.BigEndian.Uint16(b[14:]), DstPort: binary.BigEndian.Uint16(b[16:]),
			VNI: VNI(binary.BigEndian.Uint32(b[18:])) & MaxVNI, Tagged: b[22]&1 != 0, ZeroChecksum: b[22]&2 != 0,
		}
		if o.Tagged {
			o.VLAN = binary.BigEndian.Uint16(b[52:])
		}
		if b[22]&4 != 0 {
			o.Src, o.Dst = netip.AddrFrom16([16]byte(b[20:36])).Unmap(), netip.AddrFrom16([16]byte(b[36:52])).Unmap()
			o.FlowLabel = binary.BigEndian.Uint32(b[52:]) & 0xFFFFF
		} else {
			o.Src, o.Dst = netip.AddrFrom4([4]byte(b[20:24])), netip.AddrFrom4([4]byte(b[36:40]))
			o.DF, o.ID = b[22]&8 != 0, binary.BigEndian.Uint16(b[54:])
		}
		template, err := o.Compile()
		if o.Src.Is4() != o.Dst.Is4() {
			if err != ErrFamily {
				t.Fatalf("Compile: %v", err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.Src.Is4() {
			o.FlowLabel = 0 // it was one IPv4 address mapped into IPv6, or two
		}
		pkt, other := room(o.Len(), frame), room(o.Len(), frame)
		err = o.Put(pkt)
		if tErr := template.Put(other, o.SrcPort, o.TOS, o.ID); tErr != err {
			t.Fatalf("Put: %v, Template.Put: %v", err, tErr)
		}
		if err != nil {
			if err != ErrLong || len(pkt) <= 65535 {
				t.Fatalf("%d bytes: %v", len(pkt), err)
			}
			return
		}
		if !bytes.Equal(pkt, other) {
			t.Fatalf("Put\n% x, Template.Put\n% x", pkt, other)
		}
		if want := oracleSerialize(t, &o, frame); !bytes.Equal(pkt, want) {
			t.Fatalf("Put\n% x, oracle\n% x", pkt, want)
		}
		p, err := ParsePacket(pkt)
		if err != nil || p.Outer != o || !bytes.Equal(p.Frame, frame) || p.ChecksumOK() == (o.ZeroChecksum && o.Src.Is6()) {
			t.Fatalf("%+v, %v, want %+v", p, err, o)
		}
	})
}

func FuzzParseVNI(f *testing.F) {
	for _, s := range []string{"", "0", "4097", "16777215", "16777216", "-1", "0x10", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVNI(s)
		if err != nil {
			if !errors.Is(err, ErrVNI) || v != 0 {
				t.Fatalf("%q: %d, %v", s, v, err)
			}
			return
		}
		if again, err := ParseVNI(v.String()); again != v || err != nil || !v.Valid() {
			t.Fatalf("%q is %d, which reads as %d, %v", s, v, again, err)
		}
		for _, c := range s {
			if c < '0' || c > '9' {
				t.Fatalf("%q was taken for %d", s, v)
			}
		}
	})
}

func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"", "02:42:ac:11:00:02", "02-42-AC-11-00-02", "0242.ac11.0002", "02:42-ac:11:00:02", "02:42:ac:11:00:02:00:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMAC(s)
		want, wantErr := net.ParseMAC(s)
		if ok := wantErr == nil && len(want) == 6; ok != (err == nil) {
			t.Fatalf("%q: %v, package net says %v, %v", s, err, want, wantErr)
		}
		if err != nil {
			if !errors.Is(err, ErrMAC) || m != (MAC{}) {
				t.Fatalf("%q: %v, %v", s, m, err)
			}
			return
		}
		if !bytes.Equal(m[:], want) || m.String() != want.String() {
			t.Fatalf("%q is %v, package net says %v", s, m, want)
		}
	})
}

func FuzzParsePortRange(f *testing.F) {
	for _, s := range []string{"", "49152-65535", "4789", "0-1", "2-1", "1-65536", "1-2-3"} {
		f.Add(s, uint32(0))
	}
	f.Fuzz(func(t *testing.T, s string, hash uint32) {
		r, err := ParsePortRange(s)
		if err != nil {
			if !errors.Is(err, ErrPortRange) || r != (PortRange{}) {
				t.Fatalf("%q: %v, %v", s, r, err)
			}
			return
		}
		if again, err := ParsePortRange(r.String()); again != r || err != nil || !r.Valid() {
			t.Fatalf("%q is %v, which reads as %v, %v", s, r, again, err)
		}
		if p := r.Port(hash); p < r.Lo || p > r.Hi {
			t.Fatalf("%v: port %d", r, p)
		}
	})
}
