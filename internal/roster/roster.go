package roster

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// Tables are what is kept; *vtep.Endpoint has them.
type Tables interface {
	AddPeer(vxlan.VNI, netip.AddrPort) error
	DelPeer(vxlan.VNI, netip.AddrPort) error
	AddStatic(vxlan.VNI, vtep.StaticEntry) error
	SetEntry(vxlan.VNI, fdb.Verb, vtep.Entry) error
	DelEntry(vxlan.VNI, vxlan.MAC) error
	AddNeighbour(vxlan.VNI, vtep.Neighbour) error
	ReplaceNeighbour(vxlan.VNI, vtep.Neighbour) error
	DelNeighbour(vxlan.VNI, netip.Addr) error
}

// announcer tells the others; *membership.Membership is one.
type announcer interface {
	AddVNI(vxlan.VNI) error
	DelVNI(vxlan.VNI) error
	Announce(vxlan.VNI, ...membership.Endpoint) error
	Withdraw(vxlan.VNI, ...vxlan.MAC) error
}

// Config says whose tables are kept, and as which member. Handler is not the caller's
// to set. Without a Name the member has the host's.
type Config struct {
	membership.Config
	Tables Tables
	// Before is what the tables have of members already, from the process before.
	// What no member confirms within 15 s is taken out then.
	Before State
}

const (
	// patience is for members of the process before.
	patience = 15 * time.Second
	// goodbye is how long telling the others that this one goes may take.
	goodbye = time.Second / 2
)

// Roster is a membership with the tables that follow it. All methods may be called
// at once.
type Roster struct {
	members *membership.Membership
	log     *zap.Logger
	tables  Tables
	tell    announcer
	self    netip.AddrPort // this VTEP
	before  *time.Timer

	mu   sync.Mutex
	told map[string]*membership.Member // by ID: those that are there
	vnis map[vxlan.VNI]*overlay
}

// here is the owner of a station of this host.
const here = "here"

// overlay is what one VNI has of members.
type overlay struct {
	peers    map[netip.AddrPort]*peer
	stations map[vxlan.MAC]*station
	ips      map[netip.Addr]vxlan.MAC // neighbours that are in the table on our account
}

// peer is a VTEP with the members that are there. These are two for a moment when
// one was started anew.
type peer struct {
	ids  map[string]bool
	ours bool // it was not there before
}

// station is a MAC that a member has, or this host.
type station struct {
	owner string // ID of the member, or here
	ours  bool   // the entry is in the table on our account
	ips   []netip.Addr
}

// Start makes this node a member. It follows no VNI yet, but for keeping what the
// tables have from before until AddVNI is called for it.
func Start(c Config) (*Roster, error) {
	r := newRoster(c.Tables, nil, c.VTEP)
	if c.Log != nil {
		r.log = c.Log
	}
	if c.Name == "" {
		name, _ := os.Hostname()
		c.Name = name[:min(len(name), membership.MaxName)]
	}
	forget := r.takeUp(c.Before)
	c.Handler = r.changed
	r.mu.Lock() // the handler is called at once
	defer r.mu.Unlock()
	m, err := membership.Start(c.Config)
	if err != nil {
		return nil, err
	}
	r.members, r.tell = m, m
	r.before = time.AfterFunc(patience, forget)
	return r, nil
}

func newRoster(t Tables, tell announcer, self netip.AddrPort) *Roster {
	return &Roster{
		log: zap.NewNop(), tables: t, tell: tell, self: self,
		told: make(map[string]*membership.Member), vnis: make(map[vxlan.VNI]*overlay),
	}
}

// Membership is the one that is followed.
func (r *Roster) Membership() *membership.Membership { return r.members }

// Leave ends the membership with a word to the others, which takes half a second at
// most. The tables stay as they are.
func (r *Roster) Leave() error {
	r.before.Stop()
	return r.members.Leave(goodbye)
}

// Close ends the membership without a word: for a process that another goes on for.
func (r *Roster) Close() error {
	r.before.Stop()
	return r.members.Close()
}

// AddVNI follows one more VNI, which the tables have already, and tells the others
// that it is served here.
func (r *Roster) AddVNI(v vxlan.VNI) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.vnis[v] == nil {
		r.follow(v)
	}
	return r.tell.AddVNI(v)
}

