package fdb

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	hostA = MAC{0x02, 0x42, 0x0a, 0, 0, 1}
	hostB = MAC{0x02, 0x42, 0x0a, 0, 0, 2}
	group = MAC{0x01, 0x00, 0x5e, 0, 0, 5}

	vtep1 = Remote{Addr: netip.MustParseAddrPort("192.0.2.1:4789")}
	vtep2 = Remote{Addr: netip.MustParseAddrPort("192.0.2.2:4789")}
	vtep6 = Remote{Addr: netip.MustParseAddrPort("[2001:db8::1]:4789")}
)

// cmpAddr lets cmp look into the addresses, which have no exported fields.
var cmpAddr = cmpopts.EquateComparable(Remote{}, netip.AddrPort{})

func wantLearn(t *testing.T, tab *Table, mac MAC, from Remote, now time.Duration, want Outcome) {
	t.Helper()
	if got := tab.Learn(mac, from, now); got != want {
		t.Errorf("Learn(%x, %v, %v) = %v, want %v", mac, from, now, got, want)
	}
}

// wantLookup checks where frames to mac go; the zero Remote means nowhere.
func wantLookup(t *testing.T, tab *Table, mac MAC, want Remote) {
	t.Helper()
	r, ok := tab.Lookup(mac)
	if ok != (r != nil) {
		t.Fatalf("Lookup(%x) = %v, %v", mac, r, ok)
	}
	var got Remote
	if ok {
		got = *r
	}
	if got != want {
		t.Errorf("Lookup(%x) = %v, want %v", mac, got, want)
	}
}

func wantEntries(t *testing.T, tab *Table, now time.Duration, want ...Entry) {
	t.Helper()
	got := slices.Collect(tab.All(now))
	if diff := cmp.Diff(want, got, cmpAddr, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("All(%v), want (-), got (+):\n%s", now, diff)
	}
	if tab.Len() != len(want) {
		t.Errorf("Len() = %d with %d entries", tab.Len(), len(want))
	}
}

func TestLearn(t *testing.T) {
	mapped := func(s string) Remote { return Remote{Addr: netip.MustParseAddrPort(s)} }
	vni7 := vtep1
	vni7.VNI = 7
	port2 := Remote{Addr: netip.MustParseAddrPort("192.0.2.1:8472")}
	tests := []struct {
		name    string
		before  func(*Table)
		mac     MAC
		from    Remote
		want    Outcome
		drop    bool
		leadsTo Remote
	}{
		{"new", func(*Table) {}, hostA, vtep1, Added, false, vtep1},
		{"known", func(t *Table) { t.Learn(hostA, vtep1, 0) }, hostA, vtep1, Known, false, vtep1},
		{"known, IPv4 written as IPv6", func(t *Table) { t.Learn(hostA, vtep1, 0) }, hostA, mapped("[::ffff:192.0.2.1]:4789"), Known, false, vtep1},
		{"new, IPv4 written as IPv6", func(*Table) {}, hostA, mapped("[::ffff:192.0.2.1]:4789"), Added, false, vtep1},
		{"moved to another address", func(t *Table) { t.Learn(hostA, vtep1, 0) }, hostA, vtep2, Moved, false, vtep2},
		{"moved to the other family", func(t *Table) { t.Learn(hostA, vtep1, 0) }, hostA, vtep6, Moved, false, vtep6},
		{"moved to another port", func(t *Table) { t.Learn(hostA, vtep1, 0) }, hostA, port2, Moved, false, port2},
		{"moved to another VNI", func(t *Table) { t.Learn(hostA, vtep1, 0) }, hostA, vni7, Moved, false, vni7},
		{"learned again after delete", func(t *Table) { t.Learn(hostA, vtep1, 0); t.Del(hostA) }, hostA, vtep2, Added, false, vtep2},
		{"static, same remote", func(t *Table) { t.Add(hostA, vtep1) }, hostA, vtep1, Known, false, vtep1},
		{"static, same remote written as IPv6", func(t *Table) { t.Add(hostA, vtep1) }, hostA, mapped("[::ffff:192.0.2.1]:4789"), Known, false, vtep1},
		{"static, other remote", func(t *Table) { t.Add(hostA, vtep1) }, hostA, vtep2, Static, true, vtep1},
		{"static, other remote written as IPv6", func(t *Table) { t.Add(hostA, vtep1) }, hostA, mapped("[::ffff:192.0.2.2]:4789"), Static, true, vtep1},
		{"multicast source", func(*Table) {}, group, vtep1, Invalid, true, Remote{}},
		{"broadcast source", func(*Table) {}, MAC{255, 255, 255, 255, 255, 255}, vtep1, Invalid, true, Remote{}},
		{"all-zero source", func(*Table) {}, MAC{}, vtep1, Invalid, true, Remote{}},
		{"remote without an address", func(*Table) {}, hostA, Remote{}, Invalid, true, Remote{}},
		{"unspecified remote", func(*Table) {}, hostA, mapped("0.0.0.0:4789"), Invalid, true, Remote{}},
		{"multicast remote", func(*Table) {}, hostA, mapped("239.1.1.1:4789"), Invalid, true, Remote{}},
		{"multicast remote written as IPv6", func(*Table) {}, hostA, mapped("[::ffff:239.1.1.1]:4789"), Invalid, true, Remote{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := New(Config{})
			tt.before(tab)
			got := tab.Learn(tt.mac, tt.from, 0)
			if got != tt.want || got.Drop() != tt.drop {
				t.Errorf("Learn = %v, drop %v; want %v, drop %v", got, got.Drop(), tt.want, tt.drop)
			}
			wantLookup(t, tab, tt.mac, tt.leadsTo)
		})
	}
}

