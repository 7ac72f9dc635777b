package fdb

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDamping(t *testing.T) {
	const sec = time.Second
	type step struct {
		from Remote
		at   time.Duration
		want Outcome
	}
	for _, tc := range []struct {
		name  string
		d     Damping
		steps []step
		last  Remote
		held  bool
	}{
		{"off", Damping{}, []step{{vtep1, 0, Added}, {vtep2, 0, Moved}, {vtep1, 0, Moved}, {vtep2, 0, Moved}, {vtep1, 0, Moved}, {vtep2, 0, Moved}}, vtep2, false},
		{"the last move is not made", Damping{Moves: 3}, []step{
			{vtep1, 0, Added}, {vtep2, sec, Moved}, {vtep1, 2 * sec, Moved}, {vtep2, 3 * sec, Held}, {vtep1, 4 * sec, Known}, {vtep2, 5 * sec, Held}}, vtep1, true},
		{"back to where it was first", Damping{Moves: 2}, []step{
			{vtep1, 0, Added}, {vtep2, sec, Moved}, {vtep6, 2 * sec, Held}, {vtep2, 3 * sec, Held}, {vtep1, 4 * sec, Known}}, vtep1, true},
		{"not more than one", Damping{Moves: 1}, []step{{vtep1, 0, Added}, {vtep2, sec, Held}}, vtep1, true},
		{"slowly", Damping{Moves: 2, Within: 10 * sec}, []step{
			{vtep1, 0, Added}, {vtep2, sec, Moved}, {vtep1, 12 * sec, Moved}, {vtep2, 23 * sec, Moved}}, vtep2, false},
		{"home is where the count began", Damping{Moves: 2, Within: 10 * sec}, []step{
			{vtep1, 0, Added}, {vtep2, sec, Moved}, {vtep1, 12 * sec, Moved}, {vtep6, 13 * sec, Held}}, vtep2, true},
		{"let go, and all anew", Damping{Moves: 2, Within: 100 * sec, Hold: 5 * sec}, []step{
			{vtep1, 0, Added}, {vtep2, sec, Moved}, {vtep1, 2 * sec, Held}, {vtep2, 6900 * time.Millisecond, Held},
			{vtep2, 7 * sec, Moved}, {vtep1, 8 * sec, Held}}, vtep1, true},
		{"the defaults of RFC 7432", Damping{Moves: 5}, []step{
			{vtep1, 0, Added}, {vtep2, 0, Moved}, {vtep1, 0, Moved}, {vtep2, 0, Moved}, {vtep1, 0, Moved}, {vtep2, 180 * sec, Held},
			{vtep2, 359 * sec, Held}, {vtep2, 360 * sec, Moved}}, vtep2, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tab := New(Config{Damping: tc.d, Ageing: -1})
			for i, s := range tc.steps {
				if got := tab.Learn(hostA, s.from, s.at); got != s.want || got.Drop() != (got == Held) {
					t.Errorf("step %d: %v from %v at %v, want %v", i, got, s.from, s.at, s.want)
				}
			}
			e := tab.Get(hostA, 0)[0]
			if e.Remote != tc.last || e.Held != tc.held || tab.Held() > 0 != tc.held {
				t.Errorf("the entry is %+v, %d held; want %v, held %v", e, tab.Held(), tc.last, tc.held)
			}
			other := vtep1
			if e.Remote == vtep1 {
				other = vtep2
			}
			if tab.Forbids(hostA, other.Addr.Addr()) != tc.held || tab.Forbids(hostA, e.Remote.Addr.Addr()) {
				t.Error("Forbids says otherwise")
			}
		})
	}
}

// hold makes a table in which hostA is held behind vtep1 until 10 s, and vtep2
// wants it.
func hold(t *testing.T, c Config) (*Table, *[]Event) {
	t.Helper()
	var got []Event
	c.Damping = Damping{Moves: 2, Hold: 9 * time.Second}
	c.OnHold = func(e Event) { got = append(got, e) }
	tab := New(c)
	for i, want := range []Outcome{Added, Moved, Held} {
		if o := tab.Learn(hostA, []Remote{vtep1, vtep2, vtep6}[i], time.Second); o != want {
			t.Fatalf("%d: %v", i, o)
		}
	}
	return tab, &got
}

