package vtep

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// Strangers of a prefix speak, are learned from, and go with the permission.
func TestAllow(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA}
		c.Guard.Allow = prefixes(vtepB.Addr().String()+"/32", "fd52::/64")
	})
	inside := netip.MustParseAddr("fd52::9")
	for _, tc := range []struct {
		from   netip.Addr
		speaks bool
	}{{vtepA.Addr(), true}, {vtepB.Addr(), true}, {vtepC.Addr(), false}, {inside, true}, {netip.MustParseAddr("fd53::9"), false}} {
		if got := p.speaks(tc.from, alice); got != tc.speaks {
			t.Errorf("%v speaks: %v", tc.from, got)
		}
	}
	if c := p.counters(); c.RxDropUnknownVTEP != 2 || c.RxFrames != 3 {
		t.Errorf("counters %+v", c)
	}
	if got, want := p.where(alice), netip.AddrPortFrom(inside, 4789).String()+" learned"; got != want {
		t.Errorf("learned %q, want %q", got, want)
	}
	cfg := VNIConfig{VNI: 10, Guard: Guard{Allow: prefixes(vtepC.Addr().String() + "/32")}}
	if err := p.rig.e.ChangeVNI(cfg); err != nil {
		t.Fatal(err)
	}
	if p.where(alice) != "" {
		t.Error("what was learned from a VTEP that is not allowed any more is still there")
	}
	for from, want := range map[netip.Addr]bool{vtepA.Addr(): true, vtepB.Addr(): false, vtepC.Addr(): true, inside: false} {
		if got := p.speaks(from, bob); got != want {
			t.Errorf("after the change %v speaks: %v", from, got)
		}
	}
}

// With groups, their members have to be in a prefix, and peers do not.
func TestAllowBoundsMembers(t *testing.T) {
	r, _ := newGroupRig(t)
	p := r.add(10, func(c *VNIConfig) {
		joins(groupOne)(c)
		c.Peers = []netip.AddrPort{vtepA}
	})
	f := raw(host, alice, 64)
	if got := p.byGroup(groupOne, vtepC.Addr(), f); len(got) != 1 {
		t.Fatalf("a member delivered %d frames", len(got))
	}
	cfg := VNIConfig{VNI: 10, Guard: Guard{Allow: prefixes(vtepB.Addr().String() + "/32")}}
	if err := r.e.ChangeVNI(cfg); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[netip.Addr]int{vtepA.Addr(): 1, vtepB.Addr(): 1, vtepC.Addr(): 0} {
		if got := p.byGroup(groupOne, from, f); len(got) != want {
			t.Errorf("%v delivered %d frames by the group, want %d", from, len(got), want)
		}
	}
	if s := p.o.sender(vtepC.Addr()); s != nil {
		t.Errorf("%+v is still a sender", s)
	}
	if c := p.counters(); c.RxDropUnknownVTEP != 1 {
		t.Errorf("counters %+v", c)
	}
}

// A hijacker's frames are dropped once its MAC is held, whatever they ask for, and
// the station keeps its entry.
func TestDampedHijack(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.GroupPolicy = &GroupPolicy{}
		c.Guard.Damping = fdb.Damping{Moves: 5}
	})
	w, err := p.rig.e.Watch(0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	f := raw(host, alice, 64)
	for range 10 {
		p.arrive(vtepA.Addr(), f)
		p.arrive(vtepB.Addr(), f)
	}
	// Two moves by the hijacker and two back succeed.
	if c := p.counters(); c.RxDropMACHeld != 8 || c.RxFrames != 12 {
		t.Errorf("counters %+v", c)
	}
	dontLearn := encap(10, f)
	dontLearn[0], dontLearn[1] = 0x88, 0x40
	p.rig.r.batch([]transport.Train{{Buf: dontLearn, Addr: vtepB}}, p.rig.now)
	if c := p.counters(); c.RxDropMACHeld != 9 {
		t.Errorf("with don't learn: counters %+v", c)
	}
	if e := p.rig.e.FDB(10); !e[len(e)-1].Held || e[len(e)-1].VTEP != vtepA.Addr() {
		t.Errorf("FDB %+v", e)
	}
	p.rig.now += fdb.DefaultHold
	p.o.table.Age(p.rig.now)
	if got := p.arrived(vtepB.Addr(), f); len(got) != 1 {
		t.Error("it is held for ever")
	}
	var told []string
	for range 8 {
		e, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, e.What)
		if e.What == "held" && (e.MAC != alice || e.VTEP != vtepA.Addr() || e.From.VTEP != vtepB.Addr() || e.Kind != "learned") {
			t.Errorf("%+v", e)
		}
	}
	want := []string{"learned", "moved", "moved", "moved", "moved", "held", "released", "moved"}
	if !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}

