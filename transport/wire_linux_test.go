package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hosts are two hosts of a lab on one wire, with what the second one sees of it.
type hosts struct {
	lab            *netlab.Lab
	a, b           *netlab.Namespace
	a4, b4, a6, b6 netip.Addr
	tap            int // AF_PACKET socket on b's end
}

const wirePort = 4789

func newHosts(t testing.TB, mtu int) *hosts {
	t.Helper()
	lab := netlabtest.New(t, "transport")
	h := &hosts{
		lab: lab,
		a:   netlabtest.Namespace(t, lab, "a"), b: netlabtest.Namespace(t, lab, "b"),
		a4: netip.MustParseAddr("192.168.52.203"), b4: netip.MustParseAddr("192.168.52.204"),
		a6: netip.MustParseAddr("fd00::203"), b6: netip.MustParseAddr("fd00::204"),
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(lab.Veth(h.a, "ens160", "192.168.52.203/24", h.b, "ens160", "192.168.52.204/24", mtu))
	must(h.a.AddAddr("ens160", "fd00::203/64"))
	must(h.b.AddAddr("ens160", "fd00::204/64"))
	// As on a wire: no packet on it that a wire could not carry.
	must(h.a.SetOffloads("ens160", false))
	must(h.b.SetOffloads("ens160", false))
	// So that IPv6 neighbours answer from the first packet on.
	must(h.b.Do(func() error {
		link, err := net.InterfaceByName("ens160")
		if err != nil {
			return err
		}
		const all = 0x0300 // ETH_P_ALL, big endian
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		h.tap = fd
		// Room for all that a test sends.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
	}))
	t.Cleanup(func() { unix.Close(h.tap) })
	return h
}

// seen returns the IP packets with UDP on the wire since the last call.
func (h *hosts) seen(t *testing.T) [][]byte {
	t.Helper()
	var packets [][]byte
	for {
		b := make([]byte, 70000)
		n, from, err := unix.Recvfrom(h.tap, b, 0)
		if err == unix.EAGAIN {
			return packets
		}
		if err != nil {
			t.Fatal(err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING || n < 14+28 {
			continue
		}
		b = b[:n]
		switch binary.BigEndian.Uint16(b[12:]) {
		case 0x0800:
			if b[14+9] == unix.IPPROTO_UDP {
				packets = append(packets, b[14:])
			}
		case 0x86DD:
			// A fragment would have another next header.
			if next := b[14+6]; next == unix.IPPROTO_UDP || next == unix.IPPROTO_FRAGMENT {
				packets = append(packets, b[14:])
			}
		}
	}
}

// Datagrams up to the MTU pass, longer ones are refused with EMSGSIZE, and
// nothing is ever fragmented (RFC 7348 section 4.3), whatever way it is sent.
func TestLengthsOnTheWire(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		h := newHosts(t, 1500)
		for _, v6 := range []bool{false, true} {
			for _, noGSO := range []bool{false, true} {
				for _, df := range []bool{false, true} {
					t.Run(fmt.Sprintf("v6=%v,NoGSO=%v,DF=%v", v6, noGSO, df), func(t *testing.T) {
						local, remote, longest := h.a4, h.b4, 1472
						if v6 {
							local, remote, longest = h.a6, h.b6, 1452
						}
						const ttl = 37
						c := k.listen(t, UDPConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: h.a.Path(), NoGSO: noGSO, DontFragment: df, TTL: ttl})
						d := k.listen(t, UDPConfig{Local: []netip.Addr{remote}, Port: wirePort, Netns: h.b.Path()})
						s, r := c.NewSender(), d.Receivers()[0]
						to := d.Locals()[0]
						h.seen(t)
						datagrams := 0
						for _, stride := range []int{1, 8, 100, 500, 1000, longest - 1, longest} {
							for _, count := range []int{1, 2, 40} {
								tr := train(to, count, stride, (stride+1)/2, byte(stride))
								tr.TOS = 2
								if n, err := s.Send([]Train{tr}); n != 1 || err != nil {
									t.Fatalf("%d x %d: sent %d, %v", count, stride, n, err)
								}
								if err := same(collect(t, r, d, count), tr); err != nil {
									t.Fatal(err)
								}
								datagrams += count
							}
						}
						for _, stride := range []int{longest + 1, longest + 8, 2000, 9000} {
							for _, count := range []int{1, 2, 7} {
								tr := train(to, count, stride, stride, 0)
								if n, err := s.Send([]Train{tr}); n != 0 || !errors.Is(err, unix.EMSGSIZE) {
									t.Errorf("%d x %d: sent %d, %v; want EMSGSIZE", count, stride, n, err)
								}
							}
						}
						// Behind one that is too long, the next goes on.
						good := train(to, 3, 100, 100, 7)
						if n, err := s.Send([]Train{train(to, 2, 1600, 1600, 0), good}); n != 0 || !errors.Is(err, unix.EMSGSIZE) {
							t.Errorf("sent %d, %v; want 0, EMSGSIZE", n, err)
						}
						if n, err := s.Send([]Train{good}); n != 1 || err != nil {
							t.Errorf("sent %d, %v", n, err)
						}
						if err := same(collect(t, r, d, 3), good); err != nil {
							t.Error(err)
						}
						datagrams += 3

						packets := h.seen(t)
						if len(packets) != datagrams {
							t.Errorf("%d packets on the wire for %d datagrams", len(packets), datagrams)
						}
						for _, p := range packets {
							checkPacket(t, p, v6, df, ttl)
						}
						if limits := c.Limits(); noGSO == (limits.Segments > 1) {
							t.Errorf("limits %+v", limits)
						}
					})
				}
			}
		}
	})
}

