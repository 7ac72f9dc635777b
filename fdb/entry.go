package fdb

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
	"time"
)

// Kind says where an entry comes from.
type Kind uint8

const (
	// KindLearned: from the source address of a received frame.
	KindLearned Kind = iota
	// KindStatic: from the user. It does not age, move or count against
	// MaxEntries.
	KindStatic
)

// String returns "learned" or "static".
func (k Kind) String() string {
	if k == KindStatic {
		return "static"
	}
	return "learned"
}

// An Entry is one line of the table as All shows it.
type Entry struct {
	MAC    MAC
	Remote Remote
	Kind   Kind
	// Age is the time since the last frame from MAC, in steps of 100 ms and
	// exact to 100 ms. 0 for a static entry, which has none.
	Age time.Duration
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
			for _, r := range groups[macs[0]] {
				if !yield(Entry{MAC: macs[0], Remote: r, Kind: KindStatic}) {
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
			e := Entry{MAC: macOf(row.key), Remote: *a.remote(row.value)}
			if row.value&static != 0 {
				e.Kind = KindStatic
			} else {
				e.Age = time.Duration(age(stamp, uint32(row.value))) * tick
			}
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
		if a.remote(v) == nil {
			goto again
		}
		rows = append(rows, row{a.slots[i].key.Load(), v})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(order(a.key), order(b.key)) })
	return a, rows
}