// The log hears of each hold once, and not of more than it can bear.
func TestHoldsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.InfoLevel)
		w := newWire()
		e, err := New(Config{Conn: w, Logger: zap.New(core)})
		if err != nil {
			t.Fatal(err)
		}
		guard := Guard{Damping: fdb.Damping{Moves: 1, Hold: time.Minute}}
		if err := e.AddVNI(VNIConfig{VNI: 10, Device: newCard(t), Peers: []netip.AddrPort{vtepA, vtepB}, Guard: guard}); err != nil {
			t.Fatal(err)
		}
		result := make(chan error)
		go func() { result <- e.Run(t.Context()) }()
		synctest.Wait()
		table := e.vnis.load(10).table
		flap := func(first, n int) {
			for i := range n {
				mac := fdb.MAC{2, 9, 0, 0, byte((first + i) >> 8), byte(first + i)}
				for range 2 {
					table.Learn(mac, fdb.Remote{Addr: vtepA}, e.now())
					table.Learn(mac, fdb.Remote{Addr: vtepB}, e.now())
				}
			}
			synctest.Wait()
		}
		count := func(snippet string) int { return logged.FilterMessageSnippet(snippet).Len() }
		flap(0, 1)
		if n := count("is held"); n != 1 {
			t.Errorf("%d lines for one hold", n)
		}
		if f := logged.FilterMessageSnippet("is held").All()[0].ContextMap(); f["vtep"] != vtepA.String() || f["refused"] != vtepB.String() || f["vni"] != "10" {
			t.Errorf("told %v", f)
		}
		time.Sleep(time.Minute + time.Second)
		if n := count("may move again"); n != 1 {
			t.Errorf("%d lines of its end", n)
		}
		flap(1, 5000)
		if n := count("is held"); n < 2 || n > 1+2*mostHolds { // the first, and what the bucket holds again
			t.Errorf("%d lines for 5001 holds", n)
		}
		time.Sleep(2 * time.Minute)
		if count("may move again") == 0 || count("more MACs") == 0 {
			t.Errorf("%d lines of release, %d of more", count("may move again"), count("more MACs"))
		}
		if n := logged.Len(); n > 200 {
			t.Errorf("%d lines", n)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func TestLearnRateDelivers(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA}
		c.Guard.LearnRate = Rate{PerSecond: 10, Burst: 3}
	})
	for i := range 100 {
		p.arrive(vtepA.Addr(), raw(host, vxlan.MAC{2, 7, 0, 0, 0, byte(i)}, 64))
	}
	if c := p.counters(); c.RxFrames != 100 || c.RxNotLearnedRate != 97 || p.o.table.Learned() != 3 {
		t.Errorf("%d learned, counters %+v", p.o.table.Learned(), c)
	}
	p.rig.now += time.Second
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	if p.where(alice) == "" {
		t.Error("nothing is learned any more")
	}
}

