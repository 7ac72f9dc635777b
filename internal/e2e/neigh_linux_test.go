package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

const (
	macA = "02:5e:00:00:0a:00" // of the devices on the overlay
	macB = "02:5e:00:00:0b:00"
)

// question is an ARP message or a neighbour solicitation, by the family of its
// addresses.
type question struct {
	dst, src  vxlan.MAC // dst zero: to all
	from, of  netip.Addr
	operation uint16     // ARP; 0 = request
	hops      uint8      // 0 = 255
	option    *vxlan.MAC // source link-layer address; nil: src, unless from is ::
	none      bool       // no option at all
}

func (q question) frame(t testing.TB) []byte {
	t.Helper()
	ethernet := &layers.Ethernet{DstMAC: q.dst[:], SrcMAC: q.src[:], EthernetType: layers.EthernetTypeARP}
	if q.of.Is4() {
		if q.dst.IsZero() {
			ethernet.DstMAC = broadcast[:]
		}
		if q.operation == 0 {
			q.operation = layers.ARPRequest
		}
		return assemble(t, ethernet, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: q.operation, SourceHwAddress: q.src[:], SourceProtAddress: q.from.AsSlice(),
			DstHwAddress: make([]byte, 6), DstProtAddress: q.of.AsSlice(),
		})[:42]
	}
	b := q.of.As16()
	to := append([]byte{0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF}, b[13:]...)
	if q.dst.IsZero() {
		ethernet.DstMAC = append([]byte{0x33, 0x33}, to[12:]...)
	}
	if q.hops == 0 {
		q.hops = 255
	}
	if q.option == nil {
		q.option = &q.src
		q.none = q.none || q.from.IsUnspecified()
	}
	ethernet.EthernetType = layers.EthernetTypeIPv6
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: q.hops, SrcIP: q.from.AsSlice(), DstIP: to}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	must(t, icmp.SetNetworkLayerForChecksum(ip))
	ns := &layers.ICMPv6NeighborSolicitation{TargetAddress: q.of.AsSlice()}
	if !q.none {
		ns.Options = layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: q.option[:]}}
	}
	return assemble(t, ethernet, ip, icmp, ns)
}

func assemble(t testing.TB, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...))
	return buf.Bytes()
}

// resolution says whether a frame is ARP, a neighbour solicitation or a
// neighbour advertisement.
func resolution(frame []byte) bool {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	return p.Layer(layers.LayerTypeARP) != nil || p.Layer(layers.LayerTypeICMPv6NeighborSolicitation) != nil ||
		p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement) != nil
}

// innerFrame is the frame in a VXLAN packet over IPv4; nil in any other packet.
func innerFrame(packet []byte) []byte {
	const outer = 14 + 20 + 8 + 8
	if len(packet) < outer+14 || binary.BigEndian.Uint16(packet[12:]) != 0x0800 || packet[23] != 17 ||
		binary.BigEndian.Uint16(packet[36:]) != vxlan.Port {
		return nil
	}
	return packet[outer:]
}

// neighbourTunnel is two hosts: govxlan with flags on A, the kernel's device on
// B, which knows A and never asks. What is returned sees the wire.
func neighbourTunnel(t *testing.T, flags ...string) (tn *tunnel, wire *packetPort) {
	t.Helper()
	hosts := newHosts(t, "neigh", 2, wiring{real: true})
	tn = &tunnel{a: hosts[0], b: hosts[1], mtu: 1450}
	wire = openPort(t, tn.a.Namespace, underlayDevice, true)
	tn.b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, MAC: macB}, false, tn.a)
	must(t, tn.b.AddAddr("vxlan0", inner4B.String()+"/24"))
	must(t, tn.b.AddAddr("vxlan0", inner6B.String()+"/64"))
	must(t, tn.b.AddNeighbour("vxlan0", inner4A.String(), macA))
	must(t, tn.b.AddNeighbour("vxlan0", inner6A.String(), macA))
	tn.program = up(t, tn.a.Namespace, append([]string{
		"--vni", "4097", "--peer", tn.b.ip4.String(), "--mac", macA,
		"--addr", inner4A.String() + "/24", "--addr", inner6A.String() + "/64",
	}, flags...)...)
	must(t, tn.a.AwaitAddr(inner6A))
	return tn, wire
}

