package vtep

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

func to(a netip.AddrPort) fdb.Destination { return fdb.Destination{Remote: fdb.Remote{Addr: a}} }

func toVNI(a netip.AddrPort, v uint32) fdb.Destination {
	return fdb.Destination{Remote: fdb.Remote{Addr: a, VNI: v}}
}

// set makes an entry and fails the test if that is refused.
func (p *port) set(verb fdb.Verb, mac vxlan.MAC, d fdb.Destination) {
	p.rig.t.Helper()
	if err := p.rig.e.SetEntry(p.vni, verb, Entry{mac, d}); err != nil {
		p.rig.t.Fatal(err)
	}
}

// speaks says whether the device gets a frame that comes from a VTEP.
func (p *port) speaks(from netip.Addr, src vxlan.MAC) bool {
	p.rig.t.Helper()
	return len(p.arrived(from, raw(host, src, 64))) == 1
}

// Each remote of the flood list gets frames with its own VNI, each once and in
// their order, whatever the frames are.
func TestFloodWithRemoteVNIs(t *testing.T) {
	vtepD := netip.MustParseAddrPort("[fd00::209]:4790")
	list := []struct {
		to  netip.AddrPort
		vni uint32 // as told
		in  vxlan.VNI
	}{{vtepA, 0, 10}, {vtepB, 7, 7}, {vtepC, 1<<24 - 1, vxlan.MaxVNI}, {vtepD, 7, 7}, {vtepA, 7, 7}, {vtepB, 10, 10}}
	p := newRig(t).add(10, func(c *VNIConfig) {
		for _, l := range list {
			c.Entries = append(c.Entries, Entry{Destination: toVNI(l.to, l.vni)})
		}
	})
	p.rig.wire.limits.Flows = 4
	partial := packet{dst: broadcast, src: host, tcp: true, payload: 1000}.superframe(t, 0)
	partial.Header.GSO = tap.GSONone
	batch := []tap.Frame{
		{Bytes: raw(broadcast, host, 64)}, partial, {Bytes: raw(group, host, 70)},
		packet{dst: alice, src: host, tcp: true, payload: 5000}.superframe(t, 1398),
		{Bytes: raw(broadcast, host, 64)},
	}
	var want [][]byte
	for _, f := range batch {
		want = append(want, plainFrames(t, &tap.Vector{Header: f.Header, Parts: [][]byte{bytes.Clone(f.Bytes)}})...)
	}
	trains := p.carry(batch...)
	type place struct {
		to  netip.AddrPort
		vni vxlan.VNI
	}
	got := make(map[place][][]byte)
	for i := range trains {
		for _, d := range datagrams(trains[i : i+1]) {
			h, f, err := vxlan.Parse(d)
			if err != nil {
				t.Fatal(err)
			}
			k := place{trains[i].Addr, h.VNI}
			got[k] = append(got[k], f)
		}
	}
	if len(got) != len(list) {
		t.Errorf("frames for %d remotes, want %d", len(got), len(list))
	}
	less := func(a, b []byte) int { return bytes.Compare(a, b) }
	slices.SortFunc(want, less)
	for _, l := range list {
		frames := got[place{l.to, l.in}]
		slices.SortFunc(frames, less)
		if !slices.EqualFunc(frames, want, bytes.Equal) {
			t.Errorf("%v vni %v got %d frames, want the %d sent", l.to, l.in, len(frames), len(want))
		}
	}
	if c := p.counters(); c.TxFlooded != uint64(len(list)*len(want)) {
		t.Errorf("%d copies counted, want %d", c.TxFlooded, len(list)*len(want))
	}
}

