package vxlan

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

func hashOf(t testing.TB, frame []byte) uint32 {
	t.Helper()
	var in Inner
	if err := in.Parse(frame); err != nil {
		t.Fatal(err)
	}
	return in.Hash
}

// The hash of a flow is part of what goes onto the wire: the same on every
// machine, whatever its word size and byte order.
func TestHashGolden(t *testing.T) {
	for _, tt := range []struct {
		name  string
		frame []byte
		want  uint32
	}{
		{"IPv4 TCP", tcp4Frame(60), goldenIPv4TCP},
		{"IPv4 TCP tagged", tagged(tcp4Frame(60), 100), goldenIPv4TCP},
		{"IPv6 TCP", tcp6Frame(80), goldenIPv6TCP},
		{"IPv6 TCP behind an extension header", tcp6ExtensionFrame(), goldenIPv6TCP},
		{"ARP", arpFrame(), goldenARP},
	} {
		if got := hashOf(t, tt.frame); got != tt.want {
			t.Errorf("%s: %#08x, want %#08x", tt.name, got, tt.want)
		}
	}
}

const (
	goldenIPv4TCP = 0x29D51B6B
	goldenIPv6TCP = 0xAB669B60
	goldenARP     = 0x6788483C
)

// What is in the hash and what is not.
func TestHashCovers(t *testing.T) {
	icmp := ethernet(etherTypeIPv4, ipv4(0, 1, 0, 8, 0, 0, 0, 0, 1, 0, 1)...)
	sctp := ethernet(etherTypeIPv4, ipv4(0, protoSCTP, 0, make([]byte, 12)...)...)
	udp6 := ethernet(etherTypeIPv6, ipv6(0, protoUDP, udp(1, 2, 3)...)...)
	frag4 := ethernet(etherTypeIPv4, ipv4(0, protoUDP, 0x2000, udp(1, 2, 3, 4, 5)...)...)
	frag6 := ethernet(etherTypeIPv6, ipv6(0, 44, join(fragmentHeader(protoUDP, 0, true), udp(1, 2))...)...)
	for _, tt := range []struct {
		name   string
		frame  []byte
		at     int
		covers bool
	}{
		{"IPv4 source", tcp4Frame(60), 29, true},
		{"IPv4 destination", tcp4Frame(60), 30, true},
		{"TCP source port", tcp4Frame(60), 34, true},
		{"TCP destination port", tcp4Frame(60), 37, true},
		{"TCP sequence number", tcp4Frame(60), 38, false},
		{"IPv4 ID", tcp4Frame(60), 18, false},
		{"IPv4 TTL", tcp4Frame(60), 22, false},
		{"IPv4 TOS", tcp4Frame(60), 15, false},
		{"IPv4 header checksum", tcp4Frame(60), 24, false},
		{"MAC source of IPv4", tcp4Frame(60), 11, false},
		{"MAC destination of IPv4", tcp4Frame(60), 0, false},
		{"VLAN", tagged(tcp4Frame(60), 1), 15, false},
		{"SCTP port", sctp, 35, true},
		{"SCTP tag", sctp, 38, false},
		{"ICMP type", icmp, 34, false},
		{"ICMP address", icmp, 33, true},
		{"IPv6 source, high half", udp6, 25, true},
		{"IPv6 source, low half", udp6, 37, true},
		{"IPv6 destination, high half", udp6, 41, true},
		{"IPv6 destination, low half", udp6, 53, true},
		{"IPv6 UDP port", udp6, 57, true},
		{"IPv6 flow label", udp6, 17, false},
		{"IPv6 hop limit", udp6, 21, false},
		{"IPv6 MAC", udp6, 5, false},
		{"IPv4 fragment, address", frag4, 33, true},
		{"IPv4 fragment, port", frag4, 35, false},
		{"IPv6 fragment, address", frag6, 37, true},
		{"IPv6 fragment, port", frag6, 63, false},
		{"IPv6 fragment, protocol", frag6, 54, false},
		{"ARP source MAC", arpFrame(), 11, true},
		{"ARP destination MAC", arpFrame(), 0, true},
		{"ARP EtherType", arpFrame(), 13, true},
		{"ARP payload", arpFrame(), 30, false},
	} {
		other := bytes.Clone(tt.frame)
		other[tt.at] ^= 1
		if changed := hashOf(t, other) != hashOf(t, tt.frame); changed != tt.covers {
			t.Errorf("%s: hash changed %v, want %v", tt.name, changed, tt.covers)
		}
	}
	// The protocol counts where the ports do.
	a := ethernet(etherTypeIPv4, ipv4(0, protoUDP, 0, udp(1, 2, make([]byte, 12)...)...)...)
	b := ethernet(etherTypeIPv4, ipv4(0, protoTCP, 0, udp(1, 2, make([]byte, 12)...)...)...)
	if hashOf(t, a) == hashOf(t, b) {
		t.Error("TCP and UDP between the same ports have one hash")
	}
}

