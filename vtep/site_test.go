package vtep

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// site is an endpoint that runs, on a network in memory. It lives inside a
// synctest bubble: synctest.Wait waits until every frame has arrived, and time
// passes at once.
type site struct {
	t       testing.TB
	e       *Endpoint
	address netip.AddrPort
	cancel  context.CancelFunc
	result  chan error
}

// newSite starts an endpoint on conn. The test ends it, by stop or otherwise.
func newSite(t testing.TB, conn transport.Conn) *site {
	t.Helper()
	return newSiteWith(t, Config{Conn: conn})
}

func newSiteWith(t testing.TB, cfg Config) *site {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &site{t: t, e: e, address: cfg.Conn.Locals()[0], cancel: cancel, result: make(chan error, 1)}
	go func() { s.result <- e.Run(ctx) }()
	return s
}

// on opens a Conn of the network for a site.
func on(t testing.TB, n *transport.Network, a netip.AddrPort) *site {
	t.Helper()
	conn, err := n.Listen(a)
	if err != nil {
		t.Fatal(err)
	}
	return newSite(t, conn)
}

// stop ends the endpoint by its context.
func (s *site) stop() {
	s.t.Helper()
	s.cancel()
	if err := <-s.result; err != nil {
		s.t.Errorf("run ended with %v", err)
	}
}

// station is a host on the overlay, with its device.
type station struct {
	mac vxlan.MAC
	dev *tap.Memory

	mu  sync.Mutex
	got [][]byte
}

// join gives a site a VNI with a station on it.
func (s *site) join(v vxlan.VNI, mac vxlan.MAC, setup func(*VNIConfig)) *station {
	s.t.Helper()
	st := &station{mac: mac, dev: tap.NewMemory(tap.MemoryConfig{Name: "mem0", MAC: []byte{2, 0xFE, 0, 0, 0, mac[5]}})}
	cfg := VNIConfig{VNI: v, Device: st.dev}
	if setup != nil {
		setup(&cfg)
	}
	if err := s.e.AddVNI(cfg); err != nil {
		s.t.Fatal(err)
	}
	go st.collect()
	return st
}

// collect keeps what reaches the station until its device is closed.
func (st *station) collect() {
	for {
		f, err := st.dev.HostReceive()
		if err != nil {
			return
		}
		st.mu.Lock()
		st.got = append(st.got, f)
		st.mu.Unlock()
	}
}

// send sends frames and waits until they are where they go.
func (st *station) send(t testing.TB, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		if err := st.dev.HostSend(f); err != nil {
			t.Error(err)
		}
	}
	synctest.Wait()
}

// take returns what arrived since the last take.
func (st *station) take() [][]byte {
	st.mu.Lock()
	defer st.mu.Unlock()
	got := st.got
	st.got = nil
	return got
}

// to is a frame of this station.
func (st *station) to(dst vxlan.MAC) []byte { return raw(dst, st.mac, 64) }

func (s *site) counters(v vxlan.VNI) Counters {
	s.t.Helper()
	for _, st := range s.e.Status().VNIs {
		if st.VNI == v {
			return st.Counters
		}
	}
	s.t.Fatalf("no VNI %v", v)
	return Counters{}
}

// knows says whether the site has an entry for the MAC.
func (s *site) knows(mac vxlan.MAC) bool {
	return slices.ContainsFunc(s.e.FDB(), func(e EntryStatus) bool { return e.MAC == mac && e.Kind != "flood" })
}
