package vtep

import (
	"net/netip"
	"reflect"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/neighbour"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// State is what an endpoint knows beyond its configuration, for Restore. It is
// meant to be sent as JSON: fields are added, and those that are unknown left
// out. Times are how long ago something was, or how long it still holds, in
// nanoseconds.
type State struct {
	// At is Config.Clock when the State was made. Without a Clock of its own the
	// endpoint that restores it knows by that how long ago it was.
	At     time.Duration `json:"at"`
	Uptime time.Duration `json:"uptime"`
	// Counters are by the names of the program's own fields: those of another
	// version that this one does not have are lost.
	Counters map[string]uint64 `json:"counters"`
	Paths    []PathState       `json:"paths,omitempty"`
	VNIs     []VNIState        `json:"vnis"`
}

// PathState is what routers told of the way to a VTEP.
type PathState struct {
	VTEP  netip.Addr    `json:"vtep"`
	MTU   int           `json:"mtu"`
	Holds time.Duration `json:"holds"`
}

// VNIState is one VNI of a State.
type VNIState struct {
	VNI vxlan.VNI         `json:"vni"`
	Rx  map[string]uint64 `json:"rx"`
	Tx  map[string]uint64 `json:"tx"`
	// Flood is the flood list without multicast groups, which are
	// configuration alone.
	Flood      []fdb.Remote       `json:"flood"`
	Nexthops   []fdb.NexthopGroup `json:"nexthops,omitempty"`
	Entries    []fdb.Entry        `json:"entries"`
	Neighbours []neighbour.Entry  `json:"neighbours,omitempty"`
	Peers      []PeerState        `json:"peers"`
	// Groups are the frames by group of the group policy extension.
	Groups []GroupStatus `json:"groups,omitempty"`
}

// PeerState is a VTEP that may speak in a VNI, or a multicast group, which has
// counters only.
type PeerState struct {
	VTEP netip.Addr `json:"vtep"`
	Port uint16     `json:"port"`
	// Member and Stranger: nobody named it.
	Member   bool `json:"member,omitempty"`
	Stranger bool `json:"stranger,omitempty"`
	// Heard is how long ago its last frame came; nil when none did.
	Heard    *time.Duration    `json:"heard,omitempty"`
	Counters map[string]uint64 `json:"counters"`
}

// state collects a State. e.mu is held.
func (e *Endpoint) state() State {
	now := e.now()
	s := State{At: now, Uptime: now - e.started, Counters: counts(&e.counters), Paths: e.paths.state(now)}
	for _, o := range e.sorted() {
		s.VNIs = append(s.VNIs, o.state(now))
	}
	return s
}

func (ps *paths) state(now time.Duration) (list []PathState) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for a, p := range ps.known {
		if mtu := p.mtu.Load(); mtu != p.given {
			list = append(list, PathState{a, int(mtu), time.Duration(p.until.Load()) - now})
		}
	}
	return list
}

func (o *overlay) state(now time.Duration) VNIState {
	p := o.policy.Load()
	v := VNIState{
		VNI: o.vni, Rx: counts(&o.rx), Tx: counts(&o.tx),
		Nexthops: o.table.Nexthops(), Groups: p.header.groups.status(),
	}
	for _, r := range o.table.Flood() {
		if !r.Addr.Addr().IsMulticast() {
			v.Flood = append(v.Flood, r)
		}
	}
	for f := range o.table.All(now) {
		v.Entries = append(v.Entries, f)
	}
	if p.neighbours != nil {
		for n := range p.neighbours.table.All(now) {
			v.Neighbours = append(v.Neighbours, n)
		}
	}
	for a, p := range *o.senders.Load() {
		ps := PeerState{VTEP: a, Port: p.remote.Addr.Port(), Member: p.member, Stranger: p.stranger, Counters: counts(p.peerCounters)}
		delete(ps.Counters, "lastHeard") // a time
		if heard := p.lastHeard.Load(); heard > 0 {
			age := max(now-time.Duration(heard-1), 0)
			ps.Heard = &age
		}
		v.Peers = append(v.Peers, ps)
	}
	return v
}

// Restore takes up what another endpoint knew (HandOver), before Run. What this
// one was configured with stands: an entry of the user's there gives way to one
// for the same MAC here, and VNIs that are not here are left out. Everything else
// is as it was there: peers and entries that the user had added, what was
// learned, with its age, and the counters.
func (e *Endpoint) Restore(s State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// When it was made, in terms of this endpoint's clock.
	now := min(e.now(), max(s.At, 0))
	e.started = now - s.Uptime
	addCounts(&e.counters, s.Counters)
	for i := range s.VNIs {
		if o := e.overlays[s.VNIs[i].VNI]; o != nil {
			o.restore(&s.VNIs[i], now)
		}
	}
	for _, p := range s.Paths {
		e.paths.restore(p, now)
	}
}

