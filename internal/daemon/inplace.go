package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// inPlace gathers the steps that make a network what a spec says.
type inPlace struct {
	d     *Daemon
	plan  *plan
	n     *network
	spec  *config.Spec
	peers []netip.AddrPort
	under *underlay
	names []string // of the options that the steps are about
}

func (c *inPlace) step(name string, do, undo func() error) {
	c.plan.place = append(c.plan.place, step{do, undo})
	c.about(name)
}

func (c *inPlace) about(name string) {
	if !slices.Contains(c.names, name) {
		c.names = append(c.names, name)
	}
}

// change plans what makes a network what a spec says, while its frames flow.
func (d *Daemon) change(p *plan, n *network, s *config.Spec, peers []netip.AddrPort, under *underlay) error {
	c := &inPlace{d: d, plan: p, n: n, spec: s, peers: peers, under: under, names: d.differences(n, s)}
	if err := c.device(); err != nil {
		return err
	}
	for _, m := range s.VNIs() {
		c.policy(m)
		if err := c.flood(m.VNI); err != nil {
			return err
		}
		c.entries(m.VNI)
		c.neighbours(m.VNI)
	}
	mtu := slices.Contains(c.names, "mtu")
	p.settle = append(p.settle, func() {
		f := n.follower
		f.fixed, f.bridge = s.Device.MTU != 0, s.Device.Bridge != ""
		if mtu {
			f.set, f.fits = n.device.MTU(), under.overlayMTU
		}
		n.spec, n.peers, n.origin = s, peers, fromStart
		d.enlistAgain(n)
		f.look(under.overlayMTU)
	})
	if len(c.names) == 0 {
		p.done.Same++
		return nil
	}
	p.done.Changed = append(p.done.Changed, control.VNIDifference{VNI: s.VNI, Options: c.names})
	return nil
}

// device plans what changes on the device itself.
func (c *inPlace) device() error {
	was, is := &c.n.spec.Device, &c.spec.Device
	before := c.n.device.MTU()
	mtu := before
	if is.MTU != was.MTU {
		if mtu = is.MTU; mtu == 0 {
			mtu = cmp.Or(c.under.overlayMTU, before)
		}
	}
	setMTU := func() {
		if mtu != before {
			set := func(mtu int) func() error {
				return func() error { return c.d.endpoint.SetMTU(c.spec.VNI, mtu) }
			}
			c.step("mtu", set(mtu), set(before))
		}
	}
	if was, is := c.n.spec.Persist, c.spec.Persist; was != is {
		set := func(yes bool) func() error { return func() error { return c.n.persist(yes) } }
		c.step("persist", set(is), set(was))
	}
	// Below this the kernel takes IPv6 away: first what has none any more.
	small := mtu < leastFollowed
	if !small {
		setMTU()
	}
	if !sameSet(was.Addrs, is.Addrs) || was.Bridge != is.Bridge {
		if err := c.link(was, is); err != nil {
			return err
		}
	}
	if small {
		setMTU()
	}
	return nil
}

// link plans what changes but for the MTU.
func (c *inPlace) link(was, is *tap.Config) error {
	link, ok := c.n.device.(tap.Link)
	if !ok {
		return errors.New("the addresses and the bridge of a device cannot be changed on this system while it runs")
	}
	if !sameSet(was.Addrs, is.Addrs) {
		c.step("addr",
			func() error {
				err := setAddrs(link, was.Addrs, is.Addrs)
				if err != nil {
					if failed := setAddrs(link, is.Addrs, was.Addrs); failed != nil {
						err = fmt.Errorf("%w (and this could not be taken back: %w)", err, failed)
					}
				}
				return err
			},
			func() error { return setAddrs(link, is.Addrs, was.Addrs) })
	}
	if was.Bridge != is.Bridge {
		join := func(bridge string) func() error {
			return func() error {
				superframe := 0
				if bridge == "" {
					superframe = vtep.SuperframeBytes(link.MTU())
				}
				return link.SetBridge(bridge, superframe)
			}
		}
		c.step("bridge", join(is.Bridge), join(was.Bridge))
	}
	return nil
}