func TestStormControl(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Static = []StaticEntry{{alice, vtepA}}
		c.Guard.Storm = Rate{PerSecond: 10, Burst: 5}
	})
	for range 20 {
		p.arrive(vtepA.Addr(), raw(broadcast, alice, 64), raw(group, alice, 64), raw(host, alice, 64))
	}
	if c := p.counters(); c.RxDropStorm != 35 || c.RxFrames != 25 || c.RxBroadcast+c.RxMulticast != 5 {
		t.Errorf("in: counters %+v", c)
	}
	// Out: a limit of its own, and copies are not counted.
	for range 20 {
		p.send(raw(broadcast, host, 64), raw(group, host, 64), raw(bob, host, 64), raw(alice, host, 64))
	}
	if c := p.counters(); c.TxDropStorm != 55 || c.TxFlooded != 10 || c.TxFrames != 30 || c.TxBroadcast+c.TxMulticast+c.TxUnknown != 5 {
		t.Errorf("out: counters %+v", c)
	}
	p.rig.now += 100 * time.Millisecond
	p.send(raw(broadcast, host, 64), raw(broadcast, host, 64))
	p.arrive(vtepA.Addr(), raw(broadcast, alice, 64), raw(broadcast, alice, 64))
	if c := p.counters(); c.TxDropStorm != 56 || c.RxDropStorm != 36 {
		t.Errorf("one more after 100 ms: counters %+v", c)
	}
	// A superframe is as many frames as it stands for.
	p.rig.now += time.Hour
	unknown := p.counters().TxUnknown
	p.carry(packet{dst: bob, src: host, payload: 10000}.superframe(t, 1000))
	p.send(raw(broadcast, host, 64))
	if c := p.counters(); c.TxUnknown != unknown+10 || c.TxDropStorm != 57 {
		t.Errorf("superframe: counters %+v", c)
	}
	// What is dropped for who sent it takes nothing from the others.
	p.rig.now += time.Hour
	for range 100 {
		p.arrive(vtepB.Addr(), raw(broadcast, alice, 64))
	}
	before := p.counters().RxDropStorm
	p.arrive(vtepA.Addr(), raw(broadcast, alice, 64))
	if c := p.counters(); c.RxDropStorm != before || c.RxDropStaticMAC != 100 {
		t.Errorf("after a hijacker: counters %+v", c)
	}
}

// advert is an unsolicited neighbour advertisement of target at mac.
func advert(t tester, src vxlan.MAC, from, target netip.Addr, mac vxlan.MAC) []byte {
	f := question{src: src, from: from, target: target}.frame(t)
	f[54] = 136 // the checksum is wrong then, and nobody checks it here
	f[78] = 2
	copy(f[80:], mac[:])
	return f
}