// Frames leave a static entry static, however late they come.
func TestStaticStaysStatic(t *testing.T) {
	tab := New(Config{})
	tab.Add(hostA, vtep1)
	wantLearn(t, tab, hostA, vtep1, time.Hour, Known)
	wantLearn(t, tab, hostA, vtep2, time.Hour, Static)
	wantEntries(t, tab, 2*time.Hour, Entry{hostA, vtep1, KindStatic, 0, 0, false})
	if tab.Learned() != 0 || tab.Age(1000*time.Hour) != 0 {
		t.Error("it is a learned one now")
	}
}

func TestNames(t *testing.T) {
	for o, want := range map[Outcome]string{
		Known: "known", Added: "added", Moved: "moved", Static: "static", Full: "full", Invalid: "invalid", 200: "unknown outcome",
	} {
		if o.String() != want {
			t.Errorf("Outcome(%d) is %q, want %q", uint8(o), o, want)
		}
	}
	if KindLearned.String() != "learned" || KindStatic.String() != "static" {
		t.Error(KindLearned, KindStatic)
	}
	if s := vtep1.String(); s != "192.0.2.1:4789" {
		t.Error(s)
	}
	if s := (Remote{vtep6.Addr, 7}).String(); s != "[2001:db8::1]:4789 vni 7" {
		t.Error(s)
	}
}

func TestMaxEntries(t *testing.T) {
	tests := []struct {
		name string
		max  int
		want int
	}{
		{"default", 0, DefaultMaxEntries},
		{"one", 1, 1},
		{"a thousand", 1000, 1000},
		{"no bound", -1, DefaultMaxEntries + 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := New(Config{MaxEntries: tt.max})
			for i := range DefaultMaxEntries + 10 {
				want := Added
				if i >= tt.want {
					want = Full
				}
				if got := tab.Learn(hostMAC(uint32(i)), vtep1, 0); got != want {
					t.Fatalf("entry %d: %v, want %v", i, got, want)
				}
			}
			if tab.Learned() != tt.want || tab.Len() != tt.want {
				t.Errorf("Learned() = %d, Len() = %d, want %d", tab.Learned(), tab.Len(), tt.want)
			}
		})
	}
}

