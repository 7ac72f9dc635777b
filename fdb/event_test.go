package fdb

import (
	"testing"
	"time"
)

func TestEvents(t *testing.T) {
	var got []Event
	tab := New(Config{Ageing: time.Second})
	tab.Learn(hostB, vtep1, 0) // before anybody listens
	tab.Notify(func(e Event) { got = append(got, e) })
	for _, step := range []struct {
		name string
		do   func()
		want []Event
	}{
		{"learned", func() { tab.Learn(hostA, vtep1, 0) }, []Event{{EventLearned, Entry{hostA, vtep1, KindLearned, 0, 0, false}, Remote{}}}},
		{"known", func() { tab.Learn(hostA, vtep1, time.Second) }, nil},
		{"moved", func() { tab.Learn(hostA, vtep2, time.Second) }, []Event{{EventMoved, Entry{hostA, vtep2, KindLearned, 0, 0, false}, vtep1}}},
		{"changed", func() { tab.Replace(hostA, vtep6) }, []Event{{EventChanged, Entry{hostA, vtep6, KindStatic, 0, 0, false}, vtep2}}},
		{"the same again", func() { tab.Replace(hostA, vtep6) }, nil},
		{"refused", func() { tab.Add(hostA, vtep1); tab.Learn(hostA, vtep1, 0) }, nil},
		{"aged", func() { tab.Age(5 * time.Second) }, []Event{{EventAged, Entry{hostB, vtep1, KindLearned, 0, 0, false}, Remote{}}}},
		{"added", func() { tab.Add(hostB, vtep1) }, []Event{{EventAdded, Entry{hostB, vtep1, KindStatic, 0, 0, false}, Remote{}}}},
		{"deleted", func() { tab.Del(hostB); tab.Del(hostB) }, []Event{{EventDeleted, Entry{hostB, vtep1, KindStatic, 0, 0, false}, Remote{}}}},
		{"group", func() { tab.Append(group, vtep1); tab.Append(group, vtep1) }, []Event{{EventAdded, Entry{group, vtep1, KindStatic, 0, 0, false}, Remote{}}}},
		{"flood list", func() { tab.AddFlood(vtep1); tab.AddFlood(vtep1); tab.DelFlood(vtep1) }, []Event{
			{EventAdded, Entry{MAC{}, vtep1, KindStatic, 0, 0, false}, Remote{}}, {EventDeleted, Entry{MAC{}, vtep1, KindStatic, 0, 0, false}, Remote{}}}},
		{"nexthops", func() {
			tab.SetNexthops(3, []Remote{vtep1})
			tab.Set(VerbAdd, hostB, Destination{Nexthops: 3, Kind: KindPermanent}, 0)
			tab.DelNexthops(3)
		}, []Event{{EventAdded, Entry{hostB, Remote{}, KindPermanent, 0, 3, false}, Remote{}}, {EventDeleted, Entry{hostB, Remote{}, KindPermanent, 0, 3, false}, Remote{}}}},
		{"flush", func() { tab.Flush(FlushAll) }, []Event{
			{EventDeleted, Entry{group, vtep1, KindStatic, 0, 0, false}, Remote{}}, {EventDeleted, Entry{hostA, vtep6, KindStatic, 0, 0, false}, Remote{}}}},
		{"nobody listens", func() { tab.Notify(nil); tab.Learn(hostA, vtep1, 0) }, nil},
	} {
		got = nil
		step.do()
		if len(got) != len(step.want) {
			t.Fatalf("%s: %+v, want %+v", step.name, got, step.want)
		}
		for i := range got {
			if got[i] != step.want[i] {
				t.Errorf("%s: %v %+v, want %v %+v", step.name, got[i].What, got[i], step.want[i].What, step.want[i])
			}
		}
	}
}

func TestKindAndEventNames(t *testing.T) {
	for k := KindLearned; k <= KindDynamic; k++ {
		if back, ok := ParseKind(k.String()); !ok || back != k {
			t.Errorf("%v comes back as %v, %v", k, back, ok)
		}
	}
	if _, ok := ParseKind("flood"); ok {
		t.Error("flood is no kind of entry")
	}
	if EventMissed.String() != "missed" || EventKind(0).String() != "unknown event" || EventKind(99).String() != "unknown event" || Kind(99).String() != "unknown kind" {
		t.Error("names")
	}
}