// setAddrs gives a device other addresses. With the first address of a subnet the
// kernel takes the others of it away, so that all are added again.
func setAddrs(link tap.Link, was, is []netip.Prefix) error {
	for _, a := range was {
		if !slices.Contains(is, a) {
			if err := link.DelAddr(a); err != nil {
				return err
			}
		}
	}
	for _, a := range is {
		if err := link.AddAddr(a); err != nil {
			return err
		}
	}
	return nil
}

// policy plans what a VNI does with frames.
func (c *inPlace) policy(m config.VLAN) {
	guarded := c.spec.Guard.AntiSpoof == vtep.AntiSpoofIP && slices.Contains(c.names, "addr") // may speak
	if !guarded && !slices.ContainsFunc(c.names, isPolicy) {
		return
	}
	was := vniConfig(c.n.spec, m, c.n.device, nil)
	is := vniConfig(c.spec, m, c.n.device, nil)
	was.Neighbours = nil
	if was.ARP != vtep.ARPFlood && is.ARP == vtep.ARPFlood {
		was.Neighbours = c.d.staticNeighbours(m.VNI) // should it be taken back
	}
	c.plan.place = append(c.plan.place, step{
		func() error { return c.d.endpoint.ChangeVNI(is) },
		func() error { return c.d.endpoint.ChangeVNI(was) },
	})
}

// isPolicy says whether an option is one of vtep.Endpoint.ChangeVNI.
func isPolicy(name string) bool {
	switch name {
	case "peer", "group", "dev", "fdb", "neigh", "addr", "mtu", "bridge":
		return false
	}
	return true
}

// flood plans the flood list: peers and groups.
func (c *inPlace) flood(v vxlan.VNI) error {
	list, err := c.d.endpoint.Flood(v)
	if err != nil {
		return err
	}
	e := c.d.endpoint
	has := func(a netip.AddrPort) bool { return slices.Contains(list, fdb.Remote{Addr: a}) }
	add := func(a netip.AddrPort) func() error { return func() error { return e.AddPeer(v, a) } }
	del := func(a netip.AddrPort) func() error { return func() error { return e.DelPeer(v, a) } }
	for _, a := range c.peers {
		if !has(a) {
			c.step("peer", add(a), del(a))
		}
	}
	for _, a := range c.n.peers {
		if !slices.Contains(c.peers, a) && has(a) {
			c.step("peer", del(a), add(a))
		}
	}
	join := func(g vtep.Group) func() error { return func() error { return e.AddGroup(v, g) } }
	leave := func(g vtep.Group) func() error { return func() error { return e.DelGroup(v, g.Addr) } }
	for _, g := range c.n.spec.Groups {
		if !slices.Contains(c.spec.Groups, g) && has(g.Addr) {
			c.plan.leave = append(c.plan.leave, step{leave(g), join(g)})
			c.about("group")
		}
	}
	for _, g := range c.spec.Groups {
		if !slices.Contains(c.n.spec.Groups, g) || !has(g.Addr) {
			c.step("group", join(g), leave(g))
		}
	}
	return nil
}

