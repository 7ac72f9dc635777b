package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/vishvananda/netlink"
)

// recovery is how long traffic may take to resume once a fault has ended.
const recovery = 2 * time.Second

// passes wants a frame to get through in each direction, within limit, and says
// after how long it has: frames are sent until one arrives.
func passes(t *testing.T, a, b *packetPort, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	end := begin.Add(limit)
	for i, way := range [][2]*packetPort{{a, b}, {b, a}} {
		for number := uint32(time.Now().UnixMicro()); ; number++ {
			// A port whose device is down says so.
			_ = way[0].trySend(testFrame(broadcast, station(byte(i)), nil, 100, number))
			if arrives(way[1], number) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("no frame passes %s after %v", []string{"out", "in"}[i], limit)
			}
		}
	}
	return time.Since(begin)
}

// arrives says whether a frame of just now comes, behind whatever came before it.
func arrives(port *packetPort, number uint32) bool {
	for f := port.recvTest(time.Now().Add(10 * time.Millisecond)); f != nil; f = port.recvTest(time.Time{}) {
		if n, _ := frameNumber(f); n <= number && number-n < 1000 {
			return true
		}
	}
	return false
}

// changeAddr adds the host's underlay address of one family, or takes it away.
func (h *host) changeAddr(t *testing.T, v6, add bool) {
	t.Helper()
	cidr := h.ip4.String() + "/24"
	if v6 {
		cidr = h.ip6.String() + "/64"
	}
	if add {
		must(t, h.AddAddr(underlayDevice, cidr))
		return
	}
	must(t, h.Do(func() error {
		link, err := netlink.LinkByName(underlayDevice)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		return netlink.AddrDel(link, addr)
	}))
}

// TestRecovers: faults come and go under a running endpoint; when one has gone,
// traffic resumes by itself, within 2 s.
func TestRecovers(t *testing.T) {
	t.Parallel()
	type site struct {
		a, b *host
		v6   bool
		p    *program
		// out sends one frame towards the peer, for the endpoint to fail at.
		out func()
	}
	undelivered := func(t *testing.T, s *site) {
		t.Helper()
		eventually(t, func() error {
			s.out()
			if c := s.p.counters(); c.TxDropUnreachable == 0 {
				return fmt.Errorf("the fault is not noticed: %+v", c)
			}
			return nil
		})
	}
	for _, fault := range []struct {
		name          string
		begin, finish func(t *testing.T, s *site)
	}{
		{"underlay link down", func(t *testing.T, s *site) {
			must(t, s.a.SetDown(underlayDevice))
			undelivered(t, s)
		}, func(t *testing.T, s *site) {
			must(t, s.a.SetUp(underlayDevice))
			if s.v6 {
				s.a.changeAddr(t, true, true) // Linux takes IPv6 addresses off a link that goes down
			}
		}},
		{"peer's link down", func(t *testing.T, s *site) {
			must(t, s.b.SetDown(underlayDevice))
			s.out()
		}, func(t *testing.T, s *site) {
			must(t, s.b.SetUp(underlayDevice))
			if s.v6 {
				s.b.changeAddr(t, true, true)
			}
		}},
		{"address removed", func(t *testing.T, s *site) {
			s.a.changeAddr(t, s.v6, false)
			undelivered(t, s)
		}, func(t *testing.T, s *site) {
			s.a.changeAddr(t, s.v6, true)
		}},
		{"peer's device deleted", func(t *testing.T, s *site) {
			must(t, s.b.DelLink("vxlan0"))
			for range 10 { // to be answered by ICMP
				s.out()
			}
		}, func(t *testing.T, s *site) {
			s.b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, s.v6, s.a)
		}},
		{"TAP down", func(t *testing.T, s *site) {
			must(t, s.a.SetDown(s.p.device()))
			far := openPort(t, s.b.Namespace, "vxlan0", false)
			eventually(t, func() error {
				far.send(testFrame(broadcast, station(2), nil, 60, 1))
				if c := s.p.counters(); c.RxDropDevice == 0 {
					return fmt.Errorf("the fault is not noticed: %+v", c)
				}
				return nil
			})
		}, func(t *testing.T, s *site) {
			must(t, s.a.SetUp(s.p.device()))
		}},
		{"underlay device replaced", func(t *testing.T, s *site) {
			must(t, s.a.DelLink(underlayDevice))
			undelivered(t, s)
		}, func(t *testing.T, s *site) {
			must(t, s.a.lab.Veth(s.a.Namespace, underlayDevice, "", s.b.Namespace, underlayDevice, "", 0))
			s.a.changeAddr(t, s.v6, true)
			s.b.changeAddr(t, s.v6, true)
		}},
		{"program stopped", func(t *testing.T, s *site) {
			s.p.halt()
			for range 100 {
				s.out()
			}
		}, func(t *testing.T, s *site) {
			s.p.signal(syscall.SIGCONT)
		}},
	} {
		for _, v6 := range []bool{false, true} {
			for _, transport := range transports {
				t.Run(fault.name+"/"+family(v6)+"/"+transport, func(t *testing.T) {
					t.Parallel()
					hosts := newHosts(t, "fault", 2, wiring{})
					s := &site{a: hosts[0], b: hosts[1], v6: v6}
					s.b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, v6, s.a)
					s.p = up(t, s.a.Namespace, "--vni", "4097", "--peer", s.b.ip(v6).String(), "--transport", transport)
					near := openPort(t, s.a.Namespace, s.p.device(), false)
					s.out = func() { near.send(testFrame(broadcast, station(1), nil, 60, 0)) }
					passes(t, near, openPort(t, s.b.Namespace, "vxlan0", false), patience)
					// More than once: what is left of the first time shows then.
					for range 2 {
						fault.begin(t, s)
						fault.finish(t, s)
						took := passes(t, near, openPort(t, s.b.Namespace, "vxlan0", false), recovery)
						t.Logf("recovered in %v", took.Round(time.Millisecond))
					}
				})
			}
		}
	}
}

// TestPeerComesLater: an endpoint does not need its peer to start, nor to be
// told when it is there.
func TestPeerComesLater(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "later", 2, wiring{})
	a, b := hosts[0], hosts[1]
	must(t, b.SetDown(underlayDevice))
	p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String())
	near := openPort(t, a.Namespace, p.device(), false)
	for n := range uint32(100) {
		near.send(testFrame(broadcast, station(1), nil, 1000, n))
	}
	must(t, b.SetUp(underlayDevice))
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	passes(t, near, openPort(t, b.Namespace, "vxlan0", false), recovery)
}

// TestEndpointRestarts: the kernel's side of the overlay goes on when the
// endpoint is killed and started again: it has the same address.
func TestEndpointRestarts(t *testing.T) {
	t.Parallel()
	tn := kernelTunnel(t, "restart", wiring{}, false)
	mac := tn.program.status().VNIs[0].MAC
	ping(t, tn.b.Namespace, inner4A, 1)
	for range 2 {
		tn.program.signal(syscall.SIGKILL)
		tn.program.exit()
		tn.program = up(t, tn.a.Namespace, "--vni", "4097", "--peer", tn.b.ip4.String(), "--addr", inner4A.String()+"/24")
		if m := tn.program.status().VNIs[0].MAC; m != mac {
			t.Errorf("its MAC address was %v, and is %v after the restart", mac, m)
		}
		// The neighbour entry of before still holds.
		ping(t, tn.b.Namespace, inner4A, 1, "-W", "1")
	}
	tn.program.awaitCounters("frames in and out", func(c vtep.Counters) bool { return c.RxFrames > 0 && c.TxFrames > 0 })
}
