package fdb

import (
	"encoding/binary"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/internal/rate"
)

// MAC is an Ethernet address. It is an alias, so that any [6]byte type of
// another package can be assigned to it.
type MAC = [6]byte

// Defaults of Config.
const (
	DefaultMaxEntries = 65536
	DefaultAgeing     = 300 * time.Second
)

// tick is the unit of the time stamps in the table.
const tick = 100 * time.Millisecond

// Config has the choices of a table. The zero value gives the defaults.
type Config struct {
	// MaxEntries bounds the learned entries. Optional: 0 means
	// DefaultMaxEntries, negative no bound. What the user sets does not
	// count, unless BoundAll says so.
	MaxEntries int
	// BoundAll makes MaxEntries bound entries of every kind, as maxaddress
	// does in Linux: each MAC with an entry counts once, and so does the flood
	// list when there is one. What would be too much is refused with ErrFull,
	// but the flood list never is.
	BoundAll bool
	// Ageing is how long a learned entry lives without a frame from its
	// MAC. Optional: 0 means DefaultAgeing, negative for ever. It is
	// rounded up to 100 ms and cut at 6.8 years.
	Ageing time.Duration
	// Damping says when a MAC that keeps moving is held. Optional: never.
	Damping Damping
	// OnHold is called when a MAC is held or let go, as the function of Notify
	// is and before it. Optional.
	OnHold func(Event)
}

// A Table is the forwarding database of one VNI. All methods may be called
// from several goroutines at once. Make one with New.
type Table struct {
	// Read with every frame, and written almost never.
	current     atomic.Pointer[array]
	replication atomic.Pointer[replication]
	seed        seed
	ageing      atomic.Int64
	nexthops    atomic.Pointer[map[uint32]*nexthops] // replaced as a whole
	learnRate   atomic.Pointer[rate.Limit]           // of new MACs; nil: none
	release     atomic.Uint32                        // stamp at which the next MAC is let go

	// Keeps what writers change off the cache line that readers need.
	_ [64]byte

	unicast [len(kinds)]atomic.Int64 // entries by kind, written under mu
	learned rate.Bucket

	mu          sync.Mutex // held by everything that changes an entry
	bound       int        // slots of current with a key, live or not
	interned    map[Remote]uint32
	remoteLimit int // interned remotes at which the unused ones are dropped
	notify      func(Event)
	maxEntries  int // negative: no bound
	boundAll    bool

	damping      Damping
	within, hold time.Duration     // of damping, in ticks
	movers       map[uint64]*mover // by key
	held         int               // of movers
	onHold       func(Event)
}

// New returns an empty table.
func New(c Config) *Table {
	t := &Table{seed: newSeed(), onHold: c.OnHold}
	t.SetLimit(c.MaxEntries, c.BoundAll)
	t.SetAgeing(c.Ageing)
	t.SetDamping(c.Damping)
	t.replication.Store(new(replication))
	t.nexthops.Store(new(map[uint32]*nexthops))
	t.reset(newArray(minSlots, 8), make(map[Remote]uint32), 0)
	return t
}

// Lookup returns the remote that frames to mac go to, and false when the table
// has no entry for it: then they go to Replicas(mac). Neither the address of a
// group nor the all-zero MAC is ever found here.
//
// For an entry that points to a nexthop group it returns nil and true: which of
// the remotes it is depends on the flow, and Select tells.
//
// An entry is used until Age removes it, also past its time. Lookup keeps no
// entry alive. It takes no lock and allocates nothing. What the pointer shows
// never changes and must not be changed.
func (t *Table) Lookup(mac MAC) (*Remote, bool) {
	return t.lookup(binary.LittleEndian.Uint32(mac[:]), binary.LittleEndian.Uint16(mac[4:]))
}

// Lookup and Learn are small enough for the compiler to put them into their
// callers, by a hair. An array does not travel in registers, but its two parts
// do: that saves writing the MAC to the stack and waiting to read it again.

