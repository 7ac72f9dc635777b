package roster

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/internal/neighbour"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

var (
	self  = netip.MustParseAddrPort("192.168.52.203:4789")
	vtep1 = netip.MustParseAddrPort("192.168.52.204:4789")
	vtep2 = netip.MustParseAddrPort("192.168.52.205:4790")
	mac1  = vxlan.MAC{2, 0x42, 10, 0, 1, 0x67}
	mac2  = vxlan.MAC{2, 0x42, 10, 0, 1, 0x68}
	ip1   = netip.MustParseAddr("10.0.1.103")
	ip2   = netip.MustParseAddr("10.0.1.104")
)

const vni = vxlan.VNI(4097)

// said is an announcer that remembers.
type said []string

func (s *said) add(what string, v vxlan.VNI, args ...any) error {
	*s = append(*s, strings.TrimSpace(fmt.Sprintln(append([]any{what, v}, args...)...)))
	return nil
}
func (s *said) AddVNI(v vxlan.VNI) error { return s.add("serve", v) }
func (s *said) DelVNI(v vxlan.VNI) error { return s.add("end", v) }
func (s *said) Announce(v vxlan.VNI, e ...membership.Endpoint) error {
	for _, one := range e {
		if err := s.add("announce", v, one.MAC, one.IPs); err != nil {
			return err
		}
	}
	return nil
}
func (s *said) Withdraw(v vxlan.VNI, macs ...vxlan.MAC) error {
	for _, mac := range macs {
		if err := s.add("withdraw", v, mac); err != nil {
			return err
		}
	}
	return nil
}

// scene is a roster of a real VTEP, told of members by the test.
type scene struct {
	*Roster
	t        *testing.T
	endpoint *vtep.Endpoint
	said     *said
}

func newScene(t *testing.T, peers ...netip.AddrPort) *scene {
	t.Helper()
	conn, err := transport.NewNetwork(transport.NetworkConfig{}).Listen(self)
	if err != nil {
		t.Fatal(err)
	}
	e, err := vtep.New(vtep.Config{Conn: conn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.AddVNI(vtep.VNIConfig{VNI: vni, Device: tap.NewMemory(tap.MemoryConfig{MTU: 1450}), Peers: peers, ARP: vtep.ARPSuppress}); err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, endpoint: e, said: new(said)}
	s.Roster = newRoster(e, s.said, self)
	return s
}

// member is one that serves the VNI with stations.
func member(id string, at netip.AddrPort, stations ...membership.Endpoint) *membership.Member {
	return &membership.Member{ID: id, VTEP: at, VNIs: map[vxlan.VNI][]membership.Endpoint{vni: stations}}
}

// tables wants what is in the tables, as "flood VTEP", "MAC VTEP" and "IP MAC".
func (s *scene) tables(want ...string) {
	s.t.Helper()
	var has []string
	for _, e := range s.endpoint.FDB(vni) {
		where := netip.AddrPortFrom(e.VTEP, e.Port)
		if e.Kind == "flood" {
			has = append(has, fmt.Sprint("flood ", where))
			continue
		}
		has = append(has, fmt.Sprint(e.MAC, " ", where))
	}
	for _, n := range s.endpoint.Neighbours(vni) {
		has = append(has, fmt.Sprint(n.IP, " ", n.MAC))
	}
	slices.Sort(has)
	slices.Sort(want)
	if !slices.Equal(has, want) {
		s.t.Errorf("the tables have\n  %s\nwant\n  %s", strings.Join(has, "\n  "), strings.Join(want, "\n  "))
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFollows(t *testing.T) {
	s := newScene(t)
	early := member("1", vtep1, membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip1}})
	s.changed(membership.Change{Is: early}) // before the VNI is followed
	s.tables()
	check(t, s.AddVNI(vni))
	s.tables("flood 192.168.52.204:4789", "02:42:0a:00:01:67 192.168.52.204:4789", "10.0.1.103 02:42:0a:00:01:67")

	// A station more, and another address of the first.
	now := member("1", vtep1, membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip2}}, membership.Endpoint{MAC: mac2})
	s.changed(membership.Change{Was: early, Is: now})
	s.tables("flood 192.168.52.204:4789", "02:42:0a:00:01:67 192.168.52.204:4789", "02:42:0a:00:01:68 192.168.52.204:4789", "10.0.1.104 02:42:0a:00:01:67")

	// It moves to another member, and the first one's word that it is gone comes late.
	other := member("2", vtep2, membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip2}})
	s.changed(membership.Change{Is: other})
	less := member("1", vtep1)
	s.changed(membership.Change{Was: now, Is: less})
	s.tables("flood 192.168.52.204:4789", "flood 192.168.52.205:4790", "02:42:0a:00:01:67 192.168.52.205:4790", "10.0.1.104 02:42:0a:00:01:67")

	// What the first one repeats is no news.
	again := member("1", vtep1, membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip2}})
	late := newScene(t)
	check(t, late.AddVNI(vni))
	late.changed(membership.Change{Is: again})
	late.changed(membership.Change{Is: other})
	late.changed(membership.Change{Was: again, Is: member("1", vtep1, membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip2}}, membership.Endpoint{MAC: mac2})})
	late.tables("flood 192.168.52.204:4789", "flood 192.168.52.205:4790", "02:42:0a:00:01:67 192.168.52.205:4790", "02:42:0a:00:01:68 192.168.52.204:4789", "10.0.1.104 02:42:0a:00:01:67")

	// It moves here.
	check(t, s.Announce(vni, membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip2}}))
	s.tables("flood 192.168.52.204:4789", "flood 192.168.52.205:4790")
	check(t, s.Announce(vni))
	want := said{"serve 4097", "announce 4097 02:42:0a:00:01:67 [10.0.1.104]", "withdraw 4097 02:42:0a:00:01:67"}
	if !slices.Equal(*s.said, want) {
		t.Errorf("said %q, want %q", *s.said, want)
	}

	s.changed(membership.Change{Was: other})
	s.changed(membership.Change{Was: less})
	s.tables()
}

