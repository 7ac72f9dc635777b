package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

var groups = map[bool]netip.Addr{false: netip.MustParseAddr("239.1.1.1"), true: netip.MustParseAddr("ff05::100")}

// groupMTU is the overlay's over one family.
var groupMTU = map[bool]int{false: 1450, true: 1430}

// kernelGroup gives a host the kernel's vxlan device vxlan0 in the group.
func (h *host) kernelGroup(t *testing.T, v6 bool) {
	t.Helper()
	must(t, h.VXLAN(netlab.VXLANConfig{
		Name: "vxlan0", VNI: 4097, Local: h.ip(v6), Group: groups[v6], Dev: underlayDevice, MTU: groupMTU[v6],
	}))
}

// newGroup makes VTEPs of the given kinds that know of each other by a multicast
// group alone, and one more host that is not in it.
func newGroup(t *testing.T, kinds []string, v6 bool, w wiring, flags ...string) (nodes []*node, outside *host) {
	t.Helper()
	hosts := newHosts(t, "group", len(kinds)+1, w)
	for i, kind := range kinds {
		h := hosts[i]
		h.quiet(t)
		n, device := &node{host: h}, "vxlan0"
		if kind == "kernel" {
			h.kernelGroup(t, v6)
		} else {
			n.program = up(t, h.Namespace, append([]string{"--vni", "4097", "--group", groups[v6].String(), "--dev", underlayDevice}, flags...)...)
			device = n.program.device()
		}
		n.port = openPort(t, h.Namespace, device, false)
		nodes = append(nodes, n)
	}
	if w.snooping {
		// A switch takes a moment to hear of a member.
		hosts[0].awaitMembers(t, groups[v6], len(kinds))
	}
	return nodes, hosts[len(kinds)]
}

// awaitMembers waits until the switch knows so many ports with members.
func (h *host) awaitMembers(t *testing.T, group netip.Addr, ports int) {
	t.Helper()
	eventually(t, func() error {
		n, err := h.middle.Joined("br0", group)
		must(t, err)
		if n != ports {
			return fmt.Errorf("the switch knows members of %v behind %d ports, want %d", group, n, ports)
		}
		return nil
	})
}

func eachGroup(t *testing.T, f func(t *testing.T, nodes []*node, outside *host, v6, snooping bool)) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, kinds := range [][]string{{"govxlan", "kernel", "kernel"}, {"govxlan", "govxlan", "kernel"}} {
			for _, w := range []wiring{{}, {snooping: true}, {real: true}} {
				t.Run(fmt.Sprintf("%s/%s/snooping=%v/real=%v", family(v6), strings.Join(kinds, "+"), w.snooping, w.real), func(t *testing.T) {
					t.Parallel()
					nodes, outside := newGroup(t, kinds, v6, w)
					f(t, nodes, outside, v6, w.snooping)
				})
			}
		}
	}
}

// toGroup are the VXLAN packets to the group that a port has seen so far.
func (p *packetPort) toGroup(v6 bool) (seen []outer) {
	p.t.Helper()
	for {
		packet := p.recv(time.Time{})
		if packet == nil {
			return seen
		}
		if o, ok := parseOuter(packet); ok && o.dst == addrPort(groups[v6], vxlan.Port) {
			o.payload = nil // it does not last
			seen = append(seen, o)
		}
	}
}

