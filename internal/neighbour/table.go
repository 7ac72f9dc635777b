package neighbour

import (
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

// Defaults of Config, those of package fdb.
const (
	DefaultMaxSnooped = 65536
	DefaultAgeing     = 300 * time.Second
)

// Errors of the methods that change static entries, wrapped with the address.
var (
	// ErrExists: the address has a static entry already.
	ErrExists = errors.New("a static neighbour exists; replace or delete it")
	// ErrNotFound: the table does not have the address.
	ErrNotFound = errors.New("no such neighbour")
	// ErrAddress: no station can have this IP or MAC address.
	ErrAddress = errors.New("not the address of one station")
)

// Config has the choices of a Table.
type Config struct {
	// Snoop makes entries out of claims. Without it they only tell where the
	// stations of known entries are.
	Snoop bool
	// MaxSnooped bounds the snooped entries. 0 = DefaultMaxSnooped, negative =
	// no bound.
	MaxSnooped int
	// Ageing is how long a snooped entry lives without a claim. 0 =
	// DefaultAgeing, negative = for ever.
	Ageing time.Duration
}

// Entry is one line of the table.
type Entry struct {
	IP     netip.Addr
	MAC    vxlan.MAC
	Static bool
	// Router is what advertisements say in the router flag.
	Router bool
	// Here: the last claim to this address came from the table's own side, so
	// that the station answers for itself.
	Here bool
	// Age is the time since the last claim; 0 for a static entry.
	Age time.Duration
}

// Table knows neighbours. All methods may be called by several goroutines at
// once. Make one with New.
type Table struct {
	current atomic.Pointer[array]
	seed    maphash.Seed
	config  atomic.Pointer[Config] // without zeros

	mu      sync.Mutex // held by whoever changes which entries there are
	used    int        // slots of current that are not empty
	statics atomic.Int64
	snooped atomic.Int64
}

// array is an open-addressed hash table, with a power of two of slots of which a
// quarter at least is empty. Readers walk it without a lock: a slot that was
// taken never becomes empty again, but gone.
type array []atomic.Pointer[entry]

// entry does not change but for what is atomic in it.
type entry struct {
	ip     netip.Addr
	mac    vxlan.MAC
	static bool
	router bool
	here   atomic.Bool
	heard  atomic.Int64 // time of the last claim
}

// gone is what deleted entries leave in their slots.
var gone = new(entry)

const minSlots = 8

// New returns an empty table.
func New(c Config) *Table {
	t := &Table{seed: maphash.MakeSeed()}
	t.Configure(c)
	a := make(array, minSlots)
	t.current.Store(&a)
	return t
}

// Configure makes other choices, for what is heard from now on; what ages does so
// by the new ones.
func (t *Table) Configure(c Config) {
	if c.MaxSnooped == 0 {
		c.MaxSnooped = DefaultMaxSnooped
	}
	if c.Ageing == 0 {
		c.Ageing = DefaultAgeing
	}
	t.config.Store(&c)
}

// hash is secret: addresses are chosen by whoever sends, and must not be able to
// pile up in one place.
func (t *Table) hash(ip netip.Addr) int {
	b := ip.As16()
	return int(maphash.Bytes(t.seed, b[:]) >> 1)
}

// find returns the slot of an address, nil when there is none, and its entry.
func (t *Table) find(ip netip.Addr) (*atomic.Pointer[entry], *entry) {
	a := *t.current.Load()
	for i := t.hash(ip); ; i++ {
		s := &a[i&(len(a)-1)]
		e := s.Load()
		if e == nil {
			return nil, nil
		}
		if e.ip == ip {
			return s, e
		}
	}
}

// Lookup returns the entry of an address, and false when there is none. Age is
// not filled in. It takes no lock and does not allocate.
func (t *Table) Lookup(ip netip.Addr) (Entry, bool) {
	_, e := t.find(ip)
	if e == nil || !ip.IsValid() {
		return Entry{}, false
	}
	return e.show(), true
}

func (e *entry) show() Entry {
	return Entry{IP: e.ip, MAC: e.mac, Static: e.static, Router: e.router, Here: e.here.Load()}
}

// Len returns how many entries there are.
func (t *Table) Len() int { return int(t.statics.Load() + t.snooped.Load()) }

// All yields the entries by address, IPv4 first. now is as in Note.
func (t *Table) All(now time.Duration) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		var all []*entry
		for i := range *t.current.Load() {
			if e := (*t.current.Load())[i].Load(); e != nil && e != gone {
				all = append(all, e)
			}
		}
		slices.SortFunc(all, func(a, b *entry) int { return a.ip.Compare(b.ip) })
		for _, e := range all {
			shown := e.show()
			if !e.static {
				shown.Age = max(now-time.Duration(e.heard.Load()), 0)
			}
			if !yield(shown) {
				return
			}
		}
	}
}

