package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// ask runs a command that talks to the program.
func (p *program) ask(args ...string) outcome {
	p.t.Helper()
	return run(p.t, p.ns, append(args, "--control", p.control)...)
}

// tell is ask for what must succeed without a word.
func (p *program) tell(args ...string) {
	p.t.Helper()
	if o := p.ask(args...); o != (outcome{}) {
		p.t.Fatalf("govxlan %s: %+v", strings.Join(args, " "), o)
	}
}

// denied is ask for what must fail, in one line with these words.
func (p *program) denied(code int, words string, args ...string) {
	p.t.Helper()
	o := p.ask(args...)
	if o.code != code || o.stdout != "" || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, words) {
		p.t.Errorf("govxlan %s: %+v, want status %d and %q", strings.Join(args, " "), o, code, words)
	}
}

// TestFDBRemotePortAndVNI: VTEPs that listen on other ports and know the segment
// by other VNIs, as entries say it; no frame comes twice, none to the wrong one.
func TestFDBRemotePortAndVNI(t *testing.T) {
	t.Parallel()
	for _, offload := range []string{"auto", "off"} {
		t.Run("offload="+offload, func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "remote", 4, wiring{})
			a, own, same, third := hosts[0], hosts[1], hosts[2], hosts[3]
			for _, h := range hosts {
				h.quiet(t)
			}
			// The first knows the segment by VNI 4098, on port 14789.
			must(t, own.VXLAN(netlab.VXLANConfig{Name: "vxlan0", VNI: 4098, Port: 14789, Local: own.ip4, MTU: 1450}))
			must(t, own.AppendFDBVNI("vxlan0", "00:00:00:00:00:00", addrPort(a.ip4, 4789), 4097))
			same.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
			third.kernelVTEP(t, netlab.VXLANConfig{VNI: 4099}, false, a)

			p := up(t, a.Namespace, "--vni", "4097", "--local", a.ip4.String(), "--offload", offload)
			p.tell("peer", "add", own.ip4.String()+":14789", "--remote-vni", "4098")
			p.tell("fdb", "append", "00:00:00:00:00:00", same.ip4.String())
			p.tell("fdb", "append", "00:00:00:00:00:00", "dst", third.ip4.String(), "--remote-vni", "4099", "--vni", "4097")
			near := openPort(t, a.Namespace, p.device(), false)
			far := []*packetPort{}
			for _, h := range hosts[1:] {
				far = append(far, openPort(t, h.Namespace, "vxlan0", false))
			}

			// Flooded: once to each.
			var frames [][]byte
			for n := range 90 {
				dst := []vxlan.MAC{broadcast, {0x01, 0, 0x5E, 1, 2, 3}, station(200)}[n%3]
				f := testFrame(dst, station(byte(n%5)), nil, 60+n, uint32(n))
				frames = append(frames, f)
				near.send(f)
			}
			for i, port := range far {
				if err := port.arrive(frames); err != nil {
					t.Fatalf("VTEP %d: %v", i, err)
				}
			}

			// From there: it is learned, and the answer goes as it was entered.
			hello := testFrame(broadcast, station(50), nil, 60, 1000)
			far[0].send(hello)
			near.expect(hello)
			answer := testFrame(station(50), station(1), nil, 600, 1001)
			near.send(answer)
			far[0].expect(answer)

			// One MAC, by hand.
			p.tell("fdb", "add", station(51).String(), own.ip4.String()+":14789", "--remote-vni", "4098")
			p.tell("fdb", "add", station(52).String(), third.ip4.String(), "--remote-vni", "4099")
			for n := range uint32(20) {
				f := testFrame(station(51), station(1), nil, 100, 2000+n)
				near.send(f)
				far[0].expect(f)
				f = testFrame(station(52), station(1), nil, 100, 3000+n)
				near.send(f)
				far[2].expect(f)
			}
			if e := p.entry(station(51).String()); e == nil || e.VTEP != own.ip4 || e.Port != 14789 || e.RemoteVNI == nil || *e.RemoteVNI != 4098 || e.Kind != "static" {
				t.Errorf("the entry: %+v", e)
			}
			marker := testFrame(broadcast, station(1), nil, 60, 4000)
			near.send(marker)
			for _, port := range far {
				port.expect(marker)
			}
			p.awaitCounters("every copy counted", func(c vtep.Counters) bool { return c.TxFlooded >= 3*91 })
			if c := p.counters(); c.TxFlooded != 3*91 {
				t.Errorf("%d copies, want %d", c.TxFlooded, 3*91)
			}
			if c := p.status().Counters; c.RxDropUnknownVNI != 0 {
				t.Errorf("%d frames with another VNI", c.RxDropUnknownVNI)
			}
		})
	}
}

