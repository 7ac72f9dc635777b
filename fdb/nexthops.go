package fdb

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// MaxNexthops is how many remotes a nexthop group may have.
const MaxNexthops = 64

// buckets is how many shares a nexthop group divides its flows into. A power of
// two, and enough for the shares of MaxNexthops remotes to differ by little.
const (
	bucketBits = 10
	buckets    = 1 << bucketBits
)

// A NexthopGroup is a list of remotes of which each flow uses one (ECMP).
// Entries point to it by its ID, as those of Linux do by nhid.
type NexthopGroup struct {
	ID      uint32 // from 1 on
	Remotes []Remote
}

// Errors of the methods for nexthop groups.
var (
	// ErrNexthops: there is no nexthop group of this ID.
	ErrNexthops = errors.New("no such nexthop group")
	// ErrNexthopID: 0 is no ID.
	ErrNexthopID = errors.New("a nexthop group's ID is a number from 1 on")
	// ErrNexthopCount: the group has no remote, or more than MaxNexthops.
	ErrNexthopCount = fmt.Errorf("a nexthop group has 1 to %d remotes", MaxNexthops)
)

// nexthops is one group as readers see it. It never changes: writers publish
// another.
type nexthops struct {
	remotes []Remote
	bucket  [buckets]uint8 // index of the remote that carries a share of the flows
}

// of returns the remote that carries a flow.
func (n *nexthops) of(hash uint32) *Remote {
	// The top bits of the flow hash choose the source port: the same ones here
	// would leave each remote only some of the ports. Those of the product
	// depend on all of its bits.
	return &n.remotes[n.bucket[hash*0x9E3779B1>>(32-bucketBits)]]
}

// SetNexthops makes a nexthop group, or gives it other remotes. Entries may
// point to it then (Set); those that do follow the change at once. The flows
// are shared out evenly. As long as a remote stays in the group, a change
// takes no more flows away from it than are needed to be even.
//
// Errors: ErrNexthopID, ErrNexthopCount, ErrRemote.
func (t *Table) SetNexthops(id uint32, remotes []Remote) error {
	list, err := nexthopList(id, remotes)
	if err != nil {
		return fmt.Errorf("fdb: nexthop group %d: %w", id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	groups := maps.Clone(*t.nexthops.Load())
	if groups == nil {
		groups = make(map[uint32]*nexthops, 1)
	}
	groups[id] = shareOut(list, groups[id])
	t.nexthops.Store(&groups)
	return nil
}

// nexthopList checks the remotes of a group and leaves out repetitions.
func nexthopList(id uint32, remotes []Remote) ([]Remote, error) {
	if id == 0 {
		return nil, ErrNexthopID
	}
	var list []Remote
	for _, r := range remotes {
		if !r.Addr.Addr().IsValid() {
			return nil, ErrRemote
		}
		if r = r.canonical(); !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	if len(list) == 0 || len(list) > MaxNexthops {
		return nil, ErrNexthopCount
	}
	return list, nil
}

// shareOut makes a group of remotes that leaves as many buckets as it can to
// those that had them in old, which may be nil.
func shareOut(remotes []Remote, old *nexthops) *nexthops {
	n := &nexthops{remotes: remotes}
	quota := func(i int) int {
		q := buckets / len(remotes)
		if i < buckets%len(remotes) {
			q++
		}
		return q
	}
	have := make([]int, len(remotes))
	var free []int
	for b := range n.bucket {
		i := -1
		if old != nil {
			i = slices.Index(remotes, old.remotes[old.bucket[b]])
		}
		if i < 0 || have[i] >= quota(i) {
			free = append(free, b)
			continue
		}
		n.bucket[b] = uint8(i)
		have[i]++
	}
	// Round and round, so that neighbouring buckets have different remotes.
	i := 0
	for _, b := range free {
		for have[i] >= quota(i) {
			i = (i + 1) % len(remotes)
		}
		n.bucket[b] = uint8(i)
		have[i]++
		i = (i + 1) % len(remotes)
	}
	return n
}

// DelNexthops removes a nexthop group with the entries that point to it, and
// returns how many those were.
//
// Errors: ErrNexthops.
func (t *Table) DelNexthops(id uint32) (removed int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	groups := maps.Clone(*t.nexthops.Load())
	if groups[id] == nil {
		return 0, fmt.Errorf("fdb: delete nexthop group %d: %w", id, ErrNexthops)
	}
	// Before the entries: one that a reader meets without its group is as good
	// as gone.
	delete(groups, id)
	t.nexthops.Store(&groups)
	return t.sweepAll(func(v uint64) bool { return v&ecmp != 0 && uint32(v) == id }, EventDeleted), nil
}

// Nexthops returns the nexthop groups by ID. The lists of remotes are shared: do
// not change them.
func (t *Table) Nexthops() []NexthopGroup {
	var list []NexthopGroup
	for id, n := range *t.nexthops.Load() {
		list = append(list, NexthopGroup{id, n.remotes})
	}
	slices.SortFunc(list, func(a, b NexthopGroup) int { return int(int64(a.ID) - int64(b.ID)) })
	return list
}

// Select is Lookup for one flow: where the entry of mac points to a nexthop
// group, it returns the remote of the group that carries flows of this hash,
// the same one for the same hash. Of the hash, all 32 bits should depend on the
// flow. Takes no lock and allocates nothing.
func (t *Table) Select(mac MAC, hash uint32) (*Remote, bool) {
	key := keyOf(mac)
	h := t.seed.hash(key)
	for {
		a := t.current.Load()
		s := a.find(h, key)
		if s == nil {
			return nil, false
		}
		v := s.value.Load()
		if v == 0 {
			return nil, false
		}
		if r := a.remote(v); r != nil {
			return r, true
		}
		if v&ecmp != 0 {
			n := (*t.nexthops.Load())[uint32(v)]
			if n == nil {
				return nil, false
			}
			return n.of(hash), true
		}
	}
}

// fromNexthop is Learn for an entry that points to a nexthop group.
func (t *Table) fromNexthop(id uint32, from Remote) Outcome {
	if n := (*t.nexthops.Load())[id]; n != nil && slices.Contains(n.remotes, from.canonical()) {
		return Known
	}
	return Static
}
