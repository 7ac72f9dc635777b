package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/govxlan/govxlan/vtep"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// narrow is two hosts with two routers between them. Their own links have an
// MTU of 1500, the one between the routers 1400: the black hole of many a
// report.
//
//	A --1500-- r1 --1400-- r2 --1500-- B
type narrow struct {
	a, b   *host
	r1, r2 *netlab.Namespace
}

func newNarrow(t *testing.T, label string) *narrow {
	t.Helper()
	lab := netlabtest.New(t, label)
	n := &narrow{
		a: &host{lab: lab, Namespace: netlabtest.Namespace(t, lab, "hostA"),
			ip4: netip.MustParseAddr("192.168.52.203"), ip6: netip.MustParseAddr("fd52::203")},
		b: &host{lab: lab, Namespace: netlabtest.Namespace(t, lab, "hostB"),
			ip4: netip.MustParseAddr("192.168.54.204"), ip6: netip.MustParseAddr("fd54::204")},
		r1: netlabtest.Namespace(t, lab, "r1"),
		r2: netlabtest.Namespace(t, lab, "r2"),
	}
	for _, r := range []*netlab.Namespace{n.r1, n.r2} {
		must(t, r.Sysctl("net.ipv4.ip_forward", "1"))
		must(t, r.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	}
	must(t, lab.Veth(n.a.Namespace, underlayDevice, "192.168.52.203/24", n.r1, "hostA", "192.168.52.1/24", 1500))
	must(t, lab.Veth(n.r1, "middle", "192.168.53.1/24", n.r2, "middle", "192.168.53.2/24", 1400))
	must(t, lab.Veth(n.b.Namespace, underlayDevice, "192.168.54.204/24", n.r2, "hostB", "192.168.54.1/24", 1500))
	for _, end := range []struct {
		ns   *netlab.Namespace
		dev  string
		cidr string
	}{
		{n.a.Namespace, underlayDevice, "fd52::203/64"}, {n.r1, "hostA", "fd52::1/64"},
		{n.r1, "middle", "fd53::1/64"}, {n.r2, "middle", "fd53::2/64"},
		{n.b.Namespace, underlayDevice, "fd54::204/64"}, {n.r2, "hostB", "fd54::1/64"},
	} {
		must(t, end.ns.AddAddr(end.dev, end.cidr))
		must(t, end.ns.SetOffloads(end.dev, false)) // each packet is one that a wire could carry
	}
	for _, r := range []struct {
		ns           *netlab.Namespace
		to, via, dev string
	}{
		{n.a.Namespace, "default", "192.168.52.1", underlayDevice}, {n.a.Namespace, "default", "fd52::1", underlayDevice},
		{n.b.Namespace, "default", "192.168.54.1", underlayDevice}, {n.b.Namespace, "default", "fd54::1", underlayDevice},
		{n.r1, "default", "192.168.53.2", "middle"}, {n.r1, "default", "fd53::2", "middle"},
		{n.r2, "default", "192.168.53.1", "middle"}, {n.r2, "default", "fd53::1", "middle"},
	} {
		must(t, r.ns.AddRoute(r.to, r.via, r.dev))
	}
	return n
}

// noFragments has a host throw away what was taken apart on its way, as do many
// firewalls, load balancers and clouds.
func (h *host) noFragments(t *testing.T) {
	t.Helper()
	for _, key := range []string{"net.ipv4.ipfrag_low_thresh", "net.ipv4.ipfrag_high_thresh", "net.ipv6.ip6frag_low_thresh", "net.ipv6.ip6frag_high_thresh"} {
		must(t, h.Sysctl(key, "0"))
	}
}

// deaf has a router send no ICMP of its own: what filtered ICMP looks like from
// outside. What it forwards is forwarded.
func deaf(t *testing.T, r *netlab.Namespace) {
	t.Helper()
	must(t, r.Do(func() error {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			rule := netlink.NewRule()
			rule.Family, rule.IifName, rule.Type, rule.Priority = family, "lo", unix.RTN_BLACKHOLE, 10
			if err := netlink.RuleAdd(rule); err != nil {
				return fmt.Errorf("rule: %w", err)
			}
		}
		return nil
	}))
}

