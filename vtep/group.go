package vtep

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// Group is a multicast group of the underlay: one copy of a flooded frame for
// all its members (RFC 7348 section 4.2).
type Group struct {
	// Addr is the group, and the UDP port to send to. What is received is what
	// others send to the Conn's own port.
	Addr netip.AddrPort
	// Device is the underlay device that the group is joined on and sent by.
	// All VNIs that use a group use it on the same device.
	Device string
}

// MulticastStatus is a multicast group of one VNI.
type MulticastStatus struct {
	Group  netip.Addr `json:"group"`
	Port   uint16     `json:"port"`
	Device string     `json:"device"`
	// Joined says whether this host is a member just now; Error why not.
	Joined bool   `json:"joined"`
	Error  string `json:"error,omitempty"`
	// Joins is how often it became one: once, and again each time that the
	// device came back.
	Joins    uint64 `json:"joins"`
	TxFrames uint64 `json:"tx_frames"`
	TxBytes  uint64 `json:"tx_bytes"`
}

// membership is a group that some VNIs use.
type membership struct {
	addr   netip.Addr
	device string
	group  transport.Group
	users  int       // VNIs, under Endpoint.mu
	served *receiver // by a worker; nil: by a goroutine, or not yet
}

// groupLife is what an Endpoint has of its groups.
type groupLife struct {
	groups map[netip.Addr]*membership // under Endpoint.mu
	tasks  sync.WaitGroup             // receivers that no worker serves
	// changing is held while groups are joined and left, before Endpoint.mu.
	// A worker has to let go of a group before it is left, and it may need
	// Endpoint.mu for that.
	changing sync.Mutex
	ending   []*membership // to be left, under Endpoint.mu
}

// changeGroups has to be called before groups are joined or left, and without
// Endpoint.mu; what it returns afterwards, without it too.
func (e *Endpoint) changeGroups() (changed func()) {
	e.changing.Lock()
	return func() {
		defer e.changing.Unlock()
		e.mu.Lock()
		ending := e.ending
		e.ending = nil
		e.mu.Unlock()
		for _, m := range ending {
			if m.served != nil {
				m.served.worker.remove(m.served)
			}
			if err := m.group.Leave(); err != nil {
				e.log.Warn("leave the multicast group", zap.Stringer("group", m.addr), zap.Error(err))
			}
		}
	}
}

// groupUse is a group as one VNI uses it.
type groupUse struct {
	Group
	m *membership
}

// AddGroup has a VNI flood to a multicast group too, and accept the frames of
// its members. A membership that cannot be had yet, since the device is not
// there or down, is no error: Status shows it, and it is tried again.
func (e *Endpoint) AddGroup(v vxlan.VNI, g Group) error {
	defer e.changeGroups()()
	return e.change(v, "add group", func(o *overlay) error { return e.joinGroup(o, g) })
}

// DelGroup takes a group from a VNI. With the last group of a VNI its members
// are forgotten, and what was learned from them; with the last VNI of a group
// this host leaves it.
func (e *Endpoint) DelGroup(v vxlan.VNI, a netip.AddrPort) error {
	defer e.changeGroups()()
	return e.change(v, "delete group", func(o *overlay) error {
		i := slices.IndexFunc(o.uses(), func(u groupUse) bool { return u.Addr == remote(a).Addr })
		if i < 0 {
			return fmt.Errorf("%v: %w", a, ErrNoGroup)
		}
		e.leaveGroup(o, o.uses()[i])
		return nil
	})
}

// uses are the groups of a VNI.
func (o *overlay) uses() []groupUse {
	if p := o.groups.Load(); p != nil {
		return *p
	}
	return nil
}

func (o *overlay) setUses(uses []groupUse) {
	if len(uses) == 0 {
		o.groups.Store(nil)
		return
	}
	o.groups.Store(&uses)
}

// joinGroup adds a group to a VNI. e.changing and e.mu are held.
func (e *Endpoint) joinGroup(o *overlay, g Group) error {
	r := remote(g.Addr)
	g.Addr = netip.AddrPortFrom(r.Addr.Addr().WithZone(""), r.Addr.Port())
	r.Addr = g.Addr
	switch {
	case !g.Addr.Addr().IsMulticast():
		return fmt.Errorf("%v is no multicast group (224.0.0.0/4, ff00::/8)", g.Addr)
	case g.Addr.Port() == 0:
		return fmt.Errorf("%v: port 0 cannot be sent to", g.Addr)
	case g.Device == "":
		return fmt.Errorf("group %v needs the underlay device to join it on", g.Addr.Addr())
	case slices.ContainsFunc(o.uses(), func(u groupUse) bool { return u.Addr == g.Addr }):
		return fmt.Errorf("%v: %w", g.Addr, ErrGroupExists)
	}
	m, err := e.membership(g)
	if err != nil {
		return err
	}
	m.users++
	o.setUses(append(slices.Clip(o.uses()), groupUse{g, m}))
	o.admit(r, func(p *peer) { p.groups++ })
	o.table.AddFlood(r)
	return nil
}

