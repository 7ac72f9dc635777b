package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// node is one VTEP of a mesh.
type node struct {
	*host
	program *program // nil: the kernel's device
	port    *packetPort
}

// newMesh makes VTEPs that all have each other as peers: "govxlan" or "kernel",
// in one VNI. No frames cross it but those of the test.
func newMesh(t *testing.T, label string, kinds []string, flags ...string) []*node {
	t.Helper()
	hosts := newHosts(t, label, len(kinds), wiring{})
	nodes := make([]*node, len(kinds))
	for i, kind := range kinds {
		h := hosts[i]
		h.quiet(t)
		n := &node{host: h}
		others := slices.Delete(slices.Clone(hosts), i, i+1)
		device := "vxlan0"
		if kind == "kernel" {
			h.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, others...)
		} else {
			n.program = up(t, h.Namespace, append([]string{"--vni", "4097", "--peer", addresses(others)}, flags...)...)
			device = n.program.device()
		}
		n.port = openPort(t, h.Namespace, device, false)
		nodes[i] = n
	}
	return nodes
}

// addresses of hosts, as --peer takes them.
func addresses(hosts []*host) string {
	var a []string
	for _, h := range hosts {
		a = append(a, h.ip4.String())
	}
	return strings.Join(a, ",")
}

var meshes = [][]string{
	{"govxlan", "govxlan", "kernel"},
	{"govxlan", "govxlan", "govxlan"},
}

func eachMesh(t *testing.T, label string, f func(*testing.T, []*node)) {
	t.Parallel()
	for _, kinds := range meshes {
		for _, offload := range []string{"auto", "off"} {
			t.Run(strings.Join(kinds, "+")+"/offload="+offload, func(t *testing.T) {
				t.Parallel()
				f(t, newMesh(t, label, kinds, "--offload", offload))
			})
		}
	}
}

// TestD31FloodedOnceToEach: broadcast, multicast and unknown unicast reach each
// VTEP once, and none passes on what came from another one (split horizon): it
// would come round for ever.
func TestD31FloodedOnceToEach(t *testing.T) {
	eachMesh(t, "flood", func(t *testing.T, nodes []*node) {
		const each = 60
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
			if n.program == nil {
				continue
			}
			const sent, received = 2 * 3 * each, 2 * 3 * each
			n.program.awaitCounters("every frame sent once to each", func(c vtep.Counters) bool {
				return c.TxFrames >= sent && c.TxFlooded >= sent && c.RxFrames >= received
			})
			if c := n.program.counters(); c.TxFrames != sent || c.TxFlooded != sent || c.RxFrames != received {
				t.Errorf("node %d: sent %d (%d flooded), received %d, want %d (%d), %d", i, c.TxFrames, c.TxFlooded, c.RxFrames, sent, sent, received)
			}
			for _, p := range n.program.status().VNIs[0].Peers {
				if p.TxFrames != sent/2 || p.RxFrames != received/2 || p.LastHeard == nil {
					t.Errorf("node %d: peer %+v, want %d frames each way", i, p, sent/2)
				}
			}
		}
	})
}

// TestD30UnicastOnlyWhereLearned: the answer to a station that was heard goes
// to its VTEP alone; the third one sees none of it.
func TestD30UnicastOnlyWhereLearned(t *testing.T) {
	eachMesh(t, "learn", func(t *testing.T, nodes []*node) {
		for i, n := range nodes {
			hello := testFrame(broadcast, station(byte(i)), nil, 60, uint32(i))
			n.port.send(hello)
			for j, other := range nodes {
				if i != j {
					other.port.expect(hello)
				}
			}
		}
		number := uint32(100)
		for i, from := range nodes {
			for j, to := range nodes {
				if i == j {
					continue
				}
				if from.program != nil {
					e := from.program.entry(station(byte(j)).String())
					if e == nil || e.VTEP != to.ip4 || e.Kind != "learned" {
						t.Errorf("node %d: station %d is at %+v, want %v", i, j, e, to.ip4)
					}
				}
				for range 50 {
					number++
					f := testFrame(station(byte(j)), station(byte(i)), nil, 1000, number)
					from.port.send(f)
					to.port.expect(f)
				}
				// What was sent before this frame arrives before it.
				number++
				marker := testFrame(broadcast, station(byte(i)), nil, 60, number)
				from.port.send(marker)
				for k, n := range nodes {
					if k != i {
						n.port.expect(marker)
					}
				}
			}
		}
	})
}

// TestStationMoves: a station that is heard of behind another VTEP is followed
// at once.
func TestStationMoves(t *testing.T) {
	eachMesh(t, "move", func(t *testing.T, nodes []*node) {
		a, places := nodes[0], nodes[1:]
		number := uint32(0)
		for range 2 { // a fifth move would be one too many (--mac-moves)
			for i, place := range places {
				number++
				hello := testFrame(broadcast, station(9), nil, 60, number)
				place.port.send(hello)
				a.port.expect(hello)
				places[1-i].port.expect(hello)

				number++
				answer := testFrame(station(9), station(1), nil, 60, number)
				a.port.send(answer)
				place.port.expect(answer)
				if e := a.program.entry(station(9).String()); e == nil || e.VTEP != place.ip4 {
					t.Fatalf("the station is at %+v, want %v", e, place.ip4)
				}
			}
		}
	})
}

