package fdb

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
	"time"
)

// Kind says where an entry comes from, and what becomes of it.
type Kind uint8

const (
	// KindLearned: from the source address of a received frame. It moves with
	// its MAC, ages, and counts against MaxEntries.
	KindLearned Kind = iota
	// KindStatic: from the user. It does not age or move.
	KindStatic
	// KindPermanent: as KindStatic, and kept by FlushNonPermanent.
	KindPermanent
	// KindDynamic: from the user, and ages and moves as a learned one.
	KindDynamic
)

var kinds = [...]string{"learned", "static", "permanent", "dynamic"}

// String returns the name in lower case.
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return "unknown kind"
}

// ParseKind returns the kind of a name as String gives it, false when there is
// none of that name.
func ParseKind(s string) (Kind, bool) {
	i := slices.Index(kinds[:], s)
	return Kind(max(i, 0)), i >= 0
}

// An Entry is one line of the table as All shows it.
type Entry struct {
	MAC    MAC
	Remote Remote
	Kind   Kind
	// Age is the time since the last frame from MAC, in steps of 100 ms and
	// exact to 100 ms. 0 for an entry that does not age.
	Age time.Duration
	// Nexthops is the nexthop group that the entry points to, in which case
	// Remote is the zero Remote; 0 for none.
	Nexthops uint32
	// Held: it moved too often, and does not move or age for now (Damping).
	Held bool
}

// entryOf returns the entry of a key by its value, without its age.
func entryOf(a *array, key, value uint64) Entry {
	e := Entry{MAC: macOf(key), Kind: kindOf(value), Held: value&held != 0}
	if value&ecmp != 0 {
		e.Nexthops = uint32(value)
	} else {
		e.Remote = *a.remote(value)
	}
	return e
}

// age sets Age by the entry's value.
func (e *Entry) age(value uint64, now uint32) {
	if value&static == 0 {
		e.Age = time.Duration(age(now, uint32(value))) * tick
	}
}

// All yields the entries in the order of their MACs, and one entry for each
// remote of a group MAC, in the order of adding. The flood list is not in it.
// now is as in Learn.
//
// What it yields was in the table at some moment while the loop began; entries
// that come or go meanwhile may be in it or not. No lock is held: the loop's
// body may change the table. It takes 16 bytes an entry for as long as it runs.
func (t *Table) All(now time.Duration) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		stamp := stampOf(now)
		a, rows := t.snapshot()
		groups := t.replication.Load().groups
		macs := make([]MAC, 0, len(groups))
		for mac := range groups {
			macs = append(macs, mac)
		}
		slices.SortFunc(macs, func(a, b MAC) int { return bytes.Compare(a[:], b[:]) })

		// Groups and unicast entries are each in order: merge them.
		group := func() bool {
			g := groups[macs[0]]
			for _, r := range g.remotes {
				if !yield(Entry{MAC: macs[0], Remote: r, Kind: g.kind}) {
					return false
				}
			}
			macs = macs[1:]
			return true
		}
		for _, row := range rows {
			for len(macs) > 0 && order(keyOf(macs[0])) < order(row.key) {
				if !group() {
					return
				}
			}
			e := entryOf(a, row.key, row.value)
			e.age(row.value, stamp)
			if !yield(e) {
				return
			}
		}
		for len(macs) > 0 {
			if !group() {
				return
			}
		}
	}
}

type row struct{ key, value uint64 }

// snapshot collects the live slots, sorted, and the array that explains them.
func (t *Table) snapshot() (*array, []row) {
again:
	a := t.current.Load()
	rows := make([]row, 0, t.live())
	for i := range a.slots {
		v := a.slots[i].value.Load()
		if v == 0 {
			continue
		}
		if v&ecmp == 0 && a.remote(v) == nil {
			goto again
		}
		rows = append(rows, row{a.slots[i].key.Load(), v})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(order(a.key), order(b.key)) })
	return a, rows
}
