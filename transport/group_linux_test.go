package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	group4, other4 = netip.MustParseAddr("239.1.1.1"), netip.MustParseAddr("239.1.1.2")
	group6, other6 = netip.MustParseAddr("ff05::100"), netip.MustParseAddr("ff05::101")
)

// groupCase is a group on a pair of hosts.
type groupCase struct {
	group, other netip.Addr
	a, b         netip.Addr
}

func (h *hosts) groupCases() map[string]groupCase {
	return map[string]groupCase{
		"IPv4":            {group4, other4, h.a4, h.b4},
		"IPv6":            {group6, other6, h.a6, h.b6},
		"IPv6 link-local": {netip.MustParseAddr("ff02::100"), netip.MustParseAddr("ff02::101"), h.a6, h.b6},
	}
}

// joined joins a group, or ends the test.
func (c *udpConn) joined(t testing.TB, group netip.Addr, tell func(error)) *udpGroup {
	t.Helper()
	g, err := c.Join(group, "ens160", tell)
	if err != nil {
		t.Fatal(err)
	}
	if s := g.State(); s.Err != nil || s.Joins != 1 {
		t.Fatalf("state %+v after Join", s)
	}
	return g.(*udpGroup)
}

// A train for a group arrives whole at a member, from its own address, with the
// multicast TTL, and comes in by the group's receiver alone; the kernel takes
// it apart as it does for unicast (UDP_SEGMENT).
func TestGroupCarriesTrains(t *testing.T) {
	h := newHosts(t, 1500)
	for name, tc := range h.groupCases() {
		for _, ttl := range []int{0, 7} {
			for _, dev := range []string{"", "ens160"} {
				t.Run(fmt.Sprintf("%s/ttl=%d/dev=%s", name, ttl, dev), func(t *testing.T) {
					c := listen(t, UDPConfig{Local: []netip.Addr{tc.a}, Port: wirePort, Netns: h.a.Path(), MulticastTTL: ttl, Device: dev})
					d := listen(t, UDPConfig{Local: []netip.Addr{tc.b}, Port: wirePort, Netns: h.b.Path(), Device: dev})
					g, from := d.joined(t, tc.group, nil), c.joined(t, tc.group, nil)
					h.seen(t)
					to := netip.AddrPortFrom(tc.group, wirePort)
					s := c.NewSender()
					trains := []Train{train(to, 60, 1000, 77, 1), train(to, 1, 50, 50, 1), train(to, 30, 64, 64, 1)}
					trains[0].TOS = 2
					trains[1].TTL = 9 // is for unicast
					if n, err := s.Send(trains); n != 3 || err != nil {
						t.Fatalf("sent %d, %v", n, err)
					}
					got := collect(t, g, d, 91)
					if err := same(got, trains...); err != nil {
						t.Error(err)
					}
					for i, a := range got {
						if a.from.Addr() != tc.a || a.from.Port() < 49152 || i < 60 && a.tos != 2 {
							t.Fatalf("datagram %d from %v with TOS %d", i, a.from, a.tos)
						}
					}
					// The other way unicast goes past the group.
					back := train(netip.AddrPortFrom(tc.a, wirePort), 3, 10, 10, 2)
					if n, err := d.NewSender().Send([]Train{back}); n != 1 || err != nil {
						t.Fatalf("sent %d, %v", n, err)
					}
					if err := same(collect(t, c.Receivers()[0], c, 3), back); err != nil {
						t.Error(err)
					}
					want := byte(1)
					if ttl != 0 {
						want = byte(ttl)
					}
					packets := h.seen(t)
					if len(packets) < 91 {
						t.Errorf("%d packets on the wire, want 91: the train was not taken apart", len(packets))
					}
					for _, p := range packets {
						at := 8
						if tc.a.Is6() {
							at = 7
						}
						if p[at] != want {
							t.Fatalf("TTL %d, want %d", p[at], want)
						}
					}
					// Our own has not come back (IP_MULTICAST_LOOP), nor anything
					// into the main socket.
					for _, sock := range []*socket{from.sock, d.receivers[0]} {
						if n := waiting(t, sock); n != 0 {
							t.Errorf("%d bytes wait where nothing should", n)
						}
					}
				})
			}
		}
	}
}

// waiting is how long the next datagram in a socket is, 0 without one.
func waiting(t *testing.T, s *socket) (n int) {
	t.Helper()
	if err := s.fd.Do(func(fd uintptr) {
		b := make([]byte, 1)
		var err error
		if n, _, err = unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT); err == unix.EAGAIN {
			n = 0
		} else if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Error(err)
	}
	return n
}

