package fdb

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// table with an entry for hostA that points to a nexthop group of n remotes.
func ecmpTable(t *testing.T, n int) *Table {
	t.Helper()
	tab := New(Config{})
	if err := tab.SetNexthops(1, testRemotes(n)); err != nil {
		t.Fatal(err)
	}
	if err := tab.Set(VerbAdd, hostA, Destination{Nexthops: 1}, 0); err != nil {
		t.Fatal(err)
	}
	return tab
}

func testRemotes(n int) (list []Remote) {
	for i := range n {
		list = append(list, testRemote(i))
	}
	return list
}

// flows asks for the same random flows each time.
func flows(t *testing.T, tab *Table) (to []Remote) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		r, ok := tab.Select(hostA, random.Uint32())
		if !ok {
			t.Fatal("no remote")
		}
		to = append(to, *r)
	}
	return to
}

func TestNexthopsShareEvenly(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 16, MaxNexthops} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			to := flows(t, ecmpTable(t, n))
			count := make(map[Remote]int)
			for _, r := range to {
				count[r]++
			}
			// The deviation of a share of 10,000 random flows is below its
			// square root; a bucket more or less comes on top.
			mean := float64(len(to)) / float64(n)
			for i := range n {
				c := float64(count[testRemote(i)])
				if c < 0.6*mean || c > 1.4*mean {
					t.Errorf("remote %d carries %.0f of %d flows, want about %.0f", i, c, len(to), mean)
				}
			}
		})
	}
}

// The source port of a packet is made of the top bits of the same hash: each
// remote must see all of the ports.
func TestNexthopsLeaveEachRemoteAllPorts(t *testing.T) {
	const remotes, ports = 4, 16
	tab := ecmpTable(t, remotes)
	seen := make(map[Remote]map[uint64]bool)
	random := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		hash := random.Uint32()
		r, _ := tab.Select(hostA, hash)
		if seen[*r] == nil {
			seen[*r] = make(map[uint64]bool)
		}
		seen[*r][uint64(hash)*ports>>32] = true
	}
	for r, p := range seen {
		if len(p) != ports {
			t.Errorf("%v sees %d of %d source ports", r, len(p), ports)
		}
	}
}

// A change moves the flows of the remotes that go, or as many as one that
// comes needs, and no others.
func TestNexthopsChangeMovesFewFlows(t *testing.T) {
	tab := ecmpTable(t, 8)
	before := flows(t, tab)

	tab.SetNexthops(1, testRemotes(8)[1:])
	after := flows(t, tab)
	for i := range before {
		if before[i] != after[i] && before[i] != testRemote(0) {
			t.Fatalf("a flow moved from %v to %v, and both stay", before[i], after[i])
		}
		if after[i] == testRemote(0) {
			t.Fatal("a flow goes to the remote that went")
		}
	}

	tab.SetNexthops(1, testRemotes(8))
	again := flows(t, tab)
	moved := 0
	for i := range again {
		if again[i] != after[i] {
			moved++
			if again[i] != testRemote(0) {
				t.Fatalf("a flow moved from %v to %v, which was there before", after[i], again[i])
			}
		}
	}
	if want := len(again) / 8; moved < want*8/10 || moved > want*12/10 {
		t.Errorf("%d of %d flows moved to the remote that came, want about %d", moved, len(again), want)
	}
}

// An entry whose group was taken away under a reader's feet leads nowhere.
func TestSelectWithoutItsGroup(t *testing.T) {
	tab := ecmpTable(t, 2)
	tab.nexthops.Store(new(map[uint32]*nexthops))
	if r, ok := tab.Select(hostA, 1); ok {
		t.Errorf("Select = %v", r)
	}
	if o := tab.Learn(hostA, testRemote(0), 0); o != Static {
		t.Errorf("Learn = %v", o)
	}
	if !tab.Forbids(hostA, testRemote(0).Addr.Addr()) {
		t.Error("a frame from where it led is accepted")
	}
}

// Rebuilds keep entries that point to nexthop groups.
func TestNexthopsSurviveRebuild(t *testing.T) {
	tab := ecmpTable(t, 3)
	want := flows(t, tab)
	for i := range uint32(1000) {
		tab.Learn(hostMAC(100+i), testRemote(int(i)), 0)
	}
	tab.Flush(FlushLearned)
	checkInternals(t, tab)
	for i, r := range flows(t, tab) {
		if r != want[i] {
			t.Fatalf("flow %d goes to %v, went to %v", i, r, want[i])
		}
	}
}
