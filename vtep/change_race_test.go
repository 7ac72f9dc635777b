package vtep

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"golang.org/x/sync/errgroup"
)

// A VNI is changed again and again while its frames flow both ways: none is lost
// to it.
func TestChangeVNIWhileFramesFlow(t *testing.T) {
	network := transport.NewNetwork(transport.NetworkConfig{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var runs errgroup.Group
	end := func(own, far netip.AddrPort, mac byte) (*Endpoint, *tap.Memory) {
		conn, err := network.Listen(own)
		if err != nil {
			t.Fatal(err)
		}
		e, err := New(Config{Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		device := tap.NewMemory(tap.MemoryConfig{MAC: []byte{2, 0, 0, 0, 9, mac}})
		if err := e.AddVNI(VNIConfig{VNI: 10, Device: device, Peers: []netip.AddrPort{far}}); err != nil {
			t.Fatal(err)
		}
		runs.Go(func() error { return e.Run(ctx) })
		return e, device
	}
	a, near := end(self, vtepA, 1)
	_, far := end(vtepA, self, 2)

	var stop atomic.Bool
	var changes errgroup.Group
	changes.Go(func() error {
		for i := 0; !stop.Load(); i++ {
			cfg := VNIConfig{VNI: 10, DisableLearning: i&1 != 0, ClampMSS: i&2 != 0, ARP: ARPMode(i % 3), MaxEntries: 1 + i%9}
			cfg.Outer.TTL = uint8(i)
			if i&4 != 0 {
				cfg.GroupPolicy, cfg.VLAN = new(GroupPolicy), VLANStrip
			}
			if err := a.ChangeVNI(cfg); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range 2000 {
		for _, way := range [][2]*tap.Memory{{near, far}, {far, near}} {
			src := bob
			if way[0] == near {
				src = host
			}
			f := raw(broadcast, src, 60+i%1000)
			if err := way[0].HostSend(f); err != nil {
				t.Fatal(err)
			}
			if got, err := way[1].HostReceive(); err != nil || len(got) != len(f) {
				t.Fatalf("frame %d: %d bytes arrived of %d, %v", i, len(got), len(f), err)
			}
		}
	}
	stop.Store(true)
	if err := changes.Wait(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := runs.Wait(); err != nil {
		t.Error(err)
	}
}
