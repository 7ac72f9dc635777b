package vtep

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vxlan"
)

// Entry is what the user says of a MAC: where frames to it go, and how long that
// holds. The zero MAC stands for the flood list. In an Entry a port of 0 is the
// endpoint's own, and a VNI of 0 that of the overlay.
type Entry struct {
	MAC vxlan.MAC
	fdb.Destination
}

// SetEntry adds, appends or replaces an entry of a VNI as `bridge fdb` does (see
// fdb.Table.Set), and accepts the frames of the VTEP that it names. With the
// zero MAC it adds to the flood list: fdb.VerbAdd if that is empty,
// fdb.VerbAppend always.
func (e *Endpoint) SetEntry(v vxlan.VNI, verb fdb.Verb, entry Entry) error {
	return e.change(v, verb.String()+" entry", func(o *overlay) error {
		return o.setEntry(verb, entry, e.port(), e.now())
	})
}

// DelDestination removes one remote from the entry of a MAC, and the entry with
// its last one; with the zero MAC, one remote from the flood list.
func (e *Endpoint) DelDestination(v vxlan.VNI, mac vxlan.MAC, r fdb.Remote) error {
	return e.change(v, "delete entry", func(o *overlay) error {
		r, err := o.target(r, e.port())
		if err != nil {
			return err
		}
		if mac.IsZero() {
			if !o.delFlood(r) {
				return fmt.Errorf("%v to %v: %w", mac, r, fdb.ErrNotFound)
			}
			return nil
		}
		return o.edit(mac, func() error { return o.table.DelDestination(fdb.MAC(mac), r) })
	})
}

// Flush removes the entries of a VNI that a filter matches, and returns how many
// they were. The flood list and the nexthop groups stay.
func (e *Endpoint) Flush(v vxlan.VNI, f fdb.Filter) (removed int, err error) {
	return removed, e.change(v, "flush", func(o *overlay) error {
		before := o.targets()
		removed = o.table.FlushIf(f)
		o.forgetDynamic()
		o.shift(before, o.targets())
		return nil
	})
}

// SetNexthops makes a nexthop group of a VNI, or gives it other remotes, and
// accepts their frames. Entries that point to it send each flow to one of them.
func (e *Endpoint) SetNexthops(v vxlan.VNI, id uint32, remotes []fdb.Remote) error {
	return e.change(v, "set nexthop group", func(o *overlay) error {
		list := make([]fdb.Remote, len(remotes))
		for i, r := range remotes {
			var err error
			if list[i], err = o.target(r, e.port()); err != nil {
				return err
			}
		}
		before := o.members(id)
		if err := o.table.SetNexthops(id, list); err != nil {
			return err
		}
		o.shift(before, o.members(id))
		return nil
	})
}

// DelNexthops removes a nexthop group of a VNI with the entries that point to
// it, and returns how many those were.
func (e *Endpoint) DelNexthops(v vxlan.VNI, id uint32) (removed int, err error) {
	return removed, e.change(v, "delete nexthop group", func(o *overlay) error {
		before := o.members(id)
		removed, err = o.table.DelNexthops(id)
		if err == nil {
			o.shift(before, nil)
		}
		return err
	})
}

// port is where VTEPs that are named without a port are thought to listen.
func (e *Endpoint) port() uint16 { return e.conn.Locals()[0].Port() }

// target checks a remote that the user named, and completes it.
func (o *overlay) target(r fdb.Remote, port uint16) (fdb.Remote, error) {
	if r.Addr.Port() == 0 {
		r.Addr = netip.AddrPortFrom(r.Addr.Addr(), port)
	}
	r.Addr = remote(r.Addr).Addr
	if err := checkVTEP(r.Addr); err != nil {
		return r, err
	}
	if !vxlan.VNI(r.VNI).Valid() {
		return r, fmt.Errorf("%v: %w", r, vxlan.ErrVNI)
	}
	if vxlan.VNI(r.VNI) == o.vni {
		r.VNI = 0 // the same remote, however it is written
	}
	return r, nil
}

func (o *overlay) setEntry(verb fdb.Verb, entry Entry, port uint16, now time.Duration) (err error) {
	d := entry.Destination
	if d.Nexthops == 0 {
		if d.Remote, err = o.target(d.Remote, port); err != nil {
			return err
		}
	}
	if entry.MAC.IsZero() {
		return o.setFlood(verb, d)
	}
	return o.edit(entry.MAC, func() error { return o.table.Set(verb, fdb.MAC(entry.MAC), d, now) })
}

// setFlood is setEntry for the flood list.
func (o *overlay) setFlood(verb fdb.Verb, d fdb.Destination) error {
	var err error
	switch {
	case verb == fdb.VerbReplace, d.Nexthops != 0:
		err = fdb.ErrGroup
	case d.Kind == fdb.KindDynamic:
		err = fdb.ErrDynamic
	case verb == fdb.VerbAdd && len(o.table.Flood()) > 0:
		err = fdb.ErrExists
	default:
		o.addFlood(d.Remote) // once more is no error
		return nil
	}
	return fmt.Errorf("%v (the flood list) to %v: %w", vxlan.MAC{}, d, err)
}