// entries plans the static entries.
func (c *inPlace) entries(v vxlan.VNI) {
	if len(c.spec.Entries) == 0 && len(c.n.spec.Entries) == 0 {
		return
	}
	e := c.d.endpoint
	live := make(map[vxlan.MAC][]vtep.Entry)
	for _, entry := range c.d.userEntries(v, true) {
		live[entry.MAC] = append(live[entry.MAC], entry)
	}
	set := func(verb fdb.Verb, entry vtep.Entry) func() error {
		return func() error { return e.SetEntry(v, verb, entry) }
	}
	del := func(entry vtep.Entry) func() error {
		return func() error { return e.DelDestination(v, entry.MAC, entry.Remote) }
	}
	isList := func(mac vxlan.MAC) bool { return mac.IsMulticast() || mac.IsZero() }
	for _, want := range c.spec.Entries {
		has := live[want.MAC]
		switch {
		case slices.Contains(has, want), want.MAC.IsZero() && holds(has, want.Remote):
		case isList(want.MAC):
			undo := del(want)
			if holds(has, want.Remote) { // with another kind, which is that of all
				undo = set(fdb.VerbAppend, has[0])
			}
			c.step("fdb", set(fdb.VerbAppend, want), undo)
		case len(has) > 0:
			c.step("fdb", set(fdb.VerbReplace, want), set(fdb.VerbReplace, has[0]))
		default:
			c.step("fdb", set(fdb.VerbReplace, want), del(want)) // what was learned is learned again
		}
	}
	// A MAC has one remote, a list has several.
	type place struct {
		mac    vxlan.MAC
		remote fdb.Remote
	}
	of := func(entry vtep.Entry) place {
		if isList(entry.MAC) {
			return place{entry.MAC, entry.Remote}
		}
		return place{mac: entry.MAC}
	}
	named := make(map[place]bool, len(c.spec.Entries))
	for _, want := range c.spec.Entries {
		named[of(want)] = true
	}
	for _, had := range c.n.spec.Entries {
		if !named[of(had)] && holds(live[had.MAC], had.Remote) {
			c.step("fdb", del(had), set(fdb.VerbAppend, had))
		}
	}
}

func holds(entries []vtep.Entry, r fdb.Remote) bool {
	return slices.ContainsFunc(entries, func(e vtep.Entry) bool { return e.Remote == r })
}

// neighbours plans the static neighbours. Where the VNI had none, because it
// flooded, it begins with those of the spec.
func (c *inPlace) neighbours(v vxlan.VNI) {
	was, is := &c.n.spec.ARP, &c.spec.ARP
	if was.Mode == vtep.ARPFlood || is.Mode == vtep.ARPFlood {
		return
	}
	e := c.d.endpoint
	live := make(map[netip.Addr]vtep.Neighbour)
	for _, n := range c.d.staticNeighbours(v) {
		live[n.IP] = n
	}
	set := func(n vtep.Neighbour) func() error { return func() error { return e.ReplaceNeighbour(v, n) } }
	del := func(n vtep.Neighbour) func() error { return func() error { return e.DelNeighbour(v, n.IP) } }
	for _, want := range is.Neighbours {
		switch has, ok := live[want.IP]; {
		case !ok:
			c.step("neigh", set(want), del(want))
		case has != want:
			c.step("neigh", set(want), set(has))
		}
	}
	named := make(map[netip.Addr]bool, len(is.Neighbours))
	for _, want := range is.Neighbours {
		named[want.IP] = true
	}
	for _, had := range was.Neighbours {
		if has, ok := live[had.IP]; ok && has == had && !named[had.IP] {
			c.step("neigh", del(had), set(had))
		}
	}
}

// userEntries are the entries of a VNI that somebody set: not those that point to
// nexthop groups, and not the peers, unless all is wanted of the flood list.
func (d *Daemon) userEntries(v vxlan.VNI, flood bool) (entries []vtep.Entry) {
	for _, s := range d.endpoint.FDB(v) {
		kind, ok := fdb.ParseKind(s.Kind)
		if s.Kind == "flood" && flood && !s.VTEP.IsMulticast() {
			kind, ok = fdb.KindStatic, true
		}
		if !ok || kind == fdb.KindLearned || s.Nexthops != 0 {
			continue
		}
		e := vtep.Entry{MAC: s.MAC, Destination: fdb.Destination{Remote: fdb.Remote{Addr: netip.AddrPortFrom(s.VTEP, s.Port)}, Kind: kind}}
		if s.RemoteVNI != nil {
			e.Remote.VNI = uint32(*s.RemoteVNI)
		}
		entries = append(entries, e)
	}
	return entries
}

// staticNeighbours are those that somebody set.
func (d *Daemon) staticNeighbours(v vxlan.VNI) (all []vtep.Neighbour) {
	for _, n := range d.endpoint.Neighbours(v) {
		if n.Kind == "static" {
			all = append(all, vtep.Neighbour{IP: n.IP, MAC: n.MAC, Router: n.Router})
		}
	}
	return all
}