func TestRemoteVNIAndPortOfOneMAC(t *testing.T) {
	own := netip.AddrPortFrom(vtepB.Addr(), 8472)
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Entries = []Entry{
			{alice, toVNI(vtepA, 7)}, {bob, toVNI(vtepA, 0)}, {group, toVNI(vtepC, 8)},
			{vxlan.MAC{}, toVNI(own, 9)},
		}
	})
	for _, tc := range []struct {
		mac vxlan.MAC
		to  netip.AddrPort
		vni vxlan.VNI
	}{{alice, vtepA, 7}, {bob, vtepA, 10}, {group, vtepC, 8}, {broadcast, own, 9}} {
		trains := p.send(raw(tc.mac, host, 64), raw(tc.mac, host, 64))
		if got := destinations(trains); !slices.Equal(got, []netip.AddrPort{tc.to}) {
			t.Errorf("%v goes to %v, want %v", tc.mac, got, tc.to)
		}
		if got := vnisOf(trains); !slices.Equal(got, []vxlan.VNI{tc.vni, tc.vni}) {
			t.Errorf("%v goes with VNI %v, want %v", tc.mac, got, tc.vni)
		}
	}
	// Answers go as the peer was configured: port and VNI.
	carol := vxlan.MAC{2, 7, 7, 7, 7, 7}
	p.arrive(own.Addr(), raw(host, carol, 64))
	trains := p.send(raw(carol, host, 64))
	if got := destinations(trains); !slices.Equal(got, []netip.AddrPort{own}) || vnisOf(trains)[0] != 9 {
		t.Errorf("answers go to %v, VNI %v", got, vnisOf(trains))
	}
}

func TestRemoteVNIsAllocateNothing(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Entries = []Entry{{Destination: to(vtepA)}, {Destination: toVNI(vtepB, 7)}, {Destination: toVNI(vtepC, 8)}}
	})
	if err := p.rig.e.SetNexthops(10, 1, []fdb.Remote{{Addr: vtepA}, {Addr: vtepB, VNI: 7}}); err != nil {
		t.Fatal(err)
	}
	p.set(fdb.VerbAdd, alice, fdb.Destination{Nexthops: 1})
	p.rig.wire.quiet = true
	batch := []tap.Frame{{Bytes: raw(broadcast, host, 64)}, {Bytes: packet{dst: alice, src: host, payload: 22}.frame(t)}}
	if n := testing.AllocsPerRun(100, func() { p.tx.carry(p.w, batch) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	in := raw(host, alice, 64)
	trains := []transport.Train{{Buf: encap(10, in), Addr: vtepA}, {Buf: encap(10, in), Addr: vtepB}}
	p.card.quiet = true
	if n := testing.AllocsPerRun(100, func() { p.rig.r.batch(trains, p.rig.now) }); n != 0 {
		t.Errorf("%v allocations on the way in", n)
	}
	if c := p.counters(); c.TxFrames < 400 || c.RxFrames < 200 {
		t.Errorf("counters %+v: not what was to be measured", c)
	}
}

// A MAC behind several VTEPs: its flows are spread, each stays on one.
func TestNexthopGroup(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA))
	p.rig.wire.limits.Flows = 16
	if err := r.e.SetNexthops(10, 5, []fdb.Remote{{Addr: vtepB}, {Addr: netip.AddrPortFrom(vtepC.Addr(), 0), VNI: 7}}); err != nil {
		t.Fatal(err)
	}
	p.set(fdb.VerbAdd, alice, fdb.Destination{Nexthops: 5})
	const flows = 64
	var batch [][]byte
	for range 3 {
		for i := range flows {
			batch = append(batch, packet{dst: alice, src: host, sport: 1000 + uint16(i), payload: 40}.frame(t))
		}
	}
	place := make(map[uint16]netip.AddrPort)
	count := make(map[netip.AddrPort]int)
	for _, tr := range p.send(batch...) {
		want := map[netip.AddrPort]vxlan.VNI{vtepB: 10, vtepC: 7}[tr.Addr]
		for i := range tr.Len() {
			h, f, err := vxlan.Parse(tr.Datagram(i))
			var in vxlan.Inner
			if err != nil || h.VNI != want || in.Parse(f) != nil {
				t.Fatalf("to %v with VNI %v, %v", tr.Addr, h.VNI, err)
			}
			sport := uint16(f[in.L4])<<8 | uint16(f[in.L4+1])
			if was, ok := place[sport]; ok && was != tr.Addr {
				t.Errorf("flow %d goes to %v and to %v", sport, was, tr.Addr)
			}
			place[sport] = tr.Addr
			count[tr.Addr]++
		}
	}
	if len(place) != flows || count[vtepB] < flows || count[vtepC] < flows || count[vtepB]+count[vtepC] != 3*flows {
		t.Errorf("%d flows, frames by VTEP %v", len(place), count)
	}

	// Its VTEPs may speak, also for that MAC; a peer may not for that MAC.
	if !p.speaks(vtepB.Addr(), alice) || !p.speaks(vtepC.Addr(), alice) || !p.speaks(vtepC.Addr(), bob) {
		t.Error("a VTEP of the group is not accepted")
	}
	if p.speaks(vtepA.Addr(), alice) || p.counters().RxDropStaticMAC != 1 {
		t.Error("somebody else speaks for the MAC")
	}
	if got := p.where(alice); got != "invalid AddrPort static" {
		t.Errorf("the entry became %q", got)
	}
	if got := r.e.Nexthops(); len(got) != 1 || got[0].ID != 5 || len(got[0].Remotes) != 2 || got[0].Remotes[1].Port != self.Port() || *got[0].Remotes[1].VNI != 7 {
		t.Errorf("groups: %+v", got)
	}

	// The group shrinks, and goes.
	if err := r.e.SetNexthops(10, 5, []fdb.Remote{{Addr: vtepC}}); err != nil {
		t.Fatal(err)
	}
	if p.speaks(vtepB.Addr(), alice) {
		t.Error("a VTEP that left the group is still accepted")
	}
	if n, err := r.e.DelNexthops(10, 5); n != 1 || err != nil {
		t.Errorf("delete the group: %d entries, %v", n, err)
	}
	if p.speaks(vtepC.Addr(), bob) {
		t.Error("a VTEP of a group that went is still accepted")
	}
	if got := destinations(p.send(batch[0])); !slices.Equal(got, []netip.AddrPort{vtepA}) {
		t.Errorf("afterwards it is flooded to %v", got)
	}
	if _, err := r.e.DelNexthops(10, 5); !errors.Is(err, fdb.ErrNexthops) {
		t.Errorf("delete it again: %v", err)
	}
}