func TestAntiSpoof(t *testing.T) {
	none4, none6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	local := netip.MustParseAddr("fe80::ff:fe00:100")      // made of host
	guestLocal := netip.MustParseAddr("fe80::ff:fe00:400") // made of guest
	strangeLocal := netip.MustParseAddr("fe80::ff:fe00:1ff")
	short := question{src: host, from: host4, target: bob4}.frame(t)[:30]
	broken := packet{dst: alice, src: host}.frame(t)
	broken[14] = 0x95
	arp := func(src, sender vxlan.MAC, from netip.Addr) []byte {
		f := question{src: src, from: from, target: bob4, reply: true}.frame(t)
		copy(f[22:], sender[:])
		return f
	}
	for _, tc := range []struct {
		name    string
		frame   []byte
		mac, ip bool // sent in that mode
	}{
		{"own MAC, no IP", raw(alice, host, 64), true, true},
		{"guest's MAC, no IP", raw(alice, guest, 64), true, true},
		{"another's MAC", raw(alice, bob, 64), false, false},
		{"group's MAC", raw(alice, group, 64), false, false},
		{"tagged, another's MAC", vlan(raw(alice, bob, 64), 5), false, false},
		{"IPv4 of another", packet{dst: alice, src: host}.frame(t), true, false},
		{"IPv6 of the prefix", packet{dst: alice, src: host, v6: true}.frame(t), true, true},
		{"tagged IPv4 of another", vlan(packet{dst: alice, src: host}.frame(t), 5), true, false},
		{"broken IPv4", broken, true, false},
		{"more tags than are read", vlan(packet{dst: alice, src: host}.frame(t), 1, 2, 3, 4, 5), true, false},
		{"ARP", question{src: host, from: host4, target: bob4}.frame(t), true, true},
		{"tagged ARP", vlan(question{src: host, from: host4, target: bob4}.frame(t), 5), true, true},
		{"ARP probe", question{src: host, from: none4, target: host4}.frame(t), true, true},
		{"ARP of another", question{src: host, from: alice4, target: bob4}.frame(t), true, false},
		{"tagged ARP of another", vlan(question{src: host, from: alice4, target: bob4}.frame(t), 5), true, false},
		{"ARP with another's MAC inside", arp(host, bob, host4), false, false},
		{"ARP with the guest's MAC inside", arp(host, guest, guest4), true, true},
		{"ARP cut short", short, true, false},
		{"solicitation", question{src: host, from: host6, target: bob6}.frame(t), true, true},
		{"duplicate address detection", question{src: host, from: none6, target: host6}.frame(t), true, true},
		{"own link-local address", question{src: host, from: local, target: bob6}.frame(t), true, true},
		{"guest's link-local address", question{src: host, from: guestLocal, target: bob6}.frame(t), true, true},
		{"another's link-local address", question{src: host, from: strangeLocal, target: bob6}.frame(t), true, false},
		{"solicitation of another", question{src: host, from: alice6, target: bob6}.frame(t), true, false},
		{"advertisement", advert(t, host, host6, host6, host), true, true},
		{"advertisement of another's address", advert(t, host, host6, alice6, host), true, false},
		{"advertisement of another's MAC", advert(t, host, host6, host6, bob), false, false},
	} {
		for mode, want := range map[AntiSpoof]bool{AntiSpoofOff: true, AntiSpoofMAC: tc.mac, AntiSpoofIP: tc.ip} {
			p := newRig(t).add(10, func(c *VNIConfig) {
				c.Peers = []netip.AddrPort{vtepA}
				c.Guard.AntiSpoof = mode
				if mode != AntiSpoofOff {
					c.Guard.LocalMACs = []vxlan.MAC{guest}
				}
				if mode == AntiSpoofIP {
					c.Guard.LocalIPs = prefixes("10.0.1.1/32", "10.0.1.4/32", "fd10::1/128", "fd00::/64")
				}
			})
			got := decaps(t, 10, p.send(tc.frame))
			if want != (len(got) == 1 && bytes.Equal(got[0], tc.frame)) {
				t.Errorf("%s, %s: sent %x", tc.name, antiSpoofs[mode], got)
			}
			if c := p.counters(); want != (c.TxDropSpoofed == 0) || c.TxFrames+c.TxDropSpoofed != 1 {
				t.Errorf("%s, %s: counters %+v", tc.name, antiSpoofs[mode], c)
			}
		}
	}
}

// Who takes an endpoint over holds what it held, learns all that it knew however slow
// learning is, and lets those speak that are still allowed.
func TestGuardIsHandedOver(t *testing.T) {
	setup := func(allow string) func(*VNIConfig) {
		return func(c *VNIConfig) {
			c.Peers = []netip.AddrPort{vtepA}
			c.Guard = Guard{Allow: prefixes(allow), Damping: fdb.Damping{Moves: 2}, LearnRate: Rate{PerSecond: 2, Burst: 4}}
		}
	}
	both := "192.168.52.0/24"
	p := newRig(t).add(10, setup(both))
	for range 2 {
		p.arrive(vtepA.Addr(), raw(host, alice, 64))
		p.arrive(vtepB.Addr(), raw(host, alice, 64))
	}
	stations := []vxlan.MAC{alice}
	for i := range 20 {
		stations = append(stations, vxlan.MAC{2, 8, 0, 0, 0, byte(i)})
		p.arrive(vtepB.Addr(), raw(host, stations[i+1], 64))
		p.rig.now += time.Second
	}
	state := func() State {
		p.rig.e.mu.Lock()
		defer p.rig.e.mu.Unlock()
		return p.rig.e.state()
	}()
	want := p.rig.e.FDB(10)
	if !slices.ContainsFunc(want, func(e EntryStatus) bool { return e.Held && e.MAC == alice }) || len(want) != 22 {
		t.Fatalf("%+v", want)
	}
	next := newRig(t)
	next.now = p.rig.now
	q := next.add(10, setup(both))
	next.e.Restore(state)
	for i, e := range next.e.FDB(10) {
		if e.MAC != want[i].MAC || e.VTEP != want[i].VTEP || e.Held != want[i].Held {
			t.Errorf("%+v, want %+v", e, want[i])
		}
	}
	if got := q.arrived(vtepB.Addr(), raw(host, alice, 64)); got != nil {
		t.Error("what was held is delivered")
	}
	for range 10 {
		q.arrive(vtepB.Addr(), raw(host, vxlan.MAC{2, 8, 1, 0, 0, byte(q.counters().RxFrames)}, 64))
	}
	if c := q.counters(); c.RxNotLearnedRate != 6 {
		t.Errorf("afterwards it learns as fast as it likes: %+v", c)
	}
	strict := newRig(t)
	strict.now = p.rig.now
	strict.add(10, setup("192.0.2.0/24"))
	strict.e.Restore(state)
	for _, e := range strict.e.FDB(10) {
		if e.VTEP == vtepB.Addr() {
			t.Errorf("%+v is back", e)
		}
	}
}