// membership finds or makes the one of a group.
func (e *Endpoint) membership(g Group) (*membership, error) {
	a := g.Addr.Addr()
	if m := e.groups[a]; m != nil {
		if m.device != g.Device {
			return nil, fmt.Errorf("group %v is in use on %s already: one group, one device", a, m.device)
		}
		return m, nil
	}
	conn, ok := e.conn.(transport.GroupConn)
	if !ok {
		return nil, fmt.Errorf("group %v: this transport has no multicast: %w", a, errors.ErrUnsupported)
	}
	m := &membership{addr: a, device: g.Device}
	tell := func(err error) {
		log := e.log.With(zap.Stringer("group", a), zap.String("device", m.device))
		if err == nil {
			log.Info("member of the multicast group again")
		} else {
			log.Warn("not a member of the multicast group, it is tried again", zap.Error(err))
		}
	}
	var err error
	if m.group, err = conn.Join(a, g.Device, tell); err != nil {
		return nil, err
	}
	if err := m.group.State().Err; err != nil {
		tell(err)
	}
	e.groups[a] = m
	if e.carrying() {
		e.receive(m)
	}
	return m, nil
}

// receive starts the receiver of a group. e.mu is held.
func (e *Endpoint) receive(m *membership) {
	r := &receiver{e: e, conn: m.group, group: m, outlets: make(map[*overlay]*outlet)}
	if _, ok := m.group.(transport.Pollable); ok && len(e.workers) > 0 {
		r.worker = e.workers[len(e.groups)%len(e.workers)]
		if r.worker.add(r) {
			m.served = r
		}
		return // else everything ends
	}
	e.tasks.Go(func() { r.ended(r.run()) })
}

// joinAll adds all groups to a VNI, or none. e.mu is held.
func (e *Endpoint) joinAll(o *overlay, groups []Group) error {
	for _, g := range groups {
		if err := e.joinGroup(o, g); err != nil {
			e.leaveAll(o)
			return err
		}
	}
	return nil
}

// leaveAll takes all groups from a VNI that ends. e.mu is held.
func (e *Endpoint) leaveAll(o *overlay) {
	for _, u := range o.uses() {
		e.leaveGroup(o, u)
	}
}

// leaveGroup takes a group from a VNI. e.mu is held.
func (e *Endpoint) leaveGroup(o *overlay, u groupUse) {
	r := remote(u.Addr)
	o.table.DelFlood(r)
	o.dismiss(r, func(p *peer) { p.groups-- })
	rest := slices.DeleteFunc(slices.Clone(o.uses()), func(v groupUse) bool { return v.Addr == u.Addr })
	o.setUses(rest)
	if len(rest) == 0 {
		o.forget(func(p *peer) *bool { return &p.member })
	}
	if u.m.users--; u.m.users == 0 {
		delete(e.groups, u.m.addr)
		e.ending = append(e.ending, u.m)
	}
}

// owns says whether what was sent to a group came from ourselves.
func (e *Endpoint) owns(m *membership, source netip.Addr) bool {
	return m.group.Locate(source) == transport.Own ||
		slices.ContainsFunc(e.conn.Locals(), func(l netip.AddrPort) bool { return l.Addr() == source })
}

// admitUnlisted lets a VTEP speak that nobody configured: whoever sends to a
// group of the VNI, or by unicast from where the group reaches. The latter is
// how the answer to the first flooded frame comes, from a VTEP that had no
// reason to flood anything itself. nil: it may not.
func (e *Endpoint) admitUnlisted(o *overlay, source netip.Addr, via *membership) *peer {
	p := o.policy.Load()
	allowed := p.guard.admits(source)
	for _, u := range o.uses() {
		if len(p.guard.allow) > 0 && !allowed {
			break
		}
		if u.m == via || via == nil && u.Addr.Addr().Is4() == source.Is4() && u.m.group.Locate(source) == transport.InReach {
			return e.admitStranger(o, source, u.Addr.Port(), func(p *peer) { p.member = true })
		}
	}
	if p.allowUnknown || allowed {
		return e.admitStranger(o, source, 0, func(p *peer) { p.stranger = true })
	}
	return nil
}

// multicastStatus is in the order in which the groups were added.
func (o *overlay) multicastStatus() []MulticastStatus {
	var all []MulticastStatus
	for _, u := range o.uses() {
		state := u.m.group.State()
		s := MulticastStatus{
			Group: u.Addr.Addr(), Port: u.Addr.Port(), Device: u.Device,
			Joined: state.Err == nil, Joins: state.Joins,
		}
		if state.Err != nil {
			s.Error = state.Err.Error()
		}
		if p := o.sender(u.Addr.Addr()); p != nil {
			s.TxFrames, s.TxBytes = p.txFrames.Load(), p.txBytes.Load()
		}
		all = append(all, s)
	}
	return all
}