func TestNexthopGroupWithoutLearning(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) { c.DisableLearning = true; c.Peers = []netip.AddrPort{vtepA} })
	if err := p.rig.e.SetNexthops(10, 5, []fdb.Remote{{Addr: vtepB}}); err != nil {
		t.Fatal(err)
	}
	p.set(fdb.VerbAdd, alice, fdb.Destination{Nexthops: 5})
	p.set(fdb.VerbAdd, bob, fdb.Destination{Remote: fdb.Remote{Addr: vtepB}, Kind: fdb.KindDynamic})
	if !p.speaks(vtepB.Addr(), alice) || p.speaks(vtepA.Addr(), alice) {
		t.Error("not exactly the VTEPs of the group speak for the MAC")
	}
	if !p.speaks(vtepA.Addr(), bob) {
		t.Error("a dynamic entry binds its MAC")
	}
}

// Who may speak follows the user's entries.
func TestEntriesAdmitTheirVTEPs(t *testing.T) {
	r := newRig(t)
	p := r.add(10, nil)
	carol := vxlan.MAC{2, 7, 7, 7, 7, 7}
	want := func(what string, may ...netip.AddrPort) {
		t.Helper()
		for _, a := range []netip.AddrPort{vtepA, vtepB, vtepC} {
			if got := p.speaks(a.Addr(), carol); got != slices.Contains(may, a) {
				t.Errorf("%s: %v speaks: %v", what, a, got)
			}
		}
		if err := r.e.DelEntry(10, carol); len(may) > 0 && err != nil {
			t.Error(err)
		}
	}
	want("nothing")
	p.set(fdb.VerbAdd, alice, to(vtepA))
	want("add", vtepA)
	p.set(fdb.VerbReplace, alice, to(vtepB))
	want("replace", vtepB)
	p.set(fdb.VerbAppend, group, to(vtepB))
	p.set(fdb.VerbAppend, group, to(vtepC))
	p.set(fdb.VerbAppend, group, to(vtepC))
	want("append", vtepB, vtepC)
	if err := r.e.DelDestination(10, group, fdb.Remote{Addr: vtepC}); err != nil {
		t.Fatal(err)
	}
	want("delete one of a group", vtepB)
	if err := errors.Join(r.e.DelEntry(10, group), r.e.DelEntry(10, alice)); err != nil {
		t.Fatal(err)
	}
	want("delete")

	p.set(fdb.VerbAdd, alice, to(vtepA))
	p.set(fdb.VerbAdd, bob, fdb.Destination{Remote: fdb.Remote{Addr: vtepB}, Kind: fdb.KindPermanent})
	p.set(fdb.VerbAppend, group, to(vtepC))
	if n, err := r.e.Flush(10, fdb.Filter{Kinds: []fdb.Kind{fdb.KindStatic}}); n != 2 || err != nil {
		t.Errorf("flush: %d, %v", n, err)
	}
	want("flush all but permanent ones", vtepB)
	if n, err := r.e.Flush(10, fdb.Filter{Addr: vtepB.Addr()}); n != 1 || err != nil {
		t.Errorf("flush: %d, %v", n, err)
	}
	want("flush of a VTEP")
	if _, err := r.e.Flush(11, fdb.Filter{}); !errors.Is(err, ErrNoVNI) {
		t.Errorf("flush of another VNI: %v", err)
	}
}

