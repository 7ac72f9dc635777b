package main

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
)

// TestTablesFit: what can be in a table at the most, short of IPv6 addresses
// without a zero in them, fits 80 columns.
func TestTablesFit(t *testing.T) {
	const plenty = 1<<60 - 1
	age, long := vtep.Seconds(12*3600+34*60+56), netip.MustParseAddr("2001:db8:1234:5678::204")
	counters := full[vtep.Counters]()
	counters.RxFrames, counters.TxFrames, counters.RxBytes, counters.TxBytes = plenty, plenty, plenty, plenty
	counters.RxDropUnknownVTEP = plenty
	vni := full[vtep.VNIStatus]()
	vni.VNI, vni.Device, vni.Counters, vni.Offload, vni.ARP = 16777215, "fifteen-letters", counters, "checksum,tso4,tso6,uso", "suppress"
	vni.Multicast[0].Group, vni.Multicast[0].Error, vni.Multicast[0].Joined = netip.MustParseAddr("239.255.255.255"), "", true
	vni.Multicast = vni.Multicast[:1]
	vni.Peers = []vtep.PeerStatus{{VTEP: long, Port: 4789, LastHeard: &age, RxFrames: plenty, TxFrames: plenty, RxBytes: plenty, TxBytes: plenty}, {VTEP: long, Port: 4789}}
	for range 10 {
		vni.Groups = append(vni.Groups, vtep.GroupStatus{Group: 65535, RxFrames: plenty})
	}
	status := control.Status{Version: "0.1.0-dev", Status: vtep.Status{
		Local: "192.168.152.203," + long.String(), Port: 4789, Counters: full[vtep.EndpointCounters](), VNIs: []vtep.VNIStatus{vni},
	}}
	many := status
	many.VNIs = nil
	for range mostVNIs + 1 {
		many.VNIs = append(many.VNIs, vni)
	}
	remote := vni.VNI
	entry := vtep.EntryStatus{VNI: vni.VNI, VTEP: long, Port: 65535, Kind: "dynamic", Age: &age}
	elsewhere := vtep.EntryStatus{VNI: 99999, VTEP: netip.MustParseAddr("192.168.152.204"), Port: 65535, RemoteVNI: &remote, Kind: "permanent"}
	neighbour := vtep.NeighbourStatus{VNI: vni.VNI, IP: long, Kind: "snooped", Router: true, Age: &age}
	nexthops := vtep.NexthopStatus{VNI: vni.VNI, ID: 1<<32 - 1, Remotes: []vtep.RemoteStatus{{VTEP: long, Port: 65535, VNI: &remote}}}
	event := vtep.Event{Time: time.Now(), What: "learned", VNI: vni.VNI, VTEP: netip.MustParseAddr("192.168.152.204"), Port: 4789, Kind: "dynamic"}
	stats := vtep.Stats{VNIs: []vtep.VNIStats{{VNI: vni.VNI, Counters: counters}}, Counters: status.Counters}

	for name, print := range map[string]func(io.Writer) error{
		"status":      func(w io.Writer) error { return printStatus(w, status, true) },
		"status many": func(w io.Writer) error { return printStatus(w, many, false) },
		"fdb":         func(w io.Writer) error { return printFDB(w, []vtep.EntryStatus{entry}) },
		"fdb remote":  func(w io.Writer) error { return printFDB(w, []vtep.EntryStatus{elsewhere}) },
		"neigh":       func(w io.Writer) error { return printNeighbours(w, []vtep.NeighbourStatus{neighbour}) },
		"nexthop":     func(w io.Writer) error { return printNexthops(w, []vtep.NexthopStatus{nexthops}) },
		"monitor":     func(w io.Writer) error { return printEvent(w, event) },
		"stats": func(w io.Writer) error {
			f := statsFlags{all: true}
			last, now := sample{at: time.Unix(0, 0)}, sample{time.Unix(1, 0), stats}
			last.VNIs = []vtep.VNIStats{{VNI: vni.VNI}}
			_, err := io.WriteString(w, f.table(&now, &last)+f.hint(&stats))
			return err
		},
	} {
		var b bytes.Buffer
		if err := print(&b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Count(b.String(), "\n") == 0 {
			t.Errorf("%s printed nothing", name)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 9_999_999: "9999999", 10_000_000: "10M", 1_234_567_890: "1.23G", 1<<64 - 1: "18.4E"} {
		if got := count(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