// follow begins with a VNI. r.mu is held.
func (r *Roster) follow(v vxlan.VNI) {
	r.vnis[v] = &overlay{peers: make(map[netip.AddrPort]*peer), stations: make(map[vxlan.MAC]*station), ips: make(map[netip.Addr]vxlan.MAC)}
	for _, id := range slices.Sorted(maps.Keys(r.told)) {
		r.apply(v, membership.Change{Is: r.told[id]})
	}
}

// DelVNI ends that, and takes out of the tables what members said.
func (r *Roster) DelVNI(v vxlan.VNI) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.vnis[v] == nil {
		return nil
	}
	for _, m := range r.told {
		r.apply(v, membership.Change{Was: m})
	}
	delete(r.vnis, v)
	return r.tell.DelVNI(v)
}

// Refresh puts into the tables of a VNI what is missing there, after somebody else has
// changed them, or the VNI answers ARP now.
func (r *Roster) Refresh(v vxlan.VNI) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.vnis[v]
	if o == nil {
		return
	}
	for a, p := range o.peers {
		if p.ours {
			r.note(v, "add a peer", r.tables.AddPeer(v, a), vtep.ErrPeerExists)
		}
	}
	for _, m := range r.told {
		for mac, ips := range r.stationsOf(m, v) {
			if s := o.stations[mac]; s != nil && s.owner == m.ID {
				r.gain(v, o, m, mac, ips)
			}
		}
	}
}

// Announce says which stations of a VNI are here: these, and no others any more. What a
// member had of them is this host's now: the newest word wins.
func (r *Roster) Announce(v vxlan.VNI, stations ...membership.Endpoint) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.vnis[v]
	if o == nil {
		return membership.ErrVNI
	}
	stay := make(map[vxlan.MAC]bool, len(stations))
	for _, s := range stations {
		stay[s.MAC] = true
		if had := o.stations[s.MAC]; had == nil || had.owner != here {
			r.withdrawn(v, o, s.MAC)
			o.stations[s.MAC] = &station{owner: here}
		}
		for _, ip := range s.IPs {
			r.forget(v, o, ip)
		}
	}
	var gone []vxlan.MAC
	for mac, s := range o.stations {
		if s.owner == here && !stay[mac] {
			delete(o.stations, mac)
			gone = append(gone, mac)
		}
	}
	if err := r.tell.Withdraw(v, gone...); err != nil {
		return err
	}
	return r.tell.Announce(v, stations...)
}

// changed is told of each change of another member.
func (r *Roster) changed(c membership.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Was != nil {
		delete(r.told, c.Was.ID)
	}
	if c.Is != nil {
		r.told[c.Is.ID] = c.Is
	}
	for v := range r.vnis {
		r.apply(v, c)
	}
}

// apply has a VNI follow a change. r.mu is held.
func (r *Roster) apply(v vxlan.VNI, c membership.Change) {
	if c.Was != nil && c.Is != nil && c.Was.VTEP != c.Is.VTEP {
		r.apply(v, membership.Change{Was: c.Was})
		c.Was = nil
	}
	o := r.vnis[v]
	was, is := r.stationsOf(c.Was, v), r.stationsOf(c.Is, v)
	if is != nil {
		if was == nil {
			r.addPeer(v, o, c.Is)
		}
		for mac, ips := range is {
			// What a member repeats, because something else of it is new, is no newer
			// word than that of another.
			if before, repeated := was[mac]; !repeated || o.stations[mac] == nil || !slices.Equal(before, ips) {
				r.gain(v, o, c.Is, mac, ips)
			}
		}
	}
	if was != nil {
		r.lose(v, o, c.Was, was, is)
	}
}

// stationsOf are those of another member in a VNI; nil: it does not serve it.
func (r *Roster) stationsOf(m *membership.Member, v vxlan.VNI) map[vxlan.MAC][]netip.Addr {
	if m == nil || m.VTEP == r.self {
		return nil
	}
	list, ok := m.VNIs[v]
	if !ok {
		return nil
	}
	stations := make(map[vxlan.MAC][]netip.Addr, len(list))
	for _, s := range list {
		stations[s.MAC] = s.IPs
	}
	return stations
}

// addPeer has a member get what is flooded.
func (r *Roster) addPeer(v vxlan.VNI, o *overlay, m *membership.Member) {
	p := o.peers[m.VTEP]
	if p == nil {
		err := r.tables.AddPeer(v, m.VTEP)
		p = &peer{ids: make(map[string]bool), ours: err == nil}
		o.peers[m.VTEP] = p
		r.note(v, "add a peer", err, vtep.ErrPeerExists)
	}
	p.ids[m.ID] = true
}