// TestStartedAnew: who is there before it is noticed that its former start is gone
// loses nothing.
func TestStartedAnew(t *testing.T) {
	s := newScene(t)
	check(t, s.AddVNI(vni))
	station := membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip1}}
	was, is := member("1", vtep1, station), member("2", vtep1, station)
	all := []string{"flood 192.168.52.204:4789", "02:42:0a:00:01:67 192.168.52.204:4789", "10.0.1.103 02:42:0a:00:01:67"}
	s.changed(membership.Change{Is: was})
	s.changed(membership.Change{Is: is})
	s.tables(all...)
	s.changed(membership.Change{Was: was})
	s.tables(all...)
	s.changed(membership.Change{Was: is})
	s.tables()
}

// TestUsersStay: what was there before members came is there when they are gone.
func TestUsersStay(t *testing.T) {
	s := newScene(t, vtep1)
	check(t, s.endpoint.AddStatic(vni, vtep.StaticEntry{MAC: mac1, VTEP: vtep2}))
	check(t, s.endpoint.AddNeighbour(vni, vtep.Neighbour{IP: ip1, MAC: mac2}))
	users := []string{"flood 192.168.52.204:4789", "02:42:0a:00:01:67 192.168.52.205:4790", "10.0.1.103 02:42:0a:00:01:68"}
	s.tables(users...)
	check(t, s.AddVNI(vni))
	m := member("1", vtep1, membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip1, ip2}})
	s.changed(membership.Change{Is: m})
	s.tables(append(users, "10.0.1.104 02:42:0a:00:01:67")...)
	if st := s.State(); len(st) != 1 || len(st[vni].Peers)+len(st[vni].Entries) != 0 {
		t.Errorf("members are said to have what is the user's: %+v", st)
	}
	s.changed(membership.Change{Was: m})
	s.tables(users...)
}

// TestItself: an older start of this very host, or another membership of it, is no
// peer.
func TestItself(t *testing.T) {
	s := newScene(t)
	check(t, s.AddVNI(vni))
	s.changed(membership.Change{Is: member("1", self, membership.Endpoint{MAC: mac1})})
	s.tables()
}

