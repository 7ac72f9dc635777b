package fdb

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// model is the table as its documentation tells it, with plain maps. Time in
// it is cut to whole ticks, otherwise it knows nothing of how the table works.
type model struct {
	entries  map[MAC]modelEntry
	groups   map[MAC]modelGroup
	nexthops map[uint32][]Remote
	flood    []Remote
	max      int
	boundAll bool
	ageing   time.Duration // negative: never
}

type modelEntry struct {
	remote   Remote
	nexthops uint32
	kind     Kind
	heard    time.Duration
}

type modelGroup struct {
	remotes []Remote
	kind    Kind
}

// ages says whether the entry goes when its MAC is not heard of.
func (e modelEntry) ages() bool { return e.kind == KindLearned || e.kind == KindDynamic }

func (m *model) learned() (n int) {
	for _, e := range m.entries {
		if e.kind == KindLearned {
			n++
		}
	}
	return n
}

func (m *model) full() bool {
	n := m.learned()
	if m.boundAll {
		n = len(m.entries) + len(m.groups)
		if len(m.flood) > 0 {
			n++
		}
	}
	return m.max >= 0 && n >= m.max
}

func (m *model) setAgeing(d time.Duration) {
	switch {
	case d < 0:
		m.ageing = -1
	case d == 0:
		m.ageing = 300 * time.Second
	default:
		m.ageing = (d + 100*time.Millisecond - 1).Truncate(100 * time.Millisecond)
	}
}

func cut(now time.Duration) time.Duration {
	return max(now, 0).Truncate(100 * time.Millisecond)
}

func (m *model) learn(mac MAC, from Remote, now time.Duration) Outcome {
	from = plain(from)
	if mac[0]&1 == 1 || mac == (MAC{}) {
		return Invalid
	}
	e, ok := m.entries[mac]
	switch {
	case ok && e.nexthops != 0 && slices.Contains(m.nexthops[e.nexthops], from):
		return Known
	case ok && e.nexthops != 0, ok && !e.ages() && e.remote != from:
		return Static
	case ok && !e.ages():
		return Known
	case !from.Addr.IsValid():
		return Invalid
	case !ok && m.full():
		return Full
	}
	outcome := Known
	if !ok {
		outcome = Added
	} else if e.remote != from {
		outcome = Moved
	}
	e.remote, e.heard = from, max(e.heard, cut(now)) // a dynamic one stays that
	m.entries[mac] = e
	return outcome
}

func (m *model) set(verb Verb, mac MAC, d Destination, now time.Duration) error {
	d.Remote = plain(d.Remote)
	if d.Kind == KindLearned {
		d.Kind = KindStatic
	}
	isGroup := mac[0]&1 == 1
	_, exists := m.entries[mac]
	exists = exists || len(m.groups[mac].remotes) > 0
	switch {
	case mac == (MAC{}):
		return ErrZeroMAC
	case d.Nexthops == 0 && !d.Remote.Addr.IsValid():
		return ErrRemote
	case d.Kind == KindDynamic && (isGroup || d.Nexthops != 0):
		return ErrDynamic
	case isGroup && (verb == VerbReplace || d.Nexthops != 0):
		return ErrGroup
	case d.Nexthops != 0 && m.nexthops[d.Nexthops] == nil:
		return ErrNexthops
	case m.boundAll && !exists && m.full():
		return ErrFull
	case verb == VerbAdd && exists:
		return ErrExists
	case isGroup:
		g := m.groups[mac]
		g.kind = d.Kind
		if !slices.Contains(g.remotes, d.Remote) {
			g.remotes = append(slices.Clone(g.remotes), d.Remote)
		}
		m.groups[mac] = g
		return nil
	case verb == VerbAppend && exists:
		return nil
	}
	e := modelEntry{d.Remote, d.Nexthops, d.Kind, 0}
	if d.Nexthops != 0 {
		e.remote = Remote{}
	}
	if d.Kind == KindDynamic {
		e.heard = cut(now)
		if was := m.entries[mac]; exists && was.ages() {
			e.heard = max(e.heard, was.heard)
		}
	}
	m.entries[mac] = e
	return nil
}

func (m *model) del(mac MAC, r *Remote) error {
	if mac[0]&1 == 1 {
		n := m.cutGroups(func(e Entry) bool { return e.MAC == mac && (r == nil || e.Remote == *r) })
		if n == 0 {
			return ErrNotFound
		}
		return nil
	}
	e, ok := m.entries[mac]
	if !ok || r != nil && (e.nexthops != 0 || e.remote != *r) {
		return ErrNotFound
	}
	delete(m.entries, mac)
	return nil
}