// All fragments of a packet have one hash, and so one source port; otherwise the
// underlay may carry them on different paths.
func TestHashOfFragments(t *testing.T) {
	payload := join(udp(5000, 53), bytes.Repeat([]byte{7}, 64))
	first4 := hashOf(t, ethernet(etherTypeIPv4, ipv4(0, protoUDP, 0x2000, payload[:24]...)...))
	for _, f := range []struct {
		flags   uint16
		payload []byte
	}{{0x2003, payload[24:48]}, {6, payload[48:]}, {6, payload[48:49]}} {
		if got := hashOf(t, ethernet(etherTypeIPv4, ipv4(0, protoUDP, f.flags, f.payload...)...)); got != first4 {
			t.Errorf("IPv4 fragment %#04x: %#08x, the first has %#08x", f.flags, got, first4)
		}
	}
	frag6 := func(next uint8, offset int, more bool, payload []byte) uint32 {
		return hashOf(t, ethernet(etherTypeIPv6, ipv6(0, 0, join(extension(44, 1), fragmentHeader(next, offset, more), payload)...)...))
	}
	// Destination options behind the fragment header are in the first one only.
	first6 := frag6(60, 0, true, join(extension(protoUDP, 1), payload[:16]))
	for _, got := range []uint32{
		frag6(60, 24, true, payload[16:40]),
		frag6(60, 48, false, payload[40:]),
		frag6(protoUDP, 48, false, payload[40:]), // RFC 8200 section 4.5 lets this differ
	} {
		if got != first6 {
			t.Errorf("IPv6 fragment: %#08x, the first has %#08x", got, first6)
		}
	}
}

// flows calls f with the hash of each of n flows, of a kind that real traffic
// has and that a weak hash maps onto few values.
var flows = map[string]func(n int, f func(uint32)){
	"IPv4 counting source ports": func(n int, f func(uint32)) {
		frame := tcp4Frame(60)
		for i := range n {
			binary.BigEndian.PutUint16(frame[34:], uint16(i))
			frame[29] = byte(i >> 16)
			f(mustHash(frame))
		}
	},
	"IPv4 counting hosts": func(n int, f func(uint32)) {
		frame := tcp4Frame(60)
		for i := range n {
			binary.BigEndian.PutUint32(frame[26:], 0x0A000000+uint32(i))
			f(mustHash(frame))
		}
	},
	"IPv4 ICMP counting both hosts": func(n int, f func(uint32)) {
		frame := ethernet(etherTypeIPv4, ipv4(0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0)...)
		for i := range n {
			frame[28], frame[29] = byte(i>>14), byte(i>>7)
			frame[33] = byte(i & 127)
			f(mustHash(frame))
		}
	},
	"IPv6 counting interface identifiers": func(n int, f func(uint32)) {
		frame := tcp6Frame(80)
		for i := range n {
			binary.BigEndian.PutUint32(frame[34:], uint32(i))
			f(mustHash(frame))
		}
	},
	"IPv6 counting ports by two": func(n int, f func(uint32)) {
		frame := tcp6Frame(80)
		for i := range n {
			binary.BigEndian.PutUint16(frame[56:], uint16(2*i))
			frame[53] = byte(i >> 15)
			f(mustHash(frame))
		}
	},
	"MAC addresses counting": func(n int, f func(uint32)) {
		frame := arpFrame()
		for i := range n {
			binary.BigEndian.PutUint32(frame[8:], uint32(i))
			f(mustHash(frame))
		}
	},
}

func mustHash(frame []byte) uint32 {
	var in Inner
	if err := in.Parse(frame); err != nil {
		panic(err)
	}
	return in.Hash
}