// Add makes a static entry; a snooped one becomes static.
//
// Errors: ErrExists, ErrAddress.
func (t *Table) Add(ip netip.Addr, mac vxlan.MAC, router bool) error {
	return t.set(ip, mac, router, false)
}

// Replace makes a static entry whatever there was before.
//
// Errors: ErrAddress.
func (t *Table) Replace(ip netip.Addr, mac vxlan.MAC, router bool) error {
	return t.set(ip, mac, router, true)
}

func (t *Table) set(ip netip.Addr, mac vxlan.MAC, router, replace bool) error {
	ip = ip.Unmap().WithZone("")
	if !Usable(ip) || !unicast(mac) {
		return fmt.Errorf("%v at %v: %w", ip, mac, ErrAddress)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, was := t.find(ip)
	if was != nil && was.static && !replace {
		return fmt.Errorf("%v: %w", ip, ErrExists)
	}
	e := &entry{ip: ip, mac: mac, static: true, router: router}
	if was != nil && was.mac == mac {
		e.here.Store(was.here.Load())
	}
	t.put(e)
	return nil
}

// Del removes the entry of an address, static or snooped.
//
// Errors: ErrNotFound.
func (t *Table) Del(ip netip.Addr) error {
	ip = ip.Unmap().WithZone("")
	t.mu.Lock()
	defer t.mu.Unlock()
	s, e := t.find(ip)
	if e == nil || !ip.IsValid() {
		return fmt.Errorf("%v: %w", ip, ErrNotFound)
	}
	s.Store(gone)
	t.count(e, -1)
	t.fit()
	return nil
}

// put stores an entry in place of that of its address, or as a new one. t.mu is
// held.
func (t *Table) put(e *entry) {
	s, was := t.find(e.ip)
	t.count(e, 1)
	if was != nil {
		t.count(was, -1)
		s.Store(e)
		return
	}
	if a := *t.current.Load(); t.used+1 > len(a)/4*3 {
		t.rebuild()
	}
	t.used++
	t.place(*t.current.Load(), e)
}

// place stores an entry that the array does not have.
func (t *Table) place(a array, e *entry) {
	i := t.hash(e.ip)
	for a[i&(len(a)-1)].Load() != nil {
		i++
	}
	a[i&(len(a)-1)].Store(e)
}

func (t *Table) count(e *entry, by int64) {
	if e.static {
		t.statics.Add(by)
	} else {
		t.snooped.Add(by)
	}
}

// fit gives memory back when an eighth of it would do. t.mu is held.
func (t *Table) fit() {
	if a := *t.current.Load(); len(a) > minSlots && t.Len() < len(a)/8 {
		t.rebuild()
	}
}

// rebuild publishes an array of the right size without what is gone. Readers of
// the old one see the same entries in it. t.mu is held.
func (t *Table) rebuild() {
	size := minSlots
	for size/2 < t.Len()+1 {
		size *= 2
	}
	old, a := *t.current.Load(), make(array, size)
	t.used = 0
	for i := range old {
		if e := old[i].Load(); e != nil && e != gone {
			t.place(a, e)
			t.used++
		}
	}
	t.current.Store(&a)
}
