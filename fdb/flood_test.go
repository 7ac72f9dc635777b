package fdb

import (
	"net/netip"
	"slices"
	"testing"
)

func wantRemotes(t *testing.T, what string, got []Remote, want ...Remote) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func TestFlood(t *testing.T) {
	tab := New(Config{})
	wantRemotes(t, "Flood of a new table", tab.Flood())
	port2 := Remote{Addr: netip.MustParseAddrPort("192.0.2.1:8472")}
	vni7 := Remote{vtep1.Addr, 7}
	mapped := Remote{Addr: netip.MustParseAddrPort("[::ffff:192.0.2.1]:4789")}
	steps := []struct {
		name string
		do   bool
		want bool
		list []Remote
	}{
		{"add", tab.AddFlood(vtep2), true, []Remote{vtep2}},
		{"add a second", tab.AddFlood(vtep1), true, []Remote{vtep2, vtep1}},
		{"add it again", tab.AddFlood(vtep1), false, nil},
		{"add it written as IPv6", tab.AddFlood(mapped), false, nil},
		{"add its other port", tab.AddFlood(port2), true, nil},
		{"add its other VNI", tab.AddFlood(vni7), true, nil},
		{"delete it", tab.DelFlood(mapped), true, nil},
		{"delete it again", tab.DelFlood(vtep1), false, nil},
	}
	for _, s := range steps {
		if s.do != s.want {
			t.Errorf("%s: %v, want %v", s.name, s.do, s.want)
		}
	}
	wantRemotes(t, "Flood", tab.Flood(), vtep2, port2, vni7)
}

// What Flood has returned stays as it is, whatever the table or another reader
// does.
func TestFloodSnapshot(t *testing.T) {
	tab := New(Config{})
	tab.AddFlood(vtep1)
	tab.AddFlood(vtep2)
	before := tab.Flood()
	tab.DelFlood(vtep1)
	tab.AddFlood(vtep1)
	wantRemotes(t, "earlier snapshot", before, vtep1, vtep2)
	wantRemotes(t, "Flood", tab.Flood(), vtep2, vtep1)

	// A reader's append must not land where the table's next one goes.
	for i := range 20 {
		longer := append(tab.Flood(), vtep6)
		tab.AddFlood(testRemote(i))
		if last := longer[len(longer)-1]; last != vtep6 {
			t.Fatalf("a snapshot of %d shares its end with the list: %v", len(longer)-1, last)
		}
		tab.DelFlood(testRemote(i))
		longer = append(tab.Flood(), vtep6)
		tab.AddFlood(testRemote(i))
		if last := longer[len(longer)-1]; last != vtep6 {
			t.Fatalf("a snapshot of %d shares its end with the list: %v", len(longer)-1, last)
		}
	}
}

func TestAddFloodWithoutAddress(t *testing.T) {
	tab := New(Config{})
	defer func() {
		if recover() == nil {
			t.Error("AddFlood took a remote without an address")
		}
		wantRemotes(t, "Flood", tab.Flood())
	}()
	tab.AddFlood(Remote{})
}

func TestReplicas(t *testing.T) {
	tab := New(Config{})
	other := MAC{0x33, 0x33, 0, 0, 0, 1}
	tab.AddFlood(vtep1)
	tab.AddFlood(vtep2)
	if err := tab.Add(group, vtep6); err != nil {
		t.Fatal(err)
	}
	wantRemotes(t, "group", tab.Replicas(group), vtep6)
	wantRemotes(t, "another group", tab.Replicas(other), vtep1, vtep2)
	wantRemotes(t, "broadcast", tab.Replicas(MAC{255, 255, 255, 255, 255, 255}), vtep1, vtep2)
	wantRemotes(t, "unknown unicast", tab.Replicas(hostA), vtep1, vtep2)
	wantLookup(t, tab, group, Remote{})

	// Readers may hold the map of groups while another one comes.
	before := tab.replication.Load()
	if err := tab.Add(other, vtep6); err != nil {
		t.Fatal(err)
	}
	if len(before.groups) != 1 || before.grouped != 1 {
		t.Errorf("a published map changed: %v", before.groups)
	}
	if err := tab.Del(other); err != nil {
		t.Fatal(err)
	}

	if n := tab.Flush(FlushAll); n != 1 {
		t.Errorf("Flush = %d", n)
	}
	wantRemotes(t, "group after flush", tab.Replicas(group), vtep1, vtep2)
}