// TestFDBByHand: add, append, replace, del and flush do what they do in `bridge
// fdb`, and frames follow.
func TestFDBByHand(t *testing.T) {
	t.Parallel()
	nodes := newMesh(t, "fdb", []string{"govxlan", "kernel", "kernel"})
	a, b, c := nodes[0], nodes[1], nodes[2]
	p := a.program
	number := uint32(0)
	// goes sends to a MAC and says which of the others get it.
	goes := func(mac vxlan.MAC, want ...*node) {
		t.Helper()
		number += 2
		f := testFrame(mac, station(0), nil, 60, number)
		a.port.send(f)
		a.port.send(testFrame(broadcast, station(0), nil, 60, number+1))
		for _, n := range []*node{b, c} {
			got := n.port.numbersUntil(number + 1)
			if has := slices.Contains(got, number); has != slices.Contains(want, n) || len(got) > 2 {
				t.Errorf("frame %d to %v: %v got %v", number, mac, n.ip4, got)
			}
		}
	}
	mac, group := station(7), vxlan.MAC{0x01, 0, 0x5E, 0, 0, 9}
	m, g, bb, cc := mac.String(), group.String(), b.ip4.String(), c.ip4.String()

	goes(mac, b, c)
	p.tell("fdb", "add", m, bb)
	goes(mac, b)
	p.denied(1, "an entry exists", "fdb", "add", m, cc)
	p.tell("fdb", "append", m, cc)
	goes(mac, b)
	p.tell("fdb", "replace", m, cc, "--permanent")
	goes(mac, c)
	p.denied(1, "no such entry", "fdb", "del", m, bb)
	p.tell("fdb", "del", m, cc)
	goes(mac, b, c)
	p.denied(1, "no such entry", "fdb", "del", m)

	p.tell("fdb", "append", g, bb)
	goes(group, b)
	p.tell("fdb", "append", g, cc)
	goes(group, b, c)
	p.tell("fdb", "del", g, bb)
	goes(group, c)
	p.denied(1, "a group MAC has a list of remotes", "fdb", "replace", g, bb)
	p.denied(1, "one by one", "fdb", "replace", "00:00:00:00:00:00", bb)
	p.denied(1, "no such VNI here", "fdb", "add", m, bb, "--vni", "5")

	// A learned entry can be replaced, not added over.
	b.port.send(testFrame(broadcast, station(8), nil, 60, 90000))
	a.port.numbersUntil(90000)
	c.port.numbersUntil(90000)
	goes(station(8), b)
	p.denied(1, "an entry exists", "fdb", "add", station(8).String(), cc)
	p.tell("fdb", "replace", station(8).String(), cc)
	goes(station(8), c)
	// Its frames from elsewhere are refused now.
	b.port.send(testFrame(broadcast, station(8), nil, 60, 90001))
	b.port.send(testFrame(broadcast, station(9), nil, 60, 90002))
	if got := a.port.numbersUntil(90002); slices.Contains(got, 90001) {
		t.Error("a frame that contradicts a static entry was delivered")
	}
	c.port.numbersUntil(90002)

	// Flush: first what was learned, then what is not permanent, then all.
	p.tell("fdb", "add", m, bb, "--permanent")
	flush := func(want string, flags ...string) {
		t.Helper()
		if o := p.ask(append([]string{"fdb", "flush"}, flags...)...); o.code != 0 || o.stdout != want+" removed\n" {
			t.Errorf("fdb flush %v: %+v, want %s", flags, o, want)
		}
	}
	flush("0", "--vtep", "192.168.52.9")
	flush("1", "--learned")
	flush("2", "--nopermanent") // station 8 and the group MAC
	goes(mac, b)
	goes(group, b, c)
	flush("1", "--vtep", bb)
	goes(mac, b, c)

	// Peers are the flood list.
	p.tell("peer", "del", cc)
	a.port.send(testFrame(broadcast, station(0), nil, 60, 91000))
	b.port.numbersUntil(91000)
	if f := c.port.recvTest(time.Now().Add(50 * time.Millisecond)); f != nil {
		t.Error("a VTEP that is no peer any more got a broadcast")
	}
	p.denied(1, "no such entry", "peer", "del", cc)
	p.tell("peer", "add", cc)
	p.tell("peer", "add", cc)
	goes(broadcast, b, c)
	if o := p.ask("peer", "list"); o.code != 0 || strings.Count(o.stdout, "flood") != 2 || !strings.Contains(o.stdout, cc) {
		t.Errorf("peer list: %+v", o)
	}
}

