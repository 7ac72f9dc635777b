package vtep

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vxlan"
)

// AddPeer adds a VTEP to the flood list of a VNI, and accepts its frames. The
// same address with another port is another peer.
func (e *Endpoint) AddPeer(v vxlan.VNI, a netip.AddrPort) error {
	return e.change(v, "add peer", func(o *overlay) error { return o.addPeer(a) })
}

// DelPeer takes a VTEP off the flood list of a VNI and forgets what was learned
// from it.
func (e *Endpoint) DelPeer(v vxlan.VNI, a netip.AddrPort) error {
	return e.change(v, "delete peer", func(o *overlay) error { return o.delPeer(a) })
}

// Flood returns the flood list of a VNI: its peers, and its groups.
func (e *Endpoint) Flood(v vxlan.VNI) (list []fdb.Remote, err error) {
	return list, e.change(v, "flood list", func(o *overlay) error {
		list = slices.Clone(o.table.Flood())
		return nil
	})
}

// AddStatic binds a MAC to a VTEP, and accepts that VTEP's frames. What was
// learned of the MAC gives way; it returns fdb.ErrExists when the user has set an
// entry for it already. SetEntry can do more.
func (e *Endpoint) AddStatic(v vxlan.VNI, s StaticEntry) error {
	return e.change(v, "add static entry", func(o *overlay) error { return o.addStatic(s) })
}

// DelEntry removes the entry of a MAC, of whatever kind; with the zero MAC, the
// flood list.
func (e *Endpoint) DelEntry(v vxlan.VNI, mac vxlan.MAC) error {
	return e.change(v, "delete entry", func(o *overlay) error { return o.delEntry(mac) })
}

// change calls f with a VNI's overlay under the lock.
func (e *Endpoint) change(v vxlan.VNI, what string, f func(*overlay) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	o := e.overlays[v]
	if o == nil {
		return fmt.Errorf("vtep: %s: VNI %v: %w", what, v, ErrNoVNI)
	}
	if err := f(o); err != nil {
		return fmt.Errorf("vtep: %s: VNI %v: %w", what, v, err)
	}
	return nil
}

func (o *overlay) addPeer(a netip.AddrPort) error {
	r := remote(a)
	if err := checkVTEP(r.Addr); err != nil {
		return err
	}
	if !o.addFlood(r) {
		return fmt.Errorf("%v: %w", a, ErrPeerExists)
	}
	return nil
}

// addFlood adds to the flood list what is not on it yet.
func (o *overlay) addFlood(r fdb.Remote) bool {
	if !o.table.AddFlood(r) {
		return false
	}
	o.admit(r, func(p *peer) {
		if p.floods++; p.floods == 1 {
			p.remote = r // a static entry or a guess had no better port
		}
	})
	return true
}

func (o *overlay) delPeer(a netip.AddrPort) error {
	if !o.delFlood(remote(a)) {
		return fmt.Errorf("%v: %w", a, ErrNoPeer)
	}
	return nil
}

// delFlood takes off the flood list what is on it, and forgets what was learned
// from it.
func (o *overlay) delFlood(r fdb.Remote) bool {
	if r.Addr.Addr().IsMulticast() {
		return false // DelGroup does, and leaves it
	}
	if !o.table.DelFlood(r) {
		return false
	}
	o.dismiss(r, func(p *peer) { p.floods-- })
	// After that, so that nothing more is learned from it.
	o.table.DelRemote(r)
	return true
}

func (o *overlay) addStatic(s StaticEntry) error {
	r := remote(s.VTEP)
	if err := checkVTEP(r.Addr); err != nil {
		return err
	}
	verb := fdb.VerbAdd
	if was := o.table.Get(fdb.MAC(s.MAC), 0); len(was) == 1 && was[0].Kind == fdb.KindLearned {
		verb = fdb.VerbReplace
	}
	return o.edit(s.MAC, func() error {
		return o.table.Set(verb, fdb.MAC(s.MAC), fdb.Destination{Remote: r}, 0)
	})
}

func (o *overlay) delEntry(mac vxlan.MAC) error {
	if mac.IsZero() {
		flood := o.table.Flood()
		if len(flood) == 0 {
			return fmt.Errorf("%v (the flood list): %w", mac, fdb.ErrNotFound)
		}
		for _, r := range flood {
			o.delFlood(r)
		}
		return nil
	}
	return o.edit(mac, func() error { return o.table.Del(fdb.MAC(mac)) })
}

// checkVTEP refuses what cannot be the address of one VTEP.
func checkVTEP(a netip.AddrPort) error {
	switch {
	case !a.Addr().IsValid() || a.Addr().IsUnspecified():
		return fmt.Errorf("%v is not the address of a VTEP", a)
	case a.Addr().IsMulticast():
		return fmt.Errorf("%v is a multicast group, not the address of one VTEP: add it as a group", a)
	case a.Port() == 0:
		return fmt.Errorf("%v: port 0 cannot be sent to", a)
	}
	return nil
}

// admitStranger remembers a VTEP that speaks without being a peer, for a reason.
// port is where answers go, 0 = our own port.
func (e *Endpoint) admitStranger(o *overlay, a netip.Addr, port uint16, why func(*peer)) *peer {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := o.sender(a); p != nil {
		return p
	}
	// The kernel's rule: answers go to our own port, not to the source port
	// of the packet, which only stands for a flow.
	if port == 0 {
		port = e.conn.Locals()[0].Port()
	}
	r := fdb.Remote{Addr: netip.AddrPortFrom(a, port)}
	if len(*o.senders.Load()) >= maxStrangers {
		return &peer{remote: r, peerCounters: new(peerCounters)}
	}
	o.admit(r, why)
	return o.sender(a)
}
