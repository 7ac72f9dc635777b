package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// listenPacket opens a Conn of ListenPacket in a namespace of a lab.
func listenPacket(t testing.TB, ns *netlab.Namespace, cfg PacketConfig) *packetConn {
	t.Helper()
	cfg.Netns = ns.Path()
	c, err := ListenPacket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*packetConn)
}

// awaitHop waits until the sender's next hop of to is what ok wants.
func awaitHop(t testing.TB, c *packetConn, to netip.AddrPort, what string, ok func(*hopState) bool) {
	t.Helper()
	h := c.hops.get(to)
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if h.dead.Load() {
			h = c.hops.get(to)
		}
		if s := h.state.Load(); ok(s) {
			return
		} else if time.Now().After(end) {
			t.Fatalf("next hop of %v is not %s: %+v", to, what, s)
		}
	}
}

func isDirect(s *hopState) bool { return s.err == nil && s.direct }

// packetPair is two Conns on one wire whose neighbours know each other.
func packetPair(t testing.TB, h *hosts, v6 bool, cfg PacketConfig) (c, d *packetConn) {
	t.Helper()
	a, b := h.a4, h.b4
	if v6 {
		a, b = h.a6, h.b6
	}
	cfg.Local = []netip.Addr{a}
	c = listenPacket(t, h.a, cfg)
	d = listenPacket(t, h.b, PacketConfig{Local: []netip.Addr{b}})
	one := train(d.locals[0], 1, 100, 100, 0)
	if _, err := c.NewSender().Send([]Train{one}); err != nil {
		t.Fatal(err)
	}
	if err := same(collect(t, d.Receivers()[0], d, 1), one); err != nil {
		t.Fatal(err) // the packet that asked for the neighbour is not lost
	}
	awaitHop(t, c, d.locals[0], "known", isDirect)
	return c, d
}

// Every field that a train may have is on the wire, whichever way it takes:
// in one piece that the kernel segments, datagram by datagram, or through the
// kernel's IP. gopacket reads the whole stack, Ethernet included.
func TestPacketFieldsOnTheWire(t *testing.T) {
	h := newHosts(t, 1500)
	for _, v6 := range []bool{false, true} {
		for _, way := range []string{"segmented", "one by one", "no checksum", "kernel's IP"} {
			t.Run(fmt.Sprintf("v6=%v,%s", v6, way), func(t *testing.T) {
				c, d := packetPair(t, h, v6, PacketConfig{NoGSO: way == "one by one", ZeroChecksum4: way == "no checksum", TTL: 9, SourcePortLo: 50000, SourcePortHi: 50999})
				s, r := c.NewSender(), d.Receivers()[0]
				h.seen(t)
				var want []Train
				for i, count := range []int{1, 2, 30} {
					tr := train(d.locals[0], count, 700, 301, byte(i))
					tr.Hash = uint32(i) << 30
					tr.TOS, tr.TTL, tr.DontFragment, tr.FlowLabel = uint8(4*i+1), uint8(i*100), i == 1, uint32(i)*0x54321
					if way == "kernel's IP" {
						c.hops.get(d.locals[0]).ask.Store(true)
					}
					if n, err := s.Send([]Train{tr}); n != 1 || err != nil {
						t.Fatalf("sent %d, %v", n, err)
					}
					if err := same(collect(t, r, d, count), tr); err != nil {
						t.Fatal(err)
					}
					want = append(want, tr)
				}
				frames := h.seen(t)
				ids := make(map[uint16]bool)
				for i := range want {
					for range want[i].Len() {
						if len(frames) == 0 {
							t.Fatal("too few packets on the wire")
						}
						if id := c.checkFields(t, h, frames[0], &want[i], v6, way == "no checksum"); !v6 {
							if ids[id] && !want[i].DontFragment {
								t.Errorf("identification %d is there twice", id)
							}
							ids[id] = true
						}
						frames = frames[1:]
					}
				}
				if len(frames) > 0 {
					t.Errorf("%d packets too many on the wire", len(frames))
				}
				single := way == "one by one" || way == "no checksum" && !v6
				if n := c.Limits().Segments; n != map[bool]int{true: 1, false: MaxSegments}[single] {
					t.Errorf("limit of %d segments", n)
				}
			})
		}
	}
}