// A socket gets what is sent to its group, and not what is sent to another that
// this host has joined too; a second process in the group gets a copy.
func TestGroupsAreApart(t *testing.T) {
	h := newHosts(t, 1500)
	for name, tc := range h.groupCases() {
		for _, wild := range []bool{false, true} {
			for _, receivers := range []int{1, 2} {
				t.Run(fmt.Sprintf("%s/wildcard=%v/receivers=%d", name, wild, receivers), func(t *testing.T) {
					local := tc.b
					if wild {
						local = netip.IPv4Unspecified()
						if tc.b.Is6() {
							local = netip.IPv6Unspecified()
						}
					}
					c := listen(t, UDPConfig{Local: []netip.Addr{tc.a}, Port: wirePort, Netns: h.a.Path()})
					d := listen(t, UDPConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: h.b.Path(), Receivers: receivers})
					g, o := d.joined(t, tc.group, nil), d.joined(t, tc.other, nil)
					c.joined(t, tc.group, nil)
					c.joined(t, tc.other, nil)
					s := c.NewSender()
					one := train(netip.AddrPortFrom(tc.group, wirePort), 5, 100, 50, 1)
					two := train(netip.AddrPortFrom(tc.other, wirePort), 4, 90, 50, 2)
					three := train(netip.AddrPortFrom(tc.b, wirePort), 3, 80, 50, 3)
					if n, err := s.Send([]Train{one, two, one, three}); n != 4 || err != nil {
						t.Fatalf("sent %d, %v", n, err)
					}
					if err := same(collect(t, g, d, 10), one, one); err != nil {
						t.Error(err)
					}
					if err := same(collect(t, o, d, 4), two); err != nil {
						t.Error(err)
					}
					var left int
					for _, s := range d.receivers {
						left += waiting(t, s)
					}
					if left == 0 {
						t.Error("the unicast train is not in the main sockets")
					}
					if waiting(t, g.sock)+waiting(t, o.sock) != 0 {
						t.Error("the groups' sockets have more than what was sent to them")
					}
					// The door is shut behind the groups: nobody else gets the
					// address.
					if _, err := ListenUDP(UDPConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: h.b.Path()}); !errors.Is(err, ErrPortInUse) {
						t.Errorf("a second VTEP on the port: %v", err)
					}
				})
			}
		}
	}
}

// Two VTEPs on two addresses of one host are both in a group.
func TestGroupSharedByTwoOfOneHost(t *testing.T) {
	h := newHosts(t, 1500)
	second := netip.MustParseAddr("192.168.52.205")
	if err := h.b.AddAddr("ens160", second.String()+"/24"); err != nil {
		t.Fatal(err)
	}
	c := listen(t, UDPConfig{Local: []netip.Addr{h.a4}, Port: wirePort, Netns: h.a.Path()})
	c.joined(t, group4, nil)
	var members []*udpGroup
	for _, local := range []netip.Addr{h.b4, second} {
		d := listen(t, UDPConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: h.b.Path()})
		members = append(members, d.joined(t, group4, nil))
	}
	tr := train(netip.AddrPortFrom(group4, wirePort), 7, 100, 50, 1)
	if n, err := c.NewSender().Send([]Train{tr}); n != 1 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
	for _, g := range members {
		if err := same(collect(t, g, g.c, 7), tr); err != nil {
			t.Error(err)
		}
	}
}

// memberships are the groups of ens160 as the kernel has them.
func (h *hosts) isMember(t *testing.T, group netip.Addr) bool {
	t.Helper()
	member, err := h.b.Membership("ens160", group)
	if err != nil {
		t.Fatal(err)
	}
	return member
}

// news waits for the next word of a membership.
func news(t *testing.T, told <-chan error, want error) {
	t.Helper()
	select {
	case err := <-told:
		if !errors.Is(err, want) {
			t.Fatalf("told %v, want %v", err, want)
		}
	case <-time.After(patience):
		t.Fatalf("was not told %v", want)
	}
}