// remove deletes the entries for which f is true.
func (m *model) remove(f func(modelEntry) bool) (n int) {
	for mac, e := range m.entries {
		if f(e) {
			delete(m.entries, mac)
			n++
		}
	}
	return n
}

// cutGroups deletes the remotes of group MACs for which f is true.
func (m *model) cutGroups(f func(Entry) bool) (n int) {
	for mac, g := range m.groups {
		rest := slices.DeleteFunc(slices.Clone(g.remotes), func(r Remote) bool {
			return f(Entry{MAC: mac, Remote: r, Kind: g.kind})
		})
		n += len(g.remotes) - len(rest)
		if g.remotes = rest; len(rest) == 0 {
			delete(m.groups, mac)
		} else {
			m.groups[mac] = g
		}
	}
	return n
}

func (m *model) flush(f Filter) int {
	match := func(r Remote, nexthops uint32, k Kind) bool {
		switch {
		case len(f.Kinds) > 0 && !slices.Contains(f.Kinds, k),
			f.Addr.IsValid() && plain(Remote{Addr: netip.AddrPortFrom(f.Addr, 0)}).Addr.Addr() != r.Addr.Addr(),
			f.Port != 0 && f.Port != r.Addr.Port(),
			f.VNI != 0 && f.VNI != r.VNI,
			f.Nexthops != 0 && f.Nexthops != nexthops:
			return false
		}
		return true
	}
	n := m.cutGroups(func(e Entry) bool { return match(e.Remote, 0, e.Kind) })
	return n + m.remove(func(e modelEntry) bool { return match(e.remote, e.nexthops, e.kind) })
}