// edit calls change, which changes the entry of one MAC and nothing else, and
// accepts frames from where it leads afterwards, and no longer from where it
// led before. Endpoint.mu is held.
func (o *overlay) edit(mac vxlan.MAC, change func() error) error {
	before := o.targetsOf(mac)
	if err := change(); err != nil {
		return err
	}
	delete(o.dynamic, mac)
	for _, e := range o.table.Get(fdb.MAC(mac), 0) {
		if e.Kind == fdb.KindDynamic {
			if o.dynamic == nil {
				o.dynamic = make(map[vxlan.MAC]fdb.Remote)
			}
			o.dynamic[mac] = e.Remote
		}
	}
	o.shift(before, o.targetsOf(mac))
	o.accel.again(o, mac)
	return nil
}

// targetsOf are the remotes whose frames are accepted for what the user said of
// a MAC. A dynamic entry may move or go by itself: what it named counts until
// forgetDynamic.
func (o *overlay) targetsOf(mac vxlan.MAC) (targets []fdb.Remote) {
	if r, ok := o.dynamic[mac]; ok {
		return []fdb.Remote{r}
	}
	for _, e := range o.table.Get(fdb.MAC(mac), 0) {
		if named(&e) {
			targets = append(targets, e.Remote)
		}
	}
	return targets
}

// targets are those of all MACs.
func (o *overlay) targets() (targets []fdb.Remote) {
	for e := range o.table.All(0) {
		if named(&e) {
			targets = append(targets, e.Remote)
		}
	}
	for _, r := range o.dynamic {
		targets = append(targets, r)
	}
	return targets
}

// named says whether an entry that does not change by itself has a remote of
// its own.
func named(e *fdb.Entry) bool {
	return e.Nexthops == 0 && (e.Kind == fdb.KindStatic || e.Kind == fdb.KindPermanent)
}

// members are the remotes of a nexthop group.
func (o *overlay) members(id uint32) []fdb.Remote {
	groups := o.table.Nexthops()
	if i := slices.IndexFunc(groups, func(g fdb.NexthopGroup) bool { return g.ID == id }); i >= 0 {
		return groups[i].Remotes
	}
	return nil
}

// shift notes that the user's entries named some remotes before, and others
// now; one that is named twice counts twice.
func (o *overlay) shift(before, after []fdb.Remote) {
	change := make(map[fdb.Remote]int)
	for _, r := range after {
		change[r]++
	}
	for _, r := range before {
		change[r]--
	}
	// Those that come first: a VTEP that is named with another port remains.
	for r, n := range change {
		if n > 0 {
			o.admit(r, func(p *peer) { p.statics += n })
		}
	}
	for r, n := range change {
		if n < 0 {
			o.dismiss(r, func(p *peer) { p.statics += n })
		}
	}
}

// forgetDynamic gives up the remotes of dynamic entries that have moved or gone.
// Endpoint.mu is held.
func (o *overlay) forgetDynamic() {
	var gone []fdb.Remote
	for mac, r := range o.dynamic {
		list := o.table.Get(fdb.MAC(mac), 0)
		if len(list) != 1 || list[0].Kind != fdb.KindDynamic || list[0].Remote != r {
			gone = append(gone, r)
			delete(o.dynamic, mac)
		}
	}
	o.shift(gone, nil)
}

// NexthopStatus is a nexthop group of a VNI.
type NexthopStatus struct {
	VNI     vxlan.VNI      `json:"vni"`
	ID      uint32         `json:"id"`
	Remotes []RemoteStatus `json:"remotes"`
}

// RemoteStatus is a remote as the user may have named it.
type RemoteStatus struct {
	VTEP netip.Addr `json:"vtep"`
	Port uint16     `json:"port"`
	// VNI is the one that it gets frames with; nil: that of the overlay.
	VNI *vxlan.VNI `json:"remote_vni,omitempty"`
}

func remoteStatus(r fdb.Remote) RemoteStatus {
	s := RemoteStatus{VTEP: r.Addr.Addr(), Port: r.Addr.Port()}
	if v := vxlan.VNI(r.VNI); v != 0 {
		s.VNI = &v
	}
	return s
}

// Nexthops returns the nexthop groups of all VNIs, or of some.
func (e *Endpoint) Nexthops(only ...vxlan.VNI) []NexthopStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := []NexthopStatus{}
	for _, o := range e.sorted() {
		if len(only) > 0 && !slices.Contains(only, o.vni) {
			continue
		}
		for _, g := range o.table.Nexthops() {
			s := NexthopStatus{VNI: o.vni, ID: g.ID}
			for _, r := range g.Remotes {
				s.Remotes = append(s.Remotes, remoteStatus(r))
			}
			list = append(list, s)
		}
	}
	return list
}
