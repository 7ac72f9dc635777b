package vxlan

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
)

// stacks are packets written down byte by byte.
var stacks = []struct {
	name  string
	outer Outer
	bytes string
}{
	{"IPv4", stackOuter(false, false),
		`0242c0a834cc 0242c0a834cb 0800
		 45ba0037 12344000 3f113de0 c0a834cb c0a834cc
		 c35012b5 00239fd9
		 08000000 00100100
		 02000000000b 02000000000a 88b5 0102030405`},
	{"IPv4 tagged, no checksum", stackOuter(false, true),
		`0242c0a834cc 0242c0a834cb 8100 6064 0800
		 45ba0037 12344000 3f113de0 c0a834cb c0a834cc
		 c35012b5 00230000
		 08000000 00100100
		 02000000000b 02000000000a 88b5 0102030405`},
	{"IPv6", stackOuter(true, false),
		`0242c0a834cc 0242c0a834cb 86dd
		 6baabcde 0023113f 20010db8000000000000000000000203 20010db8000000000000000000000204
		 c35012b5 00232b49
		 08000000 00100100
		 02000000000b 02000000000a 88b5 0102030405`},
	{"IPv6 tagged, no checksum", stackOuter(true, true),
		`0242c0a834cc 0242c0a834cb 8100 6064 86dd
		 6baabcde 0023113f 20010db8000000000000000000000203 20010db8000000000000000000000204
		 c35012b5 00230000
		 08000000 00100100
		 02000000000b 02000000000a 88b5 0102030405`},
}

func stackOuter(v6, tagged bool) Outer {
	o := Outer{
		SrcMAC: MAC{0x02, 0x42, 0xC0, 0xA8, 0x34, 0xCB}, DstMAC: MAC{0x02, 0x42, 0xC0, 0xA8, 0x34, 0xCC},
		TTL: 63, TOS: 0xBA, SrcPort: 50000, DstPort: Port, VNI: 4097,
	}
	if v6 {
		o.Src, o.Dst, o.FlowLabel = netip.MustParseAddr("2001:db8::203"), netip.MustParseAddr("2001:db8::204"), 0xABCDE
	} else {
		o.Src, o.Dst, o.DF, o.ID = netip.MustParseAddr("192.168.52.203"), netip.MustParseAddr("192.168.52.204"), true, 0x1234
	}
	if tagged {
		o.Tagged, o.VLAN, o.ZeroChecksum = true, 0x6064, true
	}
	return o
}

// room returns n bytes that are not zero, with frame behind them.
func room(n int, frame []byte) []byte {
	return append(bytes.Repeat([]byte{0xA5}, n), frame...)
}

func TestOuterPut(t *testing.T) {
	for _, tt := range stacks {
		t.Run(tt.name, func(t *testing.T) {
			want := unhex(t, tt.bytes)
			n := tt.outer.Len()
			frame := want[n:]
			pkt := room(n, frame)
			if err := tt.outer.Put(pkt); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(pkt, want) {
				t.Errorf("Put:\n% x, want\n% x", pkt, want)
			}

			template, err := tt.outer.Compile()
			if err != nil {
				t.Fatal(err)
			}
			if template.Len() != n {
				t.Errorf("Template.Len() = %d, want %d", template.Len(), n)
			}
			pkt = room(n, frame)
			if err := template.Put(pkt, tt.outer.SrcPort, tt.outer.TOS, tt.outer.ID); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(pkt, want) {
				t.Errorf("Template.Put:\n% x, want\n% x", pkt, want)
			}

			p, err := ParsePacket(want)
			if err != nil {
				t.Fatal(err)
			}
			if p.Outer != tt.outer || !bytes.Equal(p.Frame, frame) || !(p.ChecksumOK() || p.ZeroChecksum) {
				t.Errorf("ParsePacket: %+v", p)
			}
		})
	}
}

func TestOuterLen(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	mapped := netip.AddrFrom16(v4.As16())
	for _, tt := range []struct {
		dst    netip.Addr
		tagged bool
		want   int
	}{{v4, false, 50}, {v4, true, 54}, {v6, false, 70}, {v6, true, 74}, {mapped, false, 50}} {
		o := Outer{Src: tt.dst, Dst: tt.dst, Tagged: tt.tagged}
		if got := o.Len(); got != tt.want {
			t.Errorf("Len(%v, tagged %v) = %d, want %d", tt.dst, tt.tagged, got, tt.want)
		}
	}
}

