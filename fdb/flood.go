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
	groups  map[MAC][]Remote // static entries of group MACs; no empty list
	grouped int              // remotes in groups, all counted
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
	return true
}

// Flood returns the remotes that get broadcast, unknown unicast and multicast
// (BUM) frames, in the order of adding. The slice is shared: do not change it.
// It never changes itself; the next call returns another one when the list did.
// Takes no lock and allocates nothing.
func (t *Table) Flood() []Remote { return t.replication.Load().flood }

// Replicas returns the remotes that each get a copy of a frame to mac when
// Lookup found none: those of a static group entry if mac has one, else the
// flood list. The slice is as that of Flood.
func (t *Table) Replicas(mac MAC) []Remote {
	p := t.replication.Load()
	if mac[0]&1 != 0 && len(p.groups) > 0 {
		if remotes, ok := p.groups[mac]; ok {
			return remotes
		}
	}
	return p.flood
}

// replicate sets the remotes of a group MAC. Called with mu held.
func (t *Table) replicate(mac MAC, remotes []Remote) {
	p := *t.replication.Load()
	p.grouped += len(remotes) - len(p.groups[mac])
	groups := maps.Clone(p.groups)
	switch {
	case len(remotes) == 0:
		delete(groups, mac)
	case groups == nil:
		groups = map[MAC][]Remote{mac: remotes}
	default:
		groups[mac] = remotes
	}
	p.groups = groups
	t.replication.Store(&p)
}

// flushGroups removes all group entries. Called with mu held.
func (t *Table) flushGroups() (removed int) {
	p := *t.replication.Load()
	removed, p.grouped, p.groups = p.grouped, 0, nil
	t.replication.Store(&p)
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
