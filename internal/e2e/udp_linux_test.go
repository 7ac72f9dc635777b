package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/vxlan"
)

// TestD14D15Ports: to 4789 unless told otherwise, for all peers or for one.
func TestD14D15Ports(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			l := newLone(t, "ports", v6)
			other := l.b.ip(v6)
			for _, c := range []struct {
				flags []string
				want  []uint16 // one for each peer
			}{
				{nil, []uint16{4789}},
				{[]string{"--port", "5000"}, []uint16{5000}},
				{[]string{"--peer", addrPort(other, 4790).String()}, []uint16{4789, 4790}},
				{[]string{"--port", "5000", "--peer", addrPort(other, 4790).String()}, []uint16{5000, 4790}},
			} {
				l.start(4097, c.flags...)
				l.device.send(testFrame(broadcast, station(1), nil, 60, 1))
				for _, want := range c.want {
					if o := l.heard(); o.dst != addrPort(other, want) {
						t.Errorf("%v: sent to %v, want %v", c.flags, o.dst, addrPort(other, want))
					}
				}
				// And what is sent to the port that it listens on is received.
				frame := testFrame(broadcast, station(2), nil, 60, 2)
				l.to = udpAddr(l.a.ip(v6), c.want[0])
				l.say(header(0x08, 0, l.vni, 0), frame)
				l.device.expect(frame)
			}
		})
	}
}

// TestD16D17SourcePorts: one inner flow keeps one port, many flows spread, and
// all are within the range.
func TestD16D17SourcePorts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flag         string
		lo, hi       uint16
		least, most  int // different ports for many flows
		offload, tag string
	}{
		{"", 49152, 65535, 14, 16, "auto", "default"},
		{"", 49152, 65535, 14, 16, "off", "default"},
		{"", 49152, 65535, 250, 256, "packet", "default"},
		{"50000-50003", 50000, 50003, 4, 4, "packet", "four"},
		{"4789-4789", 4789, 4789, 1, 1, "packet", "our own"},
		{"50000-50003", 50000, 50003, 4, 4, "auto", "four"},
		{"50000-50000", 50000, 50000, 1, 1, "auto", "one"},
		{"4789-4789", 4789, 4789, 1, 1, "auto", "our own"},
	} {
		t.Run(c.tag+"/offload="+c.offload, func(t *testing.T) {
			t.Parallel()
			flags := []string{"--transport", "udp", "--offload", c.offload}
			if c.offload == "packet" { // which has every port of the range
				flags = []string{"--transport", "packet"}
			}
			if c.flag != "" {
				flags = append(flags, "--source-ports", c.flag)
			}
			l := newLone(t, "sports", false, flags...)
			const flows = 256
			var frames [][]byte
			for i := range flows {
				switch i % 3 {
				case 0, 1: // UDP in IPv4, in IPv6
					frames = append(frames, ipFrame(broadcast, station(1), i%3 == 1, 0, [2]uint16{uint16(1000 + i), 80}, make([]byte, 100)))
				default: // not IP: by MAC
					frames = append(frames, testFrame(broadcast, station(byte(i)), nil, 100, uint32(i)))
				}
			}
			port := make(map[string]uint16) // by frame
			used := make(map[uint16]int)
			for range 3 {
				for i := 0; i < flows; i += 32 {
					for _, f := range frames[i : i+32] {
						l.device.send(f)
					}
					for range frames[i : i+32] {
						o := l.heard()
						frame := string(o.payload[vxlan.HeaderLen:])
						if p, ok := port[frame]; ok && p != o.src.Port() {
							t.Fatalf("a flow moved from port %d to %d", p, o.src.Port())
						}
						port[frame] = o.src.Port()
						used[o.src.Port()]++
						if o.src.Port() < c.lo || o.src.Port() > c.hi {
							t.Fatalf("source port %d is outside %d-%d", o.src.Port(), c.lo, c.hi)
						}
					}
				}
			}
			if len(port) != flows {
				t.Errorf("%d different flows were seen, want %d", len(port), flows)
			}
			if len(used) < c.least || len(used) > c.most {
				t.Errorf("%d flows used %d ports, want %d to %d: %v", flows, len(used), c.least, c.most, used)
			}
			for p, n := range used {
				if c.least > 1 && n > 3*flows*4/len(used) {
					t.Errorf("port %d carried %d of %d packets", p, n, 3*flows)
				}
			}
		})
	}
}