// crossed returns the frames of ARP and neighbour discovery that crossed the
// wire since the last call, and how many others did.
func crossed(t *testing.T, wire *packetPort) (questions [][]byte, others int) {
	t.Helper()
	for {
		p := wire.recv(time.Time{})
		if p == nil {
			return questions, others
		}
		switch f := innerFrame(p); {
		case f == nil:
		case resolution(f):
			questions = append(questions, bytes.Clone(f))
		default:
			others++
		}
	}
}

// change runs a command about the running program, which must succeed.
func (p *program) change(args ...string) {
	p.t.Helper()
	if o := run(p.t, p.ns, append(args, "--control", p.control)...); o.code != 0 || o.stderr != "" {
		p.t.Fatalf("%v: %+v", args, o)
	}
}

func (p *program) neighbours() []vtep.NeighbourStatus {
	p.t.Helper()
	all, err := control.NewClient(p.control).Neighbours(context.Background())
	must(p.t, err)
	return all
}

// TestB31Proxy: with --proxy, no ARP and no neighbour discovery crosses the
// underlay, and whoever is in the table is reached all the same.
func TestB31Proxy(t *testing.T) {
	t.Parallel()
	for _, offload := range []string{"auto", "off"} {
		t.Run("offload="+offload, func(t *testing.T) {
			t.Parallel()
			tn, wire := neighbourTunnel(t, "--proxy", "--offload", offload,
				"--neigh", inner4B.String()+"="+macB, "--neigh", inner6B.String()+"="+macB)
			ping(t, tn.a.Namespace, inner4B, 3)
			ping(t, tn.a.Namespace, inner6B, 3)
			ping(t, tn.b.Namespace, inner4A, 3)
			ping(t, tn.b.Namespace, inner6A, 3)
			// The answers were for both families; and now somebody whom nobody
			// knows.
			tn.program.awaitCounters("two answers", func(c vtep.Counters) bool { return c.TxARPAnswered >= 2 })
			dropped := tn.program.counters().TxDropARPProxy
			port := openPort(t, tn.a.Namespace, tn.program.device(), false)
			for _, stranger := range []string{"10.0.1.77", "fd10::77"} {
				of := netip.MustParseAddr(stranger)
				from := inner4A
				if of.Is6() {
					from = inner6A
				}
				port.send(question{src: station(1), from: from, of: of}.frame(t))
			}
			tn.program.awaitCounters("two drops", func(c vtep.Counters) bool { return c.TxDropARPProxy >= dropped+2 })
			// A neighbour of whom it is told while it runs.
			must(t, tn.b.AddAddr("vxlan0", "10.0.1.104/24"))
			tn.program.change("neigh", "add", "10.0.1.104", macB)
			ping(t, tn.a.Namespace, netip.MustParseAddr("10.0.1.104"), 2)
			if questions, others := crossed(t, wire); len(questions) > 0 || others < 20 {
				t.Errorf("%d frames crossed the underlay, and of those about addresses: %x", others, questions)
			}
			if n := wire.lost(); n > 0 {
				t.Errorf("the capture lost %d packets", n)
			}
		})
	}
}