// bulk sends size bytes over one TCP connection, one way, and compares what
// arrived. It fails with os.ErrDeadlineExceeded when that takes longer.
func bulk(from, to *netlab.Namespace, at netip.Addr, size int64, limit time.Duration) error {
	listener, err := to.Listen("tcp", addrPort(at, 0).String())
	if err != nil {
		return err
	}
	defer listener.Close()
	client, err := from.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	defer server.Close()
	end := time.Now().Add(limit)
	if err := errors.Join(client.SetDeadline(end), server.SetDeadline(end)); err != nil {
		return err
	}
	sent := make(chan []byte, 1)
	go func() {
		sum := sha256.New()
		_, _ = io.Copy(io.MultiWriter(client, sum), io.LimitReader(rand.NewChaCha8([32]byte{}), size))
		_ = client.(*net.TCPConn).CloseWrite()
		sent <- sum.Sum(nil)
	}()
	sum := sha256.New()
	n, err := io.Copy(sum, server)
	client.Close()
	want := <-sent
	if err == nil && (n != size || !bytes.Equal(sum.Sum(nil), want)) {
		err = errors.New("other bytes arrived")
	}
	if err != nil {
		return fmt.Errorf("%d of %d bytes arrived: %w", n, size, err)
	}
	return nil
}

// kernelEnd gives a host the kernel's vxlan device with all its defaults, as
// `ip link add vxlan0 type vxlan id 4097 remote B dev ens160 dstport 4789` does.
func (h *host) kernelEnd(t *testing.T, v6 bool, other *host, addr netip.Addr) {
	t.Helper()
	must(t, h.VXLAN(netlab.VXLANConfig{Name: "vxlan0", VNI: 4097, Local: h.ip(v6), Group: other.ip(v6), Dev: underlayDevice}))
	must(t, h.AddAddr("vxlan0", addr.String()+"/24"))
}