// craft builds a whole outer packet from the peer to the endpoint. change has
// the UDP header and what is behind it.
func (l *lone) craft(frame []byte, change func(udp []byte)) []byte {
	l.t.Helper()
	from, err := l.b.Link(underlayDevice)
	must(l.t, err)
	to, err := l.a.Link(underlayDevice)
	must(l.t, err)
	src, err := vxlan.ParseMAC(from.MAC)
	must(l.t, err)
	dst, err := vxlan.ParseMAC(to.MAC)
	must(l.t, err)
	ethernet := &layers.Ethernet{DstMAC: dst[:], SrcMAC: src[:], EthernetType: layers.EthernetTypeIPv4}
	udp := &layers.UDP{SrcPort: 50000, DstPort: vxlan.Port}
	stack := []gopacket.SerializableLayer{ethernet}
	if l.v6 {
		ethernet.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: l.b.ip6.AsSlice(), DstIP: l.a.ip6.AsSlice()}
		must(l.t, udp.SetNetworkLayerForChecksum(ip))
		stack = append(stack, ip)
	} else {
		ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: l.b.ip4.AsSlice(), DstIP: l.a.ip4.AsSlice()}
		must(l.t, udp.SetNetworkLayerForChecksum(ip))
		stack = append(stack, ip)
	}
	buf := gopacket.NewSerializeBuffer()
	must(l.t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		append(stack, udp, &layers.VXLAN{ValidIDFlag: true, VNI: uint32(l.vni)}, gopacket.Payload(frame))...))
	packet := buf.Bytes()
	change(packet[len(packet)-len(frame)-vxlan.HeaderLen-vxlan.UDPLen:])
	return packet
}

// TestD19D21D22ChecksumsReceived: a checksum of zero is accepted over IPv4 and
// not over IPv6 (RFC 6936 section 4), a right one is accepted, a wrong one is
// not; the same when the underlay's receive offload puts datagrams together.
func TestD19D21D22ChecksumsReceived(t *testing.T) {
	eachLone(t, "csum", func(t *testing.T, l *lone) {
		sender := openPort(t, l.b.Namespace, underlayDevice, false)
		for _, gro := range []bool{false, true} {
			must(t, l.a.SetFeatures(underlayDevice, map[string]bool{"rx-gro": gro}))
			for round := range uint32(20) {
				zero := testFrame(broadcast, station(2), nil, 200, 10*round+1)
				wrong := testFrame(broadcast, station(2), nil, 200, 10*round+2)
				right := testFrame(broadcast, station(2), nil, 200, 10*round+3)
				sender.send(l.craft(zero, func(udp []byte) { udp[6], udp[7] = 0, 0 }))
				sender.send(l.craft(wrong, func(udp []byte) { udp[6] ^= 0x40 }))
				sender.send(l.craft(wrong, func(udp []byte) { udp[len(udp)-1] ^= 1 }))
				sender.send(l.craft(right, func([]byte) {}))
				want := [][]byte{zero, right}
				if l.v6 {
					want = want[1:]
				}
				if err := l.device.arrive(want); err != nil {
					t.Fatalf("rx-gro %v, round %d: %v", gro, round, err)
				}
			}
		}
		l.silent()
	})
}

// TestD20ZeroIsSentAsOnes: a checksum that computes to zero is sent as 0xFFFF,
// since zero means that there is none (RFC 768).
func TestD20ZeroIsSentAsOnes(t *testing.T) {
	eachLone(t, "ones", func(t *testing.T, l *lone) {
		for number := range uint32(5) {
			frame := testFrame(broadcast, station(1), nil, 200+int(number), number)
			// Two bytes of the frame, at an even offset, are free. Find the
			// checksum with zeros there; that number makes it zero.
			frame[100], frame[101] = 0, 0
			l.device.send(frame)
			first := l.heard()
			if first.checksum == 0 && !l.v6 {
				return // D18: without a checksum, there is none to be zero
			}
			binary.BigEndian.PutUint16(frame[100:], first.checksum)
			l.device.send(frame)
			if o := l.heard(); o.checksum != 0xFFFF || !bytes.Equal(o.payload[vxlan.HeaderLen:], frame) {
				t.Errorf("frame %d: checksum %#x, want 0xFFFF (%#x before)", number, o.checksum, first.checksum)
			}
		}
	}, "--source-ports", "50000-50000")
}

