package roster

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
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

// Config says whose tables are kept, and as which member.
type Config struct {
	membership.Config // but for its Handler
	Tables            Tables
	// Before is what the tables have of members already, from the process before.
	// What no member confirms within Patience is taken out then.
	Before State
	// Patience; 0 = 15 s.
	Patience time.Duration
}

const patience = 15 * time.Second

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
	peers map[netip.AddrPort]*peer
	owner map[vxlan.MAC]string // ID of the member that has it, or here
	ours  map[vxlan.MAC]bool   // entries that are in the table on our account
	ips   map[netip.Addr]vxlan.MAC
}

// peer is a VTEP with the members that are there. These are two for a moment when
// one was started anew.
type peer struct {
	ids  map[string]bool
	ours bool // it was not there before
}

// Start makes this node a member. It follows no VNI yet.
func Start(c Config) (*Roster, error) {
	r := &Roster{log: c.Log, tables: c.Tables, self: c.VTEP, told: make(map[string]*membership.Member), vnis: make(map[vxlan.VNI]*overlay)}
	if r.log == nil {
		r.log = zap.NewNop()
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
	for v := range r.vnis {
		if err := m.AddVNI(v); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	r.before = time.AfterFunc(cmp.Or(c.Patience, patience), forget)
	return r, nil
}

// Members are those that are known of, this node included.
func (r *Roster) Members() []membership.Member { return r.members.Members() }

// Membership is the one that is followed.
func (r *Roster) Membership() *membership.Membership { return r.members }

// Leave ends the membership with a word to the others, which may take as long as
// timeout. The tables stay as they are.
func (r *Roster) Leave(timeout time.Duration) error {
	r.before.Stop()
	return r.members.Leave(timeout)
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
	r.vnis[v] = &overlay{
		peers: make(map[netip.AddrPort]*peer), owner: make(map[vxlan.MAC]string),
		ours: make(map[vxlan.MAC]bool), ips: make(map[netip.Addr]vxlan.MAC),
	}
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
			if o.owner[mac] == m.ID {
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
	var gone []vxlan.MAC
	for mac, owner := range o.owner {
		if owner == here && !slices.ContainsFunc(stations, func(s membership.Endpoint) bool { return s.MAC == mac }) {
			delete(o.owner, mac)
			gone = append(gone, mac)
		}
	}
	for _, s := range stations {
		if o.owner[s.MAC] != here {
			r.withdrawn(v, o, s.MAC)
			o.owner[s.MAC] = here
		}
		for _, ip := range s.IPs {
			r.forget(v, o, ip)
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
			r.gain(v, o, c.Is, mac, ips)
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
	o.owner[mac] = m.ID
	if o.ours[mac] {
		r.note(v, "change an entry", r.tables.SetEntry(v, fdb.VerbReplace, vtep.Entry{
			MAC: mac, Destination: fdb.Destination{Remote: fdb.Remote{Addr: m.VTEP}, Kind: fdb.KindStatic},
		}))
	} else {
		err := r.tables.AddStatic(v, vtep.StaticEntry{MAC: mac, VTEP: m.VTEP})
		o.ours[mac] = err == nil
		r.note(v, "add an entry", err, fdb.ErrExists)
	}
	for ip, of := range o.ips {
		if of == mac && !slices.Contains(ips, ip) {
			r.forget(v, o, ip)
		}
	}
	for _, ip := range ips {
		n := vtep.Neighbour{IP: ip, MAC: mac}
		if _, ours := o.ips[ip]; ours {
			o.ips[ip] = mac
			r.note(v, "change a neighbour", r.tables.ReplaceNeighbour(v, n), vtep.ErrARPFlood)
			continue
		}
		err := r.tables.AddNeighbour(v, n)
		if err == nil {
			o.ips[ip] = mac
		}
		r.note(v, "add a neighbour", err, vtep.ErrARPFlood, vtep.ErrNeighbourExists)
	}
}

// lose gives up what a member had and has no more.
func (r *Roster) lose(v vxlan.VNI, o *overlay, m *membership.Member, was, is map[vxlan.MAC][]netip.Addr) {
	for mac := range was {
		if _, stays := is[mac]; !stays && o.owner[mac] == m.ID {
			delete(o.owner, mac)
			r.withdrawn(v, o, mac)
		}
	}
	if is == nil {
		r.delPeer(v, o, m)
	}
}

// withdrawn removes what the tables have of a MAC on a member's account.
func (r *Roster) withdrawn(v vxlan.VNI, o *overlay, mac vxlan.MAC) {
	if o.ours[mac] {
		r.note(v, "delete an entry", r.tables.DelEntry(v, mac), fdb.ErrNotFound)
	}
	delete(o.ours, mac)
	for ip, of := range o.ips {
		if of == mac {
			r.forget(v, o, ip)
		}
	}
}

// forget removes a neighbour.
func (r *Roster) forget(v vxlan.VNI, o *overlay, ip netip.Addr) {
	if _, ours := o.ips[ip]; ours {
		delete(o.ips, ip)
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