// TestD31GroupFlood: broadcast, multicast and unknown unicast go to the group,
// one copy for all, with a TTL of 1, from our own address; each member gets it
// once, and none passes it on. A switch that snoops brings it to members alone.
func TestD31GroupFlood(t *testing.T) {
	eachGroup(t, func(t *testing.T, nodes []*node, outside *host, v6, snooping bool) {
		a := nodes[0]
		if want := fmt.Sprintf("up vx4097 vni 4097 local %v peers none groups %v dev %s mtu %d mac ", addrPort(a.ip(v6), 4789), groups[v6], underlayDevice, groupMTU[v6]); !strings.HasPrefix(a.program.upLine(), want) {
			t.Errorf("it printed %q, want %q", a.program.upLine(), want)
		}
		wire, beside := openPort(t, nodes[1].Namespace, underlayDevice, false), openPort(t, outside.Namespace, underlayDevice, false)
		probes := uint64(0)
		if snooping {
			// The switch begins to hold multicast back once it has asked.
			number := uint32(1 << 20)
			eventually(t, func() error {
				number, probes = number+1, probes+1
				f := testFrame(broadcast, station(0), nil, 60, number)
				a.port.send(f)
				nodes[1].port.expect(f)
				nodes[2].port.expect(f)
				if n := len(beside.toGroup(v6)); n > 0 {
					return fmt.Errorf("%d packets reach a host that is not in the group", n)
				}
				return nil
			})
			wire.drain()
		}
		const each = 30
		kinds := []vxlan.MAC{broadcast, {0x01, 0, 0x5E, 1, 2, 3}, station(200)}
		for i, from := range nodes {
			var frames [][]byte
			for n := range 3 * each {
				f := testFrame(kinds[n%3], station(byte(i)), nil, 60+n, uint32(1000*i+n))
				frames = append(frames, f)
				from.port.send(f)
			}
			for j, to := range nodes {
				if i == j {
					continue
				}
				if err := to.port.arrive(frames); err != nil {
					t.Fatalf("from %d to node %d: %v", i, j, err)
				}
			}
		}
		for i, n := range nodes {
			if f := n.port.recvTest(time.Time{}); f != nil {
				t.Errorf("node %d got one more frame: %x", i, f)
			}
		}
		mine := 0
		for _, o := range wire.toGroup(v6) {
			if o.src.Addr() != a.ip(v6) {
				continue
			}
			mine++
			if o.ttl != 1 || o.src.Port() < vxlan.SourcePortLo || o.fragment || o.df {
				t.Fatalf("outer packet %+v", o)
			}
		}
		// Between two veth devices several may be one superframe.
		if most := 3 * each; mine == 0 || mine > most {
			t.Errorf("%d packets to the group, want at most %d", mine, most)
		}
		if got := len(beside.toGroup(v6)); (got == 0) != snooping {
			t.Errorf("%d packets reach a host that is not in the group, snooping=%v", got, snooping)
		}
		a.program.awaitCounters("one copy for all, and all received", func(c vtep.Counters) bool {
			return c.TxFrames == 3*each+probes && c.TxFlooded == c.TxFrames && c.RxFrames == 2*3*each
		})
		s := a.program.status().VNIs[0]
		if g := s.Multicast; len(g) != 1 || g[0].Group != groups[v6] || !g[0].Joined || g[0].Joins != 1 || g[0].TxFrames != s.Counters.TxFrames {
			t.Errorf("groups %+v", g)
		}
		if len(s.Peers) != 2 || !s.Peers[0].Member || s.Peers[0].RxFrames != 3*each {
			t.Errorf("peers %+v", s.Peers)
		}
		if e := a.program.entry("00:00:00:00:00:00"); e == nil || e.VTEP != groups[v6] {
			t.Errorf("the flood list shows %+v", e)
		}
	})
}

// TestD30GroupLearning: what is heard by the group is answered by unicast, to
// its VTEP alone, also by one that has sent nothing to the group yet.
func TestD30GroupLearning(t *testing.T) {
	eachGroup(t, func(t *testing.T, nodes []*node, _ *host, v6, _ bool) {
		a, b, c := nodes[0], nodes[1], nodes[2]
		hello := testFrame(broadcast, station(0), nil, 60, 1)
		a.port.send(hello)
		b.port.expect(hello)
		c.port.expect(hello)
		number := uint32(10)
		for i, from := range []*node{b, c} {
			// The first frame of its VTEP is unicast.
			for range 20 {
				number++
				f := testFrame(station(0), station(byte(1+i)), nil, 500, number)
				from.port.send(f)
				a.port.expect(f)
				number++
				f = testFrame(station(byte(1+i)), station(0), nil, 1000, number)
				a.port.send(f)
				from.port.expect(f)
			}
			if e := a.program.entry(station(byte(1 + i)).String()); e == nil || e.VTEP != from.ip(v6) || e.Kind != "learned" {
				t.Errorf("station %d is at %+v, want %v", 1+i, e, from.ip(v6))
			}
		}
		if f := b.port.recvTest(time.Time{}); f != nil {
			t.Errorf("one saw what was for another: %x", f)
		}
		a.program.awaitCounters("one frame flooded of 41, none dropped", func(c vtep.Counters) bool {
			return c.TxFlooded == 1 && c.TxFrames == 41 && c.RxDropUnknownVTEP == 0
		})
	})
}

// TestGroupTraffic: ping and TCP between stacks that find each other by ARP, or
// neighbour discovery, through the group.
func TestGroupTraffic(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, offload := range []string{"auto", "off"} {
			t.Run(family(v6)+"/offload="+offload, func(t *testing.T) {
				t.Parallel()
				hosts := newHosts(t, "gtraffic", 3, wiring{snooping: true})
				a, b := hosts[0], hosts[1]
				b.kernelGroup(t, v6)
				must(t, b.AddAddr("vxlan0", inner4B.String()+"/24"))
				must(t, b.AddAddr("vxlan0", inner6B.String()+"/64"))
				up(t, a.Namespace, "--vni", "4097", "--group", groups[v6].String(), "--dev", underlayDevice, "--offload", offload,
					"--addr", inner4A.String()+"/24", "--addr", inner6A.String()+"/64")
				must(t, a.AwaitAddr(inner6A))
				a.awaitMembers(t, groups[v6], 2)
				ping(t, a.Namespace, inner4B, 3, "-M", "do", "-s", fmt.Sprint(groupMTU[v6]-28))
				ping(t, b.Namespace, inner6A, 3)
				must(t, transfer(a.Namespace, b.Namespace, inner4B, 4<<20))
				must(t, transfer(b.Namespace, a.Namespace, inner6A, 4<<20))
			})
		}
	}
}