// Places in a full table come back, whichever way entries leave it.
func TestMaxEntriesGivesPlacesBack(t *testing.T) {
	leave := map[string]func(*Table){
		"delete":         func(t *Table) { t.Del(hostA) },
		"age":            func(t *Table) { t.Age(time.Hour) },
		"flush":          func(t *Table) { t.Flush(FlushLearned) },
		"delete remote":  func(t *Table) { t.DelRemote(vtep1) },
		"becomes static": func(t *Table) { t.Replace(hostA, vtep1) },
		"replaced":       func(t *Table) { t.Replace(hostA, vtep2) },
	}
	for name, f := range leave {
		t.Run(name, func(t *testing.T) {
			tab := New(Config{MaxEntries: 1})
			wantLearn(t, tab, hostA, vtep1, 0, Added)
			wantLearn(t, tab, hostB, vtep1, 0, Full)
			f(tab)
			wantLearn(t, tab, hostB, vtep1, 0, Added)
			wantLookup(t, tab, hostB, vtep1)
		})
	}
}

func TestAgeing(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name    string
		ageing  time.Duration
		learned time.Duration
		sweep   time.Duration
		gone    bool
	}{
		{"default, in time", 0, 0, 300 * time.Second, false},
		{"default, over", 0, 0, 300*time.Second + 200*ms, true},
		{"1 s, in time", time.Second, 0, time.Second, false},
		{"1 s, over", time.Second, 0, time.Second + 200*ms, true},
		{"1 s, late in its tick, in time", time.Second, 99 * ms, 1099 * ms, false},
		{"1 s, late in its tick, over", time.Second, 99 * ms, 1299 * ms, true},
		{"1 ns is rounded up", 1, 0, 100 * ms, false},
		{"1 ns, over", 1, 0, 200 * ms, true},
		{"never", -1, 0, 100 * 365 * 24 * time.Hour, false},
		{"longer than a stamp can tell", 1<<63 - 1, 0, 6 * 365 * 24 * time.Hour, false},
		{"sweep before the entry", time.Second, time.Hour, 0, false},
		{"clock below zero", time.Second, -time.Hour, time.Second, false},
		{"clock below zero, over", time.Second, -time.Hour, 1200 * ms, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := New(Config{Ageing: tt.ageing})
			wantLearn(t, tab, hostA, vtep1, tt.learned, Added)
			if err := tab.Add(hostB, vtep1); err != nil {
				t.Fatal(err)
			}
			n := tab.Age(tt.sweep)
			if gone := n == 1; gone != tt.gone || n > 1 {
				t.Errorf("Age(%v) = %d", tt.sweep, n)
			}
			want := vtep1
			if tt.gone {
				want = Remote{}
			}
			wantLookup(t, tab, hostA, want)
			wantLookup(t, tab, hostB, vtep1) // static
		})
	}
}

func TestSetAgeing(t *testing.T) {
	tests := []struct{ set, want time.Duration }{
		{0, DefaultAgeing},
		{-5, -1},
		{time.Second, time.Second},
		{time.Second + 1, 1100 * time.Millisecond},
	}
	tab := New(Config{Ageing: time.Minute})
	if tab.Ageing() != time.Minute {
		t.Error(tab.Ageing())
	}
	for _, tt := range tests {
		tab.SetAgeing(tt.set)
		if got := tab.Ageing(); got != tt.want {
			t.Errorf("after SetAgeing(%v): %v, want %v", tt.set, got, tt.want)
		}
	}
	// It holds for what is there already.
	tab.SetAgeing(-1)
	tab.Learn(hostA, vtep1, 0)
	if n := tab.Age(time.Hour); n != 0 {
		t.Errorf("%d removed that should live for ever", n)
	}
	tab.SetAgeing(time.Minute)
	if n := tab.Age(time.Hour); n != 1 {
		t.Errorf("%d removed, want 1", n)
	}
}

// A stamp never goes back, neither by a frame nor by a move that is told an
// earlier time.
func TestTimeDoesNotGoBack(t *testing.T) {
	for _, from := range []Remote{vtep1, vtep2} {
		tab := New(Config{Ageing: time.Second})
		tab.Learn(hostA, vtep1, 10*time.Second)
		tab.Learn(hostA, from, 5*time.Second)
		wantEntries(t, tab, 7*time.Second, Entry{hostA, from, KindLearned, 0, 0, false})
		wantEntries(t, tab, 11*time.Second, Entry{hostA, from, KindLearned, time.Second, 0, false})
		if tab.Age(11*time.Second) != 0 {
			t.Error("removed by an earlier stamp")
		}
	}
}

