package fdb

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// These tests are worth most with -race. They end after a number of rounds.

func rounds() uint32 {
	if testing.Short() {
		return 2_000
	}
	return 20_000
}

// Readers and receivers against everything that changes the table at once. The
// remotes of host i have the VNIs i<<16 to i<<16+0xffff: whatever a look-up
// returns must be one of its own.
func TestConcurrent(t *testing.T) {
	const hosts = 300
	tab := New(Config{MaxEntries: hosts / 2, Ageing: time.Second, Damping: Damping{Moves: 3, Within: time.Second, Hold: time.Second}})
	own := func(i, n uint32) Remote { return Remote{vtep1.Addr, i<<16 | n&0xffff} }
	var clock atomic.Int64 // in ticks
	now := func() time.Duration { return time.Duration(clock.Load()) * tick }

	var wg, writers sync.WaitGroup
	var done atomic.Bool
	check := func(i uint32, r *Remote) {
		if r == nil || r.VNI>>16 != i || r.Addr != vtep1.Addr {
			done.Store(true) // one report is enough
			t.Errorf("host %d leads to %v", i, r)
		}
	}
	for range 2 {
		wg.Go(func() { // senders
			for !done.Load() {
				i := rand.Uint32N(hosts)
				if r, ok := tab.Lookup(hostMAC(i)); ok {
					check(i, r)
				}
			}
		})
	}
	wg.Go(func() { // a dump
		for !done.Load() {
			last := MAC{}
			for e := range tab.All(now()) {
				if e.MAC == group {
					continue
				}
				i := uint32(e.MAC[4])<<8 | uint32(e.MAC[5])
				check(i, &e.Remote)
				if order(keyOf(e.MAC)) <= order(keyOf(last)) {
					t.Errorf("%x after %x", e.MAC, last)
				}
				last = e.MAC
			}
			if n := tab.Learned(); n > hosts/2 {
				t.Errorf("%d learned", n)
			}
		}
	})
	for range 2 {
		writers.Go(func() { // receivers
			for n := range rounds() {
				i := rand.Uint32N(hosts)
				// Mostly the same remote, so that the path without the lock
				// is taken, sometimes one never seen.
				variant := uint32(0)
				if n%8 == 0 {
					variant = n
				}
				if o := tab.Learn(hostMAC(i), own(i, variant), now()); o == Invalid {
					t.Error(o)
				}
				if n%64 == 0 {
					clock.Add(1)
				}
			}
		})
	}
	writers.Go(func() { // the user
		for range rounds() / 4 {
			i := rand.Uint32N(hosts)
			switch rand.IntN(40) {
			case 0:
				tab.Flush(FlushLearned)
			case 1:
				tab.Flush(FlushAll)
			case 2:
				tab.DelRemote(own(i, 0))
			case 3, 4, 5, 6:
				tab.Del(hostMAC(i))
			case 7, 8, 9:
				if err := tab.Replace(hostMAC(i), own(i, 1)); err != nil {
					t.Error(err)
				}
			case 10:
				tab.SetAgeing(time.Duration(rand.IntN(3)) * time.Second)
			case 11:
				tab.AddFlood(own(i, 0))
				tab.Add(group, own(i, 0))
			case 12:
				tab.DelFlood(own(i, 0))
			case 13:
				tab.SetDamping(Damping{Moves: rand.IntN(4), Hold: time.Second})
			case 14:
				tab.SetLearnRate(rand.IntN(2)*100, 10)
			default:
				tab.Age(now())
				for _, r := range tab.Replicas(group) {
					if r.Addr != vtep1.Addr {
						t.Error(r)
					}
				}
			}
		}
	})
	writers.Wait()
	done.Store(true)
	wg.Wait()
	checkInternals(t, tab)
}

// churn makes the array of a table grow and shrink until done.
func churn(tab *Table, done *atomic.Bool) {
	for !done.Load() {
		for n := range uint32(200) {
			tab.Learn(hostMAC(1000+n), testRemote(int(n)), 0)
		}
		for n := range uint32(200) {
			tab.Del(hostMAC(1000 + n))
		}
	}
}