// TestB34Suppress: with --arp suppress, who is known is answered for, and the
// rest finds its way; with --neigh-snoop it is known from then on.
func TestB34Suppress(t *testing.T) {
	t.Parallel()
	for _, snoop := range []bool{false, true} {
		t.Run(fmt.Sprintf("snoop=%v", snoop), func(t *testing.T) {
			t.Parallel()
			flags := []string{"--arp", "suppress", "--neigh", inner4B.String() + "=" + macB, "--neigh", inner6B.String() + "=" + macB}
			if snoop {
				flags = append(flags, "--neigh-snoop")
			}
			tn, wire := neighbourTunnel(t, flags...)
			ping(t, tn.a.Namespace, inner4B, 2)
			ping(t, tn.a.Namespace, inner6B, 2)
			questions, _ := crossed(t, wire)
			for _, f := range questions {
				if f[0]&1 != 0 { // to all; to see whether somebody is still there is allowed
					t.Errorf("crossed the underlay: %x", f)
				}
			}
			more4, more6 := netip.MustParseAddr("10.0.1.104"), netip.MustParseAddr("fd10::104")
			must(t, tn.b.AddAddr("vxlan0", more4.String()+"/24"))
			must(t, tn.b.AddAddr("vxlan0", more6.String()+"/64"))
			must(t, tn.b.AwaitAddr(more6))
			ping(t, tn.a.Namespace, more4, 2)
			ping(t, tn.a.Namespace, more6, 2)
			questions, _ = crossed(t, wire)
			toAll := 0
			for _, f := range questions {
				if f[0]&1 != 0 {
					toAll++
				}
			}
			if toAll < 2 {
				t.Errorf("%d questions to all crossed the underlay, want one for each of the two strangers", toAll)
			}
			var known []netip.Addr
			for _, n := range tn.program.neighbours() {
				if n.Kind == "snooped" && n.MAC.String() == macB && !n.Here {
					known = append(known, n.IP)
				}
			}
			if snoop != slices.Contains(known, more4) || snoop != slices.Contains(known, more6) {
				t.Errorf("snooped: %v", known)
			}
			// Another station asks for the same: known or not, that is decided
			// here.
			port := openPort(t, tn.a.Namespace, tn.program.device(), false)
			before := tn.program.counters()
			port.send(question{src: station(1), from: netip.MustParseAddr("10.0.1.1"), of: more4}.frame(t))
			port.send(question{src: station(1), from: netip.MustParseAddr("fd10::1"), of: more6}.frame(t))
			tn.program.awaitCounters("two questions answered or flooded", func(c vtep.Counters) bool {
				answered, flooded := c.TxARPAnswered-before.TxARPAnswered, c.TxFlooded-before.TxFlooded
				return snoop && answered == 2 || !snoop && answered == 0 && flooded >= 2
			})
		})
	}
}

