package transport

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// bequeathed is what another process gets of a Conn.
func bequeathed(t *testing.T, c *udpConn) (h Handover, fds []int) {
	t.Helper()
	h, own := c.HandOver()
	text, err := json.Marshal(h)
	if err == nil {
		h = Handover{}
		err = json.Unmarshal(text, &h)
	}
	for _, fd := range own {
		n, failed := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		err = errors.Join(err, failed)
		fds = append(fds, n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h, fds
}

// inherit goes on with a Conn, which is closed.
func (c *udpConn) inherit(t *testing.T, cfg UDPConfig) *udpConn {
	t.Helper()
	h, fds := bequeathed(t, c)
	next, err := InheritUDP(cfg, h, fds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Close() })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return next.(*udpConn)
}

// Sockets of another process, both families and with a second set for DF, send
// and receive as before, from the same ports, and what came meanwhile is there.
func TestInherit(t *testing.T) {
	h := newHosts(t, 1500)
	cfg := UDPConfig{
		Local: []netip.Addr{h.a4, h.a6}, Port: wirePort, Netns: h.a.Path(), Receivers: 1,
		DontFragmentByTrain: true, TTL: 77, AutoFlowLabel: true,
	}
	first := listen(t, cfg)
	d := listen(t, UDPConfig{Local: []netip.Addr{h.b4, h.b6}, Port: wirePort, Netns: h.b.Path()})
	first.HearTooBig(func(*TooBig) {})
	c := first
	for round := range 3 {
		for _, family := range []int{4, 6} {
			// It arrives while nobody has the sockets in hand.
			sent := train(c.to(family), 3, 100, 50, byte(round))
			if _, err := d.NewSender().Send([]Train{sent}); err != nil {
				t.Fatal(err)
			}
		}
		ports := func(c *udpConn) (list []uint16) {
			for _, set := range [][]*socket{c.senders[0], c.senders[1], c.unfragmented} {
				for _, s := range set {
					list = append(list, s.port)
				}
			}
			return list
		}
		before, limits := ports(c), c.Limits()
		c = c.inherit(t, cfg)
		c.HearTooBig(func(*TooBig) {})
		after := ports(c)
		if len(before) != len(after) || c.Limits() != limits || limits.Segments < 2 {
			t.Fatalf("%d senders, %+v; had %d, %+v", len(after), c.Limits(), len(before), limits)
		}
		for i := range before {
			if before[i] != after[i] {
				t.Errorf("sender %d has port %d, had %d", i, after[i], before[i])
			}
		}
		for i, family := range []int{4, 6} {
			if err := same(collect(t, c.Receivers()[i], c, 3), train(c.to(family), 3, 100, 50, byte(round))); err != nil {
				t.Errorf("round %d, IPv%d: %v", round, family, err)
			}
			sent := train(d.to(family), 5, 200, 70, byte(round+10))
			sent.DontFragment = family == 4
			if _, err := c.NewSender().Send([]Train{sent}); err != nil {
				t.Fatal(err)
			}
			if err := same(collect(t, d.Receivers()[i], d, 5), sent); err != nil {
				t.Errorf("round %d, to IPv%d: %v", round, family, err)
			}
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	listen(t, cfg) // the ports are free again
}

// A membership goes on without a second join; one that nobody asks for ends.
func TestInheritGroups(t *testing.T) {
	h := newHosts(t, 1500)
	for name, tc := range h.groupCases() {
		t.Run(name, func(t *testing.T) {
			cfg := UDPConfig{Local: []netip.Addr{tc.b}, Port: wirePort, Netns: h.b.Path()}
			first := listen(t, cfg)
			first.joined(t, tc.group, nil)
			first.joined(t, tc.other, nil)
			c := first.inherit(t, cfg)
			g := c.joined(t, tc.group, nil)
			c.Settle()
			if !h.isMember(t, tc.group) {
				t.Error("it is no member any more")
			}
			if h.isMember(t, tc.other) {
				t.Error("it is still a member of the other group")
			}
			d := listen(t, UDPConfig{Local: []netip.Addr{tc.a}, Port: wirePort, Netns: h.a.Path()})
			d.joined(t, tc.group, nil)
			sent := train(netip.AddrPortFrom(tc.group, wirePort), 4, 100, 30, 1)
			if _, err := d.NewSender().Send([]Train{sent}); err != nil {
				t.Fatal(err)
			}
			if err := same(collect(t, g, c, 4), sent); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if h.isMember(t, tc.group) {
				t.Error("it is a member after Close")
			}
		})
	}
}

// Other sockets than are there are refused by name, and nothing is left open.
func TestInheritRefuses(t *testing.T) {
	cfg := UDPConfig{Local: []netip.Addr{loopback4}, Port: freePort(t, loopback4), Receivers: 2}
	c := listen(t, cfg)
	for field, change := range map[string]func(*UDPConfig){
		"Local":        func(c *UDPConfig) { c.Local = []netip.Addr{loopback6} },
		"Port":         func(c *UDPConfig) { c.Port++ },
		"Receivers":    func(c *UDPConfig) { c.Receivers = 1 },
		"TTL":          func(c *UDPConfig) { c.TTL = 1 },
		"SourcePortLo": func(c *UDPConfig) { c.SourcePortLo, c.SourcePortHi = 50000, 65535 },
		"NoGRO":        func(c *UDPConfig) { c.NoGRO = true },
	} {
		other := cfg
		change(&other)
		h, fds := bequeathed(t, c)
		next, err := InheritUDP(other, h, fds)
		if err == nil {
			next.Close()
		}
		var differ *DifferError
		if !errors.As(err, &differ) || differ.Field != field {
			t.Errorf("another %s: %v", field, err)
		}
		closed(t, fds)
	}
	for what, change := range map[string]func(*Handover){
		"transport": func(h *Handover) { h.Transport = "packet" },
		"number":    func(h *Handover) { h.Receivers[0] = 99 },
		"negative":  func(h *Handover) { h.Senders[0][0] = -1 },
		"fewer":     func(h *Handover) { h.Sockets = h.Sockets[1:] },
		"port":      func(h *Handover) { h.Sockets[0].Port++ },
		"nobody":    func(h *Handover) { h.Locals = nil },
	} {
		h, fds := bequeathed(t, c)
		change(&h)
		if next, err := InheritUDP(cfg, h, fds); err == nil {
			next.Close()
			t.Errorf("%s: accepted", what)
		}
		closed(t, fds)
	}
}

// closed checks that descriptors are.
func closed(t *testing.T, fds []int) {
	t.Helper()
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("descriptor %d is open (%v)", fd, err)
			unix.Close(fd)
		}
	}
}
