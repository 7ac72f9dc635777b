package transport

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"golang.org/x/sys/unix"
)

// routed are two hosts with a router between them, whose link to the second
// one has an MTU of 1400. The hosts' own have 1500.
type routed struct {
	a, r, b        *netlab.Namespace
	a4, b4, a6, b6 netip.Addr
}

func newRouted(t *testing.T) *routed {
	t.Helper()
	lab := netlabtest.New(t, "routed")
	h := &routed{
		a: netlabtest.Namespace(t, lab, "a"), r: netlabtest.Namespace(t, lab, "r"), b: netlabtest.Namespace(t, lab, "b"),
		a4: netip.MustParseAddr("192.168.52.203"), b4: netip.MustParseAddr("192.168.53.204"),
		a6: netip.MustParseAddr("fd52::203"), b6: netip.MustParseAddr("fd53::204"),
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.r.Sysctl("net.ipv4.ip_forward", "1"))
	must(h.r.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	must(lab.Veth(h.a, "ens160", "192.168.52.203/24", h.r, "toA", "192.168.52.1/24", 1500))
	must(lab.Veth(h.r, "toB", "192.168.53.1/24", h.b, "ens160", "192.168.53.204/24", 1400))
	for ns, dev := range map[*netlab.Namespace]string{h.a: "ens160", h.b: "ens160"} {
		must(ns.SetOffloads(dev, false))
	}
	must(h.r.SetOffloads("toA", false))
	must(h.r.SetOffloads("toB", false))
	must(h.a.AddAddr("ens160", "fd52::203/64"))
	must(h.r.AddAddr("toA", "fd52::1/64"))
	must(h.r.AddAddr("toB", "fd53::1/64"))
	must(h.b.AddAddr("ens160", "fd53::204/64"))
	must(h.a.AddRoute("default", "192.168.52.1", "ens160"))
	must(h.a.AddRoute("default", "fd52::1", "ens160"))
	must(h.b.AddRoute("default", "192.168.53.1", "ens160"))
	must(h.b.AddRoute("default", "fd53::1", "ens160"))
	return h
}

// What a router says of a datagram that did not fit reaches the hearer, with
// the router's address, the MTU, and the beginning of the datagram; what comes
// back to a socket costs none of the datagrams that are sent after it.
func TestTooBigHeardFromRouter(t *testing.T) {
	h := newRouted(t)
	for _, v6 := range []bool{false, true} {
		for _, way := range []string{"train", "single", "conn"} {
			if v6 && way != "train" {
				continue
			}
			t.Run(fmt.Sprintf("v6=%v,%s", v6, way), func(t *testing.T) {
				local, remote, router := h.a4, h.b4, "192.168.52.1"
				if v6 {
					local, remote, router = h.a6, h.b6, "fd52::1"
				}
				c := listen(t, UDPConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: h.a.Path(), DontFragment: way == "conn"})
				d := listen(t, UDPConfig{Local: []netip.Addr{remote}, Port: wirePort, Netns: h.b.Path()})
				var words []TooBig
				c.HearTooBig(func(w *TooBig) {
					kept := *w
					kept.Datagram = bytes.Clone(w.Datagram)
					words = append(words, kept)
				})
				s, r := c.NewSender(), d.Receivers()[0]
				big := train(d.locals[0], 3, 1440, 1440, 1)
				if way == "single" {
					big = train(d.locals[0], 1, 1440, 1440, 1)
				}
				big.DontFragment = way != "conn"
				small := train(d.locals[0], 2, 1300, 1300, 1)
				send := func(tr Train) {
					t.Helper()
					if n, err := s.Send([]Train{tr}); n != 1 || err != nil {
						t.Fatalf("%d sent, %v", n, err)
					}
				}
				send(big)
				deadline := time.Now().Add(patience)
				for len(words) == 0 && time.Now().Before(deadline) {
					// The answer comes at its own time; sending is what hears it.
					time.Sleep(5 * time.Millisecond)
					send(small)
					if err := same(collect(t, r, d, 2), small); err != nil {
						t.Fatalf("the datagrams after that: %v", err)
					}
				}
				if len(words) == 0 {
					t.Fatal("nothing heard")
				}
				w := words[0]
				if w.To != d.locals[0] || w.From != netip.MustParseAddr(router) || w.MTU != 1400 {
					t.Errorf("heard of %v from %v, MTU %d", w.To, w.From, w.MTU)
				}
				if len(w.Datagram) < 300 || !bytes.HasPrefix(big.Buf, w.Datagram) {
					t.Errorf("%d bytes quoted, want the datagram's first", len(w.Datagram))
				}
				if v6 || way == "conn" {
					return
				}
				// Without DF the router takes it apart, also right after.
				big.DontFragment = false
				send(big)
				if err := same(collect(t, r, d, big.Len()), big); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// This host's own word: what its device would carry.
func TestTooBigHeardFromHost(t *testing.T) {
	h := newHosts(t, 1400)
	for _, v6 := range []bool{false, true} {
		for _, noGSO := range []bool{false, true} {
			for count := 1; count <= 3; count += 2 {
				local, remote := h.a4, h.b4
				if v6 {
					local, remote = h.a6, h.b6
				}
				c := listen(t, UDPConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: h.a.Path(), NoGSO: noGSO})
				var words []TooBig
				c.HearTooBig(func(w *TooBig) { words = append(words, *w) })
				s := c.NewSender()
				to := netip.AddrPortFrom(remote, wirePort)
				n, err := s.Send([]Train{train(to, count, 1440, 1440, 1)})
				if n != 0 || err != unix.EMSGSIZE {
					t.Errorf("v6=%v NoGSO=%v: %d of a train of %d sent, %v", v6, noGSO, n, count, err)
				}
				if len(words) == 0 || slices.ContainsFunc(words, func(w TooBig) bool {
					return w.To.Addr() != remote || w.From.IsValid() || w.MTU != 1400 || len(w.Datagram) != 0
				}) {
					t.Errorf("v6=%v NoGSO=%v, train of %d: heard %+v", v6, noGSO, count, words)
				}
				if n, err := s.Send([]Train{train(to, count, 1300, 1300, 1)}); n != 1 || err != nil {
					t.Errorf("v6=%v NoGSO=%v: after that, %v", v6, noGSO, err)
				}
				c.Close()
			}
		}
	}
}

// Errors that are no word of a size, such as a port that nobody listens on, are
// read and forgotten, and cost no datagram.
func TestOtherErrorsAreForgotten(t *testing.T) {
	h := newHosts(t, 1500)
	c := listen(t, UDPConfig{Local: []netip.Addr{h.a4}, Port: wirePort, Netns: h.a.Path()})
	c.HearTooBig(func(w *TooBig) { t.Errorf("heard %+v", w) })
	s := c.NewSender()
	to := netip.AddrPortFrom(h.b4, wirePort)
	for i := range 50 {
		if n, err := s.Send([]Train{train(to, 3, 100, 100, 1), train(to, 1, 50, 50, 1)}); n != 2 || err != nil {
			t.Fatalf("send %d: %d trains, %v", i, n, err)
		}
		time.Sleep(time.Millisecond)
	}
	if sock := s.(*udpSender).socket(&Train{Addr: to, Hash: 1 << 24}); queuedErrors(t, sock) > 8 {
		t.Error("errors pile up at the socket")
	}
}

// queuedErrors is how many errors wait at a socket; it takes them away.
func queuedErrors(t *testing.T, s *socket) (n int) {
	t.Helper()
	if err := s.fd.Do(func(fd uintptr) {
		for {
			if _, _, _, _, err := unix.Recvmsg(int(fd), make([]byte, 10), make([]byte, 300), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil {
				return
			}
			n++
		}
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// DF per train, beside trains without: allocation-free like all sending.
func TestDontFragmentPerTrain(t *testing.T) {
	h := newHosts(t, 1500)
	c := listen(t, UDPConfig{Local: []netip.Addr{h.a4}, Port: wirePort, Netns: h.a.Path()})
	d := listen(t, UDPConfig{Local: []netip.Addr{h.b4}, Port: wirePort, Netns: h.b.Path()})
	s, r := c.NewSender(), d.Receivers()[0]
	trains := make([]Train, 5)
	for i := range trains {
		trains[i] = train(d.locals[0], 2, 200+i, 200+i, 1)
		trains[i].DontFragment = i == 1 || i == 3
	}
	h.seen(t)
	if n, err := s.Send(trains); n != 5 || err != nil {
		t.Fatalf("%d sent, %v", n, err)
	}
	if err := same(collect(t, r, d, 10), trains...); err != nil {
		t.Error(err)
	}
	for _, p := range h.seen(t) {
		size := len(p) - 28
		checkPacket(t, p, false, size == 201 || size == 203, 64)
	}
	if n := testing.AllocsPerRun(20, func() { _, _ = s.Send(trains) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
