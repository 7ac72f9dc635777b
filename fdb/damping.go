package fdb

import "time"

// Defaults of Damping, those of RFC 7432 section 15.1, and of the hold, for which
// the RFC waits until somebody steps in.
const (
	DefaultWithin = 180 * time.Second
	DefaultHold   = 180 * time.Second
)

// Damping says when a MAC that keeps moving between remotes is held: two stations
// have one MAC, there is a loop, or somebody takes the other's frames.
//
// A MAC that is to move for the Moves-th time since it moved first, and not later
// than Within after that, is held instead, where it was before it moved first: who
// was there is more likely to be in the right than who came last. For the time of
// Hold its entry does not move or age, and Learn returns Held for frames from
// elsewhere. Then all begins anew.
type Damping struct {
	// Moves is the number of moves that is too many. 0: no MAC is ever held.
	Moves int
	// Within is the time they are counted in. 0 means DefaultWithin.
	Within time.Duration
	// Hold is how long a MAC is held. 0 means DefaultHold.
	Hold time.Duration
}

// mostMovers bounds the MACs whose moves are counted. There are never more of them
// than entries; in tables without a bound, moves of more are not counted.
const mostMovers = 1 << 16

// mover is a MAC that moved lately. Its entry exists.
type mover struct {
	home  Remote // where it was before
	first uint32 // stamp of its first move
	until uint32 // stamp at which it is let go
	moves int
	held  bool // the flag held of the entry's value says the same
}

// SetDamping changes Config.Damping. MACs that are held stay so, unless none is to
// be any more.
func (t *Table) SetDamping(d Damping) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.damping = d
	t.within, t.hold = DefaultWithin/tick, DefaultHold/tick
	if d.Within > 0 {
		t.within = ticks64(d.Within)
	}
	if d.Hold > 0 {
		t.hold = ticks64(d.Hold)
	}
	if d.Moves <= 0 {
		t.letGo(func(*mover) bool { return true })
		clear(t.movers)
	}
}

func ticks64(d time.Duration) time.Duration { return time.Duration(ticks(d)) }

// wanders notes that the MAC of an entry with value v is about to move to a remote,
// and says whether it was held instead. Called with mu held.
func (t *Table) wanders(key, v uint64, to Remote, stamp uint32) bool {
	if t.damping.Moves <= 0 {
		return false
	}
	m := t.movers[key]
	if m == nil {
		if len(t.movers) >= mostMovers {
			return false
		}
		m = new(mover)
		if t.movers == nil {
			t.movers = make(map[uint64]*mover)
		}
		t.movers[key] = m
	}
	is := *t.current.Load().remote(v)
	if m.moves == 0 || age(stamp, m.first) > int64(t.within) {
		*m = mover{home: is, first: stamp}
	}
	if m.moves++; m.moves < t.damping.Moves {
		return false
	}
	t.keep(key, v, m, to, stamp)
	return true
}

// keep begins to hold a MAC at its home. Called with mu held.
func (t *Table) keep(key, v uint64, m *mover, to Remote, stamp uint32) {
	m.held, m.until = true, stamp+uint32(t.hold)
	if t.held++; t.held == 1 || later(t.release.Load(), m.until) {
		t.release.Store(m.until)
	}
	what := EventKind(0)
	if *t.current.Load().remote(v) != m.home {
		what = EventMoved
	}
	t.put(key, m.home, v&user|held, uint32(v), what)
	t.tellHold(EventHeld, key, to)
}

// Hold holds the MAC of an entry where it is, as if it had moved too often, and says
// whether it did: not where there is no Damping, or the entry does not move anyway.
// It is for who takes over what another table held. now is as in Learn.
func (t *Table) Hold(mac MAC, now time.Duration) bool {
	key, stamp := keyOf(mac), stampOf(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	a, v := t.entry(key)
	if t.damping.Moves <= 0 || v == 0 || v&(static|ecmp|held) != 0 || len(t.movers) >= mostMovers {
		return false
	}
	m := &mover{home: *a.remote(v), first: stamp}
	if t.movers == nil {
		t.movers = make(map[uint64]*mover)
	}
	t.movers[key] = m
	t.keep(key, v, m, Remote{}, stamp)
	return true
}

// letGoDue lets MACs go whose time is over, and forgets moves that count no more.
// Called with mu held.
func (t *Table) letGoDue(stamp uint32) {
	if len(t.movers) == 0 {
		return
	}
	t.letGo(func(m *mover) bool { return !later(m.until, stamp) })
	for key, m := range t.movers {
		if !m.held && age(stamp, m.first) > int64(t.within) {
			delete(t.movers, key)
		}
	}
}

// Release lets MACs go that were held long enough, as Age does. It returns how long to
// wait before the next is due, 0 when none is held. now is as in Learn.
func (t *Table) Release(now time.Duration) time.Duration {
	stamp := stampOf(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held > 0 && !later(t.release.Load(), stamp) {
		t.letGoDue(stamp)
	}
	if t.held == 0 {
		return 0
	}
	return time.Duration(max(int32(t.release.Load()-stamp), 1)) * tick
}

// letGo lets MACs go that are held and for which gone is true. Called with mu held.
func (t *Table) letGo(gone func(*mover) bool) {
	next, any := uint32(0), false
	for key, m := range t.movers {
		switch {
		case !m.held:
		case gone(m):
			a, v := t.entry(key)
			t.held--
			delete(t.movers, key)
			t.put(key, *a.remote(v), v&user, uint32(v), 0)
			t.tellHold(EventReleased, key, Remote{})
		case !any || later(next, m.until):
			next, any = m.until, true
		}
	}
	if any {
		t.release.Store(next)
	}
}

// settle forgets the moves of a MAC whose entry the user changes or that goes.
// Called with mu held.
func (t *Table) settle(key uint64) {
	if len(t.movers) == 0 {
		return
	}
	if m := t.movers[key]; m != nil {
		if m.held {
			t.held--
		}
		delete(t.movers, key)
	}
}

// tellHold tells of a MAC that is held, and wanted to move to a remote, or let go.
// Called with mu held.
func (t *Table) tellHold(what EventKind, key uint64, to Remote) {
	if t.notify == nil && t.onHold == nil {
		return
	}
	a, v := t.entry(key)
	e := Event{What: what, Entry: entryOf(a, key, v), Was: to}
	if t.onHold != nil {
		t.onHold(e)
	}
	if t.notify != nil {
		t.notify(e)
	}
}

// Held returns how many MACs are held.
func (t *Table) Held() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}
