package vxlan

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
)

// extension returns an IPv6 extension header in the general format, n*8 bytes
// long: n bytes of options for n-1 (RFC 8200 section 4).
func extension(next uint8, n int) []byte {
	h := make([]byte, 8*n)
	h[0], h[1] = next, byte(n-1)
	return h
}

// fragmentHeader returns an IPv6 fragment header; offset counts in bytes.
func fragmentHeader(next uint8, offset int, more bool) []byte {
	h := make([]byte, 8)
	h[0] = next
	word := uint16(offset)
	if more {
		word |= 1
	}
	binary.BigEndian.PutUint16(h[2:], word)
	binary.BigEndian.PutUint32(h[4:], 0xCAFE)
	return h
}

// authentication returns an IPv6 authentication header with an integrity check
// value of 12 bytes: 24 bytes (RFC 4302 section 2).
func authentication(next uint8) []byte {
	h := make([]byte, 24)
	h[0], h[1] = next, 24/4-2
	return h
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// ipv4Options returns an IPv4 packet with n*4 bytes of no-operation options.
func ipv4Options(n int, proto uint8, payload ...byte) []byte {
	p := ipv4(0, proto, 0, payload...)
	h := append(bytes.Clone(p[:IPv4Len]), bytes.Repeat([]byte{1}, 4*n)...)
	h[0] += byte(n)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	binary.BigEndian.PutUint16(h[10:], 0)
	binary.BigEndian.PutUint16(h[10:], checksum.Checksum(h, 0))
	return append(h, payload...)
}

// Hash is left out of the expectations here: see hash_test.go.
func TestInnerParse(t *testing.T) {
	tcp4 := ipv4(0xB9, protoTCP, 0x4000, tcp(24)...)
	udp4 := ipv4(0, protoUDP, 0, udp(5000, 53, 1, 2, 3)...)
	tcp6 := ipv6(0xB9, protoTCP, tcp(24)...)
	ip4 := func(payload ...byte) []byte { return ethernet(etherTypeIPv4, payload...) }
	ip6 := func(payload ...byte) []byte { return ethernet(etherTypeIPv6, payload...) }
	edit := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	// What holds for the IPv6 packets of these helpers.
	v6 := func(in Inner) Inner {
		in.EtherType, in.HopLimit, in.FlowLabel = etherTypeIPv6, 64, 0x12345
		if in.L3 == 0 {
			in.L3 = 14
		}
		return in
	}
	var chain8, chain9 []byte
	for range 7 {
		chain8 = append(chain8, extension(protoDestOptions, 1)...)
	}
	chain9 = append(bytes.Clone(chain8), extension(protoDestOptions, 1)...)
	chain8 = append(chain8, extension(protoUDP, 1)...)
	chain9 = append(chain9, extension(protoUDP, 1)...)

	for _, tt := range []struct {
		name  string
		frame []byte
		want  Inner
	}{
		{"IPv4 TCP", ip4(tcp4...),
			Inner{L3: 14, L4: 34, End: 58, EtherType: 0x0800, Proto: 6, DSField: 0xB9, HopLimit: 64, DF: true}},
		{"IPv4 UDP and padding", append(ip4(udp4...), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
			Inner{L3: 14, L4: 34, End: 45, EtherType: 0x0800, Proto: 17, HopLimit: 64}},
		{"IPv4 options", ip4(ipv4Options(10, protoUDP, udp(1, 2)...)...),
			Inner{L3: 14, L4: 74, End: 82, EtherType: 0x0800, Proto: 17, HopLimit: 64}},
		{"IPv4 ICMP", ip4(ipv4(0, 1, 0, 8, 0, 0, 0)...),
			Inner{L3: 14, L4: 34, End: 38, EtherType: 0x0800, Proto: 1, HopLimit: 64}},
		{"IPv4 without payload", ip4(ipv4(0, 1, 0)...),
			Inner{L3: 14, End: 34, EtherType: 0x0800, Proto: 1, HopLimit: 64}},
		{"IPv4 TCP header cut short", ip4(ipv4(0, protoTCP, 0, tcp(20)[:19]...)...),
			Inner{L3: 14, End: 53, EtherType: 0x0800, Proto: 6, HopLimit: 64}},
		{"IPv4 UDP header cut short", ip4(ipv4(0, protoUDP, 0, udp(1, 2)[:7]...)...),
			Inner{L3: 14, End: 41, EtherType: 0x0800, Proto: 17, HopLimit: 64}},
		{"IPv4 SCTP", ip4(ipv4(0, protoSCTP, 0, make([]byte, 12)...)...),
			Inner{L3: 14, L4: 34, End: 46, EtherType: 0x0800, Proto: 132, HopLimit: 64}},
		{"IPv4 SCTP header cut short", ip4(ipv4(0, protoSCTP, 0, make([]byte, 11)...)...),
			Inner{L3: 14, End: 45, EtherType: 0x0800, Proto: 132, HopLimit: 64}},
		{"IPv4 TCP header behind the total length", append(ip4(ipv4(0, protoTCP, 0)...), tcp(20)...),
			Inner{L3: 14, End: 34, EtherType: 0x0800, Proto: 6, HopLimit: 64}},
		{"IPv4 first fragment", ip4(ipv4(0, protoTCP, 0x2000, tcp(24)...)...),
			Inner{L3: 14, End: 58, EtherType: 0x0800, Proto: 6, HopLimit: 64, Fragment: true}},
		{"IPv4 last fragment", ip4(ipv4(0, protoTCP, 3, tcp(24)...)...),
			Inner{L3: 14, End: 58, EtherType: 0x0800, Proto: 6, HopLimit: 64, Fragment: true}},
		{"IPv4 reserved flag is no fragment", ip4(ipv4(0, protoTCP, 0x8000, tcp(24)...)...),
			Inner{L3: 14, L4: 34, End: 58, EtherType: 0x0800, Proto: 6, HopLimit: 64}},

		{"802.1Q", tagged(ip4(tcp4...), 0xB064),
			Inner{L3: 18, L4: 38, End: 62, EtherType: 0x0800, Tagged: true, VLAN: 0xB064, Proto: 6, DSField: 0xB9, HopLimit: 64, DF: true}},
		{"802.1Q with VLAN 0", tagged(ip4(tcp4...), 0),
			Inner{L3: 18, L4: 38, End: 62, EtherType: 0x0800, Tagged: true, Proto: 6, DSField: 0xB9, HopLimit: 64, DF: true}},
		{"802.1ad over 802.1Q", taggedAs(tagged(ip4(tcp4...), 7), 0x88A8, 9),
			Inner{L3: 22, L4: 42, End: 66, EtherType: 0x0800, Tagged: true, VLAN: 9, Proto: 6, DSField: 0xB9, HopLimit: 64, DF: true}},
		{"four tags", tagged(tagged(tagged(tagged(ip4(udp4...), 1), 2), 3), 4),
			Inner{L3: 30, L4: 50, End: 61, EtherType: 0x0800, Tagged: true, VLAN: 4, Proto: 17, HopLimit: 64}},
		{"five tags", tagged(tagged(tagged(tagged(tagged(ip4(udp4...), 1), 2), 3), 4), 5),
			Inner{EtherType: 0x8100, Tagged: true, VLAN: 5}},
		{"tag cut short", ethernet(0x8100, 0, 5, 8), Inner{EtherType: 0x8100}},
		{"second tag cut short", tagged(ethernet(0x88A8, 0, 5, 8), 6), Inner{EtherType: 0x88A8, Tagged: true, VLAN: 6}},
		{"tag and nothing behind it", tagged(ethernet(0x0806), 6), Inner{EtherType: 0x0806, Tagged: true, VLAN: 6}},

		{"ARP", arpFrame(), Inner{EtherType: 0x0806}},
		{"EtherType alone", ethernet(0x0800), Inner{EtherType: 0x0800}},
		{"802.3 length", ethernet(3, 0x42, 0x42, 3), Inner{EtherType: 3}},

		{"IPv4 header cut short", ip4(tcp4[:19]...), Inner{EtherType: 0x0800}},
		{"IPv4 with version 6", ip4(edit(tcp4, 0, 0x65)...), Inner{EtherType: 0x0800}},
		{"IPv4 header length 16", ip4(edit(tcp4, 0, 0x44)...), Inner{EtherType: 0x0800}},
		{"IPv4 header length past the total length", ip4(edit(ipv4(0, 1, 0), 0, 0x46)...), Inner{EtherType: 0x0800}},
		{"IPv4 total length below its header", ip4(edit(tcp4, 2, 0, 19)...), Inner{EtherType: 0x0800}},
		{"IPv4 total length past the frame", ip4(edit(tcp4, 2, 0, 45)...), Inner{EtherType: 0x0800}},
		{"IPv6 header cut short", ip6(tcp6[:39]...), Inner{EtherType: 0x86DD}},
		{"IPv6 with version 4", ip6(edit(tcp6, 0, 0x45)...), Inner{EtherType: 0x86DD}},
		{"IPv6 payload length past the frame", ip6(edit(tcp6, 4, 0, 25)...), Inner{EtherType: 0x86DD}},

		{"IPv6 TCP", ip6(tcp6...), v6(Inner{L4: 54, End: 78, Proto: 6, DSField: 0xB9})},
		{"IPv6 tagged", tagged(ip6(tcp6...), 100),
			v6(Inner{L3: 18, L4: 58, End: 82, Proto: 6, DSField: 0xB9, Tagged: true, VLAN: 100})},
		{"IPv6 and padding", append(ip6(ipv6(0, protoUDP, udp(1, 2)...)...), 1, 2, 3), v6(Inner{L4: 54, End: 62, Proto: 17})},
		{"IPv6 TCP header cut short", ip6(ipv6(0, protoTCP, tcp(20)[:19]...)...), v6(Inner{End: 73, Proto: 6})},
		{"IPv6 no next header", ip6(ipv6(0, 59)...), v6(Inner{End: 54, Proto: 59})},
		{"IPv6 hop-by-hop", ip6(ipv6(0, 0, join(extension(protoTCP, 1), tcp(20))...)...), v6(Inner{L4: 62, End: 82, Proto: 6})},
		{"IPv6 long destination options", ip6(ipv6(0, 60, join(extension(protoUDP, 32), udp(1, 2))...)...),
			v6(Inner{L4: 310, End: 318, Proto: 17})},
		{"IPv6 hop-by-hop, routing, destination, mobility, HIP, shim6",
			ip6(ipv6(0, 0, join(extension(43, 1), extension(60, 3), extension(135, 1), extension(139, 2), extension(140, 1), extension(protoUDP, 1), udp(1, 2))...)...),
			v6(Inner{L4: 54 + 72, End: 54 + 80, Proto: 17})},
		{"IPv6 authentication", ip6(ipv6(0, protoAH, join(authentication(protoTCP), tcp(20))...)...), v6(Inner{L4: 78, End: 98, Proto: 6})},
		{"IPv6 ESP ends the walk", ip6(ipv6(0, 0, join(extension(50, 1), make([]byte, 24))...)...), v6(Inner{L4: 62, End: 86, Proto: 50})},
		{"IPv6 eight extension headers", ip6(ipv6(0, 60, join(chain8, udp(1, 2))...)...), v6(Inner{L4: 54 + 64, End: 54 + 72, Proto: 17})},
		{"IPv6 nine extension headers", ip6(ipv6(0, 60, join(chain9, udp(1, 2))...)...), v6(Inner{End: 54 + 80, Proto: 60})},
		{"IPv6 extension header cut short", ip6(ipv6(0, 0, extension(protoTCP, 1)[:7]...)...), v6(Inner{End: 61, Proto: 0})},
		{"IPv6 extension header past the end", ip6(ipv6(0, 0, edit(join(extension(protoTCP, 1), tcp(20)), 1, 3)...)...),
			v6(Inner{End: 82, Proto: 6})},
		{"IPv6 extension header in the padding", append(ip6(ipv6(0, 0)...), extension(protoTCP, 1)...), v6(Inner{End: 54, Proto: 0})},
		{"IPv6 extension header and nothing behind", ip6(ipv6(0, 0, extension(protoTCP, 1)...)...), v6(Inner{End: 62, Proto: 6})},
		{"IPv6 first fragment", ip6(ipv6(0, 44, join(fragmentHeader(protoTCP, 0, true), tcp(24))...)...),
			v6(Inner{End: 86, Proto: 6, Fragment: true})},
		{"IPv6 later fragment", ip6(ipv6(0, 44, join(fragmentHeader(protoTCP, 1448, false), tcp(24))...)...),
			v6(Inner{End: 86, Proto: 6, Fragment: true})},
		{"IPv6 fragment behind hop-by-hop", ip6(ipv6(0, 0, join(extension(44, 1), fragmentHeader(protoTCP, 8, true), tcp(24))...)...),
			v6(Inner{End: 94, Proto: 6, Fragment: true})},
		{"IPv6 atomic fragment, reserved bits set", ip6(ipv6(0, 44, join([]byte{protoTCP, 0xFF, 0, 6, 0, 0, 0, 1}, tcp(24))...)...),
			v6(Inner{L4: 62, End: 86, Proto: 6})},
		{"IPv6 atomic fragment is none", ip6(ipv6(0, 44, join(fragmentHeader(protoTCP, 0, false), tcp(24))...)...),
			v6(Inner{L4: 62, End: 86, Proto: 6})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := bytes.Clone(tt.frame)
			// A used one: Parse must set every field.
			in := Inner{L3: 1, End: 2, L4: 3, Hash: 4, FlowLabel: 5, EtherType: 6, VLAN: 7, Tagged: true,
				Fragment: true, DF: true, Proto: 8, DSField: 9, HopLimit: 10}
			if err := in.Parse(tt.frame); err != nil {
				t.Fatal(err)
			}
			in.Hash = 0
			if in != tt.want {
				t.Errorf("\n got %+v\nwant %+v", in, tt.want)
			}
			if !bytes.Equal(before, tt.frame) {
				t.Error("the frame was changed")
			}
		})
	}
}

func TestInnerParseShort(t *testing.T) {
	frame := tcp4Frame(60)
	for n := range EthernetLen {
		in := Inner{L3: 1, Hash: 4, Tagged: true}
		if err := in.Parse(frame[:n]); err != ErrFrame {
			t.Errorf("%d bytes: %v, want ErrFrame", n, err)
		}
		if in != (Inner{}) {
			t.Errorf("%d bytes: left %+v", n, in)
		}
	}
	var in Inner
	if err := in.Parse(frame[:EthernetLen]); err != nil {
		t.Errorf("14 bytes: %v", err)
	}
}

// Cut anywhere, a frame gives no panic, and no offset points behind its end.
func TestInnerParseCutAnywhere(t *testing.T) {
	for _, frame := range [][]byte{
		tcp4Frame(80), tcp6Frame(100), tagged(tagged(tcp4Frame(80), 1), 2), tcp6ExtensionFrame(),
		ethernet(etherTypeIPv6, ipv6(0, 0, join(extension(44, 1), fragmentHeader(60, 0, false), extension(51, 1), authentication(protoUDP), udp(1, 2))...)...),
	} {
		for n := EthernetLen; n <= len(frame); n++ {
			var in Inner
			if err := in.Parse(frame[:n:n]); err != nil {
				t.Fatal(err)
			}
			checkInner(t, frame[:n], &in)
		}
	}
}

// checkInner holds for every frame that was parsed.
func checkInner(t testing.TB, frame []byte, in *Inner) {
	t.Helper()
	switch {
	case in.L3 == 0:
		if in.L4 != 0 || in.End != 0 || in.Fragment || in.DF || in.Proto != 0 || in.DSField != 0 || in.HopLimit != 0 || in.FlowLabel != 0 {
			t.Fatalf("no IP header, and yet %+v", in)
		}
	case in.L3 < EthernetLen || in.End < in.L3+IPv4Len || in.End > len(frame):
		t.Fatalf("offsets out of the frame of %d bytes: %+v", len(frame), in)
	}
	if in.L4 != 0 {
		need := int(transportLen[in.Proto])
		if in.Fragment || in.L4 < in.L3+IPv4Len || in.End-in.L4 < need {
			t.Fatalf("no room for the transport header: %+v", in)
		}
	}
	if !in.Tagged && in.VLAN != 0 {
		t.Fatalf("VLAN without a tag: %+v", in)
	}
	if in.FlowLabel > 0xFFFFF {
		t.Fatalf("flow label past 20 bits: %+v", in)
	}
}
