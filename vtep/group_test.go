package vtep

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

var (
	groupOne = netip.MustParseAddrPort("239.1.1.1:4789")
	groupTwo = netip.MustParseAddrPort("239.1.1.2:4789")
	groupSix = netip.MustParseAddrPort("[ff05::100]:4789")
)

// joins is a setup with these groups.
func joins(groups ...netip.AddrPort) func(*VNIConfig) {
	return func(c *VNIConfig) {
		for _, g := range groups {
			c.Groups = append(c.Groups, Group{Addr: g, Device: "ens160"})
		}
	}
}

// groupWire is a wire that can be in groups. The test says where addresses are.
type groupWire struct {
	*wire
	near   netip.Prefix // what the groups reach
	joined map[netip.Addr]*wireGroup
	err    error // of the next Join
	state  error // of groups joined from now on
}

type wireGroup struct {
	w     *groupWire
	state transport.GroupState
	tell  func(error)
	done  chan struct{}
}

func (w *groupWire) Join(a netip.Addr, device string, tell func(error)) (transport.Group, error) {
	if w.err != nil {
		return nil, w.err
	}
	g := &wireGroup{w: w, tell: tell, state: transport.GroupState{Err: w.state, Joins: 1}, done: make(chan struct{})}
	w.joined[a] = g
	return g, nil
}

func (g *wireGroup) State() transport.GroupState { return g.state }

func (g *wireGroup) Locate(a netip.Addr) transport.Place {
	switch {
	case a == self.Addr():
		return transport.Own
	case g.w.near.Contains(a):
		return transport.InReach
	}
	return transport.Elsewhere
}

func (g *wireGroup) Leave() error {
	for a, have := range g.w.joined {
		if have == g {
			delete(g.w.joined, a)
		}
	}
	close(g.done)
	return nil
}

func (g *wireGroup) Recv([]transport.Train) (int, error) {
	<-g.done
	return 0, net.ErrClosed
}

// newGroupRig is a rig on a groupWire that reaches 192.168.52.0/24.
func newGroupRig(t tester) (*rig, *groupWire) {
	t.Helper()
	r := newRig(t)
	w := &groupWire{wire: r.wire, near: netip.MustParsePrefix("192.168.52.0/24"), joined: make(map[netip.Addr]*wireGroup)}
	r.e.conn = w
	return r, w
}

// byGroup has frames come in that a VTEP sent to a group.
func (p *port) byGroup(group netip.AddrPort, from netip.Addr, frames ...[]byte) [][]byte {
	p.rig.t.Helper()
	p.card.vectorsTaken()
	main := p.rig.r
	p.rig.r = &receiver{e: p.rig.e, group: p.rig.e.groups[group.Addr()], outlets: make(map[*overlay]*outlet)}
	p.arrive(from, frames...)
	p.rig.r = main
	return p.card.frames()
}

// One copy for a group, whoever is in it, beside one for each peer.
func TestGroupGetsOneCopy(t *testing.T) {
	r, w := newGroupRig(t)
	p := r.add(10, func(c *VNIConfig) {
		joins(groupOne, groupSix)(c)
		c.Peers = []netip.AddrPort{vtepA}
	})
	if len(w.joined) != 2 {
		t.Fatalf("%d groups joined", len(w.joined))
	}
	for _, dst := range []vxlan.MAC{broadcast, group, bob} {
		got := destinations(p.send(raw(dst, host, 64), raw(dst, host, 64)))
		if want := []netip.AddrPort{vtepA, groupOne, groupSix}; !slices.Equal(got, want) {
			t.Errorf("to %v: sent to %v, want %v", dst, got, want)
		}
	}
	if c := p.counters(); c.TxFrames != 18 || c.TxFlooded != 18 {
		t.Errorf("counters %+v", c)
	}
	s := r.e.Status().VNIs[0]
	if len(s.Peers) != 1 || s.Peers[0].VTEP != vtepA.Addr() {
		t.Errorf("peers %+v", s.Peers)
	}
	want := []MulticastStatus{
		{Group: groupOne.Addr(), Port: 4789, Device: "ens160", Joined: true, Joins: 1, TxFrames: 6, TxBytes: 6 * 64},
		{Group: groupSix.Addr(), Port: 4789, Device: "ens160", Joined: true, Joins: 1, TxFrames: 6, TxBytes: 6 * 64},
	}
	if !slices.Equal(s.Multicast, want) {
		t.Errorf("groups %+v\nwant %+v", s.Multicast, want)
	}
}