// TestRefresh: what somebody took out of the tables comes back.
func TestRefresh(t *testing.T) {
	s := newScene(t)
	check(t, s.AddVNI(vni))
	s.changed(membership.Change{Is: member("1", vtep1, membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip1}})})
	check(t, s.endpoint.DelPeer(vni, vtep1))
	check(t, s.endpoint.DelEntry(vni, mac1))
	check(t, s.endpoint.DelNeighbour(vni, ip1))
	s.tables()
	s.Refresh(vni)
	defer func() {
		check(t, s.DelVNI(vni))
		s.tables()
	}()
	s.tables("flood 192.168.52.204:4789", "02:42:0a:00:01:67 192.168.52.204:4789", "10.0.1.103 02:42:0a:00:01:67")
}

// TestBefore: a process that goes on for another has the tables of that, until the
// members say something else, or nothing for too long.
func TestBefore(t *testing.T) {
	old := newScene(t, vtep2)
	check(t, old.AddVNI(vni))
	kept := membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip1}}
	gone := membership.Endpoint{MAC: mac2, IPs: []netip.Addr{ip2}}
	old.changed(membership.Change{Is: member("1", vtep1, kept)})
	old.changed(membership.Change{Is: member("2", vtep2, gone)})
	all := []string{
		"flood 192.168.52.204:4789", "flood 192.168.52.205:4790", "02:42:0a:00:01:67 192.168.52.204:4789",
		"02:42:0a:00:01:68 192.168.52.205:4790", "10.0.1.103 02:42:0a:00:01:67", "10.0.1.104 02:42:0a:00:01:68",
	}
	old.tables(all...)
	// As it goes from one process to the other.
	text, err := json.Marshal(old.State())
	check(t, err)
	var state State
	check(t, json.Unmarshal(text, &state))

	s := &scene{t: t, endpoint: old.endpoint, said: new(said)}
	s.Roster = newRoster(old.endpoint, s.said, self)
	forget := s.takeUp(state)
	check(t, s.AddVNI(vni))
	s.tables(all...)
	if again := s.State(); len(again) != 1 || len(again[vni].Peers) != 1 || len(again[vni].Entries) != 2 {
		t.Errorf("what would be left to one more process: %+v, of %+v", again, state)
	}
	s.changed(membership.Change{Is: member("3", vtep1, kept)})
	s.tables(all...)
	forget()
	s.tables("flood 192.168.52.204:4789", "flood 192.168.52.205:4790", "02:42:0a:00:01:67 192.168.52.204:4789", "10.0.1.103 02:42:0a:00:01:67")
}

// TestWithout: an endpoint that has no members any more leaves out what they said.
func TestWithout(t *testing.T) {
	s := newScene(t, vtep2)
	check(t, s.AddVNI(vni))
	s.changed(membership.Change{Is: member("1", vtep1, membership.Endpoint{MAC: mac1, IPs: []netip.Addr{ip1}})})
	entry := func(mac vxlan.MAC, at netip.AddrPort) fdb.Entry {
		return fdb.Entry{MAC: fdb.MAC(mac), Remote: fdb.Remote{Addr: at}, Kind: fdb.KindStatic}
	}
	state := vtep.State{VNIs: []vtep.VNIState{{
		VNI: vni, Flood: []fdb.Remote{{Addr: vtep1}, {Addr: vtep2}}, Entries: []fdb.Entry{entry(mac1, vtep1), entry(mac2, vtep2)},
		Neighbours: []neighbour.Entry{{IP: ip1, MAC: mac1, Static: true}, {IP: ip2, MAC: mac2, Static: true}},
	}}}
	members := s.State()
	members.Without(&state)
	of := state.VNIs[0]
	if len(of.Flood) != 1 || of.Flood[0].Addr != vtep2 || len(of.Entries) != 1 || of.Entries[0].MAC != fdb.MAC(mac2) ||
		len(of.Neighbours) != 1 || of.Neighbours[0].IP != ip2 {
		t.Errorf("left: %+v", of)
	}
}
