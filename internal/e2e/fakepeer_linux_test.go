package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// lone is one endpoint whose only peer, on host b, is played by the test: with
// a UDP socket where any bytes can be sent from, and a capture of the wire. No
// stack says anything on the overlay.
type lone struct {
	t       *testing.T
	a, b    *host
	program *program
	v6      bool
	vni     vxlan.VNI

	device *packetPort  // the overlay, as the host of the endpoint sees it
	wire   *packetPort  // the underlay, where the peer is
	socket *net.UDPConn // of the peer, on port 4789
	to     net.Addr     // the endpoint
}

// newLone makes two hosts and starts an endpoint on one of them, on real wire.
func newLone(t *testing.T, label string, v6 bool, flags ...string) *lone {
	t.Helper()
	hosts := newHosts(t, label, 2, wiring{real: true})
	hosts[0].quiet(t)
	l := &lone{t: t, a: hosts[0], b: hosts[1], v6: v6}
	l.wire = openPort(t, l.b.Namespace, underlayDevice, false)
	c, err := l.b.ListenPacket("udp", addrPort(l.b.ip(v6), vxlan.Port).String())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	l.socket = c.(*net.UDPConn)
	l.start(4097, flags...)
	return l
}

// start starts the endpoint, stopping the one before.
func (l *lone) start(vni vxlan.VNI, flags ...string) {
	l.t.Helper()
	if l.program != nil && !l.program.ended {
		l.program.stop()
	}
	l.vni = vni
	flags = append([]string{"--vni", vni.String(), "--peer", l.b.ip(l.v6).String()}, flags...)
	l.program = up(l.t, l.a.Namespace, flags...)
	l.device = openPort(l.t, l.a.Namespace, l.program.device(), false)
	l.to = udpAddr(l.a.ip(l.v6), vxlan.Port)
}

// header is a VXLAN header of 8 bytes as RFC 7348 section 5 draws it.
func header(flags byte, reserved uint32, vni vxlan.VNI, last byte) []byte {
	return []byte{
		flags, byte(reserved >> 16), byte(reserved >> 8), byte(reserved),
		byte(vni >> 16), byte(vni >> 8), byte(vni), last,
	}
}

// say sends a datagram from the peer to the endpoint.
func (l *lone) say(parts ...[]byte) {
	l.t.Helper()
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	if _, err := l.socket.WriteTo(b, l.to); err != nil {
		l.t.Fatalf("send %d bytes to the endpoint: %v", len(b), err)
	}
}

// sayBy is say by a device, which a group has to be sent by.
func (l *lone) sayBy(device string, parts ...[]byte) {
	l.t.Helper()
	raw, err := l.socket.SyscallConn()
	must(l.t, err)
	must(l.t, l.b.Do(func() error {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		var failed error
		err = raw.Control(func(fd uintptr) {
			if l.v6 {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, link.Index)
			} else {
				failed = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(link.Index)})
			}
		})
		return errors.Join(err, failed)
	}))
	l.say(parts...)
}

// defragments says whether outer fragments reach the endpoint put together:
// not over packet sockets and IPv6.
func (l *lone) defragments() bool {
	l.t.Helper()
	return !l.v6 || l.program.status().Transport != "packet"
}

// setTOS sets the outer TOS, or traffic class, of what the peer says next.
func (l *lone) setTOS(tos int) {
	l.t.Helper()
	raw, err := l.socket.SyscallConn()
	must(l.t, err)
	must(l.t, raw.Control(func(fd uintptr) {
		if l.v6 {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, tos)
		}
	}))
	must(l.t, err)
}

func udpAddr(a netip.Addr, port uint16) *net.UDPAddr {
	return net.UDPAddrFromAddrPort(addrPort(a, port))
}

// outer is what a capture shows of an outer packet.
type outer struct {
	src, dst         netip.AddrPort
	ttl, tos         uint8
	df, fragment     bool
	label            uint32 // IPv6
	checksum, length uint16 // of UDP
	payload          []byte // of UDP: header and inner frame
}