// A dynamic entry admits its VTEP until it is known to have moved or gone.
func TestDynamicEntryAdmitsItsVTEP(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA))
	p.set(fdb.VerbAdd, alice, fdb.Destination{Remote: fdb.Remote{Addr: vtepB}, Kind: fdb.KindDynamic})
	if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepB}) {
		t.Errorf("frames go to %v", got)
	}
	if !p.speaks(vtepB.Addr(), alice) {
		t.Error("its VTEP is not accepted")
	}
	p.o.forgetDynamic()
	if !p.speaks(vtepB.Addr(), alice) {
		t.Error("its VTEP was forgotten")
	}
	if !p.speaks(vtepA.Addr(), alice) {
		t.Error("it does not move")
	}
	if got, want := p.where(alice), vtepA.String()+" dynamic"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
	p.o.forgetDynamic()
	if p.speaks(vtepB.Addr(), alice) {
		t.Error("the VTEP that it left is still accepted")
	}
}

// The zero MAC is the flood list, as in `bridge fdb`.
func TestFloodListByEntries(t *testing.T) {
	r := newRig(t)
	p := r.add(10, nil)
	var zero vxlan.MAC
	try := func(verb fdb.Verb, d fdb.Destination, want error) {
		t.Helper()
		if err := r.e.SetEntry(10, verb, Entry{zero, d}); !errors.Is(err, want) {
			t.Errorf("%v %v: %v, want %v", verb, d, err, want)
		}
	}
	flooded := func(want ...netip.AddrPort) {
		t.Helper()
		if got := destinations(p.send(raw(broadcast, host, 64))); !slices.Equal(got, want) {
			t.Errorf("flooded to %v, want %v", got, want)
		}
	}
	try(fdb.VerbReplace, to(vtepA), fdb.ErrGroup)
	try(fdb.VerbAdd, fdb.Destination{Nexthops: 1}, fdb.ErrGroup)
	try(fdb.VerbAdd, fdb.Destination{Remote: fdb.Remote{Addr: vtepA}, Kind: fdb.KindDynamic}, fdb.ErrDynamic)
	try(fdb.VerbAdd, to(netip.AddrPortFrom(vtepA.Addr(), 0)), nil) // our own port
	try(fdb.VerbAdd, to(vtepB), fdb.ErrExists)
	try(fdb.VerbAppend, to(vtepB), nil)
	try(fdb.VerbAppend, to(vtepB), nil)
	try(fdb.VerbAppend, toVNI(vtepB, 10), nil) // the VNI itself: the same remote
	flooded(vtepA, vtepB)
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	if err := r.e.DelDestination(10, zero, fdb.Remote{Addr: vtepC}); !errors.Is(err, fdb.ErrNotFound) {
		t.Errorf("delete what is not there: %v", err)
	}
	if err := r.e.DelDestination(10, zero, fdb.Remote{Addr: vtepA}); err != nil {
		t.Error(err)
	}
	if p.where(alice) != "" || p.speaks(vtepA.Addr(), alice) {
		t.Error("a VTEP that was taken off the list is still there")
	}
	flooded(vtepB)
	if err := r.e.DelEntry(10, zero); err != nil {
		t.Error(err)
	}
	flooded()
	if err := r.e.DelEntry(10, zero); !errors.Is(err, fdb.ErrNotFound) {
		t.Errorf("delete an empty list: %v", err)
	}
	for _, bad := range []fdb.Remote{{}, {Addr: netip.MustParseAddrPort("239.1.1.1:4789")}, {Addr: vtepA, VNI: 1 << 24}} {
		if r.e.SetEntry(10, fdb.VerbAppend, Entry{zero, fdb.Destination{Remote: bad}}) == nil ||
			r.e.SetEntry(10, fdb.VerbAdd, Entry{alice, fdb.Destination{Remote: bad}}) == nil ||
			r.e.SetNexthops(10, 1, []fdb.Remote{bad}) == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

// A learned entry gives way to a static one of the library, not to SetEntry.
func TestAddOverLearned(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA, vtepB))
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	if err := r.e.SetEntry(10, fdb.VerbAdd, Entry{alice, to(vtepB)}); !errors.Is(err, fdb.ErrExists) {
		t.Errorf("add over a learned entry: %v", err)
	}
	if err := r.e.AddStatic(10, StaticEntry{alice, vtepB}); err != nil {
		t.Error(err)
	}
	if got, want := p.where(alice), vtepB.String()+" static"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

func TestBoundAll(t *testing.T) {
	r := newRig(t)
	c := newCard(t)
	cfg := VNIConfig{VNI: 11, Device: c, MaxEntries: 1, BoundAll: true, Static: []StaticEntry{{alice, vtepA}, {bob, vtepA}}}
	if err := r.e.AddVNI(cfg); !errors.Is(err, fdb.ErrFull) {
		t.Errorf("two static entries in a table of one: %v", err)
	}
	cfg.BoundAll = false
	if err := r.e.AddVNI(cfg); err != nil {
		t.Error(err)
	}
}

// A dynamic entry goes when its station is silent, and its VTEP with it.
func TestDynamicEntryAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(transport.NetworkConfig{})
		a := on(t, n, vtepA)
		a.join(10, alice, func(c *VNIConfig) {
			c.Ageing = 10 * time.Second
			c.Entries = []Entry{{bob, fdb.Destination{Remote: fdb.Remote{Addr: vtepB}, Kind: fdb.KindDynamic}}}
		})
		w, err := a.e.Watch(0)
		if err != nil {
			t.Fatal(err)
		}
		peers := func() int { return len(a.e.Status().VNIs[0].Peers) }
		if !a.knows(bob) || peers() != 1 {
			t.Error("the entry or its VTEP is not there")
		}
		time.Sleep(9 * time.Second)
		if !a.knows(bob) {
			t.Error("it went too early")
		}
		time.Sleep(5 * time.Second)
		if a.knows(bob) || peers() != 0 {
			t.Error("the entry or its VTEP is still there")
		}
		e, err := w.Next(context.Background())
		if err != nil || e.What != "aged" || e.MAC != bob || e.VTEP != vtepB.Addr() || e.Kind != "dynamic" || e.VNI != 10 {
			t.Errorf("event %+v, %v", e, err)
		}
		a.stop()
		if _, err := w.Next(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}