func TestHoldIsTold(t *testing.T) {
	tab, holds := hold(t, Config{})
	var all []Event
	tab.Notify(func(e Event) { all = append(all, e) })
	tab.Learn(hostA, vtep2, 2*time.Second) // once is enough
	at := Entry{MAC: hostA, Remote: vtep1, Held: true}
	if want := []Event{{EventHeld, at, vtep6}}; !slices.Equal(*holds, want) {
		t.Errorf("%+v, want %+v", *holds, want)
	}
	*holds = nil
	tab.Age(9900 * time.Millisecond)
	if d := tab.Release(9700 * time.Millisecond); d != 300*time.Millisecond {
		t.Errorf("the next is due in %v", d)
	}
	if len(*holds) > 0 {
		t.Errorf("too early: %+v", *holds)
	}
	if d := tab.Release(10 * time.Second); d != 0 {
		t.Errorf("the next is due in %v when none is held", d)
	}
	at.Held = false
	want := []Event{{EventReleased, at, Remote{}}}
	if !slices.Equal(*holds, want) || !slices.Equal(all, want) || tab.Held() != 0 {
		t.Errorf("%+v and %+v, want %+v", *holds, all, want)
	}
	if EventHeld.String() != "held" || EventReleased.String() != "released" || Held.String() != "held" || Limited.String() != "limited" {
		t.Error("names")
	}
}

func TestHeldEntry(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(*Table)
		want Outcome // of a frame from vtep2 then
	}{
		{"does not age", func(tab *Table) { tab.Age(9 * time.Second) }, Held},
		{"outlives a rebuild", func(tab *Table) {
			for i := range uint32(1000) {
				tab.Learn(hostMAC(i), vtep2, 0)
			}
			tab.Flush(FlushAll) // hostA too
		}, Added},
		{"outlives growth", func(tab *Table) {
			for i := range uint32(1000) {
				tab.Learn(hostMAC(i), vtep2, 0)
			}
		}, Held},
		{"and Touch", func(tab *Table) { tab.Touch(hostA, vtep1.Addr, 3*time.Second) }, Held},
		{"is deleted", func(tab *Table) { tab.Del(hostA) }, Added},
		{"is made static", func(tab *Table) { tab.Replace(hostA, vtep2) }, Known},
		{"is made dynamic", func(tab *Table) { tab.Set(VerbReplace, hostA, Destination{Remote: vtep2, Kind: KindDynamic}, 0) }, Known},
		{"loses its remote", func(tab *Table) { tab.DelRemote(vtep1) }, Added},
		{"damping is switched off", func(tab *Table) { tab.SetDamping(Damping{}) }, Moved},
		{"damping is another", func(tab *Table) { tab.SetDamping(Damping{Moves: 9}) }, Held},
	} {
		tab, _ := hold(t, Config{Ageing: time.Second, MaxEntries: -1})
		tc.do(tab)
		if got := tab.Learn(hostA, vtep2, 4*time.Second); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		if n := tab.Held(); n > 0 != (tc.want == Held) {
			t.Errorf("%s: %d held", tc.name, n)
		}
	}
}

// A MAC does not return to a VTEP that was taken out.
func TestHomeIsGone(t *testing.T) {
	tab := New(Config{Damping: Damping{Moves: 2}})
	tab.Learn(hostA, vtep1, 0)
	tab.Learn(hostA, vtep2, 0)
	tab.DelRemote(vtep1)
	if o := tab.Learn(hostA, vtep6, 0); o != Moved {
		t.Errorf("%v", o)
	}
	if o := tab.Learn(hostA, vtep2, 0); o != Held {
		t.Errorf("then %v", o)
	}
	if e := tab.Get(hostA, 0)[0]; e.Remote != vtep2 {
		t.Errorf("held at %v", e.Remote)
	}
}

func TestHoldByHand(t *testing.T) {
	tab := New(Config{Damping: Damping{Moves: 5, Hold: time.Second}})
	tab.Learn(hostA, vtep1, 0)
	_ = tab.Add(hostB, vtep1)
	if !tab.Hold(hostA, 0) || tab.Hold(hostA, 0) || tab.Hold(hostB, 0) || tab.Hold(hostMAC(1), 0) || tab.Hold(MAC{}, 0) {
		t.Error("it holds what it should not, or the reverse")
	}
	if o := tab.Learn(hostA, vtep2, 900*time.Millisecond); o != Held {
		t.Error(o)
	}
	if o := tab.Learn(hostA, vtep2, time.Second); o != Moved {
		t.Error(o)
	}
	checkInternals(t, tab)
	off := New(Config{})
	off.Learn(hostA, vtep1, 0)
	if off.Hold(hostA, 0) {
		t.Error("held without damping")
	}
}