func (ps *paths) restore(s PathState, now time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	// Only of VTEPs that somebody still wants to reach.
	if p := ps.known[s.VTEP]; p != nil && s.MTU > 0 && s.Holds > 0 {
		p.until.Store(int64(now + min(s.Holds, pathLife)))
		p.mtu.Store(int32(s.MTU))
	}
}

// restore takes up a VNI. What the table refuses, since this endpoint has other
// limits than the one before, is left out. Endpoint.mu is held.
func (o *overlay) restore(s *VNIState, now time.Duration) {
	policy := o.policy.Load()
	addCounts(&o.rx, s.Rx)
	addCounts(&o.tx, s.Tx)
	for _, g := range s.Groups {
		if policy.header.groups != nil {
			policy.header.groups.set(g.Group, g.RxFrames)
		}
	}
	for _, r := range s.Flood {
		if checkVTEP(r.Addr) == nil {
			o.addFlood(r)
		}
	}
	for _, n := range s.Nexthops {
		if len(o.members(n.ID)) == 0 && o.table.SetNexthops(n.ID, n.Remotes) == nil {
			o.shift(nil, o.members(n.ID))
		}
	}
	for _, f := range s.Entries {
		if f.Kind != fdb.KindLearned {
			_ = o.edit(vxlan.MAC(f.MAC), func() error {
				return o.table.Set(fdb.VerbAppend, f.MAC, fdb.Destination{Remote: f.Remote, Nexthops: f.Nexthops, Kind: f.Kind}, now-f.Age)
			})
		}
	}
	for _, p := range s.Peers {
		o.restorePeer(&p, now)
	}
	// Learned ones come last: only VTEPs that may speak have any.
	o.relearn(func() {
		for _, f := range s.Entries {
			if f.Kind == fdb.KindLearned && policy.learn && o.sender(f.Remote.Addr.Addr()) != nil && f.MAC != fdb.MAC(o.mac) {
				o.table.Learn(f.MAC, f.Remote, now-f.Age)
			}
			if f.Held {
				o.table.Hold(f.MAC, now) // for its full time: how much is left is not told
			}
		}
	})
	if policy.neighbours == nil {
		return
	}
	for _, n := range s.Neighbours {
		if n.Static {
			_ = policy.neighbours.table.Add(n.IP, n.MAC, n.Router)
			continue
		}
		policy.neighbours.table.Note(neighbour.Claim{IP: n.IP, MAC: n.MAC, Router: n.Router, TellsRouter: true}, n.Here, now-n.Age)
	}
}

// restorePeer takes up what a VTEP did so far, if it may still speak.
func (o *overlay) restorePeer(s *PeerState, now time.Duration) {
	p := o.sender(s.VTEP)
	if p == nil {
		r := fdb.Remote{Addr: netip.AddrPortFrom(s.VTEP, s.Port)}
		if checkVTEP(r.Addr) != nil {
			return
		}
		policy := o.policy.Load()
		admits := policy.guard.admits(s.VTEP)
		switch {
		case s.Member && len(o.uses()) > 0 && (admits || len(policy.guard.allow) == 0):
			o.admit(r, func(p *peer) { p.member = true })
		case s.Stranger && (admits || policy.allowUnknown):
			o.admit(r, func(p *peer) { p.stranger = true })
		default:
			return
		}
		p = o.sender(s.VTEP)
	}
	addCounts(p.peerCounters, s.Counters)
	if s.Heard != nil {
		p.lastHeard.Store(max(int64(now-*s.Heard), 0) + 1)
	}
}

// set is what a group had in the endpoint before.
func (c *groupCounts) set(id uint16, frames uint64) {
	if frames > 0 {
		c.add(id)
		c[id>>8].Load()[uint8(id)].Store(frames)
	}
}

// counts reads all counters of a struct of them, by the names of its fields: so
// that one that is new is not forgotten.
func counts(of any) map[string]uint64 {
	m := make(map[string]uint64)
	eachCounter(of, func(name string, c *atomic.Uint64) {
		if n := c.Load(); n != 0 {
			m[name] = n
		}
	})
	return m
}

func addCounts(to any, m map[string]uint64) {
	eachCounter(to, func(name string, c *atomic.Uint64) { c.Add(m[name]) })
}

func eachCounter(of any, f func(name string, c *atomic.Uint64)) {
	v := reflect.ValueOf(of).Elem()
	for i := range v.NumField() {
		if v.Field(i).Type() == reflect.TypeFor[atomic.Uint64]() {
			f(v.Type().Field(i).Name, (*atomic.Uint64)(unsafe.Pointer(v.Field(i).UnsafeAddr())))
		}
	}
}

// settle closes what a Conn inherited and that nobody has asked for.
func (e *Endpoint) settle() {
	if c, ok := e.conn.(transport.Transferable); ok {
		c.Settle()
	}
}