// What the guard refuses costs no memory.
func TestGuardAllocatesNothing(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Device.(*card).quiet = true
		c.Guard = Guard{
			Allow: prefixes("192.0.2.0/24"), Damping: fdb.Damping{Moves: 1}, LearnRate: Rate{1, 1}, Storm: Rate{1, 1},
			AntiSpoof: AntiSpoofIP, LocalIPs: prefixes("10.0.1.100/32", "10.0.1.1/32"),
		}
	})
	p.rig.wire.quiet = true
	p.arrive(vtepA.Addr(), raw(broadcast, alice, 64))
	var trains []transport.Train
	for _, f := range []struct {
		from netip.AddrPort
		b    []byte
	}{{vtepB, raw(host, alice, 64)}, {vtepA, raw(broadcast, alice, 64)}, {vtepA, raw(host, bob, 64)}} {
		trains = append(trains, transport.Train{Buf: encap(10, f.b), Addr: f.from})
	}
	frames := []tap.Frame{
		{Bytes: packet{dst: alice, src: host}.frame(t)}, {Bytes: packet{dst: alice, src: host, v6: true}.frame(t)},
		{Bytes: question{src: host, from: host4, target: bob4}.frame(t)}, {Bytes: question{src: host, from: host6, target: bob6}.frame(t)},
		{Bytes: raw(alice, bob, 64)}, {Bytes: raw(broadcast, host, 64)},
	}
	work, batch := make([]transport.Train, len(trains)), make([]tap.Frame, len(frames))
	n := testing.AllocsPerRun(100, func() {
		copy(work, trains)
		copy(batch, frames)
		p.rig.r.batch(work, p.rig.now)
		p.tx.carry(p.w, batch)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	if c := p.counters(); c.RxDropMACHeld < 100 || c.RxDropStorm < 100 || c.RxNotLearnedRate < 100 || c.TxDropSpoofed < 300 || c.TxDropStorm < 100 {
		t.Errorf("counters %+v: not what was to be measured", c)
	}
}

func FuzzAntiSpoof(f *testing.F) {
	f.Add(packet{dst: alice, src: host}.frame(f))
	f.Add(question{src: host, from: host4, target: bob4}.frame(f))
	f.Add(vlan(question{src: host, from: host4, target: bob4}.frame(f), 1, 2))
	f.Add(advert(f, host, host6, host6, host))
	l := &locals{ip: true, macs: map[vxlan.MAC]struct{}{guest: {}}, ips: prefixes("10.0.1.0/24", "fd10::/64")}
	mac := &locals{macs: l.macs}
	f.Fuzz(func(t *testing.T, b []byte) {
		var in vxlan.Inner
		if in.Parse(b) != nil {
			return
		}
		was := bytes.Clone(b)
		strict, loose := l.allow(host, b, &in), mac.allow(host, b, &in)
		if !bytes.Equal(b, was) {
			t.Error("the frame was changed")
		}
		src := vxlan.MAC(b[6:12])
		if strict && !loose || loose && src != host && src != guest {
			t.Errorf("allowed by MAC %v, by IP %v: %x", loose, strict, b)
		}
	})
}