// parseOuter reads a packet; ok is false when it is not UDP, and not part of a
// fragmented packet either.
func parseOuter(packet []byte) (o outer, ok bool) {
	p := gopacket.NewPacket(packet, layers.LayerTypeEthernet, gopacket.NoCopy)
	var src, dst netip.Addr
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		src, _ = netip.AddrFromSlice(ip.SrcIP.To4())
		dst, _ = netip.AddrFromSlice(ip.DstIP.To4())
		o.ttl, o.tos = ip.TTL, ip.TOS
		o.df = ip.Flags&layers.IPv4DontFragment != 0
		o.fragment = ip.Flags&layers.IPv4MoreFragments != 0 || ip.FragOffset != 0
	case *layers.IPv6:
		src, _ = netip.AddrFromSlice(ip.SrcIP)
		dst, _ = netip.AddrFromSlice(ip.DstIP)
		o.ttl, o.tos, o.label = ip.HopLimit, ip.TrafficClass, ip.FlowLabel
		o.fragment = ip.NextHeader == layers.IPProtocolIPv6Fragment
	default:
		return o, false
	}
	udp, ok := p.TransportLayer().(*layers.UDP)
	if !ok {
		return o, o.fragment
	}
	o.src, o.dst = addrPort(src, uint16(udp.SrcPort)), addrPort(dst, uint16(udp.DstPort))
	o.checksum, o.length = udp.Checksum, udp.Length
	o.payload = udp.LayerPayload()
	return o, true
}

// heard returns the next outer packet that the endpoint sent, other than those
// with frames that are not of the test. The bytes are valid until the next.
func (l *lone) heard() outer {
	l.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		packet := l.wire.recv(deadline)
		if packet == nil {
			l.t.Fatal("the endpoint sent nothing")
		}
		if o, ok := parseOuter(packet); ok {
			return o
		}
	}
}

// awaitDropped waits until so many packets were counted that belong to no VNI.
func (l *lone) awaitDropped(badHeader, shortFrame, unknownVNI uint64) {
	l.t.Helper()
	eventually(l.t, func() error {
		c := l.program.status().Counters
		if c.RxDropBadHeader != badHeader || c.RxDropShortFrame != shortFrame || c.RxDropUnknownVNI != unknownVNI {
			return fmt.Errorf("counters %+v, want %d bad headers, %d short frames, %d of other VNIs", c, badHeader, shortFrame, unknownVNI)
		}
		return nil
	})
}

// silent checks that nothing was delivered that has not been looked at yet. It
// is for after the counters have shown that all was received.
func (l *lone) silent() {
	l.t.Helper()
	if f := l.device.recvTest(time.Time{}); f != nil {
		l.t.Errorf("delivered: %x", f)
	}
}

// ipFrame is an Ethernet frame with an IP packet of a protocol for experiments,
// or of UDP where ports are given. Its checksums are right.
func ipFrame(dst, src vxlan.MAC, v6 bool, tos uint8, ports [2]uint16, payload []byte) []byte {
	ethernet := &layers.Ethernet{DstMAC: dst[:], SrcMAC: src[:], EthernetType: layers.EthernetTypeIPv4}
	protocol := layers.IPProtocol(253) // RFC 3692
	if ports != [2]uint16{} {
		protocol = layers.IPProtocolUDP
	}
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	} = &layers.IPv4{
		Version: 4, IHL: 5, TOS: tos, TTL: 64, Protocol: protocol,
		SrcIP: inner4A.AsSlice(), DstIP: inner4B.AsSlice(),
	}
	if v6 {
		ethernet.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{
			Version: 6, TrafficClass: tos, HopLimit: 64, NextHeader: protocol,
			SrcIP: inner6A.AsSlice(), DstIP: inner6B.AsSlice(),
		}
	}
	stack := []gopacket.SerializableLayer{ethernet, ip}
	if protocol == layers.IPProtocolUDP {
		udp := &layers.UDP{SrcPort: layers.UDPPort(ports[0]), DstPort: layers.UDPPort(ports[1])}
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			panic(err)
		}
		stack = append(stack, udp)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		append(stack, gopacket.Payload(payload))...)
	if err != nil {
		panic(err)
	}
	return buf.Bytes()
}