// delPeer undoes it, once no member is there any more.
func (r *Roster) delPeer(v vxlan.VNI, o *overlay, m *membership.Member) {
	p := o.peers[m.VTEP]
	if p == nil {
		return
	}
	if delete(p.ids, m.ID); len(p.ids) > 0 {
		return
	}
	delete(o.peers, m.VTEP)
	if p.ours {
		r.note(v, "delete a peer", r.tables.DelPeer(v, m.VTEP), vtep.ErrNoPeer)
	}
}

// gain takes up a station of another member.
func (r *Roster) gain(v vxlan.VNI, o *overlay, m *membership.Member, mac vxlan.MAC, ips []netip.Addr) {
	s := o.stations[mac]
	if s == nil {
		s = new(station)
		o.stations[mac] = s
	}
	s.owner = m.ID
	if s.ours {
		r.note(v, "change an entry", r.tables.SetEntry(v, fdb.VerbReplace, vtep.Entry{
			MAC: mac, Destination: fdb.Destination{Remote: fdb.Remote{Addr: m.VTEP}, Kind: fdb.KindStatic},
		}))
	} else {
		err := r.tables.AddStatic(v, vtep.StaticEntry{MAC: mac, VTEP: m.VTEP})
		s.ours = err == nil
		r.note(v, "add an entry", err, fdb.ErrExists)
	}
	for _, ip := range slices.Clone(s.ips) {
		if !slices.Contains(ips, ip) {
			r.forget(v, o, ip)
		}
	}
	for _, ip := range ips {
		n := vtep.Neighbour{IP: ip, MAC: mac}
		if _, ours := o.ips[ip]; ours {
			o.give(ip, mac)
			r.note(v, "change a neighbour", r.tables.ReplaceNeighbour(v, n), vtep.ErrARPFlood)
			continue
		}
		err := r.tables.AddNeighbour(v, n)
		if err == nil {
			o.give(ip, mac)
		}
		r.note(v, "add a neighbour", err, vtep.ErrARPFlood, vtep.ErrNeighbourExists)
	}
}

// give notes that an address is a station's, and of no other any more.
func (o *overlay) give(ip netip.Addr, mac vxlan.MAC) {
	o.take(ip)
	o.ips[ip] = mac
	o.stations[mac].ips = append(o.stations[mac].ips, ip)
}

// take undoes it, and says whether there was anything to undo.
func (o *overlay) take(ip netip.Addr) bool {
	mac, ok := o.ips[ip]
	if ok {
		s := o.stations[mac]
		s.ips = slices.DeleteFunc(s.ips, func(a netip.Addr) bool { return a == ip })
		delete(o.ips, ip)
	}
	return ok
}

// lose gives up what a member had and has no more.
func (r *Roster) lose(v vxlan.VNI, o *overlay, m *membership.Member, was, is map[vxlan.MAC][]netip.Addr) {
	for mac := range was {
		if _, stays := is[mac]; stays {
			continue
		}
		if s := o.stations[mac]; s != nil && s.owner == m.ID {
			r.withdrawn(v, o, mac)
		}
	}
	if is == nil {
		r.delPeer(v, o, m)
	}
}

// withdrawn removes a station, and what the tables have of it on a member's account.
func (r *Roster) withdrawn(v vxlan.VNI, o *overlay, mac vxlan.MAC) {
	s := o.stations[mac]
	if s == nil {
		return
	}
	if s.ours {
		r.note(v, "delete an entry", r.tables.DelEntry(v, mac), fdb.ErrNotFound)
	}
	for _, ip := range slices.Clone(s.ips) {
		r.forget(v, o, ip)
	}
	delete(o.stations, mac)
}

// forget removes a neighbour.
func (r *Roster) forget(v vxlan.VNI, o *overlay, ip netip.Addr) {
	if o.take(ip) {
		r.note(v, "delete a neighbour", r.tables.DelNeighbour(v, ip), vtep.ErrNoNeighbour, vtep.ErrARPFlood)
	}
}

// note logs what went wrong, if that is not what is to be expected.
func (r *Roster) note(v vxlan.VNI, what string, err error, expected ...error) {
	for _, e := range append(expected, vtep.ErrNoVNI, vtep.ErrClosed) {
		if errors.Is(err, e) {
			return
		}
	}
	if err != nil {
		r.log.Warn("a table does not follow the members", zap.String("what", what), zap.Stringer("vni", v), zap.Error(err))
	}
}