// checkFields compares a packet with the train that it is of, and returns its
// IPv4 identification.
func (c *packetConn) checkFields(t *testing.T, h *hosts, p []byte, tr *Train, v6, noChecksum bool) (id uint16) {
	t.Helper()
	ttl := tr.TTL
	if ttl == 0 {
		ttl = 9
	}
	var udp *layers.UDP
	if v6 {
		decoded := gopacket.NewPacket(p, layers.LayerTypeIPv6, gopacket.NoCopy)
		ip := decoded.NetworkLayer().(*layers.IPv6)
		udp, _ = decoded.TransportLayer().(*layers.UDP)
		if ip.TrafficClass != tr.TOS || ip.HopLimit != ttl || ip.FlowLabel != tr.FlowLabel {
			t.Errorf("class %#x, hop limit %d, flow label %#x; want %#x, %d, %#x", ip.TrafficClass, ip.HopLimit, ip.FlowLabel, tr.TOS, ttl, tr.FlowLabel)
		}
		checkPacketSum(t, udp, ip.SrcIP.To16(), ip.DstIP.To16(), p[40:], false)
	} else {
		decoded := gopacket.NewPacket(p, layers.LayerTypeIPv4, gopacket.NoCopy)
		ip := decoded.NetworkLayer().(*layers.IPv4)
		udp, _ = decoded.TransportLayer().(*layers.UDP)
		if df := ip.Flags&layers.IPv4DontFragment != 0; ip.TOS != tr.TOS || ip.TTL != ttl || df != tr.DontFragment {
			t.Errorf("TOS %#x, TTL %d, DF %v; want %#x, %d, %v", ip.TOS, ip.TTL, df, tr.TOS, ttl, tr.DontFragment)
		}
		id = ip.Id
		checkPacketSum(t, udp, ip.SrcIP.To4(), ip.DstIP.To4(), p[20:], noChecksum)
	}
	if want := c.ports.Port(tr.Hash); uint16(udp.SrcPort) != want || udp.DstPort != wirePort {
		t.Errorf("ports %d to %d, want %d to %d", udp.SrcPort, udp.DstPort, want, wirePort)
	}
	return id
}

// checkPacketSum judges a UDP checksum.
func checkPacketSum(t *testing.T, udp *layers.UDP, src, dst, b []byte, none bool) {
	t.Helper()
	if udp == nil {
		t.Fatal("no UDP")
	}
	if none {
		if udp.Checksum != 0 {
			t.Errorf("UDP checksum %#x, want none", udp.Checksum)
		}
		return
	}
	if udp.Checksum == 0 || !udpSumRight(src, dst, b[:udp.Length]) {
		t.Errorf("UDP checksum %#x is wrong", udp.Checksum)
	}
}

// With nothing bound to them, all ports of the range are in use.
func TestPacketUsesAllSourcePorts(t *testing.T) {
	c := listenPacketHere(t, PacketConfig{Local: []netip.Addr{loopback4}, Port: freePort(t, loopback4)})
	if n := c.Limits().Flows; n != 16384 {
		t.Errorf("%d flows, want all of 49152-65535", n)
	}
	s, r := c.NewSender(), c.Receivers()[0]
	seen := make(map[uint16]bool)
	const flows = 2000
	for i := range flows {
		tr := train(c.locals[0], 1, 10, 10, 0)
		tr.Hash = uint32(i) << 18 // one port each
		if _, err := s.Send([]Train{tr}); err != nil {
			t.Fatal(err)
		}
		seen[collect(t, r, c, 1)[0].from.Port()] = true
	}
	if len(seen) != flows {
		t.Errorf("%d source ports for %d flows", len(seen), flows)
	}
}

