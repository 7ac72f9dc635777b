package fdb

import "time"

// SetAgeing changes how long learned and dynamic entries live without a frame from their
// MAC: 0 means DefaultAgeing, negative for ever. It holds from the next Age on,
// also for entries that are there already.
func (t *Table) SetAgeing(ageing time.Duration) { t.ageing.Store(ticks(ageing)) }

// Ageing returns the ageing time in use, rounded up to 100 ms; negative when
// entries live for ever.
func (t *Table) Ageing() time.Duration {
	n := t.ageing.Load()
	if n < 0 {
		return -1
	}
	return time.Duration(n) * tick
}

// sweepChunk is how many slots Age looks at before it lets other writers in.
const sweepChunk = 1 << 14

// Age removes the learned and dynamic entries whose MAC has not been heard for longer than
// the ageing time, and returns how many they were; and lets MACs go that were held
// long enough. now is as in Learn. An entry
// is never removed before its time is over, and by a sweep that comes 200 ms
// or more after that for certain.
//
// The table does not sweep itself: call Age every 10 s at least, as the Linux
// kernel does. Lookup uses an entry until then.
func (t *Table) Age(now time.Duration) (removed int) {
	ageing := t.ageing.Load()
	stamp := stampOf(now)
	expired := func(v uint64) bool {
		return v&(static|held) == 0 && age(stamp, uint32(v)) > ageing
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.letGoDue(stamp)
	if ageing < 0 {
		return 0
	}
	return t.sweepInChunks(expired, EventAged, func() {
		// Frames with new source MACs need not wait for the whole table.
		t.mu.Unlock()
		t.mu.Lock()
	})
}

// sweepInChunks is sweepAll with pauses, in which the lock may be let go.
func (t *Table) sweepInChunks(gone func(value uint64) bool, what EventKind, pause func()) (removed int) {
	for from := 0; ; from += sweepChunk {
		slots := t.current.Load().slots
		if from >= len(slots) {
			t.shrink()
			return removed
		}
		removed += t.sweep(from, min(from+sweepChunk, len(slots)), gone, what)
		pause()
		if now := t.current.Load().slots; &now[0] != &slots[0] {
			from = -sweepChunk // rebuilt: what was seen lies elsewhere
		}
	}
}

// FlushScope says what Flush removes.
type FlushScope uint8

const (
	// FlushLearned removes learned entries.
	FlushLearned FlushScope = iota
	// FlushAll removes entries of every kind, groups too. The flood list and
	// the nexthop groups stay.
	FlushAll
	// FlushAgeing removes learned and dynamic entries, as a Linux kernel device
	// does when its link goes down.
	FlushAgeing
	// FlushNonPermanent removes all but permanent entries.
	FlushNonPermanent
)

var scopes = map[FlushScope]Filter{
	FlushLearned:      {Kinds: []Kind{KindLearned}},
	FlushAll:          {},
	FlushAgeing:       {Kinds: []Kind{KindLearned, KindDynamic}},
	FlushNonPermanent: {Kinds: []Kind{KindLearned, KindDynamic, KindStatic}},
}

// Flush removes all entries of a scope and returns how many they were.
func (t *Table) Flush(scope FlushScope) (removed int) { return t.FlushIf(scopes[scope]) }

// FlushIf removes all entries that a filter matches, remotes of group MACs
// among them, and returns how many they were. The flood list and the nexthop
// groups stay.
func (t *Table) FlushIf(f Filter) (removed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	removed = t.flushGroups(f.match)
	return removed + t.sweepAll(func(v uint64) bool {
		e := entryOf(t.current.Load(), occupied, v) // of whatever MAC
		return f.match(&e)
	}, EventDeleted)
}

// DelRemote removes the learned entries that point to a remote, as when a peer
// is taken out, and returns how many they were. Other entries and the flood list
// stay.
func (t *Table) DelRemote(r Remote) int {
	r = r.canonical()
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, m := range t.movers {
		if m.home == r && !m.held {
			delete(t.movers, key) // nothing is to return there
		}
	}
	i, ok := t.interned[r]
	if !ok {
		return 0
	}
	return t.sweepAll(func(v uint64) bool {
		return v&(static|user) == 0 && index(v) == i
	}, EventDeleted)
}

func (t *Table) sweepAll(gone func(value uint64) bool, what EventKind) int {
	n := t.sweep(0, len(t.current.Load().slots), gone, what)
	t.shrink()
	return n
}

// sweep removes the entries in slots from to end for which gone is true.
// Called with mu held.
func (t *Table) sweep(from, end int, gone func(value uint64) bool, what EventKind) (removed int) {
	a := t.current.Load()
	for i := from; i < end; i++ {
		s := &a.slots[i]
		for v := s.value.Load(); v != 0 && gone(v); v = s.value.Load() {
			if t.drop(s, v, what) {
				removed++
			}
		}
	}
	return removed
}
