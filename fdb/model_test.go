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
	entries map[MAC]modelEntry
	groups  map[MAC][]Remote
	flood   []Remote
	max     int
	ageing  time.Duration // negative: never
}

type modelEntry struct {
	remote Remote
	static bool
	heard  time.Duration
}

func (m *model) learned() (n int) {
	for _, e := range m.entries {
		if !e.static {
			n++
		}
	}
	return n
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
	case ok && e.static && e.remote != from:
		return Static
	case ok && e.static:
		return Known
	case !from.Addr.IsValid():
		return Invalid
	case !ok && m.max >= 0 && m.learned() >= m.max:
		return Full
	}
	outcome := Known
	if !ok {
		outcome = Added
	} else if e.remote != from {
		outcome = Moved
	}
	m.entries[mac] = modelEntry{from, false, max(e.heard, cut(now))}
	return outcome
}

func (m *model) add(mac MAC, r Remote) error {
	r = plain(r)
	switch {
	case mac == (MAC{}):
		return ErrZeroMAC
	case !r.Addr.IsValid():
		return ErrRemote
	case mac[0]&1 == 1 && len(m.groups[mac]) > 0, m.entries[mac].static:
		return ErrExists
	case mac[0]&1 == 1:
		m.groups[mac] = []Remote{r}
	default:
		m.entries[mac] = modelEntry{r, true, 0}
	}
	return nil
}

func (m *model) replace(mac MAC, r Remote) error {
	r = plain(r)
	switch {
	case mac == (MAC{}):
		return ErrZeroMAC
	case !r.Addr.IsValid():
		return ErrRemote
	case mac[0]&1 == 1:
		return ErrGroup
	}
	m.entries[mac] = modelEntry{r, true, 0}
	return nil
}

func (m *model) append(mac MAC, r Remote) error {
	r = plain(r)
	switch {
	case mac == (MAC{}):
		return ErrZeroMAC
	case !r.Addr.IsValid():
		return ErrRemote
	case mac[0]&1 == 0:
		if _, ok := m.entries[mac]; !ok {
			m.entries[mac] = modelEntry{r, true, 0}
		}
	case !slices.Contains(m.groups[mac], r):
		m.groups[mac] = append(m.groups[mac], r)
	}
	return nil
}

func (m *model) del(mac MAC, r *Remote) error {
	if mac[0]&1 == 1 {
		list := m.groups[mac]
		rest := slices.DeleteFunc(slices.Clone(list), func(have Remote) bool { return r == nil || have == *r })
		if len(rest) == len(list) {
			return ErrNotFound
		}
		m.groups[mac] = rest
		return nil
	}
	e, ok := m.entries[mac]
	if !ok || r != nil && e.remote != *r {
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

func (m *model) all(now time.Duration) (list []Entry) {
	for mac, e := range m.entries {
		entry := Entry{MAC: mac, Remote: e.remote, Kind: KindStatic}
		if !e.static {
			entry.Kind, entry.Age = KindLearned, max(cut(now)-e.heard, 0)
		}
		list = append(list, entry)
	}
	for mac, remotes := range m.groups {
		for _, r := range remotes {
			list = append(list, Entry{MAC: mac, Remote: r, Kind: KindStatic})
		}
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return bytes.Compare(a.MAC[:], b.MAC[:]) })
	return list
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

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.SampledFrom([]int{0, -1, 1, 3, 20}).Draw(rt, "max")
		ageing := rapid.SampledFrom([]time.Duration{0, -1, time.Second, 2500 * time.Millisecond, 1}).Draw(rt, "ageing")
		// The clock starts anywhere, also just before stamps wrap.
		clock := rapid.SampledFrom([]time.Duration{0, time.Hour, (1<<32 - 30) * tick}).Draw(rt, "clock")

		tab := New(Config{MaxEntries: limit, Ageing: ageing})
		m := &model{entries: map[MAC]modelEntry{}, groups: map[MAC][]Remote{}, max: limit}
		if limit == 0 {
			m.max = 65536
		}
		m.setAgeing(ageing)

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
			same(t, "Learn", tab.Learn(mac, from, at), m.learn(mac, from, at))
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
			"add": func(t *rapid.T) {
				mac, r := drawMAC(t), drawRemote(t)
				sameError(t, "Add", tab.Add(mac, r), m.add(mac, r))
			},
			"replace": func(t *rapid.T) {
				mac, r := drawMAC(t), drawRemote(t)
				sameError(t, "Replace", tab.Replace(mac, r), m.replace(mac, r))
			},
			"append": func(t *rapid.T) {
				mac, r := drawMAC(t), drawRemote(t)
				sameError(t, "Append", tab.Append(mac, r), m.append(mac, r))
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
					return !e.static && e.remote == plain(r)
				}))
			},
			"age": func(t *rapid.T) {
				at := now(t)
				same(t, "Age", tab.Age(at), m.remove(func(e modelEntry) bool {
					return !e.static && m.ageing >= 0 && cut(at)-e.heard > m.ageing
				}))
			},
			"set ageing": func(t *rapid.T) {
				d := rapid.SampledFrom([]time.Duration{0, -1, time.Second, 150 * time.Millisecond}).Draw(t, "ageing")
				tab.SetAgeing(d)
				m.setAgeing(d)
				same(t, "Ageing", tab.Ageing(), m.ageing)
			},
			"flush learned": func(t *rapid.T) {
				same(t, "Flush", tab.Flush(FlushLearned), m.remove(func(e modelEntry) bool { return !e.static }))
			},
			"flush all": func(t *rapid.T) {
				n := len(m.all(0))
				m.entries, m.groups = map[MAC]modelEntry{}, map[MAC][]Remote{}
				same(t, "Flush", tab.Flush(FlushAll), n)
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
				if ok {
					same(t, "Lookup", *r, e.remote)
				}
				replicas := m.flood
				if list := m.groups[mac]; len(list) > 0 {
					replicas = list
				}
				if got := tab.Replicas(mac); !slices.Equal(got, replicas) {
					t.Fatalf("Replicas = %v, want %v", got, replicas)
				}
			},
			"": func(t *rapid.T) {
				want := m.all(clock)
				if diff := cmp.Diff(want, slices.Collect(tab.All(clock)), cmpAddr, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("All, want (-), got (+):\n%s", diff)
				}
				same(t, "Len", tab.Len(), len(want))
				same(t, "Learned", tab.Learned(), m.learned())
				if got := tab.Flood(); !slices.Equal(got, m.flood) {
					t.Fatalf("Flood = %v, want %v", got, m.flood)
				}
			},
		})
		checkInternals(t, tab)
	})
}