// The link goes down and comes back; it is deleted and made anew: each time the
// group is joined again, it is told, and frames flow both ways. At the end it is
// left.
func TestGroupIsJoinedAgain(t *testing.T) {
	for _, name := range []string{"IPv4", "IPv6", "IPv6 link-local"} {
		for _, dev := range []string{"", "ens160"} {
			t.Run(name+"/dev="+dev, func(t *testing.T) {
				h := newHosts(t, 1500)
				tc := h.groupCases()[name]
				must := func(err error) {
					t.Helper()
					if err != nil {
						t.Fatal(err)
					}
				}
				told := make(chan error, 100)
				c := listen(t, UDPConfig{Local: []netip.Addr{tc.a}, Port: wirePort, Netns: h.a.Path()})
				d := listen(t, UDPConfig{Local: []netip.Addr{tc.b}, Port: wirePort, Netns: h.b.Path(), Device: dev})
				g := d.joined(t, tc.group, func(err error) { told <- err })
				n := c.joined(t, tc.group, nil)
				pass := func(tag byte) {
					t.Helper()
					tr := train(netip.AddrPortFrom(tc.group, wirePort), 5, 100, 50, tag)
					for _, way := range []struct{ from, to *udpGroup }{{n, g}, {g, n}} {
						deadline := time.Now().Add(patience)
						for {
							sent, err := way.from.c.NewSender().Send([]Train{tr})
							if sent == 1 && err == nil {
								break
							}
							if time.Now().After(deadline) { // an IPv6 address takes a moment
								t.Fatalf("sent %d, %v", sent, err)
							}
							time.Sleep(time.Millisecond)
						}
						if err := same(collect(t, way.to, way.to.c, 5), tr); err != nil {
							t.Fatal(err)
						}
					}
				}
				pass(1)
				if !h.isMember(t, tc.group) {
					t.Error("the kernel has no membership")
				}

				must(h.b.SetDown("ens160"))
				news(t, told, ErrDeviceDown)
				if s := g.State(); !errors.Is(s.Err, ErrDeviceDown) || s.Joins != 1 {
					t.Errorf("state %+v", s)
				}
				must(h.b.SetUp("ens160"))
				if tc.b.Is6() {
					must(h.b.AddAddr("ens160", tc.b.String()+"/64"))
				}
				news(t, told, nil)
				pass(2)

				// Both ends of the wire go together.
				must(h.b.DelLink("ens160"))
				if err := <-told; err == nil {
					t.Error("told that all is well while the device is gone")
				}
				for !errors.Is(g.State().Err, ErrNoDevice) {
					news(t, told, ErrNoDevice)
				}
				if sent, err := d.NewSender().Send([]Train{train(netip.AddrPortFrom(tc.group, wirePort), 1, 9, 9, 1)}); sent != 0 || !errors.Is(err, ErrNoGroup) {
					t.Errorf("without the device: sent %d, %v", sent, err)
				}
				must(h.lab.Veth(h.a, "spare", "", h.b, "spare", "", 1500)) // takes the old index, or not
				must(h.lab.Veth(h.a, "ens160", "", h.b, "ens160", "", 1500))
				for ns, addr := range map[int]netip.Addr{0: tc.a, 1: tc.b} {
					bits := "/24"
					if addr.Is6() {
						bits = "/64"
					}
					must([]interface{ AddAddr(string, string) error }{h.a, h.b}[ns].AddAddr("ens160", addr.String()+bits))
				}
				for _, g := range []*udpGroup{g, n} {
					for deadline := time.Now().Add(patience); g.State().Err != nil; time.Sleep(time.Millisecond) {
						if time.Now().After(deadline) {
							t.Fatalf("state %+v", g.State())
						}
					}
				}
				pass(3)
				if s := g.State(); s.Joins != 3 {
					t.Errorf("%d joins, want 3", s.Joins)
				}
				if !h.isMember(t, tc.group) {
					t.Error("the kernel has no membership")
				}
				if err := g.Leave(); err != nil {
					t.Error(err)
				}
				if err := g.Leave(); err != nil {
					t.Errorf("left twice: %v", err)
				}
				if h.isMember(t, tc.group) {
					t.Error("the kernel keeps the membership")
				}
				d.joined(t, tc.group, nil)
				d.Close()
				if h.isMember(t, tc.group) {
					t.Error("the kernel keeps the membership after Close")
				}
			})
		}
	}
}

// A device that comes later is joined when it comes.
func TestGroupOnDeviceThatComesLater(t *testing.T) {
	h := newHosts(t, 1500)
	told := make(chan error, 10)
	d := listen(t, UDPConfig{Local: []netip.Addr{h.b4, h.b6}, Port: wirePort, Netns: h.b.Path()})
	for _, group := range []netip.Addr{group4, netip.MustParseAddr("ff02::100")} {
		g, err := d.Join(group, "late0", func(err error) { told <- err })
		if err != nil {
			t.Fatal(err)
		}
		if s := g.State(); !errors.Is(s.Err, ErrNoDevice) || s.Joins != 0 {
			t.Errorf("state %+v", s)
		}
	}
	if err := h.lab.Veth(h.a, "late0", "", h.b, "late0", "", 1500); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		// It may be seen on its way up.
		for {
			if err := <-told; err == nil {
				break
			} else if !errors.Is(err, ErrDeviceDown) {
				t.Fatal(err)
			}
		}
	}
}

// A host may be in more groups than one socket may (net.ipv4.igmp_max_memberships,
// 20 by default).
func TestManyGroups(t *testing.T) {
	h := newHosts(t, 1500)
	d := listen(t, UDPConfig{Local: []netip.Addr{h.b4}, Port: wirePort, Netns: h.b.Path()})
	group := group4
	for range 50 {
		d.joined(t, group, nil)
		if !h.isMember(t, group) {
			t.Fatalf("the kernel has no membership in %v", group)
		}
		group = group.Next()
	}
}