func TestOuterErrors(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		name  string
		outer Outer
		pkt   int // length
		want  error
		fits  bool // the template compiles all the same
	}{
		{"no addresses", Outer{}, 100, ErrFamily, false},
		{"no source", Outer{Dst: v4}, 100, ErrFamily, false},
		{"no destination", Outer{Src: v6}, 100, ErrFamily, false},
		{"IPv4 to IPv6", Outer{Src: v4, Dst: v6}, 100, ErrFamily, false},
		{"IPv6 to IPv4", Outer{Src: v6, Dst: v4}, 100, ErrFamily, false},
		{"VNI", Outer{Src: v4, Dst: v4, VNI: MaxVNI + 1}, 100, ErrVNI, false},
		{"flow label", Outer{Src: v6, Dst: v6, FlowLabel: 1 << 20}, 100, ErrFlowLabel, false},
		{"flow label on IPv4 is not looked at", Outer{Src: v4, Dst: v4, FlowLabel: 1 << 20}, 100, nil, true},
		{"no room", Outer{Src: v4, Dst: v4}, 0, ErrFrame, true},
		{"13 bytes of frame", Outer{Src: v4, Dst: v4}, 63, ErrFrame, true},
		{"14 bytes of frame", Outer{Src: v4, Dst: v4}, 64, nil, true},
		{"13 bytes of frame behind a tag", Outer{Src: v4, Dst: v4, Tagged: true}, 67, ErrFrame, true},
		{"13 bytes of frame on IPv6", Outer{Src: v6, Dst: v6}, 83, ErrFrame, true},
		{"14 bytes of frame on IPv6", Outer{Src: v6, Dst: v6}, 84, nil, true},
		{"longest on IPv4", Outer{Src: v4, Dst: v4}, 14 + 65535, nil, true},
		{"too long on IPv4", Outer{Src: v4, Dst: v4}, 14 + 65536, ErrLong, true},
		{"longest with a tag", Outer{Src: v4, Dst: v4, Tagged: true}, 18 + 65535, nil, true},
		{"too long with a tag", Outer{Src: v4, Dst: v4, Tagged: true}, 18 + 65536, ErrLong, true},
		{"longest on IPv6", Outer{Src: v6, Dst: v6}, 54 + 65535, nil, true},
		{"too long on IPv6", Outer{Src: v6, Dst: v6}, 54 + 65536, ErrLong, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := func(what string, put func(pkt []byte) error) {
				pkt := room(tt.pkt, nil)
				if err := put(pkt); err != tt.want {
					t.Errorf("%s: %v, want %v", what, err, tt.want)
				}
				if tt.want != nil {
					if !bytes.Equal(pkt, room(tt.pkt, nil)) {
						t.Errorf("%s wrote before it failed", what)
					}
					return
				}
				p, err := ParsePacket(pkt)
				if err != nil || !p.ChecksumOK() || len(p.Frame) != tt.pkt-tt.outer.Len() {
					t.Errorf("%s wrote what does not read back: %v, frame of %d bytes", what, err, len(p.Frame))
				}
			}
			check("Put", tt.outer.Put)
			template, err := tt.outer.Compile()
			if tt.fits {
				if err != nil {
					t.Fatal(err)
				}
				check("Template.Put", func(pkt []byte) error { return template.Put(pkt, 1, 2, 3) })
			} else if err != tt.want || template != nil {
				t.Errorf("Compile: %v, %v, want %v", template, err, tt.want)
			}
		})
	}
}

// An IPv4 address may come from a socket of both families, mapped into IPv6; on
// the wire it is IPv4.
func TestOuterUnmapsIPv4(t *testing.T) {
	o := stackOuter(false, false)
	want := room(o.Len(), arpFrame())
	if err := o.Put(want); err != nil {
		t.Fatal(err)
	}
	mapped := o
	mapped.Src, mapped.Dst = netip.AddrFrom16(o.Src.As16()), netip.AddrFrom16(o.Dst.As16())
	for _, src := range []netip.Addr{o.Src, mapped.Src} {
		m := mapped
		m.Src = src
		got := room(m.Len(), arpFrame())
		if err := m.Put(got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("source %v: %v\n% x, want\n% x", src, err, got, want)
		}
	}
}

