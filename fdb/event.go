package fdb

import (
	"net/netip"
	"slices"
)

// EventKind says what happened to an entry.
type EventKind uint8

const (
	_ EventKind = iota
	// EventLearned: a frame made a new entry.
	EventLearned
	// EventMoved: a frame from another remote moved an entry.
	EventMoved
	// EventAged: an entry was not heard of for the ageing time.
	EventAged
	// EventAdded: the user made an entry, or added a remote to a list.
	EventAdded
	// EventChanged: the user gave an entry another remote or kind.
	EventChanged
	// EventDeleted: the user removed an entry, or a remote from a list; also
	// what went with a flush or with its nexthop group.
	EventDeleted
	// EventMissed: a frame to a unicast MAC was lost for want of an entry and
	// of a flood list (l2miss). A table cannot tell, its user does.
	EventMissed
	// EventHeld: an entry would have moved too often, and is held (Damping).
	// Was is the remote that it wanted to move to, if it is known.
	EventHeld
	// EventReleased: it may move again.
	EventReleased
)

var eventKinds = [...]string{"", "learned", "moved", "aged", "added", "changed", "deleted", "missed", "held", "released"}

// String returns the name in lower case.
func (k EventKind) String() string {
	if k == 0 || int(k) >= len(eventKinds) {
		return "unknown event"
	}
	return eventKinds[k]
}

// An Event is one change of a table.
type Event struct {
	What EventKind
	// Entry is as it is now, or as it was last when it is gone. Its Age is 0.
	// The all-zero MAC stands for the flood list.
	Entry Entry
	// Was is the remote that an entry led to before it moved or changed; the
	// zero Remote when it led to none.
	Was Remote
}

// Notify has f called for every change from now on; nil ends that. There is one
// f a table.
//
// f is called in the order of the changes with the table's lock held, on the
// goroutine that makes the change, which may be one that carries packets: f
// must return at once and must not call the table.
func (t *Table) Notify(f func(Event)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.notify = f
}

// tell notifies of the entry of key, whose value is v and was old (0: none).
// Called with mu held and t.notify set.
func (t *Table) tell(what EventKind, key, v, old uint64) {
	a := t.current.Load()
	e := Event{What: what, Entry: entryOf(a, key, v)}
	if old != 0 {
		if r := a.remote(old); r != nil {
			e.Was = *r
		}
	}
	t.notify(e)
}

// tellList notifies of one remote of a group MAC or, under the zero MAC, of the
// flood list. Called with mu held.
func (t *Table) tellList(what EventKind, mac MAC, r Remote, k Kind) {
	if t.notify != nil {
		t.notify(Event{What: what, Entry: Entry{MAC: mac, Remote: r, Kind: k}})
	}
}

// A Filter chooses entries. Its zero value matches all of them.
type Filter struct {
	// Kinds of entries. Optional: all of them.
	Kinds []Kind
	// Addr, Port and VNI of the remote. Each optional: any. An entry that
	// points to a nexthop group has no remote of its own.
	Addr netip.Addr
	Port uint16
	VNI  uint32
	// Nexthops is the nexthop group that an entry points to. Optional: any or
	// none.
	Nexthops uint32
}

func (f *Filter) match(e *Entry) bool {
	return (len(f.Kinds) == 0 || slices.Contains(f.Kinds, e.Kind)) &&
		(!f.Addr.IsValid() || f.Addr.Unmap() == e.Remote.Addr.Addr()) &&
		(f.Port == 0 || f.Port == e.Remote.Addr.Port()) &&
		(f.VNI == 0 || f.VNI == e.Remote.VNI) &&
		(f.Nexthops == 0 || f.Nexthops == e.Nexthops)
}
