package vtep

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// An offload that the kernel takes back while running is told once.
func TestRefusedOffloadsAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.DebugLevel)
		w, c := newWire(), newCard(t)
		c.features = tap.AllFeatures
		e, err := New(Config{Conn: w, Logger: zap.New(core)})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.AddVNI(VNIConfig{VNI: 10, Device: c}); err != nil {
			t.Fatal(err)
		}
		e.mu.Lock() // the sweeper asks under it
		c.features = tap.AllFeatures &^ tap.USO
		w.limits = transport.Limits{Segments: 64, Flows: 1}
		e.mu.Unlock()
		result := make(chan error)
		go func() { result <- e.Run(t.Context()) }()
		time.Sleep(time.Minute) // of the bubble: several sweeps
		if n := logged.FilterMessageSnippet("offload").Len(); n != 1 {
			t.Errorf("the device's offload was told %d times, want once", n)
		}
		if n := logged.FilterMessageSnippet("trains").Len(); n != 1 {
			t.Errorf("the underlay's was told %d times, want once", n)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

// A device that vanishes is told, with its name and VNI; packets never are.
func TestOnlyFaultsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logged := observer.New(zap.DebugLevel)
		n := transport.NewNetwork(transport.NetworkConfig{})
		conn, err := n.Listen(self)
		if err != nil {
			t.Fatal(err)
		}
		e, err := New(Config{Conn: conn, Logger: zap.New(core)})
		if err != nil {
			t.Fatal(err)
		}
		c := newCard(t)
		for v, dev := range map[vxlan.VNI]tap.Device{10: tap.NewMemory(tap.MemoryConfig{}), 20: c} {
			if err := e.AddVNI(VNIConfig{VNI: v, Device: dev}); err != nil {
				t.Fatal(err)
			}
		}
		result := make(chan error)
		go func() { result <- e.Run(t.Context()) }()
		sender, err := n.Listen(vtepA)
		if err != nil {
			t.Fatal(err)
		}
		bad := [][]byte{{1}, encap(99, raw(host, alice, 64)), encap(10, raw(host, alice, 64)), encap(10, nil)}
		for _, b := range bad {
			if _, err := sender.NewSender().Send([]transport.Train{{Buf: b, Addr: self}}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if s := e.Status().Counters; s != (EndpointCounters{RxDropBadHeader: 1, RxDropShortFrame: 1, RxDropUnknownVNI: 1}) {
			t.Errorf("counters %+v", s)
		}
		if got := logged.All(); len(got) != 0 {
			t.Errorf("logged for packets: %+v", got)
		}
		c.pipe <- errGone
		synctest.Wait()
		got := logged.All()
		if len(got) != 1 || got[0].Level != zap.ErrorLevel {
			t.Fatalf("logged %+v, want one error", got)
		}
		if f := got[0].ContextMap(); f["device"] != "card0" || f["vni"] != "20" {
			t.Errorf("fields %v, want the device card0 and VNI 20", f)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
		sender.Close()
	})
}