// The moves of as many MACs as there are entries are counted, and forgotten.
func TestMoversAreBounded(t *testing.T) {
	tab := New(Config{MaxEntries: -1, Damping: Damping{Moves: 3, Within: time.Second}})
	const n = mostMovers + 100
	for i := range uint32(n) {
		tab.Learn(hostMAC(i), vtep1, 0)
		tab.Learn(hostMAC(i), vtep2, 0)
	}
	if len(tab.movers) != mostMovers {
		t.Errorf("%d movers of %d", len(tab.movers), n)
	}
	for i := range uint32(n / 2) {
		tab.Del(hostMAC(i))
	}
	if got := len(tab.movers); got > n-n/2 {
		t.Errorf("%d movers of %d entries", got, tab.Len())
	}
	tab.Age(2 * time.Second)
	if len(tab.movers) != 0 {
		t.Errorf("%d movers when none counts", len(tab.movers))
	}
}

func TestLearnRate(t *testing.T) {
	tab := New(Config{})
	tab.SetLearnRate(10, 2)
	learn := func(n uint32, now time.Duration, want Outcome) {
		t.Helper()
		if got := tab.Learn(hostMAC(n), vtep1, now); got != want {
			t.Errorf("MAC %d at %v: %v, want %v", n, now, got, want)
		}
	}
	if o := tab.Learn(hostMAC(0), Remote{}, 0); o != Invalid { // costs nothing
		t.Error(o)
	}
	learn(0, 0, Added)
	learn(1, 0, Added)
	learn(2, 0, Limited)
	learn(0, 0, Known)
	if o := tab.Learn(hostMAC(1), vtep2, 0); o != Moved {
		t.Errorf("a move counts too: %v", o)
	}
	learn(2, 100*time.Millisecond, Added)
	learn(3, 100*time.Millisecond, Limited)
	tab.SetLearnRate(0, 0)
	learn(3, 100*time.Millisecond, Added)
	if Limited.Drop() {
		t.Error("what is not learned is dropped")
	}
	tab.SetLearnRate(1, 1)
	learn(4, time.Hour, Added)
	learn(4, time.Hour, Known)
	var o Outcome
	if n := testing.AllocsPerRun(100, func() { o = tab.Learn(hostMAC(5), vtep1, time.Hour) }); n != 0 || o != Limited {
		t.Errorf("%v allocations, %v", n, o)
	}
}

// dampingModel is one MAC as the documentation of Damping has it: the whole history
// of its moves, looked through for each.
type dampingModel struct {
	d       Damping
	at      Remote
	home    Remote
	moves   []time.Duration // since the first that counts
	heldTil time.Duration   // 0: not held
}

func (m *dampingModel) learn(from Remote, now time.Duration) Outcome {
	if m.heldTil != 0 && now >= m.heldTil {
		m.heldTil, m.moves = 0, nil
	}
	switch {
	case from == m.at:
		return Known
	case m.heldTil != 0:
		return Held
	}
	if len(m.moves) == 0 || now-m.moves[0] > m.d.Within {
		m.moves, m.home = nil, m.at
	}
	if m.moves = append(m.moves, now); len(m.moves) >= m.d.Moves {
		m.at, m.heldTil = m.home, now+m.d.Hold
		return Held
	}
	m.at = from
	return Moved
}