// TestBlackHole is a TCP transfer from A to B past the narrow link, with the
// kernel's vxlan device on B, and on A the kernel's with its defaults or govxlan
// with its own.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	const size, passes, hangs, skip = 3 << 20, "passes", "hangs", ""
	for _, tc := range []struct {
		name        string
		v6          bool
		noFragments bool
		deaf        bool // no ICMP
		kernel      string
		flags       []string
		pmtu        int
	}{
		// Without DF the routers take apart what does not fit.
		{name: "fragments pass", kernel: passes, pmtu: 1400},
		{name: "fragments pass, no ICMP", deaf: true, kernel: passes},
		{name: "DF inherited", noFragments: true, kernel: skip, pmtu: 1400, flags: []string{"--df", "inherit"}},
		{name: "DF set", noFragments: true, kernel: skip, pmtu: 1400, flags: []string{"--df", "set"}},
		// Whoever sends without DF is told nothing, and nothing arrives.
		{name: "no fragments", noFragments: true, kernel: hangs, pmtu: 1400},
		{name: "no fragments, no ICMP, told by hand", noFragments: true, deaf: true, kernel: hangs,
			flags: []string{"--pmtu", "1400"}, pmtu: 1400},
		{name: "no fragments, no ICMP, MSS clamped by hand", noFragments: true, deaf: true, kernel: hangs,
			flags: []string{"--mtu", "1350", "--mss-clamp"}},
		{name: "IPv6", v6: true, noFragments: true, kernel: passes, pmtu: 1400},
		{name: "IPv6, no ICMP", v6: true, noFragments: true, deaf: true, kernel: hangs,
			flags: []string{"--pmtu", "1400"}, pmtu: 1400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, end := range []string{"kernel", "govxlan"} {
				if end == "kernel" && tc.kernel == skip {
					continue
				}
				t.Run(end, func(t *testing.T) {
					t.Parallel()
					n := newNarrow(t, "hole")
					if tc.noFragments {
						n.b.noFragments(t)
					}
					if tc.deaf {
						deaf(t, n.r1)
						deaf(t, n.r2)
					}
					n.b.kernelEnd(t, tc.v6, n.a, inner4B)
					if end == "kernel" {
						n.a.kernelEnd(t, tc.v6, n.b, inner4A)
						limit := 3 * patience
						if tc.kernel == hangs {
							limit = 3 * time.Second
						}
						err := bulk(n.a.Namespace, n.b.Namespace, inner4B, size, limit)
						if tc.kernel == passes {
							must(t, err)
						} else if !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("%v, want that it hangs", err)
						}
						t.Logf("kernel: %v", err)
						return
					}
					p := up(t, n.a.Namespace, append([]string{"--vni", "4097", "--peer", n.b.ip(tc.v6).String(), "--addr", inner4A.String() + "/24"}, tc.flags...)...)
					must(t, bulk(n.a.Namespace, n.b.Namespace, inner4B, size, 3*patience))
					s := p.status()
					peer, c := s.VNIs[0].Peers[0], s.VNIs[0].Counters
					if peer.PathMTU != tc.pmtu {
						t.Errorf("path MTU %d, want %d", peer.PathMTU, tc.pmtu)
					}
					mtu := 1450
					if tc.v6 {
						mtu = 1430
					}
					byHand := slices.Contains(tc.flags, "--pmtu") || slices.Contains(tc.flags, "--mtu")
					if byHand {
						mtu -= 100
					}
					// What the kernel noted of the path is no property of the underlay.
					if got := s.VNIs[0].MTU; got != mtu {
						t.Errorf("overlay MTU %d, want %d", got, mtu)
					}
					learned := tc.pmtu != 0 && !byHand
					if (c.TxTooBigAnswered > 0) != learned || (s.Counters.PathMTULowered > 0) != learned {
						t.Errorf("%d frames answered, counters %+v", c.TxTooBigAnswered, s.Counters)
					}
					if clamp := slices.Contains(tc.flags, "--mss-clamp"); (c.RxMSSClamped > 0) != clamp {
						t.Errorf("MSS clamped %d out, %d in", c.TxMSSClamped, c.RxMSSClamped)
					}
				})
			}
		})
	}
}

// TestTooBigToContainer: behind a bridge, a container that knows nothing of the
// underlay hears what fits: TCP and UDP, IPv4 and IPv6.
func TestTooBigToContainer(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			n := newNarrow(t, "small")
			n.b.noFragments(t)
			a := newContainerHost(t, n.a, inner4A, inner6A)
			b := newContainerHost(t, n.b, inner4B, inner6B)
			flags := []string{"--vni", "4097", "--mtu", "1450", "--bridge", "br0"}
			p := up(t, a.Namespace, append(flags, "--netns", a.sandbox.Name(), "--peer", b.ip(v6).String())...)
			up(t, b.Namespace, append(flags, "--netns", b.sandbox.Name(), "--peer", a.ip(v6).String())...)
			fits := 1400 - 50
			if v6 {
				fits = 1400 - 70
			}
			must(t, transfer(a.container, b.container, inner4B, 2<<20))
			must(t, transfer(a.container, b.container, inner6B, 2<<20))
			for _, at := range []struct{ from, to netip.Addr }{{inner4A, inner4B}, {inner6A, inner6B}} {
				path := openUDP(t, a.container, at.from, b.container, at.to)
				headers := 28
				if at.to.Is6() {
					headers = 48
				}
				// The kernel sends what was too long in fragments, once it knows
				// what fits; before that it was told so.
				eventually(t, func() error { return path.carry([]int{fits - headers, 1450 - headers, 3000}) })
			}
			if got := p.status().VNIs[0]; got.Peers[0].PathMTU != 1400 || got.MTU != 1450 {
				t.Errorf("path MTU %d, device MTU %d, want 1400 and 1450", got.Peers[0].PathMTU, got.MTU)
			}
		})
	}
}

