package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
)

// Addresses on the overlay: .100 is behind govxlan, .103 behind its peer.
var (
	inner4A, inner4B = netip.MustParseAddr("10.0.1.100"), netip.MustParseAddr("10.0.1.103")
	inner6A, inner6B = netip.MustParseAddr("fd10::100"), netip.MustParseAddr("fd10::103")
)

// tunnel is two hosts with one Ethernet across: govxlan on a, the kernel's
// vxlan device on b.
type tunnel struct {
	a, b    *host
	program *program
	mtu     int // of the overlay
}

// kernelTunnel makes one. v6 is the family of the underlay.
func kernelTunnel(t *testing.T, label string, w wiring, v6 bool, flags ...string) *tunnel {
	t.Helper()
	hosts := newHosts(t, label, 2, w)
	tn := &tunnel{a: hosts[0], b: hosts[1], mtu: 1450}
	if v6 {
		tn.mtu = 1430
	}
	if w.mtu != 0 {
		tn.mtu += w.mtu - 1500
	}
	tn.b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, MTU: tn.mtu}, v6, tn.a)
	must(t, tn.b.AddAddr("vxlan0", inner4B.String()+"/24"))
	must(t, tn.b.AddAddr("vxlan0", inner6B.String()+"/64"))
	tn.program = up(t, tn.a.Namespace, append([]string{
		"--vni", "4097", "--peer", tn.b.ip(v6).String(),
		"--addr", inner4A.String() + "/24", "--addr", inner6A.String() + "/64",
	}, flags...)...)
	must(t, tn.a.AwaitAddr(inner6A))
	return tn
}

// TestKernel carries traffic of every kind between the program and the kernel's
// vxlan device. "veth" is the wire between containers and virtual machines of
// one host: superframes and unfinished checksums cross it. "wire" is what a
// real network card leaves of that, and "GRO" what the next one makes of it.
func TestKernel(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, how := range [][]string{{"--offload", "auto"}, {"--offload", "off"}, {"--transport", "packet"}} {
			for _, w := range []struct {
				name string
				wiring
			}{{"veth", wiring{}}, {"wire", wiring{real: true}}, {"wire+GRO", wiring{real: true, gro: true}}} {
				t.Run(family(v6)+"/"+flagsName(how)+"/"+w.name, func(t *testing.T) {
					t.Parallel()
					tn := kernelTunnel(t, "kernel", w.wiring, v6, how...)
					t.Run("ping", tn.ping)
					t.Run("TCP", tn.tcp)
					t.Run("UDP", tn.udp)
					t.Run("frames of every size", tn.frames)
					t.Run("VLAN tags", tn.tagged)
				})
			}
		}
	}
}

func family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

func (tn *tunnel) ping(t *testing.T) {
	for _, c := range []struct {
		from    *host
		to      netip.Addr
		headers int
	}{
		{tn.a, inner4B, 28}, {tn.b, inner4A, 28}, {tn.a, inner6B, 48}, {tn.b, inner6A, 48},
	} {
		ping(t, c.from.Namespace, c.to, 5)
		// 1422 for IPv4 in IPv4: as long as the overlay carries, and not to be
		// fragmented.
		ping(t, c.from.Namespace, c.to, 3, "-M", "do", "-s", fmt.Sprint(tn.mtu-c.headers))
	}
}

func (tn *tunnel) tcp(t *testing.T) {
	const size = 8 << 20
	for _, c := range []struct {
		from, to *host
		at       netip.Addr
	}{
		{tn.a, tn.b, inner4B}, {tn.b, tn.a, inner4A}, {tn.a, tn.b, inner6B}, {tn.b, tn.a, inner6A},
	} {
		if err := transfer(c.from.Namespace, c.to.Namespace, c.at, size); err != nil {
			t.Errorf("%s to %v: %v", c.from.Label(), c.at, err)
		}
	}
}