// TestLearningOffWithEntries: nothing is learned, so all is flooded, but what is
// entered.
func TestLearningOffWithEntries(t *testing.T) {
	t.Parallel()
	nodes := newMesh(t, "nolearn", []string{"govxlan", "kernel", "kernel"}, "--learning=false")
	a, b, c := nodes[0], nodes[1], nodes[2]
	hello := testFrame(broadcast, station(1), nil, 60, 1)
	b.port.send(hello)
	a.port.expect(hello)
	c.port.expect(hello)
	a.port.send(testFrame(station(1), station(0), nil, 60, 2))
	if got := c.port.numbersUntil(2); len(got) != 1 {
		t.Errorf("frames %v", got)
	}
	b.port.numbersUntil(2)
	if e := a.program.entry(station(1).String()); e != nil {
		t.Errorf("learned %+v", e)
	}
	a.program.tell("fdb", "add", station(1).String(), b.ip4.String())
	a.port.send(testFrame(station(1), station(0), nil, 60, 3))
	a.port.send(testFrame(broadcast, station(0), nil, 60, 4))
	if got := b.port.numbersUntil(4); len(got) != 2 {
		t.Errorf("the VTEP entered got %v", got)
	}
	if got := c.port.numbersUntil(4); len(got) != 1 {
		t.Errorf("the other VTEP got %v", got)
	}
}