// find is written out here, so that a hit runs straight through: [0] of the
// remotes is nil, so that no entry and one of a nexthop group need no look of
// their own on the way.
func (t *Table) lookup(head uint32, tail uint16) (*Remote, bool) {
	key := joinKey(head, tail)
	hash := t.seed.hash(key)
again:
	a := t.current.Load()
	mask := uint64(len(a.slots) - 1)
	for i := hash >> (a.shift & 63); ; i++ {
		s := &a.slots[i&mask]
		k := s.key.Load()
		if k == key {
			v := s.value.Load()
			if r := a.remote(v); r != nil {
				return r, true
			}
			if v == 0 {
				return nil, false
			}
			if v&ecmp != 0 {
				return nil, true
			}
			goto again
		}
		if k == 0 {
			return nil, false
		}
	}
}

// Learn takes note that a frame with source address mac came from a remote, and
// says what to do with the frame. The remote's port should be the one that
// frames back are sent to, as configured, and not the source port of the
// datagram, which is made of a flow hash (RFC 7348 section 5).
//
// now is the time since any origin that is the same for all calls on this
// table; below 0 it counts as 0. Time never goes back: with a now before the
// last one the entry keeps its later stamp.
//
// Where the entry points to a nexthop group, each of its remotes is the right
// one.
//
// For an entry that is known with the same remote, static or held, Learn takes
// no lock and allocates nothing, and writes at most once in 100 ms.
func (t *Table) Learn(mac MAC, from Remote, now time.Duration) Outcome {
	return t.learn(binary.LittleEndian.Uint32(mac[:]), binary.LittleEndian.Uint16(mac[4:]), from, now)
}

func (t *Table) learn(head uint32, tail uint16, from Remote, now time.Duration) Outcome {
	key := joinKey(head, tail)
	if key&groupBit != 0 || key == zeroMAC {
		return Invalid
	}
	stamp := stampOf(now)
	hash := t.seed.hash(key)
	for {
		a := t.current.Load()
		s := a.find(hash, key)
		v := uint64(0)
		if s != nil {
			v = s.value.Load()
		}
		if v == 0 {
			if l := t.learnRate.Load(); l != nil && from.source() && !t.learned.Take(*l, now, 1) {
				return Limited
			}
			break
		}
		r := a.remote(v)
		if r == nil {
			if v&ecmp != 0 {
				return t.fromNexthop(uint32(v), from)
			}
			continue
		}
		if !r.is(&from) {
			if from.Addr.Addr().Is4In6() {
				from = from.canonical()
				continue
			}
			if v&static != 0 {
				return Static
			}
			if v&held != 0 && later(t.release.Load(), stamp) {
				return Held
			}
			break
		}
		if v&static != 0 || !later(stamp, uint32(v)) {
			return Known
		}
		if t.refresh(a, s, v, stamp) {
			return Known
		}
	}
	return t.learnLocked(key, from.canonical(), stamp)
}