// TestAgeing: an entry whose station is silent goes, however much is sent to
// it; one whose station talks stays.
func TestAgeing(t *testing.T) {
	t.Parallel()
	nodes := newMesh(t, "ageing", []string{"govxlan", "govxlan", "kernel"}, "--ageing", "1s")
	a, b, c := nodes[0], nodes[1], nodes[2]
	b.port.send(testFrame(broadcast, station(1), nil, 60, 1))
	c.port.send(testFrame(broadcast, station(2), nil, 60, 2))
	eventually(t, func() error {
		if e := a.program.entry(station(1).String()); e == nil {
			return fmt.Errorf("station 1 is not learned")
		}
		return nil
	})
	start := time.Now()
	number := uint32(100)
	eventually(t, func() error {
		number += 2
		a.port.send(testFrame(station(1), station(0), nil, 60, number))
		c.port.send(testFrame(broadcast, station(2), nil, 60, number+1))
		if a.program.entry(station(1).String()) != nil {
			return fmt.Errorf("the silent station is still there after %v", time.Since(start))
		}
		return nil
	})
	if age := time.Since(start); age < 800*time.Millisecond || age > 3*time.Second {
		t.Errorf("the silent station went after %v, want a little over 1 s", age)
	}
	if e := a.program.entry(station(2).String()); e == nil || e.VTEP != c.ip4 {
		t.Errorf("the station that talks is at %+v", e)
	}
	// From now on it is unknown, and flooded to both.
	a.port.send(testFrame(station(1), station(0), nil, 60, 7))
	b.port.numbersUntil(7)
	c.port.numbersUntil(7)
}

// TestSourceFilter: frames of a VTEP that is no peer are dropped and counted,
// unless strangers are allowed; then they are delivered, and the answer finds
// its way.
func TestSourceFilter(t *testing.T) {
	t.Parallel()
	const frames = 20
	hosts := newHosts(t, "filter", 3, wiring{})
	a, b, stranger := hosts[0], hosts[1], hosts[2]
	for _, h := range hosts {
		h.quiet(t)
	}
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	stranger.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	far := openPort(t, stranger.Namespace, "vxlan0", false)

	p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String())
	near := openPort(t, a.Namespace, p.device(), false)
	for i := range frames {
		far.send(testFrame(broadcast, station(2), nil, 60, uint32(i)))
	}
	p.awaitCounters("all dropped", func(c vtep.Counters) bool { return c.RxDropUnknownVTEP == frames })
	if c := p.counters(); c.RxFrames != 0 {
		t.Errorf("%d frames of a stranger were delivered", c.RxFrames)
	}
	if f := near.recvTest(time.Time{}); f != nil {
		t.Errorf("a stranger's frame was delivered: %x", f)
	}
	if e := p.entry(station(2).String()); e != nil {
		t.Errorf("a stranger's station was learned: %+v", e)
	}
	p.stop()

	p = up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--allow-unknown-vteps")
	near = openPort(t, a.Namespace, p.device(), false)
	hello := testFrame(broadcast, station(2), nil, 60, 100)
	far.send(hello)
	near.expect(hello)
	answer := testFrame(station(2), station(0), nil, 60, 101)
	near.send(answer)
	far.expect(answer)
	if c := p.counters(); c.RxDropUnknownVTEP != 0 || c.TxFlooded != 0 {
		t.Errorf("counters: %+v", c)
	}
	if peers := p.status().VNIs[0].Peers; len(peers) != 2 || peers[1].VTEP != stranger.ip4 || peers[1].LastHeard == nil {
		t.Errorf("the stranger is not among the peers: %+v", peers)
	}
}

// TestD12OtherVNI: frames of a VNI that is not configured here are not
// delivered, and counted.
func TestD12OtherVNI(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "vni", 2, wiring{})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4098}, false, a)
	p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String())
	near, far := openPort(t, a.Namespace, p.device(), false), openPort(t, b.Namespace, "vxlan0", false)
	for i := range 10 {
		far.send(testFrame(broadcast, station(1), nil, 60, uint32(i)))
	}
	eventually(t, func() error {
		if c := p.status().Counters; c.RxDropUnknownVNI != 10 {
			return fmt.Errorf("%d frames of another VNI counted, want 10", c.RxDropUnknownVNI)
		}
		return nil
	})
	if f := near.recvTest(time.Time{}); f != nil {
		t.Errorf("a frame of another VNI was delivered: %x", f)
	}
}

// TestD15TwoEndpointsOnePortEach: two processes on one host, with the same VNI
// on different ports, are strangers to each other.
func TestD15TwoEndpointsOnePortEach(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "ports", 2, wiring{})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	type side struct{ near, far *packetPort }
	var sides []side
	for i, port := range []uint16{4789, 14789} {
		device := fmt.Sprintf("vxlan%d", i)
		must(t, b.VXLAN(netlab.VXLANConfig{Name: device, VNI: 7, Port: port, Local: b.ip4, MTU: 1450}))
		must(t, b.AppendFDB(device, "00:00:00:00:00:00", addrPort(a.ip4, 0)))
		p := up(t, a.Namespace, "--vni", "7", "--peer", b.ip4.String(), "--port", fmt.Sprint(port), "--name", fmt.Sprintf("ov%d", i))
		if want := fmt.Sprintf("up ov%d vni 7 local %v:%d peers %v mtu 1450 mac ", i, a.ip4, port, b.ip4); !strings.HasPrefix(p.upLine(), want) {
			t.Errorf("it printed %q, want %q", p.upLine(), want)
		}
		sides = append(sides, side{openPort(t, a.Namespace, p.device(), false), openPort(t, b.Namespace, device, false)})
	}
	number := uint32(0)
	for range 10 {
		for _, s := range sides {
			number++
			there := testFrame(broadcast, station(1), nil, 60, number)
			s.near.send(there)
			s.far.expect(there)
			number++
			back := testFrame(station(1), station(2), nil, 60, number)
			s.far.send(back)
			s.near.expect(back)
		}
	}
}