func (tn *tunnel) udp(t *testing.T) {
	for _, c := range []struct {
		a, b    netip.Addr
		headers int
	}{{inner4A, inner4B, 28}, {inner6A, inner6B, 48}} {
		path := openUDP(t, tn.a.Namespace, c.a, tn.b.Namespace, c.b)
		most := tn.mtu - c.headers
		var sizes []int
		for n := 4; n <= most; n += 7 {
			sizes = append(sizes, n)
		}
		sizes = append(sizes, most-1, most)
		// Longer ones travel as fragments of the inner IP.
		sizes = append(sizes, most+1, 3*most, 20000, 65000)
		for _, p := range []udpPath{path, path.reverse()} {
			from := p.a.LocalAddr()
			if err := p.carry(sizes); err != nil {
				t.Errorf("from %v: %v", from, err)
			}
			// One size over and over: trains.
			if err := p.carry(slices.Repeat([]int{most}, 96)); err != nil {
				t.Errorf("from %v, full size: %v", from, err)
			}
			if err := p.carry(slices.Repeat([]int{64}, 96)); err != nil {
				t.Errorf("from %v, 64 bytes: %v", from, err)
			}
			for _, s := range []struct{ total, size int }{
				{20*1000 + 300, 1000}, {40 * most, most}, {50 * 100, 100}, {2 * most, most}, {most + 1, most}, {3000, 1200}, {500, 600},
			} {
				if err := p.carrySegments(s.total, s.size); err != nil {
					t.Errorf("from %v, UDP_SEGMENT: %v", from, err)
				}
			}
		}
	}
}

// ends opens a packet socket at both ends of the overlay.
func (tn *tunnel) ends(t *testing.T) (a, b *packetPort) {
	t.Helper()
	a = openPort(t, tn.a.Namespace, tn.program.device(), false)
	b = openPort(t, tn.b.Namespace, "vxlan0", false)
	return a, b
}

func (tn *tunnel) frames(t *testing.T) {
	a, b := tn.ends(t)
	for i, way := range [][2]*packetPort{{a, b}, {b, a}} {
		var frames [][]byte
		for size := 60; size <= vxlan.EthernetLen+tn.mtu; size++ {
			frames = append(frames, testFrame(station(byte(1-i)), station(byte(i)), nil, size, uint32(size)))
		}
		if err := carryAll(way[0], way[1], frames); err != nil {
			t.Error(err)
		}
	}
}

func (tn *tunnel) tagged(t *testing.T) {
	a, b := tn.ends(t)
	for i, way := range [][2]*packetPort{{a, b}, {b, a}} {
		var frames [][]byte
		for _, tags := range [][]byte{tagQ, tagQinQ} {
			for _, size := range []int{64, 65, 100, 999, vxlan.EthernetLen + tn.mtu} {
				frames = append(frames, testFrame(station(byte(1-i)), station(byte(i)), tags, size, uint32(size)))
			}
		}
		if err := carryAll(way[0], way[1], frames); err != nil {
			t.Error(err)
		}
	}
}

// TestKernelPeerOptions: a kernel peer without outer UDP checksums, as RFC 7348
// would have it (D18, D19), and one with don't-fragment, TOS and TTL of its own.
func TestKernelPeerOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]netlab.VXLANConfig{
		"no UDP checksum": {NoUDPChecksum: true},
		"DF, TOS, TTL":    {DF: netlab.DFSet, TOS: 0x28, TTL: 7},
		"inherit":         {DF: netlab.DFInherit, TOS: 1, TTL: netlab.TTLInherit},
		"source ports":    {SourcePortLo: 1024, SourcePortHi: 1025},
	} {
		for _, gro := range []bool{false, true} {
			for _, transport := range transports {
				t.Run(fmt.Sprintf("%s/gro=%v/%s", name, gro, transport), func(t *testing.T) {
					t.Parallel()
					hosts := newHosts(t, "peer", 2, wiring{real: gro, gro: gro})
					a, b := hosts[0], hosts[1]
					c := c
					c.VNI = 4097
					b.kernelVTEP(t, c, false, a)
					must(t, b.AddAddr("vxlan0", inner4B.String()+"/24"))
					up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String()+"/24", "--transport", transport)
					ping(t, a.Namespace, inner4B, 2, "-M", "do", "-s", "1422")
					must(t, transfer(b.Namespace, a.Namespace, inner4A, 4<<20))
					path := openUDP(t, a.Namespace, inner4A, b.Namespace, inner4B)
					must(t, path.reverse().carry(slices.Repeat([]int{100, 1422}, 100)))
					must(t, path.reverse().carrySegments(30*1200+9, 1200))
				})
			}
		}
	}
}