// TestGroupBesidePeers: groups of both families and a peer outside them, in one
// VNI: each gets what is flooded once.
func TestGroupBesidePeers(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "gmixed", 4, wiring{})
	for _, h := range hosts {
		h.quiet(t)
	}
	a := hosts[0]
	hosts[1].kernelGroup(t, false)
	hosts[2].kernelGroup(t, true)
	hosts[3].kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, MTU: 1430}, false, a)
	p := up(t, a.Namespace, "--vni", "4097", "--group", groups[false].String()+","+groups[true].String(), "--dev", underlayDevice,
		"--peer", hosts[3].ip4.String())
	if want := fmt.Sprintf(" local 192.168.52.203:4789,[fd52::203]:4789 peers 192.168.52.206 groups 239.1.1.1,ff05::100 dev %s mtu 1430 ", underlayDevice); !strings.Contains(p.upLine(), want) {
		t.Errorf("it printed %q, want %q", p.upLine(), want)
	}
	near := openPort(t, a.Namespace, p.device(), false)
	var far []*packetPort
	for _, h := range hosts[1:] {
		far = append(far, openPort(t, h.Namespace, "vxlan0", false))
	}
	var frames [][]byte
	for i := range 50 {
		f := testFrame(broadcast, station(0), nil, 100+i, uint32(i))
		frames = append(frames, f)
		near.send(f)
	}
	for i, port := range far {
		if err := port.arrive(frames); err != nil {
			t.Errorf("host %d: %v", i+1, err)
		}
		if f := port.recvTest(time.Time{}); f != nil {
			t.Errorf("host %d got one more frame", i+1)
		}
		back := testFrame(broadcast, station(byte(i+1)), nil, 100, uint32(1000+i))
		port.send(back)
		near.expect(back)
	}
	p.awaitCounters("150 copies sent, 3 frames received", func(c vtep.Counters) bool { return c.TxFlooded == 150 && c.RxFrames == 3 })
}

// membershipReports are the changes that a port has seen reported of a group:
// true for joining it, false for leaving it. They are (*,G): without sources.
func (p *packetPort) membershipReports(group netip.Addr) (joined []bool) {
	p.t.Helper()
	for {
		packet := p.recv(time.Time{})
		if packet == nil {
			return joined
		}
		for _, l := range gopacket.NewPacket(packet, layers.LayerTypeEthernet, gopacket.Default).Layers() {
			switch l := l.(type) {
			case *layers.IGMP:
				for _, r := range l.GroupRecords {
					if a, _ := netip.AddrFromSlice(r.MulticastAddress.To4()); a != group || l.Type != layers.IGMPMembershipReportV3 {
						continue
					}
					if r.NumberOfSources == 0 && (r.Type == layers.IGMPToEx || r.Type == layers.IGMPToIn) {
						joined = append(joined, r.Type == layers.IGMPToEx)
					}
				}
			case *layers.MLDv2MulticastListenerReportMessage:
				for _, r := range l.MulticastAddressRecords {
					if a, _ := netip.AddrFromSlice(r.MulticastAddress); a != group {
						continue
					}
					exclude := r.RecordType == layers.MLDv2MulticastAddressRecordTypeChangeToExcludeMode
					if r.N == 0 && (exclude || r.RecordType == layers.MLDv2MulticastAddressRecordTypeChangeToIncludeMode) {
						joined = append(joined, exclude)
					}
				}
			}
		}
	}
}