func (m *model) all(now time.Duration) (list []Entry) {
	for mac, e := range m.entries {
		entry := Entry{MAC: mac, Remote: e.remote, Kind: e.kind, Nexthops: e.nexthops}
		if e.ages() {
			entry.Age = max(cut(now)-e.heard, 0)
		}
		list = append(list, entry)
	}
	for mac, g := range m.groups {
		for _, r := range g.remotes {
			list = append(list, Entry{MAC: mac, Remote: r, Kind: g.kind})
		}
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
	return list
}

// mirror is a table as somebody knows it who only hears of its events.
type mirror struct {
	entries map[MAC][]Entry // the flood list under the zero MAC
	seen    map[EventKind]int
	fail    func(string, ...any)
}

func (m *mirror) hear(e Event) {
	m.seen[e.What]++
	mac := e.Entry.MAC
	list := m.entries[mac]
	many := mac[0]&1 == 1 || mac == (MAC{})
	at := slices.IndexFunc(list, func(have Entry) bool { return !many || have.Remote == e.Entry.Remote })
	switch e.What {
	case EventLearned, EventAdded:
		if at >= 0 {
			m.fail("%v of what was there: %+v", e.What, e)
		}
		m.entries[mac] = append(list, e.Entry)
	case EventMoved, EventChanged:
		if at < 0 || !many && list[at].Remote != e.Was {
			m.fail("%v of %+v: %+v", e.What, list, e)
		}
		list[at] = e.Entry
	case EventHeld, EventReleased:
		if at < 0 || list[at].Remote != e.Entry.Remote || e.Entry.Held != (e.What == EventHeld) {
			m.fail("%v of %+v: %+v", e.What, list, e)
		}
		list[at] = e.Entry
	case EventAged, EventDeleted:
		if at < 0 || list[at] != e.Entry {
			m.fail("%v of %+v: %+v", e.What, list, e)
		}
		if m.entries[mac] = slices.Delete(list, at, at+1); len(m.entries[mac]) == 0 {
			delete(m.entries, mac)
		}
	default:
		m.fail("event %v", e.What)
	}
}

func (m *mirror) all() (list []Entry, flood []Remote) {
	for mac, entries := range m.entries {
		for _, e := range entries {
			if mac == (MAC{}) {
				flood = append(flood, e.Remote)
			} else {
				list = append(list, e)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
	return list, flood
}

// plain unmaps an IPv4 address, in its own way.
func plain(r Remote) Remote {
	if a := r.Addr.Addr(); a.Is4In6() {
		b := a.As16()
		r.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), r.Addr.Port())
	}
	return r
}

func drawMAC(t *rapid.T) MAC {
	// Few enough to meet again, and more than the smallest array holds.
	n := rapid.IntRange(0, 44).Draw(t, "mac")
	if rapid.Bool().Draw(t, "hot") {
		n = 5 + n%3 // and some of them most often
	}
	switch {
	case n == 0:
		return MAC{}
	case n <= 4:
		return MAC{0x01, 0, 0x5e, 0, 0, byte(n)}
	}
	return MAC{0x02, byte(n % 3), 0, 0, byte(n), 1}
}

func drawRemote(t *rapid.T) Remote {
	r := rapid.SampledFrom([]Remote{
		vtep1, vtep1, vtep1, vtep2, vtep6,
		{Addr: netip.MustParseAddrPort("[::ffff:192.0.2.1]:4789")},
		{Addr: netip.MustParseAddrPort("192.0.2.1:8472")},
		{Addr: netip.MustParseAddrPort("[fe80::1%eth0]:4789")},
		{},
	}).Draw(t, "remote")
	r.VNI = rapid.SampledFrom([]uint32{0, 0, 0, 7}).Draw(t, "vni")
	return r
}

func drawKind(t *rapid.T) Kind {
	return rapid.SampledFrom([]Kind{KindStatic, KindLearned, KindPermanent, KindDynamic, KindDynamic}).Draw(t, "kind")
}

func drawDestination(t *rapid.T) Destination {
	if rapid.IntRange(0, 3).Draw(t, "by nexthops") == 0 {
		return Destination{Nexthops: rapid.Uint32Range(1, 4).Draw(t, "nexthops"), Kind: drawKind(t)}
	}
	return Destination{Remote: drawRemote(t), Kind: drawKind(t)}
}

func drawFilter(t *rapid.T) (f Filter) {
	f.Kinds = rapid.SliceOfN(rapid.Custom(drawKind), 0, 2).Draw(t, "kinds")
	switch rapid.IntRange(0, 5).Draw(t, "by") {
	case 0:
		f.Addr = drawRemote(t).Addr.Addr()
	case 1:
		f.Port = 8472
	case 2:
		f.VNI = 7
	case 3:
		f.Nexthops = rapid.Uint32Range(1, 4).Draw(t, "nexthops")
	}
	return f
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.SampledFrom([]int{0, -1, 1, 3, 20}).Draw(rt, "max")
		boundAll := rapid.Bool().Draw(rt, "bound all")
		ageing := rapid.SampledFrom([]time.Duration{0, -1, time.Second, 2500 * time.Millisecond, 1}).Draw(rt, "ageing")
		// The clock starts anywhere, also just before stamps wrap.
		clock := rapid.SampledFrom([]time.Duration{0, time.Hour, (1<<32 - 30) * tick}).Draw(rt, "clock")

		tab := New(Config{MaxEntries: limit, BoundAll: boundAll, Ageing: ageing})
		m := &model{
			entries: map[MAC]modelEntry{}, groups: map[MAC]modelGroup{}, nexthops: map[uint32][]Remote{},
			max: limit, boundAll: boundAll,
		}
		if limit == 0 {
			m.max = 65536
		}
		m.setAgeing(ageing)
		heard := &mirror{entries: map[MAC][]Entry{}, seen: map[EventKind]int{}, fail: rt.Fatalf}
		tab.Notify(heard.hear)

		now := func(t *rapid.T) time.Duration {
			clock += time.Duration(rapid.SampledFrom([]int{0, 0, 1, 99, 100, 730, 1500}).Draw(t, "ms")) * time.Millisecond
			if rapid.IntRange(0, 9).Draw(t, "late") == 0 {
				return clock - 2*time.Second // a caller that is behind, or below 0
			}
			return clock
		}
		same := func(t *rapid.T, what string, got, want any) {
			t.Helper()
			if got != want {
				t.Fatalf("%s = %v, want %v", what, got, want)
			}
		}
		sameError := func(t *rapid.T, what string, got, want error) {
			t.Helper()
			if !errors.Is(got, want) {
				t.Fatalf("%s: error %v, want %v", what, got, want)
			}
		}
		learn := func(t *rapid.T) {
			mac, from, at := drawMAC(t), drawRemote(t), now(t)
			before := heard.seen[EventLearned] + heard.seen[EventMoved]
			o := tab.Learn(mac, from, at)
			same(t, "Learn", o, m.learn(mac, from, at))
			same(t, "learned or moved", heard.seen[EventLearned]+heard.seen[EventMoved]-before == 1, o == Added || o == Moved)
		}
		set := func(verb Verb) func(t *rapid.T) {
			return func(t *rapid.T) {
				mac, d, at := drawMAC(t), drawDestination(t), now(t)
				sameError(t, verb.String(), tab.Set(verb, mac, d, at), m.set(verb, mac, d, at))
			}
		}

		rt.Repeat(map[string]func(*rapid.T){
			"learn":      learn,
			"learn more": func(t *rapid.T) { learn(t); learn(t); learn(t) },
			"learn many": func(t *rapid.T) {
				first := rapid.Uint32Range(0, 200).Draw(t, "first")
				for i := range uint32(60) {
					same(t, "Learn", tab.Learn(hostMAC(first+i), vtep1, clock), m.learn(hostMAC(first+i), vtep1, clock))
				}
			},
			"move often": func(t *rapid.T) {
				mac := drawMAC(t)
				for i := range uint32(70) {
					from := Remote{vtep1.Addr, 100 + i}
					same(t, "Learn", tab.Learn(mac, from, clock), m.learn(mac, from, clock))
				}
			},
			"add":     set(VerbAdd),
			"replace": set(VerbReplace),
			"append":  set(VerbAppend),
			"static": func(t *rapid.T) {
				mac, r := drawMAC(t), drawRemote(t)
				switch rapid.IntRange(0, 2).Draw(t, "verb") {
				case 0:
					sameError(t, "Add", tab.Add(mac, r), m.set(VerbAdd, mac, Destination{Remote: r}, 0))
				case 1:
					sameError(t, "Append", tab.Append(mac, r), m.set(VerbAppend, mac, Destination{Remote: r}, 0))
				case 2:
					sameError(t, "Replace", tab.Replace(mac, r), m.set(VerbReplace, mac, Destination{Remote: r}, 0))
				}
			},
			"nexthops": func(t *rapid.T) {
				id := rapid.Uint32Range(0, 4).Draw(t, "id")
				list := rapid.SliceOfN(rapid.Custom(drawRemote), 0, 4).Draw(t, "remotes")
				var want error
				var plains []Remote
				for _, r := range list {
					if !r.Addr.IsValid() {
						want = ErrRemote
					}
					if !slices.Contains(plains, plain(r)) {
						plains = append(plains, plain(r))
					}
				}
				if id == 0 {
					want = ErrNexthopID
				} else if len(list) == 0 {
					want = ErrNexthopCount
				}
				sameError(t, "SetNexthops", tab.SetNexthops(id, list), want)
				if want == nil {
					m.nexthops[id] = plains
				}
			},
			"delete nexthops": func(t *rapid.T) {
				id := rapid.Uint32Range(0, 4).Draw(t, "id")
				var want error
				if m.nexthops[id] == nil {
					want = ErrNexthops
				}
				delete(m.nexthops, id)
				n, err := tab.DelNexthops(id)
				sameError(t, "DelNexthops", err, want)
				same(t, "DelNexthops", n, m.remove(func(e modelEntry) bool { return id != 0 && e.nexthops == id }))
			},
			"delete": func(t *rapid.T) {
				mac := drawMAC(t)
				sameError(t, "Del", tab.Del(mac), m.del(mac, nil))
			},
			"delete destination": func(t *rapid.T) {
				mac, r := drawMAC(t), drawRemote(t)
				p := plain(r)
				sameError(t, "DelDestination", tab.DelDestination(mac, r), m.del(mac, &p))
			},
			"delete remote": func(t *rapid.T) {
				r := drawRemote(t)
				same(t, "DelRemote", tab.DelRemote(r), m.remove(func(e modelEntry) bool {
					return e.kind == KindLearned && e.remote == plain(r)
				}))
			},
			"age": func(t *rapid.T) {
				at := now(t)
				before := heard.seen[EventAged]
				n := tab.Age(at)
				same(t, "Age", n, m.remove(func(e modelEntry) bool {
					return e.ages() && m.ageing >= 0 && cut(at)-e.heard > m.ageing
				}))
				same(t, "aged", heard.seen[EventAged]-before, n)
			},
			"set ageing": func(t *rapid.T) {
				d := rapid.SampledFrom([]time.Duration{0, -1, time.Second, 150 * time.Millisecond}).Draw(t, "ageing")
				tab.SetAgeing(d)
				m.setAgeing(d)
				same(t, "Ageing", tab.Ageing(), m.ageing)
			},
			"flush a scope": func(t *rapid.T) {
				scope := rapid.SampledFrom([]FlushScope{FlushLearned, FlushLearned, FlushAll, FlushAgeing, FlushNonPermanent}).Draw(t, "scope")
				kinds := map[FlushScope][]Kind{
					FlushLearned:      {KindLearned},
					FlushAgeing:       {KindLearned, KindDynamic},
					FlushNonPermanent: {KindLearned, KindDynamic, KindStatic},
				}
				same(t, "Flush", tab.Flush(scope), m.flush(Filter{Kinds: kinds[scope]}))
			},
			"flush a few": func(t *rapid.T) {
				f := drawFilter(t)
				same(t, "FlushIf", tab.FlushIf(f), m.flush(f))
			},
			"add flood": func(t *rapid.T) {
				r := drawRemote(t)
				if !r.Addr.IsValid() {
					return
				}
				fresh := !slices.Contains(m.flood, plain(r))
				if fresh {
					m.flood = append(m.flood, plain(r))
				}
				same(t, "AddFlood", tab.AddFlood(r), fresh)
			},
			"delete flood": func(t *rapid.T) {
				r := drawRemote(t)
				i := slices.Index(m.flood, plain(r))
				if i >= 0 {
					m.flood = slices.Delete(slices.Clone(m.flood), i, i+1)
				}
				same(t, "DelFlood", tab.DelFlood(r), i >= 0)
			},
			"look up": func(t *rapid.T) {
				mac := drawMAC(t)
				e, want := m.entries[mac]
				r, ok := tab.Lookup(mac)
				same(t, "Lookup", ok, want)
				same(t, "Lookup points to a remote", r != nil, ok && e.nexthops == 0)
				if r != nil {
					same(t, "Lookup", *r, e.remote)
				}
				hash := rapid.Uint32().Draw(t, "hash")
				one, ok := tab.Select(mac, hash)
				same(t, "Select", ok, want)
				if again, _ := tab.Select(mac, hash); again != one {
					t.Fatalf("Select: one flow goes to %v and to %v", one, again)
				}
				candidates := m.nexthops[e.nexthops]
				if r != nil {
					candidates = []Remote{e.remote}
				}
				if ok && !slices.Contains(candidates, *one) {
					t.Fatalf("Select = %v, want one of %v", one, candidates)
				}
				vtep := plain(drawRemote(t)).Addr.Addr()
				same(t, "Forbids", tab.Forbids(mac, vtep), want && !e.ages() && !slices.ContainsFunc(candidates, func(r Remote) bool { return r.Addr.Addr() == vtep }))
				replicas := m.flood
				if g := m.groups[mac]; len(g.remotes) > 0 {
					replicas = g.remotes
				}
				if got := tab.Replicas(mac); !slices.Equal(got, replicas) {
					t.Fatalf("Replicas = %v, want %v", got, replicas)
				}
				var rows []Entry
				for _, e := range m.all(clock) {
					if e.MAC == mac {
						rows = append(rows, e)
					}
				}
				if diff := cmp.Diff(rows, tab.Get(mac, clock), cmpAddr, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("Get, want (-), got (+):\n%s", diff)
				}
			},
			"": func(t *rapid.T) {
				want := m.all(clock)
				if diff := cmp.Diff(want, slices.Collect(tab.All(clock)), cmpAddr, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("All, want (-), got (+):\n%s", diff)
				}
				same(t, "Len", tab.Len(), len(want))
				same(t, "Learned", tab.Learned(), m.learned())
				var byKind [len(kinds)]int
				for _, e := range want {
					byKind[e.Kind]++
				}
				for k, n := range byKind {
					same(t, "Count("+Kind(k).String()+")", tab.Count(Kind(k)), n)
				}
				if got := tab.Flood(); !slices.Equal(got, m.flood) {
					t.Fatalf("Flood = %v, want %v", got, m.flood)
				}
				// Who heard of every change knows the table.
				for i := range want {
					want[i].Age = 0
				}
				list, flood := heard.all()
				if diff := cmp.Diff(want, list, cmpAddr, cmpopts.EquateEmpty()); diff != "" || !slices.Equal(flood, m.flood) {
					t.Fatalf("by events, want (-), got (+):\n%s\nflood %v, want %v", diff, flood, m.flood)
				}
				groups := tab.Nexthops()
				same(t, "nexthop groups", len(groups), len(m.nexthops))
				for _, g := range groups {
					if !slices.Equal(g.Remotes, m.nexthops[g.ID]) {
						t.Fatalf("nexthop group %d = %v, want %v", g.ID, g.Remotes, m.nexthops[g.ID])
					}
				}
			},
		})
		checkInternals(t, tab)
	})
}