func TestOuterIgnoresZones(t *testing.T) {
	o := stackOuter(true, false)
	want := room(o.Len(), arpFrame())
	if err := o.Put(want); err != nil {
		t.Fatal(err)
	}
	o.Src = o.Src.WithZone("eth0")
	got := room(o.Len(), arpFrame())
	if err := o.Put(got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("with a zone: %v\n% x, want\n% x", err, got, want)
	}
}

// A packet whose UDP checksum computes to zero goes out with 0xFFFF.
func TestUDPChecksumZeroIsSentAsOnes(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		o := stackOuter(v6, false)
		// The last word of the frame takes what is missing to zero.
		frame := append(ethernet(0x88B5, 1, 2, 3, 4), 0, 0)
		pkt := room(o.Len(), frame)
		if err := o.Put(pkt); err != nil {
			t.Fatal(err)
		}
		at := o.Len() - HeaderLen - 2
		binary.BigEndian.PutUint16(frame[len(frame)-2:], binary.BigEndian.Uint16(pkt[at:]))
		template, err := o.Compile()
		if err != nil {
			t.Fatal(err)
		}
		for what, put := range map[string]func([]byte) error{
			"Put":          o.Put,
			"Template.Put": func(pkt []byte) error { return template.Put(pkt, o.SrcPort, o.TOS, o.ID) },
		} {
			pkt := room(o.Len(), frame)
			if err := put(pkt); err != nil {
				t.Fatal(err)
			}
			if got := binary.BigEndian.Uint16(pkt[at:]); got != 0xFFFF {
				t.Errorf("%s, IPv6 %v: checksum %#04x, want 0xffff", what, v6, got)
			}
			if p, err := ParsePacket(pkt); err != nil || p.ZeroChecksum || !p.ChecksumOK() {
				t.Errorf("%s, IPv6 %v: reads back as zero %v, right %v, %v", what, v6, p.ZeroChecksum, p.ChecksumOK(), err)
			}
		}
	}
}

// One Template serves packets of every length, port, TOS and ID in turn.
func TestTemplateEqualsPut(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, tag := range []bool{false, true} {
			for _, zero := range []bool{false, true} {
				o := stackOuter(v6, tag)
				o.ZeroChecksum = zero
				template, err := o.Compile()
				if err != nil {
					t.Fatal(err)
				}
				for i, n := range []int{14, 15, 60, 61, 1464, 9000, 65000} {
					o.SrcPort, o.ID, o.TOS = uint16(49152+i*1000), uint16(i*9999), uint8(i*41)
					if !v6 && i%2 == 1 {
						o.ID = 0xFFFF
					}
					frame := tcp4Frame(60)
					if n > 60 {
						frame = tcp4Frame(n)
					}
					want, got := room(o.Len(), frame[:n]), room(o.Len(), frame[:n])
					if err := o.Put(want); err != nil {
						t.Fatal(err)
					}
					if err := template.Put(got, o.SrcPort, o.TOS, o.ID); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, want) {
						t.Errorf("IPv6 %v, tag %v, zero %v, %d bytes:\n% x, want\n% x", v6, tag, zero, n, got[:o.Len()], want[:o.Len()])
					}
				}
			}
		}
	}
}

// Every pair of TOS and length gives an IPv4 header whose checksum holds.
func TestTemplateIPv4HeaderChecksum(t *testing.T) {
	o := stackOuter(false, false)
	o.ZeroChecksum = true
	template, err := o.Compile()
	if err != nil {
		t.Fatal(err)
	}
	pkt := make([]byte, 2000)
	for id := 0; id < 0x10000; id += 3 {
		n := 64 + id%1900
		if err := template.Put(pkt[:n], 1, uint8(id), uint16(id)); err != nil {
			t.Fatal(err)
		}
		if checksum.Checksum(pkt[14:34], 0) != 0 {
			t.Fatalf("id %#04x: wrong checksum in % x", id, pkt[14:34])
		}
	}
}
