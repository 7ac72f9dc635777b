package fdb

import (
	"testing"
	"time"
)

func TestNoAllocs(t *testing.T) {
	tab := New(Config{MaxEntries: 2})
	tab.Learn(hostA, vtep1, 0)
	tab.Learn(hostB, vtep6, 0)
	static := MAC{2, 2, 2, 2, 2, 2}
	tab.Add(static, vtep1)
	tab.Add(group, vtep1)
	tab.AddFlood(vtep1)
	ecmp := MAC{2, 2, 2, 2, 2, 3}
	tab.SetNexthops(1, []Remote{vtep1, vtep2})
	tab.Set(VerbAdd, ecmp, Destination{Nexthops: 1}, 0)
	unknown := MAC{2, 3, 3, 3, 3, 3}
	now := time.Duration(0)
	var fail bool
	check := func(ok bool) {
		if !ok {
			fail = true
		}
	}
	tests := []struct {
		name string
		f    func()
	}{
		{"Lookup hit", func() { _, ok := tab.Lookup(hostA); check(ok) }},
		{"Lookup static", func() { _, ok := tab.Lookup(static); check(ok) }},
		{"Lookup miss", func() { _, ok := tab.Lookup(unknown); check(!ok) }},
		{"Lookup ECMP", func() { r, ok := tab.Lookup(ecmp); check(ok && r == nil) }},
		{"Select", func() { _, ok := tab.Select(ecmp, uint32(now)); check(ok) }},
		{"Forbids", func() { check(!tab.Forbids(ecmp, vtep2.Addr.Addr()) && tab.Forbids(static, vtep2.Addr.Addr())) }},
		{"Learn ECMP", func() { check(tab.Learn(ecmp, vtep2, 0) == Known) }},
		{"Learn ECMP other", func() { check(tab.Learn(ecmp, vtep6, 0) == Static) }},
		{"Learn known", func() { check(tab.Learn(hostA, vtep1, 0) == Known) }},
		{"Learn known IPv6", func() { check(tab.Learn(hostB, vtep6, 0) == Known) }},
		{"Learn known with a new stamp", func() { now += tick; check(tab.Learn(hostA, vtep1, now) == Known) }},
		{"Learn static same", func() { check(tab.Learn(static, vtep1, 0) == Known) }},
		{"Learn static other", func() { check(tab.Learn(static, vtep2, 0) == Static) }},
		{"Learn full", func() { check(tab.Learn(unknown, vtep1, 0) == Full) }},
		{"Learn invalid", func() { check(tab.Learn(group, vtep1, 0) == Invalid) }},
		{"Flood", func() { check(len(tab.Flood()) == 1) }},
		{"Replicas of a group", func() { check(len(tab.Replicas(group)) == 1) }},
		{"Replicas of unknown unicast", func() { check(len(tab.Replicas(unknown)) == 1) }},
		{"Age", func() { check(tab.Age(0) == 0) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fail = false
			if n := testing.AllocsPerRun(1000, tt.f); n != 0 {
				t.Errorf("%v allocations", n)
			}
			if fail {
				t.Error("the call did not do what was to be measured")
			}
		})
	}
}