func TestJoinRefuses(t *testing.T) {
	h := newHosts(t, 1500)
	d := listen(t, UDPConfig{Local: []netip.Addr{h.b4}, Port: wirePort, Netns: h.b.Path()})
	d.joined(t, group4, nil)
	for _, tc := range []struct {
		group  string
		device string
		want   error
	}{
		{"239.1.1.1", "ens160", ErrGroupExists},
		{"239.1.1.1", "lo", ErrGroupExists},
		{"::ffff:239.1.1.1", "ens160", ErrGroupExists},
		{"ff05::100", "ens160", ErrNoFamily},
		{"192.168.52.9", "ens160", nil},
		{"239.1.1.2", "", nil},
		{"ff01::1", "ens160", nil},
	} {
		_, err := d.Join(netip.MustParseAddr(tc.group), tc.device, nil)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s on %q: %v, want %v", tc.group, tc.device, err, tc.want)
		}
	}
	// Sending to a group that was not joined could leave by any device.
	if n, err := d.NewSender().Send([]Train{train(netip.AddrPortFrom(other4, wirePort), 1, 9, 9, 1)}); n != 0 || !errors.Is(err, ErrNoGroup) {
		t.Errorf("sent %d, %v", n, err)
	}
	d.Close()
	if _, err := d.Join(other4, "ens160", nil); err == nil {
		t.Error("joined after Close")
	}
}

func TestLocate(t *testing.T) {
	h := newHosts(t, 1500)
	for _, ttl := range []int{0, 2} {
		d := listen(t, UDPConfig{Local: []netip.Addr{h.b4, h.b6}, Port: wirePort + uint16(ttl), Netns: h.b.Path(), MulticastTTL: ttl})
		far := Elsewhere
		if ttl > 1 {
			far = InReach
		}
		g := d.joined(t, group4, nil)
		for a, want := range map[string]Place{
			"192.168.52.204": Own, "192.168.52.1": InReach, "::ffff:192.168.52.1": InReach, "192.168.53.1": far, "10.0.0.1": far,
			"fd00::204": Own, "fd00::1": InReach, "fd00:1::1": far, "fe80::1": InReach, "fe80::1%ens160": InReach, "fe80::1%ens161": Elsewhere,
		} {
			if got := g.Locate(netip.MustParseAddr(a)); got != want {
				t.Errorf("TTL %d: %s is %d, want %d", ttl, a, got, want)
			}
		}
		// It follows the device's addresses.
		a := netip.MustParseAddr("172.16.0.9")
		if got := g.Locate(a); got != far {
			t.Errorf("%v is %d before it is near", a, got)
		}
		if err := h.b.AddAddr("ens160", fmt.Sprintf("172.16.0.%d/24", 1+ttl)); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(patience); g.Locate(a) != InReach; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%v is %d", a, g.Locate(a))
			}
		}
		d.Close()
		if err := h.b.DelAddr("ens160", fmt.Sprintf("172.16.0.%d/24", 1+ttl)); err != nil {
			t.Fatal(err)
		}
	}
}

// What a Conn sends to a group, or receives from it, allocates nothing.
func TestGroupAllocatesNothing(t *testing.T) {
	h := newHosts(t, 1500)
	for name, tc := range h.groupCases() {
		t.Run(name, func(t *testing.T) {
			c := listen(t, UDPConfig{Local: []netip.Addr{tc.a}, Port: wirePort, Netns: h.a.Path()})
			d := listen(t, UDPConfig{Local: []netip.Addr{tc.b}, Port: wirePort, Netns: h.b.Path()})
			g := d.joined(t, tc.group, nil)
			c.joined(t, tc.group, nil)
			s := c.NewSender()
			to := netip.AddrPortFrom(tc.group, wirePort)
			trains := []Train{train(to, 20, 1000, 10, 1), train(to, 1, 100, 100, 2)}
			trains[0].TOS = 3
			got := make([]Train, 64)
			if n := testing.AllocsPerRun(50, func() {
				if n, err := s.Send(trains); n != 2 || err != nil {
					t.Fatalf("sent %d, %v", n, err)
				}
				for left := 21; left > 0; {
					n, err := g.Recv(got)
					if err != nil {
						t.Fatal(err)
					}
					for i := range n {
						left -= got[i].Len()
					}
				}
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// The control messages of one send fit into the room for them, all at once.
func TestControlRoom(t *testing.T) {
	need := unix.CmsgSpace(2) + 2*unix.CmsgSpace(4) + unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	if room := binary.Size(sendControl{}); room < need {
		t.Errorf("%d bytes, %d needed", room, need)
	}
}