func listenPacketHere(t testing.TB, cfg PacketConfig) *packetConn {
	t.Helper()
	c, err := ListenPacket(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*packetConn)
}

// The neighbour gets another MAC address, is flushed, and comes back: the next
// packet goes to the new one; none is lost on the way to a neighbour that has
// to be asked for first.
func TestPacketFollowsNeighbours(t *testing.T) {
	h := newHosts(t, 1500)
	for _, v6 := range []bool{false, true} {
		c, d := packetPair(t, h, v6, PacketConfig{})
		s, r := c.NewSender(), d.Receivers()[0]
		pass := func(tag byte) {
			t.Helper()
			tr := train(d.locals[0], 3, 100, 100, tag)
			if n, err := s.Send([]Train{tr}); n != 1 || err != nil {
				t.Fatalf("sent %d, %v", n, err)
			}
			if err := same(collect(t, r, d, 3), tr); err != nil {
				t.Fatal(err)
			}
		}
		pass(1)
		to := d.locals[0]
		flush := func() {
			t.Helper()
			err := h.a.Do(func() error {
				link, err := netlink.LinkByName("ens160")
				if err != nil {
					return err
				}
				return netlink.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: net.IP(to.Addr().AsSlice())})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		flush()
		awaitHop(t, c, to, "unknown", func(s *hopState) bool { return s.err == nil && !s.direct })
		pass(2)
		awaitHop(t, c, to, "known again", isDirect)
		pass(3)

		mac := net.HardwareAddr{2, 0, 0, 0, 0, 0x42}
		if err := h.b.Do(func() error {
			link, err := netlink.LinkByName("ens160")
			if err != nil {
				return err
			}
			return netlink.LinkSetHardwareAddr(link, mac)
		}); err != nil {
			t.Fatal(err)
		}
		flush() // as an announcement by the other host would do
		awaitHop(t, c, to, "unknown", func(s *hopState) bool { return s.err == nil && !s.direct })
		pass(4)
		awaitHop(t, c, to, "at the new address", func(s *hopState) bool { return isDirect(s) && bytes.Equal(s.outer.DstMAC[:], mac) })
		pass(5)
	}
}

// A neighbour that nobody but us talks to becomes stale: then a train goes
// through the kernel's IP, which looks after it.
func TestPacketAsksForStaleNeighbours(t *testing.T) {
	h := newHosts(t, 1500)
	c, d := packetPair(t, h, false, PacketConfig{})
	to := d.locals[0]
	if err := h.a.Do(func() error {
		link, err := netlink.LinkByName("ens160")
		if err != nil {
			return err
		}
		mac := c.hops.get(to).state.Load().outer.DstMAC
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: net.IP(to.Addr().AsSlice()), State: unix.NUD_STALE, HardwareAddr: mac[:]})
	}); err != nil {
		t.Fatal(err)
	}
	hop := c.hops.get(to)
	for end := time.Now().Add(patience); !hop.ask.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a stale neighbour is not noticed")
		}
	}
	tr := train(to, 40, 100, 100, 1)
	s := c.NewSender()
	if n, err := s.Send([]Train{tr, tr}); n != 2 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
	if err := same(collect(t, d.Receivers()[0], d, 80), tr, tr); err != nil {
		t.Fatal(err)
	}
	var state int
	if err := h.a.Do(func() error {
		list, err := netlink.NeighList(0, netlink.FAMILY_V4)
		for _, n := range list {
			if n.IP.Equal(net.IP(to.Addr().AsSlice())) {
				state = n.State
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if state&(unix.NUD_DELAY|unix.NUD_PROBE|unix.NUD_REACHABLE) == 0 || hop.ask.Load() {
		t.Errorf("neighbour in state %#x, asked for: %v", state, !hop.ask.Load())
	}
}

// The next hop is a router, another one later, and there is none in between.
func TestPacketFollowsRoutes(t *testing.T) {
	h := newHosts(t, 1500)
	far := netip.MustParseAddr("10.9.9.9")
	if err := h.b.AddAddr("lo", far.String()+"/32"); err != nil {
		t.Fatal(err)
	}
	c := listenPacket(t, h.a, PacketConfig{Local: []netip.Addr{h.a4}})
	d := listenPacket(t, h.b, PacketConfig{Local: []netip.Addr{far}})
	s, r := c.NewSender(), d.Receivers()[0]
	tr := []Train{train(d.locals[0], 3, 100, 100, 1)}
	for range 2 {
		if n, err := s.Send(tr); n != 0 || !errors.Is(err, unix.ENETUNREACH) {
			t.Fatalf("without a route: sent %d, %v", n, err)
		}
		if err := h.a.AddRoute(far.String()+"/32", h.b4.String(), "ens160"); err != nil {
			t.Fatal(err)
		}
		awaitHop(t, c, d.locals[0], "by the router", func(s *hopState) bool { return s.err == nil && s.via == h.b4 })
		if n, err := s.Send(tr); n != 1 || err != nil {
			t.Fatalf("sent %d, %v", n, err)
		}
		if err := same(collect(t, r, d, 3), tr...); err != nil {
			t.Fatal(err)
		}
		if err := h.a.Do(func() error {
			return netlink.RouteDel(&netlink.Route{Dst: &net.IPNet{IP: far.AsSlice(), Mask: net.CIDRMask(32, 32)}})
		}); err != nil {
			t.Fatal(err)
		}
		awaitHop(t, c, d.locals[0], "none", func(s *hopState) bool { return s.err != nil })
	}
}

// With Device, packets of other devices are not ours; and when the device is
// another one of that name, its packets are.
func TestPacketFollowsDevice(t *testing.T) {
	h := newHosts(t, 1500)
	d := listenPacket(t, h.b, PacketConfig{Local: []netip.Addr{h.b4}, Device: "ens160", Receivers: 2})
	old, err := h.b.Link("ens160")
	if err != nil {
		t.Fatal(err)
	}
	c := listenPacket(t, h.a, PacketConfig{Local: []netip.Addr{h.a4}})
	s := c.NewSender()
	tr := train(d.locals[0], 1, 100, 100, 1)
	receivers := make(chan int, 100)
	for i, r := range d.Receivers() {
		go func() {
			trains := make([]Train, 4)
			for {
				n, err := r.Recv(trains)
				if err != nil {
					return
				}
				for range n {
					receivers <- i
				}
			}
		}()
	}
	pass := func() {
		t.Helper()
		for end := time.Now().Add(patience); ; {
			_, _ = s.Send([]Train{tr}) // fails until the device is back
			select {
			case <-receivers:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if time.Now().After(end) {
				t.Fatal("nothing arrives")
			}
		}
	}
	pass()
	if err := h.b.DelLink("ens160"); err != nil {
		t.Fatal(err)
	}
	if err := h.lab.Veth(h.a, "ens160", "192.168.52.203/24", h.b, "ens160", "192.168.52.204/24", 1500); err != nil {
		t.Fatal(err)
	}
	pass()
	if link, err := h.b.Link("ens160"); err != nil || link.Index == old.Index {
		t.Fatalf("the device is the same: %+v, %v", link, err)
	}
}

// What is no packet for us does not come through the filter, and what does is
// judged: nothing that is wrong is delivered.
func TestPacketRefusesOnTheWire(t *testing.T) {
	h := newHosts(t, 1500)
	for _, v6 := range []bool{false, true} {
		d := listenPacket(t, h.b, PacketConfig{Local: []netip.Addr{h.b4, h.b6}})
		r := d.Receivers()[0]
		src, dst, l3, l4 := h.a4, h.b4, 14, 34
		if v6 {
			r, src, dst, l4 = d.Receivers()[1], h.a6, h.b6, 54
		}
		link, err := h.b.Link("ens160")
		if err != nil {
			t.Fatal(err)
		}
		mac, _ := net.ParseMAC(link.MAC)
		good := frame(t, mac, src, dst, []byte("a datagram for a VTEP"))
		edit := func(f func(b []byte)) []byte {
			b := bytes.Clone(good)
			f(b)
			return b
		}
		fix := func(b []byte) { // of IPv4
			b[24], b[25] = 0, 0
			binary.BigEndian.PutUint16(b[24:], headerSum(b[14:34]))
		}
		bad := map[string][]byte{
			"another MAC":        edit(func(b []byte) { b[5] ^= 1 }),
			"a broadcast":        edit(func(b []byte) { copy(b, bytes.Repeat([]byte{0xFF}, 6)) }),
			"another port":       edit(func(b []byte) { b[l4+3]++ }),
			"TCP":                edit(func(b []byte) { b[l4-map[bool]int{false: 11, true: 34}[v6]] = 6 }),
			"a wrong checksum":   edit(func(b []byte) { b[len(b)-1]++ }),
			"a long UDP length":  edit(func(b []byte) { b[l4+4] = 1 }),
			"a short UDP length": edit(func(b []byte) { b[l4+4], b[l4+5] = 0, 7 }),
			"no datagram at all": good[:l4+4],
		}
		if v6 {
			bad["no checksum"] = edit(func(b []byte) { b[l4+6], b[l4+7] = 0, 0 })
			bad["another address"] = edit(func(b []byte) { b[53]++ })
			bad["a fragment"] = edit(func(b []byte) { b[20] = 44 })
		} else {
			bad["another address"] = edit(func(b []byte) { b[33]++; fix(b) })
			bad["a first fragment"] = edit(func(b []byte) { b[20] |= 0x20; fix(b) })
			bad["a later fragment"] = edit(func(b []byte) { b[21] = 9; fix(b) })
			bad["a wrong header checksum"] = edit(func(b []byte) { b[24]++ })
		}
		for what, b := range bad {
			h.inject(t, b)
			h.inject(t, good)
			got := collect(t, r, d, 1)
			if len(got) != 1 || string(got[0].b) != "a datagram for a VTEP" || got[0].from.Addr() != src {
				t.Errorf("v6=%v, after %s: %+v", v6, what, got)
			}
		}
		if !v6 {
			// D19: none at all is right over IPv4. And options are stepped over.
			h.inject(t, edit(func(b []byte) { b[l4+6], b[l4+7] = 0, 0 }))
			long := slices.Concat(good[:l4], []byte{1, 1, 1, 0}, good[l4:])
			long[l3] = 0x46
			long[l3+3] += 4
			fix2 := func(b []byte) {
				b[24], b[25] = 0, 0
				binary.BigEndian.PutUint16(b[24:], headerSum(b[14:38]))
			}
			fix2(long)
			h.inject(t, long)
			for _, a := range collect(t, r, d, 2) {
				if string(a.b) != "a datagram for a VTEP" {
					t.Errorf("got %q", a.b)
				}
			}
		}
		n := d.Counters()
		if n.RxChecksum == 0 || n.RxBadPacket == 0 || n.RxQueueFull != 0 {
			t.Errorf("v6=%v: counted %+v", v6, n)
		}
		d.Close()
	}
}

// The kernel keeps its mouth shut about the port, and nobody else gets it.
func TestPacketHoldsThePort(t *testing.T) {
	h := newHosts(t, 1500)
	d := listenPacket(t, h.b, PacketConfig{Local: []netip.Addr{h.b4}})
	conn, err := h.a.Dial("udp4", d.locals[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 3 {
		// An ICMP "port unreachable" would be this socket's next error.
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if got := collect(t, d.Receivers()[0], d, 1); string(got[0].b) != "hello" {
			t.Errorf("got %q", got[0].b)
		}
	}
	for _, s := range d.hold {
		if n := queued(t, s); n != 0 {
			t.Errorf("%d bytes wait at the socket that holds the port", n)
		}
	}
	for _, k := range kinds {
		c, err := k.open(UDPConfig{Local: []netip.Addr{h.b4}, Port: wirePort, Netns: h.b.Path()})
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, ErrPortInUse) {
			t.Errorf("%s on the same port: %v, want ErrPortInUse", k.name, err)
		}
	}
}

// Unspecified local addresses: by any of the host's addresses, one that came
// later too, and from the one that routing chooses.
func TestPacketUnspecifiedLocal(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) { unspecifiedLocal(t, v6) })
	}
}

func unspecifiedLocal(t *testing.T, v6 bool) {
	h := newHosts(t, 1500)
	local, a, b, other := netip.IPv4Unspecified(), h.a4, h.b4, netip.MustParsePrefix("192.168.52.77/24")
	if v6 {
		local, a, b, other = netip.IPv6Unspecified(), h.a6, h.b6, netip.MustParsePrefix("fd00::77/64")
	}
	d := listenPacket(t, h.b, PacketConfig{Local: []netip.Addr{local}})
	c := listenPacket(t, h.a, PacketConfig{Local: []netip.Addr{local}})
	r := d.Receivers()[0]
	one := train(netip.AddrPortFrom(b, wirePort), 1, 100, 100, 1)
	if _, err := c.NewSender().Send([]Train{one}); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, r, d, 1); same(got, one) != nil || got[0].from.Addr() != a {
		t.Errorf("got %+v", got)
	}
	if err := h.b.AddAddr("ens160", other.String()); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { d.Close() })
	defer late.Stop()
	arrived := make(chan error)
	go func() {
		_, err := r.Recv(make([]Train, 1))
		arrived <- err
	}()
	s := c.NewSender()
	for {
		if _, err := s.Send([]Train{train(netip.AddrPortFrom(other.Addr(), wirePort), 1, 100, 100, 2)}); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-arrived:
			if err != nil {
				t.Fatal("nothing arrives at the new address")
			}
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// A kernel that does not segment for packet sockets gets datagrams.
func TestPacketFallsBack(t *testing.T) {
	h := newHosts(t, 1500)
	c, d := packetPair(t, h, false, PacketConfig{})
	s := c.NewSender().(*packetSender)
	s.call = func(fd uintptr) bool {
		for i, end := s.begin, s.end; i < end; i++ {
			if s.headers[i][headerStart+1] != 0 { // GSO type
				s.end = i
				done := s.sendmmsg(fd)
				s.end = end
				s.errno = unix.EINVAL
				return done
			}
		}
		return s.sendmmsg(fd)
	}
	trains := []Train{train(d.locals[0], 1, 80, 80, 1), train(d.locals[0], 100, 80, 10, 2), train(d.locals[0], 3, 80, 80, 3)}
	if n, err := s.Send(trains); n != 3 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
	if err := same(collect(t, d.Receivers()[0], d, 104), trains...); err != nil {
		t.Error(err)
	}
	if n := c.Limits().Segments; n != 1 {
		t.Errorf("limit %d afterwards, want 1", n)
	}
}

// On the way that packets usually take, nothing is allocated.
func TestPacketAllocatesNothing(t *testing.T) {
	h := newHosts(t, 1500)
	for _, cfg := range []PacketConfig{{}, {NoGSO: true}, {ZeroChecksum4: true}} {
		for _, v6 := range []bool{false, true} {
			c, d := packetPair(t, h, v6, cfg)
			s, r := c.NewSender(), d.Receivers()[0]
			trains := []Train{train(d.locals[0], 1, 100, 100, 1), train(d.locals[0], 40, 1000, 100, 2)}
			got := make([]Train, 64)
			if n := testing.AllocsPerRun(50, func() {
				if n, err := s.Send(trains); n != 2 || err != nil {
					t.Fatalf("sent %d, %v", n, err)
				}
				for left := 41; left > 0; {
					n, err := r.Recv(got)
					if err != nil {
						t.Fatal(err)
					}
					for i := range n {
						left -= got[i].Len()
					}
				}
			}); n != 0 {
				t.Errorf("%+v, v6=%v: %v allocations", cfg, v6, n)
			}
			c.Close()
			d.Close()
		}
	}
}

// Superframes cross a veth pair undivided, and arrive as trains.
func TestPacketSuperframes(t *testing.T) {
	h := newHosts(t, 1500)
	for _, ns := range []*netlab.Namespace{h.a, h.b} {
		if err := ns.SetOffloads("ens160", true); err != nil {
			t.Fatal(err)
		}
	}
	for _, v6 := range []bool{false, true} {
		c, d := packetPair(t, h, v6, PacketConfig{})
		tr := train(d.locals[0], 40, 1400, 77, 1)
		if n, err := c.NewSender().Send([]Train{tr}); n != 1 || err != nil {
			t.Fatalf("sent %d, %v", n, err)
		}
		got := make([]Train, 64)
		n, err := d.Receivers()[0].Recv(got)
		if err != nil || n != 1 || got[0].Stride != 1400 || !bytes.Equal(got[0].Buf, tr.Buf) {
			t.Errorf("v6=%v: %d trains, %v, the first of %d bytes, stride %d", v6, n, err, len(got[0].Buf), got[0].Stride)
		}
		c.Close()
		d.Close()
	}
}

func TestListenPacketRefuses(t *testing.T) {
	held, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback4, freePort(t, loopback4))))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	port := held.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	free := freePort(t, loopback4)
	four := []netip.Addr{loopback4}
	before := openFiles(t)
	for _, tc := range []struct {
		name string
		cfg  PacketConfig
		want error
	}{
		{"port in use", PacketConfig{Local: four, Port: port}, ErrPortInUse},
		{"address not here", PacketConfig{Local: []netip.Addr{netip.MustParseAddr("192.0.2.77")}, Port: free}, ErrNoAddress},
		{"second address not here", PacketConfig{Local: []netip.Addr{loopback4, netip.MustParseAddr("2001:db8::77")}, Port: free}, ErrNoAddress},
		{"no address", PacketConfig{Port: free}, nil},
		{"no valid address", PacketConfig{Local: []netip.Addr{{}}, Port: free}, nil},
		{"two of one family", PacketConfig{Local: []netip.Addr{loopback4, netip.MustParseAddr("127.0.0.2")}, Port: free}, nil},
		{"range upside down", PacketConfig{Local: four, Port: free, SourcePortLo: 2000, SourcePortHi: 1000}, nil},
		{"TTL of 256", PacketConfig{Local: four, Port: free, TTL: 256}, unix.EINVAL},
		{"no such device", PacketConfig{Local: four, Port: free, Device: "no-such-dev"}, unix.ENODEV},
		{"no such namespace", PacketConfig{Local: four, Port: free, Netns: "no-such-namespace"}, nil},
	} {
		c, err := ListenPacket(tc.cfg)
		if err == nil {
			c.Close()
		}
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if after := openFiles(t); len(after) != len(before) {
		t.Errorf("files left open: %v, before %v", after, before)
	}
	listenPacketHere(t, PacketConfig{Local: four, Port: free})
}

