package vtep

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vxlan"
)

// model decides where frames go, by the plainest reading of the rules (RFC 7348
// section 4; bridge(8)). The endpoint must come to the same decisions.
type model struct {
	now     time.Duration
	peers   []netip.AddrPort
	entries map[vxlan.MAC]modelEntry
}

type modelEntry struct {
	at     netip.AddrPort
	static bool
	heard  time.Duration
}

const (
	modelAgeing = 101 * time.Second // and time passes in steps of 2 s: never at the very moment
	modelMost   = 4                 // learned entries
)

// The stations, VTEPs and VNIs of which frames are made.
var (
	modelMACs  = []vxlan.MAC{alice, bob, {2, 9}, {2, 10}, {2, 11}, {2, 12}, host, broadcast, group, {}}
	modelVTEPs = []netip.AddrPort{vtepA, vtepB, vtepC}
)

// learned counts those entries.
func (m *model) learned() (n int) {
	for _, e := range m.entries {
		if !e.static {
			n++
		}
	}
	return n
}

// maySpeak is the source filter: a peer, or the VTEP of a static entry.
func (m *model) maySpeak(from netip.AddrPort) bool {
	if slices.Contains(m.peers, from) {
		return true
	}
	for _, e := range m.entries {
		if e.static && e.at == from {
			return true
		}
	}
	return false
}

// in is a frame of VNI 10 from a VTEP: what becomes of it, by the name of the counter.
func (m *model) in(from netip.AddrPort, src vxlan.MAC) string {
	if !m.maySpeak(from) {
		return "unknown VTEP"
	}
	if src.IsZero() || src[0]&1 != 0 {
		return "invalid source"
	}
	if src == host {
		return "own MAC"
	}
	e, known := m.entries[src]
	if known && e.static {
		if e.at != from {
			return "static MAC"
		}
		return "delivered"
	}
	if known || m.learned() < modelMost {
		m.entries[src] = modelEntry{at: from, heard: m.now}
	}
	return "delivered"
}

// out is where a frame of the host goes.
func (m *model) out(dst vxlan.MAC) []netip.AddrPort {
	if e, ok := m.entries[dst]; ok {
		return []netip.AddrPort{e.at}
	}
	return m.peers
}

// pass lets time go by.
func (m *model) pass(d time.Duration) {
	m.now += d
	maps.DeleteFunc(m.entries, func(_ vxlan.MAC, e modelEntry) bool { return !e.static && m.now-e.heard >= modelAgeing })
}

// set is a static entry by hand; del takes away any.
func (m *model) set(mac vxlan.MAC, at netip.AddrPort) bool {
	if e, ok := m.entries[mac]; ok && e.static {
		return false
	}
	m.entries[mac] = modelEntry{at: at, static: true}
	return true
}

func (m *model) del(mac vxlan.MAC) bool {
	_, ok := m.entries[mac]
	delete(m.entries, mac)
	return ok
}

func (m *model) addPeer(a netip.AddrPort) bool {
	if slices.Contains(m.peers, a) {
		return false
	}
	m.peers = append(m.peers, a)
	return true
}

func (m *model) delPeer(a netip.AddrPort) bool {
	if !slices.Contains(m.peers, a) {
		return false
	}
	m.peers = slices.DeleteFunc(m.peers, func(p netip.AddrPort) bool { return p == a })
	maps.DeleteFunc(m.entries, func(_ vxlan.MAC, e modelEntry) bool { return !e.static && e.at == a })
	return true
}