// Stamps count to 2^32 ticks of 100 ms, 13.6 years, and begin again.
func TestStampWraps(t *testing.T) {
	const wrap = (1 << 32) * tick
	tab := New(Config{Ageing: time.Minute})
	tab.Learn(hostA, vtep1, wrap-30*time.Second)
	tab.Learn(hostB, vtep1, wrap-30*time.Second)
	wantLearn(t, tab, hostA, vtep1, wrap+10*time.Second, Known)
	wantEntries(t, tab, wrap+20*time.Second,
		Entry{hostA, vtep1, KindLearned, 10 * time.Second, 0, false},
		Entry{hostB, vtep1, KindLearned, 50 * time.Second, 0, false})
	if n := tab.Age(wrap + 31*time.Second); n != 1 {
		t.Errorf("Age = %d, want 1", n)
	}
	wantLookup(t, tab, hostA, vtep1)
	wantLookup(t, tab, hostB, Remote{})
}

func TestStaticErrors(t *testing.T) {
	zero := MAC{}
	tests := []struct {
		name string
		do   func(*Table) error
		want error
		text string
	}{
		{"add twice", func(t *Table) error { return errors.Join(t.Add(hostA, vtep1), t.Add(hostA, vtep2)) }, ErrExists,
			"fdb: add 02:42:0a:00:00:01 to 192.0.2.2:4789: an entry exists; replace or delete it, or append to it if it is a list"},
		{"add group twice", func(t *Table) error { return errors.Join(t.Add(group, vtep1), t.Add(group, vtep2)) }, ErrExists, ""},
		{"add over learned", func(t *Table) error { t.Learn(hostA, vtep1, 0); return t.Add(hostA, vtep2) }, ErrExists, ""},
		{"replace", func(t *Table) error { return errors.Join(t.Replace(hostA, vtep1), t.Replace(hostA, vtep2)) }, nil, ""},
		{"append", func(t *Table) error { return errors.Join(t.Append(hostA, vtep1), t.Append(hostA, vtep2)) }, nil, ""},
		{"replace group", func(t *Table) error { return t.Replace(group, vtep1) }, ErrGroup,
			"fdb: replace 01:00:5e:00:00:05 to 192.0.2.1:4789: a group MAC has a list of remotes; append and delete them one by one"},
		{"add zero MAC", func(t *Table) error { return t.Add(zero, vtep1) }, ErrZeroMAC, ""},
		{"replace zero MAC", func(t *Table) error { return t.Replace(zero, vtep1) }, ErrZeroMAC, ""},
		{"append zero MAC", func(t *Table) error { return t.Append(zero, vtep1) }, ErrZeroMAC, ""},
		{"add without address", func(t *Table) error { return t.Add(hostA, Remote{}) }, ErrRemote, ""},
		{"append without address", func(t *Table) error { return t.Append(group, Remote{}) }, ErrRemote, ""},
		{"dynamic group", func(t *Table) error {
			return t.Set(VerbAdd, group, Destination{Remote: vtep1, Kind: KindDynamic}, 0)
		}, ErrDynamic, ""},
		{"nexthops that are not there", func(t *Table) error { return t.Set(VerbAdd, hostA, Destination{Nexthops: 5}, 0) }, ErrNexthops,
			"fdb: add 02:42:0a:00:00:01 to nexthop group 5: no such nexthop group"},
		{"nexthops of a group MAC", func(t *Table) error {
			return errors.Join(t.SetNexthops(5, []Remote{vtep1}), t.Set(VerbAdd, group, Destination{Nexthops: 5}, 0))
		}, ErrGroup, ""},
		{"dynamic nexthops", func(t *Table) error {
			return errors.Join(t.SetNexthops(5, []Remote{vtep1}), t.Set(VerbAdd, hostA, Destination{Nexthops: 5, Kind: KindDynamic}, 0))
		}, ErrDynamic, ""},
		{"delete a nexthop", func(t *Table) error {
			return errors.Join(t.SetNexthops(5, []Remote{vtep1}), t.Set(VerbAdd, hostA, Destination{Nexthops: 5}, 0), t.DelDestination(hostA, vtep1))
		}, ErrNotFound, ""},
		{"nexthop group 0", func(t *Table) error { return t.SetNexthops(0, []Remote{vtep1}) }, ErrNexthopID, ""},
		{"nexthop group of none", func(t *Table) error { return t.SetNexthops(1, nil) }, ErrNexthopCount,
			"fdb: nexthop group 1: a nexthop group has 1 to 64 remotes"},
		{"nexthop group of too many", func(t *Table) error {
			var many []Remote
			for i := range MaxNexthops + 1 {
				many = append(many, testRemote(i))
			}
			return t.SetNexthops(1, many)
		}, ErrNexthopCount, ""},
		{"full", func(*Table) error {
			t := New(Config{MaxEntries: 1, BoundAll: true})
			return errors.Join(t.Add(hostA, vtep1), t.Add(hostB, vtep1))
		}, ErrFull, "fdb: add 02:42:0a:00:00:02 to 192.0.2.1:4789: the table is full"},
		{"delete nothing", func(t *Table) error { return t.Del(hostA) }, ErrNotFound,
			"fdb: delete 02:42:0a:00:00:01: no such entry"},
		{"delete twice", func(t *Table) error { t.Add(hostA, vtep1); return errors.Join(t.Del(hostA), t.Del(hostA)) }, ErrNotFound, ""},
		{"delete learned", func(t *Table) error { t.Learn(hostA, vtep1, 0); return t.Del(hostA) }, nil, ""},
		{"delete zero MAC", func(t *Table) error { return t.Del(zero) }, ErrNotFound, ""},
		{"delete group", func(t *Table) error { return t.Del(group) }, ErrNotFound, ""},
		{"delete other destination", func(t *Table) error { t.Add(hostA, vtep1); return t.DelDestination(hostA, vtep2) }, ErrNotFound,
			"fdb: delete 02:42:0a:00:00:01 to 192.0.2.2:4789: no such entry"},
		{"delete destination", func(t *Table) error { t.Add(hostA, vtep1); return t.DelDestination(hostA, vtep1) }, nil, ""},
		{"delete other destination of group", func(t *Table) error { t.Add(group, vtep1); return t.DelDestination(group, vtep2) }, ErrNotFound, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do(New(Config{}))
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if tt.text != "" && err.Error() != tt.text {
				t.Errorf("error %q,\nwant  %q", err, tt.text)
			}
		})
	}
}