// openFiles lists the sockets of this process.
func openFiles(t *testing.T) (sockets []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			sockets = append(sockets, to)
		}
	}
	return sockets
}

// A route with two ways: flows spread over both, each keeps to one, and all go
// by the other when one is down.
func TestPacketMultipath(t *testing.T) {
	h := newHosts(t, 1500)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.lab.Veth(h.a, "ens161", "192.168.53.203/24", h.b, "ens161", "192.168.53.204/24", 1500))
	far := netip.MustParseAddr("10.9.9.9")
	must(h.b.AddAddr("lo", far.String()+"/32"))
	must(h.b.AddRoute("10.9.9.1/32", h.a4.String(), "ens160"))
	must(h.a.AddAddr("lo", "10.9.9.1/32"))
	index := make(map[string]int)
	must(h.a.Do(func() error {
		route := &netlink.Route{Dst: &net.IPNet{IP: far.AsSlice(), Mask: net.CIDRMask(32, 32)}}
		for name, gw := range map[string]string{"ens160": h.b4.String(), "ens161": "192.168.53.204"} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			index[name] = link.Attrs().Index
			route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gw)})
		}
		return netlink.RouteAdd(route)
	}))
	c := listenPacket(t, h.a, PacketConfig{Local: []netip.Addr{netip.MustParseAddr("10.9.9.1")}})
	d := listenPacket(t, h.b, PacketConfig{Local: []netip.Addr{far}})
	s, r := c.NewSender().(*packetSender), d.Receivers()[0]
	to := d.locals[0]
	awaitHop(t, c, to, "known on both ways", func(s *hopState) bool {
		return len(s.paths) == 2 && s.paths[0].direct && s.paths[1].direct && s.paths[0].index != s.paths[1].index
	})
	const flows = 200
	send := func() map[int]int {
		t.Helper()
		by := make(map[int]int)
		for i := range flows {
			tr := train(to, 2, 50, 50, byte(i))
			tr.Hash = uint32(i) * 0x01000193
			if n, err := s.Send([]Train{tr}); n != 1 || err != nil {
				t.Fatalf("sent %d, %v", n, err)
			}
			by[int(s.links[0].Ifindex)]++
			if err := same(collect(t, r, d, 2), tr); err != nil {
				t.Fatal(err)
			}
		}
		return by
	}
	first := send()
	if first[index["ens160"]] < flows/4 || first[index["ens161"]] < flows/4 {
		t.Errorf("flows by device: %v, devices %v", first, index)
	}
	if second := send(); second[index["ens160"]] != first[index["ens160"]] {
		t.Errorf("flows moved: %v, then %v", first, second)
	}
	must(h.a.SetDown("ens161"))
	awaitHop(t, c, to, "by the other way", func(s *hopState) bool { return s.err == nil && s.paths == nil && s.index == index["ens160"] })
	awaitHop(t, c, to, "known", isDirect)
	if by := send(); by[index["ens160"]] != flows {
		t.Errorf("flows by device %v, want all by %d", by, index["ens160"])
	}
}