// TestB28NexthopGroup: the flows to a MAC behind two VTEPs are shared out, and
// each keeps its way; when one of them leaves, the other has all.
func TestB28NexthopGroup(t *testing.T) {
	t.Parallel()
	const flows, each = 40, 5
	nodes := newMesh(t, "nexthop", []string{"govxlan", "kernel", "kernel"})
	a, b, c := nodes[0], nodes[1], nodes[2]
	p := a.program
	p.tell("nexthop", "add", "10", b.ip4.String(), c.ip4.String())
	p.denied(1, "exists", "nexthop", "add", "10", b.ip4.String())
	p.denied(1, "no such nexthop group", "fdb", "add", station(99).String(), "--nhid", "11")
	p.tell("fdb", "add", station(99).String(), "--nhid", "10")

	number := uint32(0)
	// spread sends the frames of all flows and returns how many each VTEP got
	// of each; frames without IP are of one flow if their MACs are the same.
	spread := func() (got [2]map[uint32]int) {
		t.Helper()
		first := number
		for range each {
			for f := range byte(flows) {
				a.port.send(testFrame(station(99), station(f), nil, 60, number))
				number++
			}
		}
		a.port.send(testFrame(broadcast, station(0), nil, 60, 1_000_000+first))
		for i, n := range []*node{b, c} {
			got[i] = make(map[uint32]int)
			for _, m := range n.port.numbersUntil(1_000_000 + first) {
				if m < 1_000_000 {
					got[i][(m-first)%flows]++
				}
			}
		}
		return got
	}
	got := spread()
	for f := range uint32(flows) {
		if x, y := got[0][f], got[1][f]; x+y != each || x*y != 0 {
			t.Errorf("flow %d: %d and %d frames, want all %d on one way", f, x, y, each)
		}
	}
	if len(got[0]) < flows/5 || len(got[1]) < flows/5 {
		t.Errorf("%d and %d flows of %d", len(got[0]), len(got[1]), flows)
	}

	// Both may speak for the MAC, and the entry stays.
	for i, n := range []*node{b, c} {
		hello := testFrame(broadcast, station(99), nil, 60, 2_000_000+uint32(i))
		n.port.send(hello)
		a.port.expect(hello)
		[]*node{c, b}[i].port.numbersUntil(2_000_000 + uint32(i))
	}
	if e := p.entry(station(99).String()); e == nil || e.Nexthops != 10 || e.Kind != "static" {
		t.Errorf("the entry: %+v", e)
	}

	p.tell("nexthop", "replace", "10", c.ip4.String())
	if got := spread(); len(got[0]) != 0 || len(got[1]) != flows {
		t.Errorf("after one left: %d and %d flows", len(got[0]), len(got[1]))
	}
	p.tell("nexthop", "del", "10")
	if got := spread(); len(got[0]) != flows || len(got[1]) != flows {
		t.Errorf("after the group went, %d and %d of %d flows are flooded", len(got[0]), len(got[1]), flows)
	}
}