// The high bits choose the source port, and the low ones may choose a socket or a
// queue: over regular flows, each choice must be as even as chance.
func TestHashSpreads(t *testing.T) {
	const n = 1 << 17
	ports := PortRange{SourcePortLo, SourcePortHi}
	few := PortRange{50000, 50012}
	for name, each := range flows {
		for _, choice := range []struct {
			name string
			of   int
			pick func(h uint32) int
		}{
			{"port of 16384", 16384, func(h uint32) int { return int(ports.Port(h)) - SourcePortLo }},
			{"port of 13", 13, func(h uint32) int { return int(few.Port(h)) - 50000 }},
			{"low 3 bits", 8, func(h uint32) int { return int(h & 7) }},
			{"low 10 bits", 1024, func(h uint32) int { return int(h & 1023) }},
			{"middle 8 bits", 256, func(h uint32) int { return int(h >> 12 & 255) }},
			{"modulo 3", 3, func(h uint32) int { return int(h % 3) }},
			{"modulo 7", 7, func(h uint32) int { return int(h % 7) }},
		} {
			counts := make([]int, choice.of)
			each(n, func(h uint32) { counts[choice.pick(h)]++ })
			expect := float64(n) / float64(choice.of)
			chi := 0.0
			for _, c := range counts {
				chi += (float64(c) - expect) * (float64(c) - expect) / expect
			}
			// Chi square of k degrees has mean k and variance 2k.
			k := float64(choice.of - 1)
			if z := (chi - k) / math.Sqrt(2*k); z > 6 {
				t.Errorf("%s, %s: chi square %.0f over %.0f degrees, %.1f deviations too uneven", name, choice.name, chi, k, z)
			}
		}
	}
}

// The port and the socket must not be one choice: within each eighth of the
// ports, the low bits are even too.
func TestHashHighAndLowBitsAreIndependent(t *testing.T) {
	const n = 1 << 16
	for name, each := range flows {
		var counts [8][8]int
		each(n, func(h uint32) { counts[h>>29][h&7]++ })
		chi := 0.0
		for _, row := range counts {
			for _, c := range row {
				chi += (float64(c) - n/64) * (float64(c) - n/64) / (n / 64)
			}
		}
		if z := (chi - 63) / math.Sqrt(2*63); z > 6 {
			t.Errorf("%s: chi square %.0f over 63 degrees", name, chi)
		}
	}
}

// Each bit of the input turns each bit of the hash in half of the flows.
func TestHashAvalanche(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, tt := range []struct {
		name   string
		frame  []byte
		lo, hi int
	}{
		{"IPv4 addresses and ports", tcp4Frame(60), 26, 38},
		{"IPv6 addresses and ports", tcp6Frame(80), 22, 58},
		{"MAC addresses", arpFrame(), 0, 12},
	} {
		const rounds = 2000
		frame := bytes.Clone(tt.frame)
		for bit := 8 * tt.lo; bit < 8*tt.hi; bit++ {
			var turned [32]int
			for range rounds {
				for i := tt.lo; i < tt.hi; i++ {
					frame[i] = byte(rng.Uint32())
				}
				before := mustHash(frame)
				frame[bit/8] ^= 1 << (bit % 8)
				diff := before ^ mustHash(frame)
				for i := range turned {
					turned[i] += int(diff >> i & 1)
				}
			}
			for i, n := range turned {
				// 6 deviations of a fair coin over 2000 rounds are 134.
				if math.Abs(float64(n)-rounds/2) > 140 {
					t.Errorf("%s: bit %d turns bit %d of the hash in %d of %d", tt.name, bit, i, n, rounds)
				}
			}
		}
	}
}

func TestPortRangePort(t *testing.T) {
	r := PortRange{SourcePortLo, SourcePortHi}
	for _, tt := range []struct {
		hash uint32
		want uint16
	}{{0, 49152}, {1<<18 - 1, 49152}, {1 << 18, 49153}, {1<<32 - 1, 65535}} {
		if got := r.Port(tt.hash); got != tt.want {
			t.Errorf("Port(%#x) = %d, want %d", tt.hash, got, tt.want)
		}
	}
	// Both ends belong to the range, and every port is chosen.
	for _, r := range []PortRange{{5, 5}, {1, 3}, {1, 65535}, {65535, 65535}} {
		seen := make(map[uint16]bool)
		for h := uint64(0); h < 1<<32; h += 1 << 13 {
			seen[r.Port(uint32(h))] = true
		}
		if len(seen) != r.Len() || !seen[r.Lo] || !seen[r.Hi] {
			t.Errorf("%v: %d ports chosen, lowest %v, highest %v", r, len(seen), seen[r.Lo], seen[r.Hi])
		}
	}
}