// TestD32GroupMembership: the group is joined on the underlay device by an IGMP
// or MLD report, (*,G), and left when the program ends, as routers and switches
// hear.
func TestD32GroupMembership(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "igmp", 2, wiring{})
			a, b := hosts[0], hosts[1]
			wire := openPort(t, b.Namespace, underlayDevice, false)
			p := up(t, a.Namespace, "--vni", "4097", "--group", groups[v6].String(), "--dev", underlayDevice)
			member := func(want bool) {
				t.Helper()
				got, err := a.Membership(underlayDevice, groups[v6])
				must(t, err)
				if got != want {
					t.Errorf("membership %v, want %v", got, want)
				}
			}
			heard := func(want bool) {
				t.Helper()
				var all []bool
				eventually(t, func() error {
					all = append(all, wire.membershipReports(groups[v6])...)
					if !slices.Contains(all, want) {
						return fmt.Errorf("reports of joining: %v, want %v", all, want)
					}
					return nil
				})
				if slices.Contains(all, !want) {
					t.Errorf("reports of joining: %v, want %v alone", all, want)
				}
			}
			heard(true)
			member(true)
			o := run(t, a.Namespace, "status", "--control", p.control)
			if want := fmt.Sprintf("  group %v dev %s  tx ", groups[v6], underlayDevice); o.code != 0 || !strings.Contains(o.stdout, want) || !strings.Contains(o.stdout, "  joined\n") {
				t.Errorf("status %d printed %q, want %q and joined", o.code, o.stdout, want)
			}
			p.signal(syscall.SIGTERM)
			if code := p.exit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			member(false)
			eventually(t, func() error {
				if all := wire.membershipReports(groups[v6]); !slices.Contains(all, false) {
					return fmt.Errorf("reports %v, none of leaving", all)
				}
				return nil
			})
		})
	}
}

// TestD33GroupAndUnicast: frames of the VNI are delivered whether they were sent
// to the group or to our own address.
func TestD33GroupAndUnicast(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			l := newLone(t, "gboth", v6, "--group", groups[v6].String(), "--dev", underlayDevice)
			for i, to := range []netip.Addr{groups[v6], l.a.ip(v6), groups[v6]} {
				frame := testFrame(broadcast, station(2), nil, 60, uint32(i))
				l.to = udpAddr(to, vxlan.Port)
				l.sayBy(underlayDevice, header(0x08, 0, l.vni, 0), frame)
				l.device.expect(frame)
			}
			// Another group of this port is not ours.
			other := netip.MustParseAddr("239.1.1.2")
			if v6 {
				other = netip.MustParseAddr("ff05::101")
			}
			l.to = udpAddr(other, vxlan.Port)
			l.sayBy(underlayDevice, header(0x08, 0, l.vni, 0), testFrame(broadcast, station(2), nil, 60, 7))
			last := testFrame(broadcast, station(2), nil, 60, 8)
			l.to = udpAddr(l.a.ip(v6), vxlan.Port)
			l.say(header(0x08, 0, l.vni, 0), last)
			l.device.expect(last)
		})
	}
}

// TestGroupRecovers: the underlay's link goes down and comes back, or the whole
// device goes and is made anew: traffic through the group resumes by itself.
func TestGroupRecovers(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			nodes, _ := newGroup(t, []string{"govxlan", "kernel"}, v6, wiring{})
			a, b := nodes[0], nodes[1]
			passes(t, a.port, b.port, recovery)
			state := func(joins uint64, words string) {
				t.Helper()
				eventually(t, func() error {
					g := a.program.status().VNIs[0].Multicast[0]
					if g.Joins != joins || g.Joined != (words == "") || !strings.Contains(g.Error, words) {
						return fmt.Errorf("group %+v, want %d joins and %q", g, joins, words)
					}
					return nil
				})
			}
			must(t, a.SetDown(underlayDevice))
			state(1, "down")
			must(t, a.SetUp(underlayDevice))
			if v6 {
				a.changeAddr(t, true, true)
			}
			state(2, "")
			passes(t, a.port, b.port, recovery)

			must(t, a.DelLink(underlayDevice))
			state(2, "not there")
			a.port.send(testFrame(broadcast, station(0), nil, 60, 1))
			a.program.awaitCounters("unreachable", func(c vtep.Counters) bool { return c.TxDropUnreachable > 0 })
			middle := b.middle
			must(t, a.Sysctl("net.ipv6.conf.default.disable_ipv6", "0")) // quiet was for the TAP
			must(t, a.lab.Veth(a.Namespace, underlayDevice, "", middle, "again", "", 0))
			must(t, middle.AttachToBridge("again", "br0"))
			a.changeAddr(t, v6, true)
			state(3, "")
			passes(t, a.port, b.port, recovery)
			for _, words := range []string{"not a member of the multicast group", "member of the multicast group again"} {
				if !strings.Contains(a.program.stderr.String(), words) {
					t.Errorf("the log does not say %q", words)
				}
			}
		})
	}
}

// TestGroupTTL: --multicast-ttl is the TTL of what goes to the group, and not of
// unicast.
func TestGroupTTL(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			l := newLone(t, "gttl", v6, "--group", groups[v6].String(), "--dev", underlayDevice, "--multicast-ttl", "5")
			l.device.send(testFrame(broadcast, station(1), nil, 60, 1))
			for range 2 {
				o := l.heard()
				want := uint8(64)
				if o.dst.Addr().IsMulticast() {
					want = 5
				}
				if o.ttl != want {
					t.Errorf("to %v with TTL %d, want %d", o.dst, o.ttl, want)
				}
			}
		})
	}
}
