package fdb

import (
	"fmt"
	"maps"
	"slices"
)

// replication says who gets a copy of a frame that goes to more than one
// remote (head-end replication). It is never changed: writers publish another.
type replication struct {
	flood   []Remote
	groups  map[MAC]groupEntry // entries of group MACs; no empty list
	grouped int                // remotes in groups, all counted
}

// groupEntry is the entry of a group MAC.
type groupEntry struct {
	remotes []Remote
	kind    Kind
}

// AddFlood adds a remote to the end of the flood list, and reports whether it
// did: false when it is there already, with this address, port and VNI. A
// remote without an address is a mistake of the caller and panics.
func (t *Table) AddFlood(r Remote) bool {
	r = r.canonical()
	if !r.Addr.Addr().IsValid() {
		panic(fmt.Sprintf("fdb: add %v to the flood list: %v", r, ErrRemote))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := *t.replication.Load()
	if slices.Contains(p.flood, r) {
		return false
	}
	p.flood = with(p.flood, r)
	t.replication.Store(&p)
	t.tellList(EventAdded, MAC{}, r, KindStatic)
	return true
}

// DelFlood takes a remote off the flood list, and reports whether it was there.
func (t *Table) DelFlood(r Remote) bool {
	r = r.canonical()
	t.mu.Lock()
	defer t.mu.Unlock()
	p := *t.replication.Load()
	rest := without(p.flood, r)
	if len(rest) == len(p.flood) {
		return false
	}
	p.flood = rest
	t.replication.Store(&p)
	t.tellList(EventDeleted, MAC{}, r, KindStatic)
	return true
}

// Flood returns the remotes that get broadcast, unknown unicast and multicast
// (BUM) frames, in the order of adding. The slice is shared: do not change it.
// It never changes itself; the next call returns another one when the list did.
// Takes no lock and allocates nothing.
func (t *Table) Flood() []Remote { return t.replication.Load().flood }

// Replicas returns the remotes that each get a copy of a frame to mac when
// Lookup found none: those of a group entry if mac has one, else the flood
// list. The slice is as that of Flood.
func (t *Table) Replicas(mac MAC) []Remote {
	p := t.replication.Load()
	if mac[0]&1 != 0 && len(p.groups) > 0 {
		if g, ok := p.groups[mac]; ok {
			return g.remotes
		}
	}
	return p.flood
}

// replicate sets the entry of a group MAC. Called with mu held.
func (t *Table) replicate(mac MAC, g groupEntry) {
	p := *t.replication.Load()
	p.grouped += len(g.remotes) - len(p.groups[mac].remotes)
	groups := maps.Clone(p.groups)
	switch {
	case len(g.remotes) == 0:
		delete(groups, mac)
	case groups == nil:
		groups = map[MAC]groupEntry{mac: g}
	default:
		groups[mac] = g
	}
	p.groups = groups
	t.replication.Store(&p)
}

// cut takes the remotes for which gone is true out of the entry g of a group
// MAC, and returns how many they were. Called with mu held.
func (t *Table) cut(mac MAC, g groupEntry, gone func(*Entry) bool) (removed int) {
	rest := make([]Remote, 0, len(g.remotes))
	for _, r := range g.remotes {
		if gone(&Entry{MAC: mac, Remote: r, Kind: g.kind}) {
			t.tellList(EventDeleted, mac, r, g.kind)
			continue
		}
		rest = append(rest, r)
	}
	if removed = len(g.remotes) - len(rest); removed > 0 {
		g.remotes = slices.Clip(rest)
		t.replicate(mac, g)
	}
	return removed
}

// flushGroups takes the remotes for which gone is true out of the entries of
// all group MACs. Called with mu held.
func (t *Table) flushGroups(gone func(*Entry) bool) (removed int) {
	for mac, g := range t.replication.Load().groups {
		removed += t.cut(mac, g, gone)
	}
	return removed
}

// with returns a copy of list with r at its end. The copy has no room behind
// it, so that an append by a reader of a snapshot cannot write into it.
func with(list []Remote, r Remote) []Remote {
	return slices.Clip(append(slices.Clip(list), r))
}

// without returns a copy of list without r.
func without(list []Remote, r Remote) []Remote {
	rest := make([]Remote, 0, len(list))
	for _, have := range list {
		if have != r {
			rest = append(rest, have)
		}
	}
	return slices.Clip(rest)
}