// TestB31ProxyBesideKernel: the kernel's vxlan device with proxy and ours get the
// same frames and do the same with each: the same answer byte for byte, and
// nothing or the same on the wire. Where not, it is said why.
func TestB31ProxyBesideKernel(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "beside", 2, wiring{real: true})
	g, k := hosts[0], hosts[1]
	known, near := station(2), station(3)
	known4, near4, fence4 := inner4B, netip.MustParseAddr("10.0.1.105"), netip.MustParseAddr("10.0.1.106")
	known6 := inner6B
	asker, asker4, asker6 := station(1), netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("fd10::1")

	// VNIs of their own: neither hears the other.
	program := up(t, g.Namespace, "--vni", "1", "--peer", k.ip4.String(), "--proxy", "--queues", "1", // what is asked in turn is answered in turn

		"--neigh", fmt.Sprintf("%v=%v,%v=%v,%v=%v,%v=%v", known4, known, known6, known, near4, near, fence4, known))
	k.kernelVTEP(t, netlab.VXLANConfig{VNI: 2, Proxy: true}, false, g)
	for ip, mac := range map[netip.Addr]vxlan.MAC{known4: known, known6: known, near4: near, fence4: known} {
		must(t, k.AddNeighbour("vxlan0", ip.String(), mac.String()))
	}
	// A station on the device's own side: the kernel is told, ours has heard.
	must(t, k.AddFDB("vxlan0", near.String(), netip.AddrPortFrom(netip.IPv4Unspecified(), 0)))

	vteps := []*side{
		{t: t, ip: g.ip4, port: openPort(t, g.Namespace, program.device(), false), wire: openPort(t, g.Namespace, underlayDevice, true)},
		{t: t, ip: k.ip4, port: openPort(t, k.Namespace, "vxlan0", false), wire: openPort(t, k.Namespace, underlayDevice, true)},
	}
	for _, s := range vteps {
		s.fence = question{src: station(9), from: netip.MustParseAddr("10.0.1.99"), of: fence4}.frame(t)
	}
	vteps[0].port.send(question{src: near, from: near4, of: near4}.frame(t))

	tag := func(f []byte) []byte { return slices.Concat(f[:12], tagQ, f[12:]) }
	broken := func(f []byte) []byte { f[len(f)-1] ^= 1; return f }
	elsewhere := station(7)
	ask4 := question{src: asker, from: asker4, of: known4}
	ask6 := question{src: asker, from: asker6, of: known6}
	for _, c := range []struct {
		name  string
		frame []byte
		// why the two differ, if they do
		why string
	}{
		{name: "ARP for a neighbour", frame: ask4.frame(t)},
		{name: "ARP for a neighbour, to it alone", frame: question{dst: known, src: asker, from: asker4, of: known4}.frame(t)},
		{name: "ARP for nobody", frame: question{src: asker, from: asker4, of: netip.MustParseAddr("10.0.1.77")}.frame(t)},
		{name: "ARP for a group", frame: question{src: asker, from: asker4, of: netip.MustParseAddr("224.0.0.1")}.frame(t)},
		{name: "ARP for a station on this side", frame: question{src: asker, from: asker4, of: near4}.frame(t)},
		{name: "ARP probe", frame: question{src: asker, from: netip.IPv4Unspecified(), of: known4}.frame(t)},
		{name: "ARP announcement", frame: question{src: asker, from: asker4, of: asker4}.frame(t)},
		{name: "ARP announcement of a neighbour's address", frame: question{src: asker, from: known4, of: known4}.frame(t)},
		{name: "ARP reply", frame: question{src: asker, from: asker4, of: known4, operation: 2}.frame(t)},
		{name: "RARP operation", frame: question{src: asker, from: asker4, of: known4, operation: 3}.frame(t)},
		{name: "ARP, padded", frame: append(ask4.frame(t), make([]byte, 18)...)},
		{name: "ARP cut short", frame: ask4.frame(t)[:41]},
		{name: "solicitation for a neighbour", frame: ask6.frame(t)},
		{name: "solicitation for a neighbour, to it alone", frame: question{dst: known, src: asker, from: asker6, of: known6}.frame(t)},
		{name: "solicitation without option", frame: question{src: asker, from: asker6, of: known6, none: true}.frame(t)},
		{name: "solicitation that names another MAC", frame: question{src: asker, from: asker6, of: known6, option: &elsewhere}.frame(t)},
		{name: "solicitation for nobody", frame: question{src: asker, from: asker6, of: netip.MustParseAddr("fd10::77")}.frame(t)},
		{name: "duplicate address detection of nobody's address", frame: question{src: asker, from: netip.IPv6Unspecified(), of: netip.MustParseAddr("fd10::77")}.frame(t)},
		{name: "ping", frame: ipFrame(known, asker, true, 0, [2]uint16{1, 2}, []byte("data"))},
		{name: "IPv4", frame: ipFrame(known, asker, false, 0, [2]uint16{1, 2}, []byte("data"))},

		{name: "duplicate address detection of a neighbour's address", frame: question{src: asker, from: netip.IPv6Unspecified(), of: known6}.frame(t),
			why: "the kernel sends an advertisement to ::, which every receiver discards"},
		{name: "solicitation with hop limit 254", frame: question{src: asker, from: asker6, of: known6, hops: 254}.frame(t),
			why: "RFC 4861 section 7.1.1 has it discarded, the kernel does not look"},
		{name: "solicitation with a wrong checksum", frame: broken(ask6.frame(t)),
			why: "RFC 4861 section 7.1.1 has it discarded, the kernel does not look"},
		{name: "a neighbour asks for itself", frame: question{src: known, from: asker4, of: known4}.frame(t),
			why: "it has the address and need not be told of a conflict with itself"},
		{name: "ARP with a tag", frame: tag(ask4.frame(t)),
			why: "the kernel does not look behind the tag"},
		{name: "solicitation with a tag", frame: tag(ask6.frame(t)),
			why: "the kernel does not look behind the tag"},
	} {
		ours, kernels := vteps[0].outcome(c.frame), vteps[1].outcome(c.frame)
		if (c.why == "") != (ours == kernels) {
			t.Errorf("%s: %s\ngovxlan: %s\nkernel:  %s", c.name, c.why, ours, kernels)
		}
	}
	// Not all of it was dropped.
	if answered := program.counters().TxARPAnswered; answered < 30 {
		t.Errorf("only %d answers", answered)
	}
}

// side is one VTEP under comparison.
type side struct {
	t          *testing.T
	ip         netip.Addr // on the underlay
	port, wire *packetPort
	fence      []byte // a question that is answered
	number     uint32
}