// TestCountersAgree: on a real wire, what the program says that it sent and
// received is what the kernel's device says that it received and sent.
func TestCountersAgree(t *testing.T) {
	t.Parallel()
	for _, how := range [][]string{{"--offload", "auto"}, {"--offload", "off"}, {"--transport", "packet"}} {
		t.Run(flagsName(how), func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "count", 2, wiring{real: true})
			a, b := hosts[0], hosts[1]
			a.quiet(t)
			b.quiet(t)
			p := up(t, a.Namespace, append([]string{"--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String() + "/24"}, how...)...)
			b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
			// The kernel counts a superframe as one.
			must(t, b.SetOffloads("vxlan0", false))
			must(t, b.AddAddr("vxlan0", inner4B.String()+"/24"))
			must(t, transfer(a.Namespace, b.Namespace, inner4B, 2<<20))
			must(t, transfer(b.Namespace, a.Namespace, inner4A, 2<<20))
			path := openUDP(t, a.Namespace, inner4A, b.Namespace, inner4B)
			for _, way := range []udpPath{path, path.reverse()} {
				must(t, way.carry(slices.Repeat([]int{64, 64, 1422}, 50)))
				must(t, way.carrySegments(20*1000+1, 1000))
			}
			eventually(t, func() error {
				var s *netlink.LinkStatistics
				must(t, b.Do(func() error {
					link, err := netlink.LinkByName("vxlan0")
					if err == nil {
						s = link.Attrs().Statistics
					}
					return err
				}))
				c := p.counters()
				// The kernel's bytes are without Ethernet headers.
				tx, rx := c.TxBytes-vxlan.EthernetLen*c.TxFrames, c.RxBytes-vxlan.EthernetLen*c.RxFrames
				if c.TxFrames != s.RxPackets || tx != s.RxBytes || c.RxFrames != s.TxPackets || rx != s.TxBytes {
					return fmt.Errorf("govxlan: %+v\nkernel: %+v", c, *s)
				}
				return nil
			})
			peer := p.status().VNIs[0].Peers[0]
			c := p.counters()
			if peer.TxFrames != c.TxFrames || peer.TxBytes != c.TxBytes || peer.RxFrames != c.RxFrames || peer.RxBytes != c.RxBytes {
				t.Errorf("the only peer %+v, all %+v", peer, c)
			}
		})
	}
}

// TestTCPVariants: TCP with other headers and segment sizes than usual.
func TestTCPVariants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sysctl map[string]string
		mtu    int
	}{
		"no timestamps": {sysctl: map[string]string{"net.ipv4.tcp_timestamps": "0"}},
		"no SACK":       {sysctl: map[string]string{"net.ipv4.tcp_sack": "0"}},
		"no windows":    {sysctl: map[string]string{"net.ipv4.tcp_window_scaling": "0"}},
		"ECN":           {sysctl: map[string]string{"net.ipv4.tcp_ecn": "1"}},
		"MTU 1280":      {mtu: 1280},
		"odd MTU":       {mtu: 1399},
	} {
		for _, w := range []wiring{{}, {real: true}} {
			t.Run(fmt.Sprintf("%s/real=%v", name, w.real), func(t *testing.T) {
				t.Parallel()
				var flags []string
				if c.mtu != 0 {
					flags = append(flags, "--mtu", fmt.Sprint(c.mtu))
				}
				tn := kernelTunnel(t, "tcp", w, false, flags...)
				for key, value := range c.sysctl {
					must(t, tn.a.Sysctl(key, value))
					must(t, tn.b.Sysctl(key, value))
				}
				must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 2<<20))
				must(t, transfer(tn.b.Namespace, tn.a.Namespace, inner6A, 2<<20))
			})
		}
	}
}