// checkPacket judges one packet of the wire as any other host would.
func checkPacket(t *testing.T, p []byte, v6, df bool, ttl uint8) {
	t.Helper()
	if len(p) > 1500 {
		t.Errorf("packet of %d bytes", len(p))
	}
	first := gopacket.LayerType(layers.LayerTypeIPv4)
	if v6 {
		first = layers.LayerTypeIPv6
	}
	decoded := gopacket.NewPacket(p, first, gopacket.NoCopy)
	udp, ok := decoded.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok {
		t.Errorf("no UDP directly behind IP: %x", p[:60])
		return
	}
	var pseudo uint64
	if v6 {
		ip := decoded.NetworkLayer().(*layers.IPv6)
		if ip.HopLimit != ttl {
			t.Errorf("hop limit %d, want %d", ip.HopLimit, ttl)
		}
		pseudo = checksum.Pseudo(ip.SrcIP.To16(), ip.DstIP.To16(), unix.IPPROTO_UDP, int(udp.Length))
		p = p[40:]
	} else {
		ip := decoded.NetworkLayer().(*layers.IPv4)
		if ip.Flags&layers.IPv4MoreFragments != 0 || ip.FragOffset != 0 {
			t.Errorf("a fragment: flags %v, offset %d", ip.Flags, ip.FragOffset)
		}
		if set := ip.Flags&layers.IPv4DontFragment != 0; set != df {
			t.Errorf("DF is %v, want %v", set, df)
		}
		if ip.TTL != ttl {
			t.Errorf("TTL %d, want %d", ip.TTL, ttl)
		}
		pseudo = checksum.Pseudo(ip.SrcIP.To4(), ip.DstIP.To4(), unix.IPPROTO_UDP, int(udp.Length))
		p = p[20:]
	}
	if udp.Checksum == 0 || checksum.Fold(checksum.Sum(p[:udp.Length], pseudo)) != 0xFFFF {
		t.Errorf("UDP checksum %#x is wrong", udp.Checksum)
	}
	if udp.DstPort != wirePort || udp.SrcPort < 49152 {
		t.Errorf("ports %d to %d", udp.SrcPort, udp.DstPort)
	}
}