// TestTooBigForDevice: a --mtu above what the underlay's device carries, which
// was a black hole of our own making: the stack is told.
func TestTooBigForDevice(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, offload := range []string{"auto", "off"} {
			t.Run(family(v6)+"/"+offload, func(t *testing.T) {
				t.Parallel()
				tn := kernelTunnel(t, "wide", wiring{real: true}, v6, "--mtu", "1600", "--offload", offload)
				must(t, tn.b.SetMTU("vxlan0", 1600))
				must(t, bulk(tn.a.Namespace, tn.b.Namespace, inner4B, 1<<20, 3*patience))
				must(t, bulk(tn.a.Namespace, tn.b.Namespace, inner6B, 1<<20, 3*patience))
				c := tn.program.counters()
				if c.TxTooBigAnswered == 0 || c.TxTooBigAnswered > c.TxDropTooBig {
					t.Errorf("%d answered of %d dropped", c.TxTooBigAnswered, c.TxDropTooBig)
				}
			})
		}
	}
}

// TestMTUFollows: the TAP's MTU follows the underlay's, link or route, unless
// --mtu or somebody else said what it shall be; and it is noticed when somebody
// else changes it.
func TestMTUFollows(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "follow", 2, wiring{})
	a, b := hosts[0], hosts[1]
	b.quiet(t)
	must(t, a.Bridge("br0"))
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 1}, false, a)
	free := up(t, a.Namespace, "--vni", "1", "--peer", b.ip4.String())
	fixed := up(t, a.Namespace, "--vni", "2", "--peer", b.ip4.String(), "--port", "4790", "--mtu", "1440")
	port := up(t, a.Namespace, "--vni", "3", "--peer", b.ip4.String(), "--port", "4791", "--bridge", "br0")
	check := func(p *program, want int) {
		t.Helper()
		eventually(t, func() error {
			link, err := a.Link(p.device())
			if err != nil {
				return err
			}
			if got := p.status().VNIs[0].MTU; link.MTU != want || got != want {
				return fmt.Errorf("%s has an MTU of %d, and status says %d; want %d", p.device(), link.MTU, got, want)
			}
			return nil
		})
	}
	says := func(p *program, what string) {
		t.Helper()
		eventually(t, func() error {
			if !strings.Contains(p.stderr.String(), what) {
				return fmt.Errorf("nothing said of %q: %s", what, p.stderr)
			}
			return nil
		})
	}
	check(free, 1450)
	must(t, a.SetMTU(underlayDevice, 1400))
	check(free, 1350)
	says(fixed, "do not fit the underlay any more")
	says(port, "keeps its MTU as a port of a bridge")
	check(fixed, 1440)
	check(port, 1450)
	must(t, a.SetMTU(underlayDevice, 9000))
	must(t, b.SetMTU(underlayDevice, 9000))
	check(free, 8950)
	check(port, 8950)
	check(fixed, 1440)
	// By route.
	must(t, a.Do(func() error {
		link, err := netlink.LinkByName(underlayDevice)
		if err != nil {
			return err
		}
		to := &net.IPNet{IP: b.ip4.AsSlice(), Mask: net.CIDRMask(32, 32)}
		return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: to, MTU: 2000, Scope: netlink.SCOPE_LINK})
	}))
	check(free, 1950)

	// By hand: what comes in is judged by it at once, and it is left alone.
	near, far := openPort(t, a.Namespace, free.device(), false), openPort(t, b.Namespace, "vxlan0", false)
	must(t, b.SetMTU("vxlan0", 1900))
	must(t, a.SetMTU(free.device(), 1300))
	check(free, 1300)
	far.send(testFrame(broadcast, station(2), nil, 14+1301, 1))
	fits := testFrame(broadcast, station(2), nil, 14+1300, 2)
	far.send(fits)
	near.expect(fits)
	free.awaitCounters("one oversize", func(c vtep.Counters) bool { return c.RxDropOversize == 1 })
	must(t, a.SetMTU(underlayDevice, 1500))
	says(port, "\"mtu\": 8950, \"fits\": 1450")
	check(free, 1300)
}