// TestD27SourceAddress: packets come from the address that --local names, which
// is the one that peers learn.
func TestD27SourceAddress(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			l := newLone(t, "local", v6)
			second := netip.MustParseAddr("192.168.52.99")
			bits := 24
			if v6 {
				second, bits = netip.MustParseAddr("fd52::99"), 64
			}
			must(t, l.a.AddAddr(underlayDevice, fmt.Sprintf("%v/%d", second, bits)))
			for _, local := range []netip.Addr{l.a.ip(v6), second} {
				l.start(4097, "--local", local.String())
				l.device.send(testFrame(broadcast, station(1), nil, 60, 1))
				if o := l.heard(); o.src.Addr() != local {
					t.Errorf("--local %v: sent from %v", local, o.src)
				}
			}
		})
	}
}

// TestD33AnyOfOurAddresses: an endpoint on all addresses takes frames that were
// sent to any of them.
func TestD33AnyOfOurAddresses(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			l := newLone(t, "any", v6)
			second, any := "192.168.52.99/24", "0.0.0.0"
			if v6 {
				second, any = "fd52::99/64", "::"
			}
			must(t, l.a.AddAddr(underlayDevice, second))
			l.start(4097, "--local", any)
			for i, to := range []netip.Addr{l.a.ip(v6), netip.MustParsePrefix(second).Addr()} {
				frame := testFrame(broadcast, station(2), nil, 60, uint32(i))
				l.to = udpAddr(to, vxlan.Port)
				l.say(header(0x08, 0, l.vni, 0), frame)
				l.device.expect(frame)
			}
			// What it sends comes from the address that routing picks.
			l.device.send(testFrame(broadcast, station(1), nil, 60, 9))
			if o := l.heard(); o.dst.Addr() != l.b.ip(v6) || o.src.Addr().IsUnspecified() {
				t.Errorf("sent from %v to %v", o.src, o.dst)
			}
		})
	}
}

// TestD40CongestionMarks: the inner ECN bits are copied out, and those of the
// outer header come in as RFC 6040 figure 4 says, in all 16 combinations.
func TestD40CongestionMarks(t *testing.T) {
	const not, one, zero, ce, drop = 0, 1, 2, 3, -1
	figure4 := [4][4]int{ // [inner][outer]
		not:  {not: not, one: not, zero: not, ce: drop},
		one:  {not: one, one: one, zero: one, ce: ce},
		zero: {not: zero, one: one, zero: zero, ce: ce},
		ce:   {not: ce, one: ce, zero: ce, ce: ce},
	}
	eachLone(t, "ecn", func(t *testing.T, l *lone) {
		const dscp = 0xB8
		tosOf := func(frame []byte) byte {
			if frame[12] == 0x08 {
				return frame[15]
			}
			return frame[14]<<4 | frame[15]>>4
		}
		next := func() []byte { // the next of ours, on the device
			for {
				f := l.device.recv(deadline())
				if f == nil {
					t.Fatal("a frame did not arrive")
				}
				if f[11] == 2 {
					return f
				}
			}
		}
		drops := uint64(0)
		for _, v6 := range []bool{false, true} {
			for in := range 4 {
				l.device.send(ipFrame(broadcast, station(1), v6, dscp|byte(in), [2]uint16{}, []byte("out")))
				if o := l.heard(); o.tos != byte(in) {
					t.Errorf("inner %s ECN %d: outer TOS %#x, want %d", family(v6), in, o.tos, in)
				}
				for out := range 4 {
					frame := ipFrame(broadcast, station(2), v6, dscp|byte(in), [2]uint16{}, []byte("in"))
					l.setTOS(out)
					l.say(header(0x08, 0, l.vni, 0), frame)
					want := figure4[in][out]
					if want == drop {
						drops++
						eventually(t, func() error {
							if c := l.program.counters(); c.RxDropECN != drops {
								return fmt.Errorf("%d counted as dropped for ECN, want %d", c.RxDropECN, drops)
							}
							return nil
						})
						continue
					}
					expected := ipFrame(broadcast, station(2), v6, dscp|byte(want), [2]uint16{}, []byte("in"))
					if got := next(); !bytes.Equal(got, expected) {
						t.Errorf("%s inner %d, outer %d: arrived with TOS %#x, want %#x\n got %x\nwant %x", family(v6), in, out, tosOf(got), dscp|want, got, expected)
					}
				}
			}
		}
	})
}