// A rebuild loses no refresh, though receivers set stamps without the lock.
func TestRebuildKeepsStamps(t *testing.T) {
	const receivers, each = 2, 50
	tab := New(Config{MaxEntries: -1})
	for i := range uint32(receivers * each) {
		wantLearn(t, tab, hostMAC(i), testRemote(int(i)), 0, Added)
	}
	var wg, learners sync.WaitGroup
	var done atomic.Bool
	wg.Go(func() { churn(tab, &done) })
	for r := range uint32(receivers) {
		learners.Go(func() {
			for n := range rounds() {
				// The MACs of this receiver alone: afterwards the stamp is
				// exactly its own.
				i := r*each + n%each
				if o := tab.Learn(hostMAC(i), testRemote(int(i)), time.Duration(n)*tick); o != Known {
					t.Errorf("frame %d of host %d: %v", n, i, o)
				}
				tab.mu.Lock()
				_, v := tab.entry(keyOf(hostMAC(i)))
				tab.mu.Unlock()
				if v == 0 || uint32(v) != n {
					t.Errorf("host %d heard at %d: entry %x", i, n, v)
				}
			}
		})
	}
	learners.Wait()
	done.Store(true)
	wg.Wait()
	checkInternals(t, tab)
}

// A sweep removes no entry that has been heard in time, also when the frame
// comes while the sweep looks at it.
func TestSweepSparesTheRefreshed(t *testing.T) {
	const hosts = 50
	// The clock moves by one tick a frame, and each host is heard once in
	// hosts frames: before a refresh an entry is exactly as old as allowed.
	tab := New(Config{MaxEntries: -1, Ageing: hosts * tick})
	for i := range uint32(hosts) {
		wantLearn(t, tab, hostMAC(i), testRemote(int(i)), time.Duration(i)*tick, Added)
	}
	var clock atomic.Int64
	clock.Store(hosts - 1)
	now := func() time.Duration { return time.Duration(clock.Load()) * tick }
	var wg sync.WaitGroup
	var done atomic.Bool
	wg.Go(func() { churn(tab, &done) })
	wg.Go(func() {
		for !done.Load() {
			tab.Age(now())
		}
	})
	for n := range rounds() {
		i := n % hosts
		clock.Add(1)
		if o := tab.Learn(hostMAC(i), testRemote(int(i)), now()); o != Known {
			t.Fatalf("frame %d of host %d: %v", n, i, o)
		}
	}
	done.Store(true)
	wg.Wait()
	checkInternals(t, tab)
}

// The moments that the tests above meet by chance at best, one by one.

// A receiver sets its stamp after its slot was copied, before the copy is
// published.
func TestStampBetweenCopyAndPublication(t *testing.T) {
	tab := New(Config{})
	tab.Learn(hostA, vtep1, 0)
	tab.mu.Lock()
	a, interned, bound := tab.copyLive(tab.current.Load())
	if o := tab.Learn(hostA, vtep1, time.Second); o != Known {
		t.Fatal(o)
	}
	tab.replace(a, interned, bound)
	tab.mu.Unlock()
	wantEntries(t, tab, 3*time.Second, Entry{hostA, vtep1, KindLearned, 2 * time.Second, 0, false})
}

// A receiver sets its stamp in the new array before an older one is carried
// over.
func TestStampBeforeCarrying(t *testing.T) {
	tab := New(Config{})
	tab.Learn(hostA, vtep1, 0)
	old := tab.current.Load()
	tab.mu.Lock()
	tab.rebuild()
	s := old.find(tab.seed.hash(keyOf(hostA)), keyOf(hostA))
	tab.refresh(old, s, s.value.Load(), stampOf(time.Second))
	tab.Learn(hostA, vtep1, 2*time.Second)
	tab.carryStamps(old, tab.current.Load())
	tab.mu.Unlock()
	wantEntries(t, tab, 3*time.Second, Entry{hostA, vtep1, KindLearned, time.Second, 0, false})
}