// TrySend stops where a full socket buffer would make Send wait, and goes on
// there: nothing is sent twice, whichever way trains leave, and also when they
// leave by another one afterwards.
func TestPacketTrySendGoesOn(t *testing.T) {
	h := newHosts(t, 1500)
	for name, prepare := range map[string]func(*packetConn, *hop){
		"trains":      func(*packetConn, *hop) {},
		"pieces":      func(c *packetConn, _ *hop) { c.segments.Store(4) },
		"singly":      func(c *packetConn, _ *hop) { c.segments.Store(1) },
		"kernel's IP": func(_ *packetConn, h *hop) { h.ask.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			c, d := packetPair(t, h, false, PacketConfig{})
			defer d.Close()
			defer c.Close()
			prepare(c, c.hops.get(d.locals[0]))
			s := c.NewSender().(*packetSender)
			// The kernel is stood in for: every other call has no room, and
			// the rest take one message.
			var left []byte
			room := true
			s.try = func(uintptr) {
				if room = !room; !room {
					payload := &s.iov[2*s.begin+1]
					left = append(left, unsafe.Slice(payload.Base, payload.Len)...)
					s.begin++
				}
				s.full = s.begin < s.end
			}
			trains := []Train{train(d.locals[0], 10, 100, 70, 1), train(d.locals[0], 1, 50, 50, 2), train(d.locals[0], 3, 80, 80, 3)}
			var want []byte
			for _, tr := range trains {
				want = append(want, tr.Buf...)
			}
			blocked := 0
			for rest := trains; len(rest) > 0; {
				n, err := s.TrySend(rest)
				rest = rest[n:]
				switch err {
				case nil:
				case ErrWouldBlock:
					blocked++
				default:
					t.Fatal(err)
				}
			}
			if !bytes.Equal(left, want) {
				t.Errorf("%d bytes left, want %d", len(left), len(want))
			}
			if blocked == 0 {
				t.Error("never blocked: not what was to be tested")
			}
		})
	}
}
