package fdb

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Errors of the methods that change entries. Each comes wrapped with the MAC
// and the remote in question.
var (
	// ErrExists: there is an entry for the MAC already, learned or set.
	ErrExists = errors.New("an entry exists; replace or delete it, or append to it if it is a list")
	// ErrNotFound: there is no entry for the MAC, or it does not lead to the
	// remote.
	ErrNotFound = errors.New("no such entry")
	// ErrGroup: a group MAC has a list of remotes, which cannot be replaced
	// as one, nor be that of a nexthop group.
	ErrGroup = errors.New("a group MAC has a list of remotes; append and delete them one by one")
	// ErrZeroMAC: the all-zero MAC is no address. Linux keeps the flood list
	// under it; here it has its own methods.
	ErrZeroMAC = errors.New("the all-zero MAC has no entry; it stands for the flood list")
	// ErrRemote: the remote has no address.
	ErrRemote = errors.New("the remote has no address")
	// ErrDynamic: only frames from the MAC itself, by one remote, keep a
	// dynamic entry: that of a group MAC or a nexthop group could only expire.
	ErrDynamic = errors.New("a dynamic entry is for a unicast MAC behind one remote")
	// ErrFull: the table has Config.MaxEntries entries, and they bound what
	// the user sets too (Config.BoundAll).
	ErrFull = errors.New("the table is full")
)

// Verb says what Set does about an entry that is there already.
type Verb uint8

const (
	// VerbAdd: it is an error (ErrExists).
	VerbAdd Verb = iota
	// VerbAppend: a group MAC gets one more remote; for a unicast MAC nothing
	// changes.
	VerbAppend
	// VerbReplace: it is replaced; not for group MACs (ErrGroup).
	VerbReplace
)

// String returns the name in lower case.
func (v Verb) String() string { return [...]string{"add", "append", "replace"}[v] }

// Destination is what the user sets for a MAC.
type Destination struct {
	// Remote that frames to the MAC go to, or Nexthops: the nexthop group.
	Remote   Remote
	Nexthops uint32
	// Kind of the entry. KindLearned, the zero value, stands for KindStatic:
	// the user's entries are not learned.
	Kind Kind
}

func (d Destination) String() string {
	if d.Nexthops != 0 {
		return fmt.Sprintf("nexthop group %d", d.Nexthops)
	}
	return d.Remote.String()
}

// Set makes an entry of the user: frames to mac go to d, and what becomes of
// frames from mac depends on d.Kind (see Kind). It does what `bridge fdb
// add|append|replace` does to a Linux kernel device, but
//
//   - append to a unicast MAC that has an entry changes nothing at all, where
//     the kernel changes its kind,
//   - replace may turn a remote into a nexthop group.
//
// now is as in Learn; a dynamic entry ages from it on.
//
// Errors: ErrExists (VerbAdd), ErrGroup (VerbReplace, or nexthops), ErrZeroMAC,
// ErrRemote, ErrNexthops, ErrDynamic, ErrFull.
func (t *Table) Set(verb Verb, mac MAC, d Destination, now time.Duration) error {
	d.Remote = d.Remote.canonical()
	if d.Kind == KindLearned {
		d.Kind = KindStatic
	}
	key := keyOf(mac)
	var err error
	switch {
	case key == zeroMAC:
		err = ErrZeroMAC
	case d.Nexthops == 0 && !d.Remote.Addr.Addr().IsValid():
		err = ErrRemote
	case d.Kind == KindDynamic && (key&groupBit != 0 || d.Nexthops != 0):
		err = ErrDynamic
	case key&groupBit != 0 && (d.Nexthops != 0 || verb == VerbReplace):
		err = ErrGroup
	case key&groupBit != 0:
		err = t.setGroup(verb, mac, d)
	default:
		err = t.setUnicast(verb, key, d, stampOf(now))
	}
	if err != nil {
		return fmt.Errorf("fdb: %v %v to %v: %w", verb, net.HardwareAddr(mac[:]), d, err)
	}
	return nil
}

// Add makes a static entry: frames to mac go to r, no frame moves it, and
// frames from mac that come from elsewhere are refused (Learn). For a group
// MAC, Add makes the first of its remotes.
//
// Errors: as those of Set.
func (t *Table) Add(mac MAC, r Remote) error { return t.Set(VerbAdd, mac, Destination{Remote: r}, 0) }

// Replace makes a static entry whatever there was before.
//
// Errors: as those of Set.
func (t *Table) Replace(mac MAC, r Remote) error {
	return t.Set(VerbReplace, mac, Destination{Remote: r}, 0)
}

// Append adds a remote to those of a group MAC, which may have none before; one
// that is there already is no error. On a unicast MAC that has an entry, of any
// kind, it changes nothing and is no error either; on one that has none it is
// Add.
//
// Errors: as those of Set.
func (t *Table) Append(mac MAC, r Remote) error {
	return t.Set(VerbAppend, mac, Destination{Remote: r}, 0)
}