// Another writer comes before a receiver that has seen that it needs the lock.
func TestLearnBehindAnotherWriter(t *testing.T) {
	tests := []struct {
		name   string
		writer func(*Table)
		want   Outcome
		entry  Entry
	}{
		{"none", func(*Table) {}, Added, Entry{hostA, vtep1, KindLearned, time.Second, 0, false}},
		{"same, earlier", func(t *Table) { t.Learn(hostA, vtep1, 0) }, Known, Entry{hostA, vtep1, KindLearned, time.Second, 0, false}},
		{"same, later", func(t *Table) { t.Learn(hostA, vtep1, 2*time.Second) }, Known, Entry{hostA, vtep1, KindLearned, 0, 0, false}},
		{"elsewhere", func(t *Table) { t.Learn(hostA, vtep2, 0) }, Moved, Entry{hostA, vtep1, KindLearned, time.Second, 0, false}},
		{"static same", func(t *Table) { t.Add(hostA, vtep1) }, Known, Entry{hostA, vtep1, KindStatic, 0, 0, false}},
		{"static elsewhere", func(t *Table) { t.Add(hostA, vtep2) }, Static, Entry{hostA, vtep2, KindStatic, 0, 0, false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := New(Config{})
			tt.writer(tab)
			if o := tab.learnLocked(keyOf(hostA), vtep1, stampOf(time.Second)); o != tt.want {
				t.Errorf("%v, want %v", o, tt.want)
			}
			wantEntries(t, tab, 2*time.Second, tt.entry)
		})
	}
}

// A receiver sets its stamp in an array that has been replaced: it must be
// told to look again.
func TestStampInReplacedArray(t *testing.T) {
	tab := New(Config{})
	tab.Learn(hostA, vtep1, 0)
	a := tab.current.Load()
	s := a.find(tab.seed.hash(keyOf(hostA)), keyOf(hostA))
	if !tab.refresh(a, s, s.value.Load(), 1) {
		t.Error("not believed in the current array")
	}
	tab.mu.Lock()
	tab.rebuild()
	tab.mu.Unlock()
	if tab.refresh(a, s, s.value.Load(), 2) {
		t.Error("believed in a replaced array")
	}
}

// A frame comes between the sweep's look at an entry and its removal.
func TestRefreshDuringRemoval(t *testing.T) {
	tab := New(Config{})
	tab.Learn(hostA, vtep1, 0)
	tab.mu.Lock()
	defer tab.mu.Unlock()
	looks := 0
	n := tab.sweepAll(func(v uint64) bool {
		looks++
		gone := uint32(v) == 0
		if o := tab.Learn(hostA, vtep1, time.Second); o != Known {
			t.Error(o)
		}
		return gone
	}, EventDeleted)
	if n != 0 || looks != 2 {
		t.Errorf("%d removed after %d looks, want 0 after 2", n, looks)
	}
	wantLookup(t, tab, hostA, vtep1)
}

// The table is rebuilt while a sweep pauses: entries that move to slots which
// the sweep has passed are swept all the same.
func TestRebuildDuringSweep(t *testing.T) {
	const n = 3 * sweepChunk
	tab := New(Config{MaxEntries: -1})
	for i := range uint32(n) {
		tab.Learn(hostMAC(i), vtep1, 0)
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	pauses := 0
	removed := tab.sweepInChunks(func(v uint64) bool { return true }, EventDeleted, func() {
		if pauses++; pauses == 3 {
			tab.rebuild() // into fewer slots
		}
	})
	if removed != n || tab.Len() != 0 {
		t.Errorf("%d of %d removed, %d left", removed, n, tab.Len())
	}
}

// A reader holds an array from before a remote was added, and meets a value
// that names it.
func TestRemoteYoungerThanArray(t *testing.T) {
	tab := New(Config{})
	old := tab.current.Load()
	for i := range uint32(8) {
		tab.Learn(hostMAC(i), testRemote(int(i)), 0)
	}
	if &old.slots[0] != &tab.current.Load().slots[0] {
		t.Fatal("rebuilt: the array does not share its slots")
	}
	for i := range uint32(8) {
		s := old.find(tab.seed.hash(keyOf(hostMAC(i))), keyOf(hostMAC(i)))
		r := old.remote(s.value.Load())
		if want := int(i)+1 < len(old.remotes); (r != nil) != want || want && *r != testRemote(int(i)) {
			t.Errorf("remote %d by the old array: %v", i, r)
		}
		wantLookup(t, tab, hostMAC(i), testRemote(int(i)))
	}
}