// The path-MTU cache, which anybody can fill with a forged ICMP message, does
// not lower what is sent.
func TestPathMTUCacheIsIgnored(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for _, df := range []bool{false, true} {
			t.Run(fmt.Sprintf("DF=%v", df), func(t *testing.T) {
				h := newHosts(t, 1500)
				c := k.listen(t, UDPConfig{Local: []netip.Addr{h.a4}, Port: wirePort, Netns: h.a.Path(), DontFragment: df})
				d := k.listen(t, UDPConfig{Local: []netip.Addr{h.b4}, Port: wirePort, Netns: h.b.Path()})
				s, r := c.NewSender(), d.Receivers()[0]
				full := train(d.Locals()[0], 3, 1472, 1472, 1)
				if _, err := s.Send([]Train{full}); err != nil {
					t.Fatal(err)
				}
				if err := same(collect(t, r, d, 3), full); err != nil {
					t.Fatal(err)
				}
				// The message quotes one of our own packets.
				icmp, err := fragmentationNeeded(h.seen(t)[0], 600)
				if err != nil {
					t.Fatal(err)
				}
				if err := h.b.Do(func() error {
					fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
					if err != nil {
						return err
					}
					defer unix.Close(fd)
					return unix.Sendto(fd, icmp, 0, &unix.SockaddrInet4{Addr: h.a4.As4()})
				}); err != nil {
					t.Fatal(err)
				}
				for i := range 5 {
					full = train(d.Locals()[0], 3, 1472, 1472, byte(i))
					if _, err := s.Send([]Train{full}); err != nil {
						t.Fatalf("after the ICMP message: %v", err)
					}
					if err := same(collect(t, r, d, 3), full); err != nil {
						t.Fatal(err)
					}
				}
				packets := h.seen(t)
				if len(packets) != 15 {
					t.Errorf("%d packets on the wire for 15 datagrams", len(packets))
				}
				for _, p := range packets {
					checkPacket(t, p, false, df, 64)
				}
			})
		}
	})
}

// fragmentationNeeded is the ICMP message of that name about an IPv4 packet.
func fragmentationNeeded(packet []byte, mtu uint16) ([]byte, error) {
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: mtu}, gopacket.Payload(packet[:28+8]))
	return buf.Bytes(), err
}

// A Send that waits for room is interrupted by Close. The room is taken by
// packets to a neighbour that does not answer.
func TestCloseInterruptsSend(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		h := newHosts(t, 1500)
		for key, value := range map[string]string{
			"net.ipv4.neigh.ens160.unres_qlen_bytes": "1000000000",
			"net.ipv4.neigh.ens160.retrans_time_ms":  "60000",
		} {
			if err := h.a.Sysctl(key, value); err != nil {
				t.Fatal(err)
			}
		}
		c := k.listen(t, UDPConfig{Local: []netip.Addr{h.a4}, Port: wirePort, Netns: h.a.Path(), SourcePortLo: 50000, SourcePortHi: 50000})
		s := c.NewSender()
		nobody := netip.MustParseAddrPort("192.168.52.99:4789")
		sent := make(chan int, 1000)
		result := make(chan error)
		go func() {
			for {
				n, err := s.Send([]Train{train(nobody, 40, 1472, 1472, 0)})
				if err != nil {
					result <- err
					return
				}
				sent <- n
			}
		}()
		// It waits when it has sent nothing for a while.
		for waiting := false; !waiting; {
			select {
			case <-sent:
			case err := <-result:
				t.Fatalf("Send does not wait: %v", err)
			case <-time.After(200 * time.Millisecond):
				waiting = true
			}
		}
		c.Close()
		select {
		case err := <-result:
			if err != net.ErrClosed {
				t.Errorf("Send: %v, want net.ErrClosed", err)
			}
		case <-time.After(patience):
			t.Fatal("Send goes on waiting after Close")
		}
	})
}

// The link goes down and comes up, the address goes and comes back: errors
// meanwhile, and the sockets work again by themselves.
func TestUnderlayComesAndGoes(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		h := newHosts(t, 1500)
		c := k.listen(t, UDPConfig{Local: []netip.Addr{h.a4}, Port: wirePort, Netns: h.a.Path()})
		d := k.listen(t, UDPConfig{Local: []netip.Addr{h.b4}, Port: wirePort, Netns: h.b.Path()})
		s, r := c.NewSender(), d.Receivers()[0]
		limit := c.Limits().Segments
		pass := func() {
			t.Helper()
			tr := train(d.Locals()[0], 100, 100, 100, 1)
			n, err := s.Send([]Train{tr})
			for end := time.Now().Add(patience); k.name == "packet" && err != nil && time.Now().Before(end); {
				// It hears of changes a moment later than the kernel knows.
				time.Sleep(time.Millisecond)
				n, err = s.Send([]Train{tr})
			}
			if n != 1 || err != nil {
				t.Fatalf("sent %d, %v", n, err)
			}
			if err := same(collect(t, r, d, 100), tr); err != nil {
				t.Fatal(err)
			}
		}
		fail := func(want ...unix.Errno) {
			t.Helper()
			if k.name == "packet" {
				one := train(d.Locals()[0], 1, 100, 100, 1)
				for end := time.Now().Add(patience); time.Now().Before(end); {
					if n, _ := s.Send([]Train{one}); n == 0 {
						break
					}
					collect(t, r, d, 1)
				}
			}
			for _, count := range []int{1, 3, 100} {
				n, err := s.Send([]Train{train(d.Locals()[0], count, 100, 100, 1)})
				ok := false
				for _, w := range want {
					ok = ok || errors.Is(err, w)
				}
				if n != 0 || !ok {
					t.Errorf("train of %d: sent %d, %v; want one of %v", count, n, err, want)
				}
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		pass()
		must(h.a.SetDown("ens160"))
		fail(unix.ENETUNREACH, unix.ENETDOWN)
		must(h.a.SetUp("ens160"))
		pass()
		must(h.a.Do(func() error {
			link, err := netlink.LinkByName("ens160")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr("192.168.52.203/24")
			if err != nil {
				return err
			}
			return netlink.AddrDel(link, addr)
		}))
		must(h.a.AddAddr("ens160", "192.168.52.210/24"))
		fail(unix.EINVAL, unix.ENETUNREACH) // which one depends on the kernel
		must(h.a.AddAddr("ens160", "192.168.52.203/24"))
		pass()
		if got := c.Limits().Segments; got != limit {
			t.Errorf("limit %d segments, was %d: the failures were taken for something else", got, limit)
		}
	})
}

