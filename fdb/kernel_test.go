package fdb

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// The rules of the Linux kernel's vxlan device for learning and the table, one
// test each, numbered as in the project's protocol checklist. Lines that are
// not here belong to other rooms.
func TestKernelRules(t *testing.T) {
	tests := []struct {
		name string
		f    func(*testing.T, *Table)
	}{
		{"B16 source MAC leads to source address and configured port", func(t *testing.T, tab *Table) {
			wantLearn(t, tab, hostA, vtep1, 0, Added)
			wantLookup(t, tab, hostA, vtep1)
			wantEntries(t, tab, 0, Entry{hostA, Remote{netip.MustParseAddrPort("192.0.2.1:4789"), 0}, KindLearned, 0, 0, false})
		}},
		{"B17 learned entry moves", func(t *testing.T, tab *Table) {
			wantLearn(t, tab, hostA, vtep1, 0, Added)
			wantLearn(t, tab, hostA, vtep2, 0, Moved)
			wantLookup(t, tab, hostA, vtep2)
		}},
		{"B17 static entry stays and the frame is dropped", func(t *testing.T, tab *Table) {
			tab.Add(hostA, vtep1)
			wantLearn(t, tab, hostA, vtep2, 0, Static)
			wantLookup(t, tab, hostA, vtep1)
			if !Static.Drop() {
				t.Error("the frame is delivered")
			}
		}},
		{"B18 multicast or zero source is dropped", func(t *testing.T, tab *Table) {
			wantLearn(t, tab, group, vtep1, 0, Invalid)
			wantLearn(t, tab, MAC{}, vtep1, 0, Invalid)
			if !Invalid.Drop() || tab.Len() != 0 {
				t.Error("the frame is delivered or learned")
			}
		}},
		{"B19 ageing 300 s, 0 means 300 s too", func(t *testing.T, tab *Table) {
			tab.Learn(hostA, vtep1, 0)
			if tab.Age(300*time.Second) != 0 || tab.Age(301*time.Second) != 1 {
				t.Error("not 300 s by default")
			}
			tab.SetAgeing(0)
			tab.Learn(hostA, vtep1, 0)
			if tab.Age(300*time.Second) != 0 || tab.Age(301*time.Second) != 1 {
				t.Error("not 300 s for 0")
			}
		}},
		{"B19 static entries do not age", func(t *testing.T, tab *Table) {
			tab.Add(hostA, vtep1)
			tab.Add(group, vtep1)
			if tab.Age(1000*time.Hour) != 0 {
				t.Error("removed")
			}
			wantLookup(t, tab, hostA, vtep1)
		}},
		{"B19 an expired entry is used until the sweep", func(t *testing.T, tab *Table) {
			tab.Learn(hostA, vtep1, 0)
			wantEntries(t, tab, time.Hour, Entry{hostA, vtep1, KindLearned, time.Hour, 0, false})
			wantLookup(t, tab, hostA, vtep1)
			wantLearn(t, tab, hostA, vtep1, time.Hour, Known)
			if tab.Age(time.Hour) != 0 {
				t.Error("a frame before the sweep did not refresh it")
			}
		}},
		{"B20 sending keeps no entry alive, receiving does", func(t *testing.T, tab *Table) {
			tab.Learn(hostA, vtep1, 0)
			tab.Learn(hostB, vtep1, 0)
			for now := time.Duration(0); now < 301*time.Second; now += time.Second {
				wantLookup(t, tab, hostA, vtep1)
				wantLearn(t, tab, hostB, vtep1, now, Known)
			}
			if tab.Age(301*time.Second) != 1 {
				t.Error("not exactly the silent one removed")
			}
			wantLookup(t, tab, hostA, Remote{})
			wantLookup(t, tab, hostB, vtep1)
		}},
		{"B21 full: not learned, delivered; static entries have places of their own", func(t *testing.T, _ *Table) {
			tab := New(Config{MaxEntries: 1})
			wantLearn(t, tab, hostA, vtep1, 0, Added)
			wantLearn(t, tab, hostB, vtep1, 0, Full)
			wantLookup(t, tab, hostB, Remote{})
			if Full.Drop() {
				t.Error("the frame is dropped")
			}
			if err := tab.Add(hostB, vtep1); err != nil {
				t.Error(err)
			}
			if tab.Learned() != 1 || tab.Len() != 2 {
				t.Error(tab.Learned(), tab.Len())
			}
		}},
		{"B21 no limit", func(t *testing.T, _ *Table) {
			tab := New(Config{MaxEntries: -1})
			for i := range uint32(DefaultMaxEntries) + 1 {
				tab.Learn(hostMAC(i), vtep1, 0)
			}
			if tab.Learned() != DefaultMaxEntries+1 {
				t.Error(tab.Learned())
			}
		}},
		{"B22 full: known MACs still move", func(t *testing.T, _ *Table) {
			tab := New(Config{MaxEntries: 1})
			wantLearn(t, tab, hostA, vtep1, 0, Added)
			wantLearn(t, tab, hostA, vtep2, 0, Moved)
			wantLookup(t, tab, hostA, vtep2)
		}},
		{"B23 unknown unicast goes to the flood list, nowhere without one", func(t *testing.T, tab *Table) {
			wantLookup(t, tab, hostA, Remote{})
			wantRemotes(t, "Replicas", tab.Replicas(hostA))
			tab.AddFlood(vtep1)
			tab.AddFlood(vtep2)
			wantRemotes(t, "Replicas", tab.Replicas(hostA), vtep1, vtep2)
		}},
		{"B24 a static entry for one group MAC goes before the flood list", func(t *testing.T, tab *Table) {
			tab.AddFlood(vtep1)
			tab.Add(group, vtep2)
			wantRemotes(t, "Replicas", tab.Replicas(group), vtep2)
			broadcast := MAC{255, 255, 255, 255, 255, 255}
			wantRemotes(t, "Replicas", tab.Replicas(broadcast), vtep1)
			tab.Add(broadcast, vtep6)
			wantRemotes(t, "Replicas", tab.Replicas(broadcast), vtep6)
		}},
		{"B25 the key of a remote is address, port and VNI", func(t *testing.T, tab *Table) {
			port := Remote{netip.AddrPortFrom(vtep1.Addr.Addr(), 8472), 0}
			vni := Remote{vtep1.Addr, 7}
			for _, r := range []Remote{vtep1, port, vni} {
				if !tab.AddFlood(r) {
					t.Errorf("%v taken for another", r)
				}
			}
			wantRemotes(t, "Flood", tab.Flood(), vtep1, port, vni)
		}},
		{"B26 append to a group adds a remote, twice is no error", func(t *testing.T, tab *Table) {
			for _, r := range []Remote{vtep1, vtep2, vtep1} {
				if err := tab.Append(group, r); err != nil {
					t.Error(err)
				}
			}
			wantRemotes(t, "Replicas", tab.Replicas(group), vtep1, vtep2)
		}},
		{"B26 append to a unicast MAC changes nothing and succeeds", func(t *testing.T, tab *Table) {
			tab.Add(hostA, vtep1)
			tab.Learn(hostB, vtep1, 0)
			if err := errors.Join(tab.Append(hostA, vtep2), tab.Append(hostB, vtep2)); err != nil {
				t.Error(err)
			}
			wantEntries(t, tab, 0, Entry{hostA, vtep1, KindStatic, 0, 0, false}, Entry{hostB, vtep1, KindLearned, 0, 0, false})
		}},
		{"B26 replace is for unicast alone", func(t *testing.T, tab *Table) {
			tab.Add(hostA, vtep1)
			if err := tab.Replace(hostA, vtep2); err != nil {
				t.Error(err)
			}
			wantLookup(t, tab, hostA, vtep2)
			tab.Add(group, vtep1)
			if err := tab.Replace(group, vtep2); !errors.Is(err, ErrGroup) {
				t.Error(err)
			}
			wantRemotes(t, "Replicas", tab.Replicas(group), vtep1)
		}},
		{"B26 add on an existing key fails", func(t *testing.T, tab *Table) {
			tab.Add(hostA, vtep1)
			tab.Add(group, vtep1)
			tab.Learn(hostB, vtep1, 0)
			for _, mac := range []MAC{hostA, hostB, group} {
				if err := tab.Add(mac, vtep2); !errors.Is(err, ErrExists) {
					t.Errorf("%x: %v", mac, err)
				}
			}
			wantLookup(t, tab, hostA, vtep1)
			wantRemotes(t, "Replicas", tab.Replicas(group), vtep1)
		}},
		{"B26 del with an address removes that remote, with the last one the entry", func(t *testing.T, tab *Table) {
			tab.AddFlood(vtep6)
			tab.Append(group, vtep1)
			tab.Append(group, vtep2)
			if err := tab.DelDestination(group, vtep1); err != nil {
				t.Error(err)
			}
			wantRemotes(t, "Replicas", tab.Replicas(group), vtep2)
			if err := tab.DelDestination(group, vtep2); err != nil {
				t.Error(err)
			}
			wantRemotes(t, "Replicas", tab.Replicas(group), vtep6)
			if err := tab.Del(group); !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		}},
		{"B26 del without an address removes the entry", func(t *testing.T, tab *Table) {
			tab.Append(group, vtep1)
			tab.Append(group, vtep2)
			tab.Add(hostA, vtep1)
			if err := errors.Join(tab.Del(group), tab.Del(hostA)); err != nil {
				t.Error(err)
			}
			wantEntries(t, tab, 0)
		}},
		{"B27 families mix, unlike the kernel's", func(t *testing.T, tab *Table) {
			tab.AddFlood(vtep1)
			tab.AddFlood(vtep6)
			wantRemotes(t, "Flood", tab.Flood(), vtep1, vtep6)
			tab.Add(hostA, vtep6)
			wantLearn(t, tab, hostB, vtep1, 0, Added)
			wantLearn(t, tab, hostB, vtep6, 0, Moved)
		}},
		{"B29 link down flushes learned entries, delete flushes all", func(t *testing.T, tab *Table) {
			tab.Add(hostA, vtep1)
			tab.Add(group, vtep1)
			tab.Append(group, vtep2)
			tab.Learn(hostB, vtep1, 0)
			tab.AddFlood(vtep1)
			if n := tab.Flush(FlushLearned); n != 1 {
				t.Errorf("%d learned", n)
			}
			wantEntries(t, tab, 0,
				Entry{group, vtep1, KindStatic, 0, 0, false},
				Entry{group, vtep2, KindStatic, 0, 0, false},
				Entry{hostA, vtep1, KindStatic, 0, 0, false})
			if n := tab.Flush(FlushAll); n != 3 {
				t.Errorf("%d in all", n)
			}
			wantEntries(t, tab, 0)
			wantRemotes(t, "Flood", tab.Flood(), vtep1)
		}},
		{"B17 an entry that points to a nexthop group stays; its remotes may speak, unlike the kernel's, others not", func(t *testing.T, tab *Table) {
			if err := errors.Join(tab.SetNexthops(9, []Remote{vtep1, vtep6}), tab.Set(VerbAdd, hostA, Destination{Nexthops: 9}, 0)); err != nil {
				t.Error(err)
			}
			wantLearn(t, tab, hostA, vtep1, 0, Known)
			wantLearn(t, tab, hostA, vtep6, 0, Known)
			wantLearn(t, tab, hostA, vtep2, 0, Static)
			wantEntries(t, tab, 0, Entry{hostA, Remote{}, KindStatic, 0, 9, false})
		}},
		{"B19 dynamic entries age and move", func(t *testing.T, tab *Table) {
			for _, mac := range []MAC{hostA, hostB} {
				if err := tab.Set(VerbAdd, mac, Destination{Remote: vtep1, Kind: KindDynamic}, 10*time.Second); err != nil {
					t.Error(err)
				}
			}
			wantLearn(t, tab, hostB, vtep2, 200*time.Second, Moved)
			wantEntries(t, tab, 300*time.Second,
				Entry{hostA, vtep1, KindDynamic, 290 * time.Second, 0, false},
				Entry{hostB, vtep2, KindDynamic, 100 * time.Second, 0, false})
			if tab.Age(310*time.Second) != 0 || tab.Age(311*time.Second) != 1 || tab.Age(501*time.Second) != 1 {
				t.Error("not 300 s after the user or a frame set it")
			}
		}},
		{"B21 with BoundAll every MAC counts, and the flood list as one: a static add fails", func(t *testing.T, _ *Table) {
			tab := New(Config{MaxEntries: 4, BoundAll: true})
			tab.AddFlood(vtep1)
			tab.AddFlood(vtep2)
			if err := errors.Join(tab.Append(group, vtep1), tab.Append(group, vtep2), tab.Add(hostA, vtep1)); err != nil {
				t.Error(err)
			}
			wantLearn(t, tab, hostB, vtep1, 0, Added)
			wantLearn(t, tab, hostMAC(7), vtep1, 0, Full)
			for _, mac := range []MAC{hostMAC(7), {3}} {
				if err := tab.Add(mac, vtep1); !errors.Is(err, ErrFull) {
					t.Errorf("add %x: %v", mac, err)
				}
			}
			if err := errors.Join(tab.Append(group, vtep6), tab.Replace(hostB, vtep2), tab.Append(hostB, vtep1)); err != nil {
				t.Errorf("of MACs that are there: %v", err)
			}
			if !tab.AddFlood(vtep6) {
				t.Error("the flood list was refused")
			}
		}},
		{"B28 nexthop group: one remote by flow hash, entries follow its changes and go with it", func(t *testing.T, tab *Table) {
			if err := errors.Join(tab.SetNexthops(9, []Remote{vtep1, vtep2}), tab.Set(VerbAdd, hostA, Destination{Nexthops: 9}, 0)); err != nil {
				t.Error(err)
			}
			if r, ok := tab.Lookup(hostA); r != nil || !ok {
				t.Errorf("Lookup = %v, %v; want the question to ask with the flow", r, ok)
			}
			seen := make(map[Remote]int)
			for hash := range uint32(1000) {
				r, _ := tab.Select(hostA, hash*0x10001)
				seen[*r]++
			}
			if len(seen) != 2 || seen[vtep1] < 400 || seen[vtep2] < 400 {
				t.Errorf("flows by remote: %v", seen)
			}
			tab.SetNexthops(9, []Remote{vtep6})
			if r, _ := tab.Select(hostA, 1); *r != vtep6 {
				t.Errorf("after the group changed it leads to %v", r)
			}
			if n, err := tab.DelNexthops(9); n != 1 || err != nil || tab.Len() != 0 {
				t.Errorf("delete the group: %d entries went, %v, %d left", n, err, tab.Len())
			}
		}},
		{"B29 link down keeps static and permanent entries", func(t *testing.T, tab *Table) {
			for i, k := range []Kind{KindStatic, KindPermanent, KindDynamic} {
				tab.Set(VerbAdd, hostMAC(uint32(i)), Destination{Remote: vtep1, Kind: k}, 0)
			}
			tab.Learn(hostMAC(3), vtep1, 0)
			if n := tab.Flush(FlushAgeing); n != 2 {
				t.Errorf("%d flushed, want the learned and the dynamic one", n)
			}
			if n := tab.Flush(FlushNonPermanent); n != 1 {
				t.Errorf("%d flushed, want the static one", n)
			}
			wantEntries(t, tab, 0, Entry{hostMAC(1), vtep1, KindPermanent, 0, 0, false})
		}},
		{"B30 a learned entry that the user replaces becomes static", func(t *testing.T, tab *Table) {
			tab.Learn(hostA, vtep1, 0)
			wantEntries(t, tab, time.Second, Entry{hostA, vtep1, KindLearned, time.Second, 0, false})
			if err := tab.Replace(hostA, vtep2); err != nil {
				t.Error(err)
			}
			wantEntries(t, tab, time.Second, Entry{hostA, vtep2, KindStatic, 0, 0, false})
			if tab.Learned() != 0 {
				t.Error("still counted as learned")
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.f(t, New(Config{})) })
	}
}