// outcome sends a frame and tells what became of it: answers to it, and what of
// it was on the wire.
func (s *side) outcome(frame []byte) string {
	s.t.Helper()
	s.port.send(frame)
	// What is sent after it comes out after it, on either way.
	s.port.send(s.fence)
	var told bytes.Buffer
	for {
		f := s.port.recv(deadline())
		if f == nil {
			s.t.Fatal("the fence was not answered")
		}
		if bytes.Equal(f[:6], s.fence[6:12]) {
			break
		}
		if resolution(f) {
			fmt.Fprintf(&told, "answered %x ", f)
		}
	}
	s.number++
	last := testFrame(broadcast, station(9), nil, 60, s.number)
	s.port.send(last)
	for {
		p := s.wire.recv(deadline())
		if p == nil {
			s.t.Fatal("the fence is not on the wire")
		}
		f := innerFrame(p)
		if f == nil || !bytes.Equal(p[26:30], s.ip.AsSlice()) {
			continue // of the other side
		}
		switch {
		case bytes.Equal(f, last):
			return told.String()
		case bytes.Equal(f, frame):
			told.WriteString("sent")
		case resolution(f):
			fmt.Fprintf(&told, "sent otherwise: %x", f)
		}
	}
}

// TestB31ProxyContainers: containers on bridges, and every VTEP has the same
// list of all of them. Those far away are answered for; those on the same bridge
// answer for themselves, alone.
func TestB31ProxyContainers(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "pods", 2, wiring{real: true})
	wire := openPort(t, hosts[0].Namespace, underlayDevice, true)
	a, b := newContainerHost(t, hosts[0], inner4A, inner6A), newContainerHost(t, hosts[1], inner4B, inner6B)
	second := netlabtest.Namespace(t, a.lab, "second")
	second4 := netip.MustParseAddr("10.0.1.102")
	must(t, a.lab.Veth(second, "eth0", second4.String()+"/24", a.sandbox, "veth1", "", 1450))
	must(t, a.sandbox.AttachToBridge("veth1", "br0"))
	flags := []string{"--vni", "4097", "--proxy", "--bridge", "br0"}
	macs := make(map[*netlab.Namespace]string)
	for _, c := range []struct {
		ns  *netlab.Namespace
		ips []netip.Addr
	}{{a.container, []netip.Addr{inner4A, inner6A}}, {b.container, []netip.Addr{inner4B, inner6B}}, {second, []netip.Addr{second4}}} {
		link, err := c.ns.Link("eth0")
		must(t, err)
		macs[c.ns] = link.MAC
		for _, ip := range c.ips {
			flags = append(flags, "--neigh", ip.String()+"="+link.MAC)
		}
	}
	p := up(t, a.Namespace, append(flags, "--peer", b.ip4.String(), "--netns", a.sandbox.Name())...)
	up(t, b.Namespace, append(flags, "--peer", a.ip4.String(), "--netns", b.sandbox.Name())...)

	ping(t, a.container, inner4B, 2)
	ping(t, a.container, inner6B, 2)
	ping(t, b.container, inner4A, 2)
	ping(t, b.container, second4, 2)
	if questions, others := crossed(t, wire); len(questions) > 0 || others < 16 {
		t.Errorf("%d frames crossed the underlay, and of those about addresses: %x", others, questions)
	}

	port := openPort(t, second, "eth0", false)
	ping(t, second, inner4A, 2)
	// The proxy had the question too by then, and would have answered before:
	// what it does with the next one is counted after.
	port.send(question{src: station(1), from: second4, of: netip.MustParseAddr("10.0.1.77")}.frame(t))
	p.awaitCounters("dropped questions", func(c vtep.Counters) bool { return c.TxDropARPProxy >= 2 })
	replies := 0
	for f := port.recv(time.Time{}); f != nil; f = port.recv(time.Time{}) {
		if p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.NoCopy).Layer(layers.LayerTypeARP); p != nil && p.(*layers.ARP).Operation == layers.ARPReply {
			replies++
		}
	}
	if replies != 1 {
		t.Errorf("%d replies to one question about a container on the same bridge", replies)
	}
	entries, err := a.sandbox.FDB("br0")
	must(t, err)
	for _, e := range entries {
		if e.MAC == macs[a.container] && e.Port != "veth0" {
			t.Errorf("the bridge believes that the container is elsewhere: %v", e)
		}
	}
	for _, n := range p.neighbours() {
		if here := n.MAC.String() == macs[a.container] || n.MAC.String() == macs[second]; n.Here != here && n.IP.Is4() {
			t.Errorf("neighbour %+v, want here=%v", n, here)
		}
	}
}