// UDPConfig.Device binds to the device: what another one brings is not ours.
func TestBindToDevice(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		h := newHosts(t, 1500)
		any4 := netip.MustParseAddr("0.0.0.0")
		d := k.listen(t, UDPConfig{Local: []netip.Addr{any4}, Port: wirePort, Netns: h.b.Path(), Device: "ens160"})
		c := k.listen(t, UDPConfig{Local: []netip.Addr{h.a4}, Port: wirePort, Netns: h.a.Path()})
		other, err := h.b.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", wirePort))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if _, err := other.Write([]byte("over lo")); err != nil {
			t.Fatal(err)
		}
		tr := train(netip.AddrPortFrom(h.b4, wirePort), 1, 10, 10, 1)
		if _, err := c.NewSender().Send([]Train{tr}); err != nil {
			t.Fatal(err)
		}
		if err := same(collect(t, d.Receivers()[0], d, 1), tr); err != nil {
			t.Error(err)
		}
	})
}

// Link-local addresses belong to a device, which is named in the namespace of
// the sockets: the same name is another device elsewhere.
func TestLinkLocalUnderlay(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		h := newHosts(t, 1500)
		linkLocal := func(ns *netlab.Namespace) netip.Addr {
			t.Helper()
			link, err := ns.Link("ens160")
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range link.Addrs {
				if p := netip.MustParsePrefix(a); p.Addr().IsLinkLocalUnicast() {
					return p.Addr().WithZone("ens160")
				}
			}
			t.Fatalf("no link-local address in %v", link.Addrs)
			return netip.Addr{}
		}
		a, b := linkLocal(h.a), linkLocal(h.b)
		c := k.listen(t, UDPConfig{Local: []netip.Addr{a}, Port: wirePort, Netns: h.a.Path()})
		d := k.listen(t, UDPConfig{Local: []netip.Addr{b}, Port: wirePort, Netns: h.b.Path()})
		tr := train(netip.AddrPortFrom(b, wirePort), 3, 100, 100, 1)
		if n, err := c.NewSender().Send([]Train{tr}); n != 1 || err != nil {
			t.Fatalf("sent %d, %v", n, err)
		}
		r := d.Receivers()[0]
		got := collect(t, r, d, 3)
		if err := same(got, tr); err != nil {
			t.Error(err)
		}
		if from := got[0].from.Addr(); from != a {
			t.Errorf("from %v, want %v", from, a)
		}
		s := c.NewSender()
		trains, sent := make([]Train, 4), []Train{tr}
		if n := testing.AllocsPerRun(50, func() {
			if n, err := s.Send(sent); n != 1 || err != nil {
				t.Fatalf("sent %d, %v", n, err)
			}
			for left := 3; left > 0; {
				n, err := r.Recv(trains)
				if err != nil {
					t.Fatal(err)
				}
				for i := range n {
					left -= trains[i].Len()
				}
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
		if _, err := k.open(UDPConfig{Local: []netip.Addr{a.WithZone("ens161")}, Port: wirePort, Netns: h.a.Path()}); err == nil {
			t.Error("listens on an address of a device that is not there")
		}
	})
}