// Whoever sends to a group of the VNI is a member, wherever it is: it may speak,
// is learned from, and is answered by unicast.
func TestGroupMemberMaySpeak(t *testing.T) {
	r, _ := newGroupRig(t)
	p := r.add(10, joins(groupOne))
	far := netip.MustParseAddr("10.9.9.9")
	if got := p.arrived(far, raw(host, alice, 64)); got != nil {
		t.Error("a stranger was heard before it spoke to the group")
	}
	if got := p.byGroup(groupOne, far, raw(broadcast, alice, 64)); len(got) != 1 {
		t.Fatal("a member was not heard")
	}
	if got := p.arrived(far, raw(host, alice, 64)); len(got) != 1 {
		t.Error("a member was not heard by unicast")
	}
	if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{netip.AddrPortFrom(far, 4789)}) {
		t.Errorf("the answer goes to %v", got)
	}
	// It gets what is flooded by the group alone.
	if got := destinations(p.send(raw(broadcast, host, 64))); !slices.Equal(got, []netip.AddrPort{groupOne}) {
		t.Errorf("flooded to %v", got)
	}
	if s := r.e.Status().VNIs[0]; len(s.Peers) != 1 || !s.Peers[0].Member || s.Peers[0].RxFrames != 2 || s.Peers[0].TxFrames != 1 {
		t.Errorf("peers %+v", s.Peers)
	}
	if c := p.counters(); c.RxDropUnknownVTEP != 1 {
		t.Errorf("counters %+v", c)
	}
}

// The answer to the first flooded frame comes by unicast, from a VTEP that has
// sent nothing to the group. It may, from where the group reaches.
func TestGroupReachMayAnswer(t *testing.T) {
	r, _ := newGroupRig(t)
	p := r.add(10, joins(groupOne))
	if got := p.arrived(vtepB.Addr(), raw(host, bob, 64)); len(got) != 1 {
		t.Error("the answer of a neighbour was dropped")
	}
	for _, a := range []string{"192.168.53.9", "fd00::9"} {
		if got := p.arrived(netip.MustParseAddr(a), raw(host, alice, 64)); got != nil {
			t.Errorf("%s was heard", a)
		}
	}
	// Only where there is a group.
	q := r.add(11, peers(vtepA))
	if got := q.arrived(vtepB.Addr(), raw(host, bob, 64)); got != nil {
		t.Error("a VNI without group hears neighbours that are no peers")
	}
}

// A VNI hears members of its own groups, not of those of another VNI; a peer is
// heard whatever it has sent to (D33).
func TestGroupsOfVNIsAreApart(t *testing.T) {
	r, _ := newGroupRig(t)
	far := netip.MustParseAddr("10.9.9.9")
	p := r.add(10, joins(groupOne))
	q := r.add(11, func(c *VNIConfig) {
		joins(groupTwo)(c)
		c.Peers = []netip.AddrPort{netip.AddrPortFrom(far.Next(), 4789)}
	})
	if got := q.byGroup(groupOne, far, raw(broadcast, alice, 64)); got != nil {
		t.Error("heard by the group of another VNI")
	}
	if got := q.byGroup(groupOne, vtepB.Addr(), raw(broadcast, alice, 64)); got != nil {
		t.Error("a neighbour was heard by the group of another VNI")
	}
	if got := q.byGroup(groupOne, far.Next(), raw(broadcast, bob, 64)); len(got) != 1 {
		t.Error("a peer was not heard by a group")
	}
	if got := p.byGroup(groupOne, far, raw(broadcast, alice, 64)); len(got) != 1 {
		t.Error("a member was not heard")
	}
	if c := q.counters(); c.RxDropUnknownVTEP != 2 {
		t.Errorf("counters %+v", c)
	}
}

// What we sent to a group ourselves and came back is dropped, whatever allows
// strangers.
func TestOwnFloodIsDropped(t *testing.T) {
	r, _ := newGroupRig(t)
	p := r.add(10, func(c *VNIConfig) {
		joins(groupOne)(c)
		c.AllowUnknownVTEPs = true
	})
	if got := p.byGroup(groupOne, self.Addr(), raw(broadcast, alice, 64)); got != nil {
		t.Error("our own flood was delivered")
	}
	if got := p.where(alice); got != "" {
		t.Errorf("a station of our own was learned at %s", got)
	}
	if c := p.counters(); c.RxDropOwnAddress != 1 || c.RxDropUnknownVTEP != 0 {
		t.Errorf("counters %+v", c)
	}
	if n := len(r.e.Status().VNIs[0].Peers); n != 0 {
		t.Errorf("%d peers", n)
	}
}