// Touch takes note that the station of an entry was heard of at now, as Learn
// does, but makes and moves none: it does nothing where the entry is gone or leads
// elsewhere than to that VTEP. It is for who carries frames past Learn, and tells of them
// later.
func (t *Table) Touch(mac MAC, vtep netip.AddrPort, now time.Duration) {
	key, stamp := keyOf(mac), stampOf(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	a, v := t.entry(key)
	if v == 0 || v&(static|ecmp) != 0 || !later(stamp, uint32(v)) {
		return
	}
	if have := a.remote(v); have != nil && have.Addr == vtep {
		t.put(key, *have, v&(user|held), stamp, 0)
	}
}

// View calls f with the entry of a unicast MAC, if there is one, with the table's
// lock held: it does not change meanwhile. Its Age is 0. f must not call the table.
func (t *Table) View(mac MAC, f func(*Entry)) {
	key := keyOf(mac)
	t.mu.Lock()
	defer t.mu.Unlock()
	if a, v := t.entry(key); v != 0 {
		e := entryOf(a, key, v)
		f(&e)
	}
}

// refresh sets the stamp of a learned entry without the lock, and reports
// whether it is in the table for certain. It is not when a writer changed the
// entry, and may not be when the table was rebuilt: then the stamp may have
// come too late for carryStamps, and the caller looks again.
func (t *Table) refresh(a *array, s *slot, v uint64, stamp uint32) bool {
	return s.value.CompareAndSwap(v, restamp(v, stamp)) && t.current.Load() == a
}

// learnLocked is Learn for what needs the lock: a new entry or a move.
func (t *Table) learnLocked(key uint64, from Remote, stamp uint32) Outcome {
	if !from.source() {
		return Invalid
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a, v := t.entry(key)
	if v&held != 0 {
		t.letGoDue(stamp)
		a, v = t.entry(key)
	}
	switch {
	case v == 0:
		if t.full() {
			return Full
		}
		t.put(key, from, 0, stamp, EventLearned)
		return Added
	case v&ecmp != 0:
		return t.fromNexthop(uint32(v), from)
	case *a.remote(v) == from:
		// Another goroutine was faster.
		if v&static == 0 {
			t.put(key, from, v&(user|held), stamp, 0)
		}
		return Known
	case v&static != 0:
		return Static
	case v&held != 0 || t.wanders(key, v, from, stamp):
		return Held
	}
	t.put(key, from, v&user, stamp, EventMoved)
	return Moved
}

// full reports whether there is no place for another entry, of those that
// MaxEntries bounds. Called with mu held.
func (t *Table) full() bool {
	n := t.unicast[KindLearned].Load()
	if t.boundAll {
		p := t.replication.Load()
		n = int64(t.live() + len(p.groups))
		if len(p.flood) > 0 {
			n++
		}
	}
	return t.maxEntries >= 0 && n >= int64(t.maxEntries)
}

// Len returns how many entries All would yield.
func (t *Table) Len() int {
	return t.live() + t.replication.Load().grouped
}

// Learned returns how many entries are learned.
func (t *Table) Learned() int { return int(t.unicast[KindLearned].Load()) }

// Count returns how many of the entries that All would yield are of a kind.
func (t *Table) Count(k Kind) int {
	n := int(t.unicast[k].Load())
	for _, g := range t.replication.Load().groups {
		if g.kind == k {
			n += len(g.remotes)
		}
	}
	return n
}

// MaxEntries returns Config.MaxEntries as it is in use, negative for no bound.
func (t *Table) MaxEntries() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.maxEntries
}

// SetLearnRate bounds how many new MACs are learned: perSecond in the long run, and
// burst at once. What is too much is told by Limited, without taking the lock of the
// table. 0 a second is no bound.
func (t *Table) SetLearnRate(perSecond, burst int) {
	if perSecond <= 0 {
		t.learnRate.Store(nil)
		return
	}
	l := rate.New(perSecond, burst)
	t.learnRate.Store(&l)
}

// SetLimit changes Config.MaxEntries and Config.BoundAll. Entries that are there
// already stay, should they be too many.
func (t *Table) SetLimit(maxEntries int, boundAll bool) {
	if maxEntries == 0 {
		maxEntries = DefaultMaxEntries
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.maxEntries, t.boundAll = maxEntries, boundAll
}

// stampOf returns now as a time stamp. Stamps wrap after 13.6 years, and are
// compared round the circle, so that nothing happens when they do.
func stampOf(now time.Duration) uint32 { return uint32(max(now, 0) / tick) }

// later reports whether stamp a is after b, for stamps at most 6.8 years apart.
func later(a, b uint32) bool { return int32(a-b) > 0 }

// age returns the ticks from stamp to now, 0 when the stamp lies ahead.
func age(now, stamp uint32) int64 { return int64(max(int32(now-stamp), 0)) }

// ticks converts an ageing time: negative for never, rounded up.
func ticks(ageing time.Duration) int64 {
	switch {
	case ageing < 0:
		return -1
	case ageing == 0:
		ageing = DefaultAgeing
	}
	n := int64(ageing / tick)
	if ageing%tick != 0 {
		n++
	}
	// A stamp can look at most MaxInt32 ticks old.
	return min(n, math.MaxInt32-1)
}