// For any sequence of frames, the table does what the model does: no entry makes
// Moves moves within Within, and what is held stays.
func TestDampingModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tenths := func(name string, lo, hi int) time.Duration {
			return time.Duration(rapid.IntRange(lo, hi).Draw(rt, name)) * tick
		}
		d := Damping{Moves: rapid.IntRange(1, 5).Draw(rt, "moves"), Within: tenths("within", 1, 50), Hold: tenths("hold", 1, 50)}
		tab := New(Config{Damping: d, Ageing: -1})
		macs := []MAC{hostA, hostB, hostMAC(7)}
		models := make([]dampingModel, len(macs))
		now := tenths("start", 0, 1000)
		for i := range macs {
			models[i] = dampingModel{d: d, at: vtep1}
			tab.Learn(macs[i], vtep1, now)
		}
		for range rapid.IntRange(1, 100).Draw(rt, "frames") {
			now += tenths("pause", 0, 20)
			if rapid.IntRange(0, 5).Draw(rt, "sweep") == 0 {
				tab.Age(now)
			}
			i := rapid.IntRange(0, len(macs)-1).Draw(rt, "mac")
			from := rapid.SampledFrom([]Remote{vtep1, vtep2, vtep6}).Draw(rt, "from")
			m := &models[i]
			want := m.learn(from, now)
			if got := tab.Learn(macs[i], from, now); got != want {
				rt.Fatalf("%v from %v at %v: %v, want %v (%+v)", i, from, now, got, want, m)
			}
			if r, ok := tab.Lookup(macs[i]); !ok || *r != m.at {
				rt.Fatalf("%v leads to %v, want %v", i, r, m.at)
			}
		}
		tab.Age(now)
		n := 0
		for i := range models {
			if models[i].heldTil > now {
				n++
			}
		}
		if tab.Held() != n {
			rt.Fatalf("%d held, want %d", tab.Held(), n)
		}
	})
}

// Whatever happens to a table with damping, who hears of its events knows it, with
// what is held.
func TestDampingEvents(tb *testing.T) {
	seen := make(map[EventKind]int)
	rapid.Check(tb, func(rt *rapid.T) {
		tab := New(Config{Damping: Damping{Moves: 2, Within: time.Second, Hold: time.Second}, Ageing: time.Second})
		heard := &mirror{entries: map[MAC][]Entry{}, seen: seen, fail: rt.Fatalf}
		tab.Notify(heard.hear)
		clock := rapid.SampledFrom([]time.Duration{0, (1<<32 - 30) * tick}).Draw(rt, "clock") // also when stamps wrap
		tab.SetNexthops(1, []Remote{vtep1})
		rt.Repeat(map[string]func(*rapid.T){
			"learn": func(t *rapid.T) { tab.Learn(drawMAC(t), drawRemote(t), clock) },
			"flap": func(t *rapid.T) {
				mac := drawMAC(t)
				for range rapid.IntRange(1, 3).Draw(t, "times") {
					tab.Learn(mac, vtep1, clock)
					tab.Learn(mac, vtep2, clock)
				}
			},
			"wait":    func(t *rapid.T) { clock += time.Duration(rapid.IntRange(0, 15).Draw(t, "ticks")) * tick },
			"by hand": func(t *rapid.T) { tab.Hold(drawMAC(t), clock) },
			"let go":  func(*rapid.T) { tab.Release(clock) },
			"sweep":   func(*rapid.T) { tab.Age(clock) },
			"calm":    func(*rapid.T) { clock += 2 * time.Second; tab.Age(clock) },
			"touch":   func(t *rapid.T) { tab.Touch(drawMAC(t), vtep1.Addr, clock) },
			"set": func(t *rapid.T) {
				_ = tab.Set(VerbReplace, drawMAC(t), Destination{Remote: vtep1, Kind: drawKind(t)}, clock)
			},
			"nhid":   func(t *rapid.T) { _ = tab.Set(VerbReplace, drawMAC(t), Destination{Nexthops: 1}, clock) },
			"delete": func(t *rapid.T) { _ = tab.Del(drawMAC(t)) },
			"remote": func(t *rapid.T) { tab.DelRemote(drawRemote(t)) },
			"flush":  func(t *rapid.T) { tab.FlushIf(drawFilter(t)) },
			"other": func(t *rapid.T) {
				tab.SetDamping(Damping{Moves: rapid.IntRange(0, 3).Draw(t, "moves"), Within: time.Second, Hold: time.Second})
			},
			"": func(t *rapid.T) {
				checkInternals(tb, tab)
				list, _ := heard.all()
				got := slices.Collect(tab.All(clock))
				for i := range got {
					got[i].Age = 0
				}
				if !slices.Equal(got, list) {
					t.Fatalf("the table has %+v, its events tell %+v", got, list)
				}
			},
		})
	})
	if seen[EventHeld] == 0 || seen[EventReleased] == 0 {
		tb.Errorf("nothing was held or let go: %v", seen)
	}
}