func (t *Table) setUnicast(verb Verb, key uint64, d Destination, stamp uint32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, v := t.entry(key)
	what := EventAdded
	switch {
	case d.Nexthops != 0 && (*t.nexthops.Load())[d.Nexthops] == nil:
		return ErrNexthops
	case v == 0 && t.boundAll && t.full():
		return ErrFull
	case v == 0:
	case verb == VerbAppend:
		return nil
	case verb == VerbAdd:
		return ErrExists
	default:
		what = EventChanged
	}
	flags := flagsOf(d.Kind)
	switch {
	case d.Nexthops != 0:
		flags, stamp = flags|ecmp, d.Nexthops
	case d.Kind != KindDynamic:
		stamp = 0
	}
	t.settle(key)
	t.put(key, d.Remote, flags, stamp, what)
	return nil
}

func (t *Table) setGroup(verb Verb, mac MAC, d Destination) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.replication.Load().groups[mac]
	switch {
	case len(g.remotes) == 0 && t.boundAll && t.full():
		return ErrFull
	case verb == VerbAdd && len(g.remotes) > 0:
		return ErrExists
	case slices.Contains(g.remotes, d.Remote) && g.kind == d.Kind:
		return nil
	}
	if g.kind != d.Kind {
		// The kind is that of the MAC and all its remotes.
		g.kind = d.Kind
		for _, r := range g.remotes {
			t.tellList(EventChanged, mac, r, d.Kind)
		}
	}
	if !slices.Contains(g.remotes, d.Remote) {
		g.remotes = with(g.remotes, d.Remote)
		t.tellList(EventAdded, mac, d.Remote, d.Kind)
	}
	t.replicate(mac, g)
	return nil
}

// Get returns the entry of mac: several for a group MAC with several remotes,
// none when there is none. now is as in Learn.
func (t *Table) Get(mac MAC, now time.Duration) []Entry {
	if mac[0]&1 != 0 {
		g := t.replication.Load().groups[mac]
		list := make([]Entry, len(g.remotes))
		for i, r := range g.remotes {
			list[i] = Entry{MAC: mac, Remote: r, Kind: g.kind}
		}
		return list
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a, v := t.entry(keyOf(mac))
	if v == 0 {
		return nil
	}
	e := entryOf(a, keyOf(mac), v)
	e.age(v, stampOf(now))
	return []Entry{e}
}

// Forbids reports whether an entry that no frame moves, static or held, says that mac is
// elsewhere than behind a VTEP's address, whatever the port and the VNI: the
// rule of Learn for those who do not learn, or know no more of a VTEP than its
// address. It takes no lock and allocates nothing.
func (t *Table) Forbids(mac MAC, a netip.Addr) bool {
	key := keyOf(mac)
	hash := t.seed.hash(key)
	for {
		array := t.current.Load()
		s := array.find(hash, key)
		if s == nil {
			return false
		}
		v := s.value.Load()
		if v&(static|held) == 0 {
			return false
		}
		if r := array.remote(v); r != nil {
			return r.Addr.Addr() != a
		}
		if v&ecmp != 0 {
			n := (*t.nexthops.Load())[uint32(v)]
			return n == nil || !slices.ContainsFunc(n.remotes, func(r Remote) bool { return r.Addr.Addr() == a })
		}
	}
}

// Del removes the entry of mac, of whatever kind, and all remotes of a group.
//
// Errors: ErrNotFound.
func (t *Table) Del(mac MAC) error {
	if !t.del(mac, nil) {
		return fmt.Errorf("fdb: delete %v: %w", net.HardwareAddr(mac[:]), ErrNotFound)
	}
	return nil
}

// DelDestination removes r from the entry of mac, of whatever kind, and with
// its last remote the entry. An entry that points to a nexthop group has no
// remote of its own.
//
// Errors: ErrNotFound, also when the entry leads elsewhere.
func (t *Table) DelDestination(mac MAC, r Remote) error {
	r = r.canonical()
	if !t.del(mac, &r) {
		return fmt.Errorf("fdb: delete %v to %v: %w", net.HardwareAddr(mac[:]), r, ErrNotFound)
	}
	return nil
}

// del removes what leads from mac to r, or from mac to anywhere if r is nil.
func (t *Table) del(mac MAC, r *Remote) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mac[0]&1 != 0 {
		g := t.replication.Load().groups[mac]
		return t.cut(mac, g, func(e *Entry) bool { return r == nil || e.Remote == *r }) > 0
	}
	key := keyOf(mac)
	a := t.current.Load()
	s := a.find(t.seed.hash(key), key)
	if s == nil {
		return false
	}
	for v := s.value.Load(); v != 0; v = s.value.Load() {
		if r != nil {
			if have := a.remote(v); have == nil || *have != *r {
				return false
			}
		}
		if t.drop(s, v, EventDeleted) {
			t.shrink()
			return true
		}
	}
	return false
}