// modelled does what bytes say to an endpoint and to the model, two bytes a step, and
// compares after each.
func modelled(t tester, steps []byte) {
	t.Helper()
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA}
		c.Ageing, c.MaxEntries = modelAgeing, modelMost
	})
	m := &model{now: r.now, peers: []netip.AddrPort{vtepA}, entries: make(map[vxlan.MAC]modelEntry)}
	done := func(what string, err error, want bool, refusals ...error) {
		t.Helper()
		if (err == nil) != want {
			t.Fatalf("%s: %v, the model says %v", what, err, want)
		}
		if err != nil && !slices.ContainsFunc(refusals, func(r error) bool { return errors.Is(err, r) }) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := 0; i+1 < len(steps); i += 2 {
		mac := modelMACs[int(steps[i+1])%len(modelMACs)]
		at := modelVTEPs[int(steps[i+1]>>4)%len(modelVTEPs)]
		unicast := mac[0]&1 == 0 && !mac.IsZero()
		what := fmt.Sprintf("step %d, %d %v %v", i/2, steps[i]%8, mac, at)
		switch steps[i] % 8 {
		case 0, 1: // from the wire
			before := p.counters()
			got := p.arrived(at.Addr(), raw(host, mac, 64))
			after := p.counters()
			fate := map[string]uint64{
				"unknown VTEP": after.RxDropUnknownVTEP - before.RxDropUnknownVTEP, "invalid source": after.RxDropInvalidSource - before.RxDropInvalidSource,
				"own MAC": after.RxDropOwnMAC - before.RxDropOwnMAC, "static MAC": after.RxDropStaticMAC - before.RxDropStaticMAC,
				"delivered": after.RxFrames - before.RxFrames,
			}
			want := m.in(at, mac)
			if fate[want] != 1 || len(got) != int(fate["delivered"]) || after.rxDrops()+after.RxFrames != before.rxDrops()+before.RxFrames+1 {
				t.Fatalf("%s: %v, the model says %s", what, fate, want)
			}
		case 2, 3: // to the wire
			before := p.counters()
			got, want := destinations(p.send(raw(mac, host, 64))), m.out(mac)
			if !slices.Equal(got, want) {
				t.Fatalf("%s: goes to %v, the model says %v", what, got, want)
			}
			if none := p.counters().TxDropNoDestination - before.TxDropNoDestination; (none == 1) != (len(want) == 0) {
				t.Fatalf("%s: %d counted without a destination", what, none)
			}
		case 4: // an entry by hand: of a group too, but not of the flood list
			if !mac.IsZero() {
				done(what, r.e.AddStatic(10, StaticEntry{mac, at}), m.set(mac, at), fdb.ErrExists)
			}
		case 5:
			if !mac.IsZero() {
				done(what, r.e.DelEntry(10, mac), m.del(mac), fdb.ErrNotFound)
			}
		case 6: // a peer
			if unicast {
				done(what, r.e.AddPeer(10, at), m.addPeer(at), ErrPeerExists)
			} else {
				done(what, r.e.DelPeer(10, at), m.delPeer(at), ErrNoPeer)
			}
		case 7: // time
			d := 2 * time.Duration(steps[i+1]) * time.Second
			r.now += d
			m.pass(d)
			p.o.table.Age(r.now)
		}
		got := make(map[vxlan.MAC]modelEntry)
		for _, e := range r.e.FDB(10) {
			if e.Kind != "flood" {
				got[e.MAC] = modelEntry{at: netip.AddrPortFrom(e.VTEP, e.Port), static: e.Kind == "static", heard: m.entries[e.MAC].heard}
			}
		}
		if !maps.Equal(got, m.entries) {
			t.Fatalf("%s: the table is %v, the model's %v", what, got, m.entries)
		}
	}
}

// FuzzForwarding compares the endpoint's decisions with a model's, in any order of
// frames both ways, entries, peers and time.
func FuzzForwarding(f *testing.F) {
	f.Add([]byte{0, 0, 2, 0, 0, 0x10, 2, 0})
	f.Add([]byte{6, 0x10, 0, 0x10, 2, 0, 4, 0, 0, 0x10, 6, 0x17, 2, 0, 5, 0})
	f.Add([]byte{0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 7, 90, 0, 1, 7, 20, 2, 0, 2, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 400 {
			return
		}
		modelled(t, steps)
	})
}

// The same for steps at random, which get further than most that fuzzing makes up.
func TestForwardingIsTheModels(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		steps := make([]byte, 400)
		for i := range steps {
			steps[i] = byte(random.Uint32())
		}
		modelled(t, steps)
	}
}