func TestDelRemote(t *testing.T) {
	tab := New(Config{})
	for i := range 100 {
		tab.Learn(hostMAC(uint32(i)), testRemote(i%2), 0)
	}
	static := MAC{2, 2, 2, 2, 2, 2}
	if err := tab.Add(static, testRemote(0)); err != nil {
		t.Fatal(err)
	}
	tab.AddFlood(testRemote(0))
	if n := tab.DelRemote(testRemote(5)); n != 0 {
		t.Errorf("%d entries of a remote that has none", n)
	}
	mapped := Remote{Addr: netip.MustParseAddrPort("[::ffff:192.168.0.0]:4789")}
	if n := tab.DelRemote(mapped); n != 50 {
		t.Errorf("DelRemote = %d, want 50", n)
	}
	for i := range 100 {
		want := testRemote(i % 2)
		if i%2 == 0 {
			want = Remote{}
		}
		wantLookup(t, tab, hostMAC(uint32(i)), want)
	}
	wantLookup(t, tab, static, testRemote(0))
	if len(tab.Flood()) != 1 {
		t.Error("the flood list changed")
	}
}

func TestAllStopsAndMayChangeTheTable(t *testing.T) {
	tab := New(Config{})
	for i := range 100 {
		tab.Learn(hostMAC(uint32(i)), vtep1, 0)
	}
	tab.Add(group, vtep1)
	tab.Add(group, vtep2)
	seen := 0
	for e := range tab.All(0) {
		seen++
		if err := tab.Del(e.MAC); err != nil {
			t.Error(err)
		}
		if seen == 10 {
			break
		}
	}
	if seen != 10 || tab.Len() != 91 {
		t.Errorf("%d seen, %d left", seen, tab.Len())
	}
}