// However many members there are (or are forged), what is remembered of them is
// bounded, and all are served.
func TestMembersAreBounded(t *testing.T) {
	r, _ := newGroupRig(t)
	p := r.add(10, joins(groupOne))
	a := netip.MustParseAddr("10.0.0.0")
	const many = maxStrangers + 10
	for range many {
		p.byGroup(groupOne, a, raw(host, alice, 64))
		a = a.Next()
	}
	if n := len(*p.o.senders.Load()); n > maxStrangers {
		t.Errorf("%d remembered", n)
	}
	if c := p.counters(); c.RxFrames != many {
		t.Errorf("%d of %d frames delivered", c.RxFrames, many)
	}
	// They go with the group, in little time.
	if err := r.e.DelGroup(10, groupOne); err != nil {
		t.Fatal(err)
	}
	if n := len(*p.o.senders.Load()); n != 0 {
		t.Errorf("%d remembered without a group", n)
	}
}

// A group is joined with its first VNI and left with its last; a VNI without
// groups forgets the members and what was learned from them, not its peers.
func TestAddAndDelGroup(t *testing.T) {
	r, w := newGroupRig(t)
	p, _ := r.add(10, peers(vtepA)), r.add(11, joins(groupOne))
	for _, g := range []netip.AddrPort{groupOne, groupTwo} {
		if err := r.e.AddGroup(10, Group{Addr: g, Device: "ens160"}); err != nil {
			t.Fatal(err)
		}
	}
	p.byGroup(groupOne, vtepB.Addr(), raw(broadcast, bob, 64))
	p.byGroup(groupOne, vtepA.Addr(), raw(broadcast, alice, 64))
	if len(w.joined) != 2 || p.where(bob) == "" {
		t.Fatalf("%d joined, bob at %q", len(w.joined), p.where(bob))
	}
	if err := r.e.DelGroup(10, groupOne); err != nil {
		t.Fatal(err)
	}
	if len(w.joined) != 2 {
		t.Error("a group was left that another VNI uses")
	}
	if p.where(bob) == "" {
		t.Error("a member was forgotten while there is a group")
	}
	if err := r.e.DelVNI(11); err != nil {
		t.Fatal(err)
	}
	if w.joined[groupOne.Addr()] != nil || len(w.joined) != 1 {
		t.Error("the group was not left with its last VNI")
	}
	if err := r.e.DelGroup(10, groupTwo); err != nil {
		t.Fatal(err)
	}
	if len(w.joined) != 0 {
		t.Error("a group was not left")
	}
	if p.where(bob) != "" || p.where(alice) == "" {
		t.Errorf("bob at %q, alice at %q; want bob forgotten alone", p.where(bob), p.where(alice))
	}
	if got := destinations(p.send(raw(broadcast, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA}) {
		t.Errorf("flooded to %v", got)
	}
	if s := r.e.Status().VNIs[0]; len(s.Multicast) != 0 || len(s.Peers) != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestGroupRefuses(t *testing.T) {
	r, w := newGroupRig(t)
	r.add(10, joins(groupOne))
	r.add(11, nil)
	for _, tc := range []struct {
		name string
		vni  vxlan.VNI
		g    Group
		want string
	}{
		{"unicast", 10, Group{vtepA, "ens160"}, "no multicast group"},
		{"nothing", 10, Group{Device: "ens160"}, "no multicast group"},
		{"port 0", 10, Group{netip.AddrPortFrom(groupTwo.Addr(), 0), "ens160"}, "port 0"},
		{"no device", 10, Group{Addr: groupTwo}, "needs the underlay device"},
		{"twice", 10, Group{groupOne, "ens160"}, "exists already"},
		{"other device", 11, Group{groupOne, "ens161"}, "one group, one device"},
		{"no VNI", 12, Group{groupTwo, "ens160"}, "no such VNI"},
	} {
		if err := r.e.AddGroup(tc.vni, tc.g); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if err := r.e.DelGroup(10, groupTwo); !errors.Is(err, ErrNoGroup) {
		t.Errorf("delete one that is not there: %v", err)
	}
	// It is on the flood list, but only DelGroup takes it off.
	if err := r.e.DelPeer(10, groupOne); !errors.Is(err, ErrNoPeer) {
		t.Errorf("deleted as a peer: %v", err)
	}
	if err := r.e.DelEntry(10, vxlan.MAC{}); err != nil {
		t.Error(err)
	}
	if s := r.e.Status().VNIs[0]; len(s.Multicast) != 1 || len(w.joined) != 1 || len(r.e.FDB(10)) != 1 {
		t.Errorf("the group went with the flood list: %+v", s)
	}
	if err := r.e.AddPeer(10, groupTwo); err == nil || !strings.Contains(err.Error(), "add it as a group") {
		t.Errorf("as a peer: %v", err)
	}
	// A VNI that cannot have all its groups has none, and is not there.
	w.err = transport.ErrNoFamily
	err := r.e.AddVNI(VNIConfig{VNI: 13, Device: newCard(t), Groups: []Group{{groupOne, "ens160"}, {groupSix, "ens160"}}})
	if !errors.Is(err, transport.ErrNoFamily) {
		t.Errorf("add: %v", err)
	}
	if r.e.groups[groupOne.Addr()].users != 1 || r.e.vnis.load(13) != nil {
		t.Error("something is left of a VNI that could not be added")
	}
	// A transport without multicast.
	s := newRig(t)
	s.add(10, nil)
	if err := s.e.AddGroup(10, Group{groupOne, "ens160"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without multicast: %v", err)
	}
}

// A membership that is lost, or cannot be had yet, is logged once and shown.
func TestLostMembershipIsTold(t *testing.T) {
	r, w := newGroupRig(t)
	core, logged := observer.New(zap.InfoLevel)
	r.e.log = zap.New(core)
	w.state = transport.ErrNoDevice
	r.add(10, joins(groupOne))
	if s := r.e.Status().VNIs[0].Multicast[0]; s.Joined || s.Error != transport.ErrNoDevice.Error() {
		t.Errorf("status %+v", s)
	}
	g := w.joined[groupOne.Addr()]
	g.tell(nil)
	g.tell(transport.ErrDeviceDown)
	want := []string{
		"not a member of the multicast group, it is tried again",
		"member of the multicast group again",
		"not a member of the multicast group, it is tried again",
	}
	var got []string
	for _, l := range logged.All() {
		got = append(got, l.Message)
	}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

// Three endpoints in one group, and a fourth outside: learning, unicast
// thereafter, and a group that is added and deleted while they run.
func TestGroupTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(transport.NetworkConfig{})
		var sites []*site
		var stations []*station
		for i, a := range []netip.AddrPort{self, vtepA, vtepB, vtepC} {
			s := on(t, n, a)
			setup := joins(groupOne)
			if i == 3 {
				setup = joins(groupTwo)
			}
			sites = append(sites, s)
			stations = append(stations, s.join(10, vxlan.MAC{2, 0, 0, 0, 0, byte(i + 1)}, setup))
		}
		synctest.Wait()
		arrived := func(want ...int) {
			t.Helper()
			for i, st := range stations {
				if got := len(st.take()); got != want[i] {
					t.Errorf("station %d got %d frames, want %d", i, got, want[i])
				}
			}
		}
		stations[0].send(t, stations[0].to(broadcast), stations[0].to(broadcast))
		arrived(0, 2, 2, 0)
		stations[1].send(t, stations[1].to(stations[0].mac)) // the answer of one that has flooded nothing
		arrived(1, 0, 0, 0)
		stations[0].send(t, stations[0].to(stations[1].mac))
		arrived(0, 1, 0, 0)
		if c := sites[0].counters(10); c.TxFlooded != 2 || c.TxFrames != 3 {
			t.Errorf("counters %+v", c)
		}
		if err := sites[3].e.AddGroup(10, Group{groupOne, "ens160"}); err != nil {
			t.Fatal(err)
		}
		stations[0].send(t, stations[0].to(broadcast))
		arrived(0, 1, 1, 1)
		if err := sites[2].e.DelGroup(10, groupOne); err != nil {
			t.Fatal(err)
		}
		stations[0].send(t, stations[0].to(broadcast))
		arrived(0, 1, 0, 1)
		for _, s := range sites {
			s.stop()
		}
	})
}

// Frames to and from a group cost no allocation.
func TestGroupAllocatesNothing(t *testing.T) {
	r, _ := newGroupRig(t)
	p := r.add(10, joins(groupOne))
	p.byGroup(groupOne, vtepA.Addr(), raw(broadcast, alice, 64))
	p.card.quiet, r.wire.quiet = true, true
	frame := raw(broadcast, host, 64)
	batch := []tap.Frame{{Bytes: frame}, {Bytes: frame}, {Bytes: frame}}
	if n := testing.AllocsPerRun(100, func() { p.tx.carry(p.w, batch) }); n != 0 {
		t.Errorf("out: %v allocations", n)
	}
	in := &receiver{e: r.e, group: r.e.groups[groupOne.Addr()], outlets: make(map[*overlay]*outlet)}
	trains := []transport.Train{{Buf: encap(10, raw(host, alice, 64)), Addr: vtepA}}
	if n := testing.AllocsPerRun(100, func() { in.batch(trains, r.now) }); n != 0 {
		t.Errorf("in: %v allocations", n)
	}
}