// monitor runs "govxlan monitor" and returns once it is told of things.
func (p *program) monitor(args ...string) (*netlab.Cmd, *output) {
	p.t.Helper()
	out := newOutput()
	cmd := p.ns.Command(context.Background(), govxlan, append([]string{"monitor", "--control", p.control}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	must(p.t, cmd.Start())
	eventually(p.t, func() error {
		p.tell("fdb", "add", station(254).String(), "192.168.52.254")
		p.tell("fdb", "del", station(254).String())
		if out.String() == "" {
			return fmt.Errorf("the monitor tells nothing")
		}
		return nil
	})
	return cmd, out
}

// TestMonitor: learned, moved, aged, added and deleted are told as they happen.
func TestMonitor(t *testing.T) {
	t.Parallel()
	nodes := newMesh(t, "monitor", []string{"govxlan", "kernel", "kernel"}, "--ageing", "1s")
	a, b, c := nodes[0], nodes[1], nodes[2]
	p := a.program
	people, text := p.monitor()
	programs, lines := p.monitor("--json", "--vni", "4097")

	b.port.send(testFrame(broadcast, station(1), nil, 60, 1))
	a.port.numbersUntil(1)
	c.port.numbersUntil(1)
	c.port.send(testFrame(broadcast, station(1), nil, 60, 2))
	a.port.numbersUntil(2)
	p.tell("fdb", "add", station(2).String(), b.ip4.String()+":4790", "--remote-vni", "7")
	p.tell("fdb", "del", station(2).String())

	of := func(mac vxlan.MAC) (events []vtep.Event) {
		d := json.NewDecoder(strings.NewReader(lines.String()))
		for {
			var e vtep.Event
			if d.Decode(&e) != nil {
				return events
			}
			if e.MAC == mac {
				events = append(events, e)
			}
		}
	}
	want := []string{"learned", "moved", "aged"}
	eventually(t, func() error {
		var got []string
		for _, e := range of(station(1)) {
			got = append(got, e.What)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("told %q, want %q", got, want)
		}
		return nil
	})
	events := of(station(1))
	if e := events[0]; e.VTEP != b.ip4 || e.Port != 4789 || e.VNI != 4097 || e.Kind != "learned" || e.From != nil || time.Since(e.Time) > time.Minute {
		t.Errorf("learned: %+v", e)
	}
	if e := events[1]; e.VTEP != c.ip4 || e.From == nil || e.From.VTEP != b.ip4 {
		t.Errorf("moved: %+v", e)
	}
	if e := of(station(2)); len(e) != 2 || e[0].What != "added" || e[0].Port != 4790 || e[0].RemoteVNI != 7 || e[1].What != "deleted" {
		t.Errorf("by hand: %+v", e)
	}
	for _, line := range []string{
		" learned vni 4097 02:5e:00:00:00:01 192.168.52.204:4789 learned\n",
		" moved   vni 4097 02:5e:00:00:00:01 192.168.52.205:4789 from 192.168.52.204:4789 learned\n",
		" aged    vni 4097 02:5e:00:00:00:01 192.168.52.205:4789 learned\n",
		" added   vni 4097 02:5e:00:00:00:02 192.168.52.204:4790 remote-vni 7 static\n",
	} {
		eventually(t, func() error {
			if !strings.Contains(text.String(), line) {
				return fmt.Errorf("no %q in\n%s", line, text)
			}
			return nil
		})
	}

	// Interrupted, it ends well; left alone, it says so.
	must(t, people.Process.Signal(os.Interrupt))
	if code := exitCode(t, people.Wait()); code != 0 {
		t.Errorf("interrupted: status %d", code)
	}
	p.stop()
	if code := exitCode(t, programs.Wait()); code != 1 || !strings.HasSuffix(lines.String(), "the endpoint has ended\n") {
		t.Errorf("after the endpoint's end: status %d, %q", code, lines)
	}
}

// TestB21AllEntriesBound: with --max-entries-all, what is entered counts too.
func TestB21AllEntriesBound(t *testing.T) {
	t.Parallel()
	nodes := newMesh(t, "full", []string{"govxlan", "kernel"}, "--max-entries", "2", "--max-entries-all")
	p := nodes[0].program
	p.tell("fdb", "add", station(1).String(), nodes[1].ip4.String())
	p.denied(1, "the table is full", "fdb", "add", station(2).String(), nodes[1].ip4.String())
	f := testFrame(broadcast, station(3), nil, 60, 1)
	nodes[1].port.send(f)
	nodes[0].port.expect(f)
	p.awaitCounters("1 not learned", func(c vtep.Counters) bool { return c.RxNotLearnedFull == 1 && c.RxFrames == 1 })
}

// TestB29LinkDown: when the device goes down, what was learned is forgotten, and
// what was entered stays.
func TestB29LinkDown(t *testing.T) {
	t.Parallel()
	nodes := newMesh(t, "down", []string{"govxlan", "kernel"})
	a, b := nodes[0], nodes[1]
	p := a.program
	f := testFrame(broadcast, station(1), nil, 60, 1)
	b.port.send(f)
	a.port.expect(f)
	p.tell("fdb", "add", station(2).String(), b.ip4.String())
	p.tell("fdb", "add", station(3).String(), b.ip4.String(), "--dynamic")
	must(t, a.SetDown(p.device()))
	eventually(t, func() error {
		if e := p.entry(station(1).String()); e != nil {
			return fmt.Errorf("still there: %+v", e)
		}
		return nil
	})
	if p.entry(station(2).String()) == nil || p.entry(station(3).String()) != nil {
		t.Error("not exactly the entry that does not age is left")
	}
	must(t, a.SetUp(p.device()))
	eventually(t, func() error {
		b.port.send(f)
		if p.entry(station(1).String()) == nil {
			return fmt.Errorf("it is not learned again")
		}
		return nil
	})
}
