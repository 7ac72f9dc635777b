package daemon

import (
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// What the follower makes of what the underlay carries, step by step.
func TestFollower(t *testing.T) {
	peer := netip.MustParseAddrPort("192.168.52.204:4789")
	type step struct {
		fits, byHand int // byHand: somebody sets it before
		want         int // the device's MTU
		warned       bool
	}
	for _, tc := range []struct {
		name          string
		mtu           int
		fixed, bridge bool
		steps         []step
	}{
		{name: "follows", mtu: 1450, steps: []step{
			{1350, 0, 1350, false}, {1350, 0, 1350, false}, {0, 0, 1350, false}, {-20, 0, 1350, false}, {8950, 0, 8950, false}}},
		{name: "no further than IPv6 needs", mtu: 1450, steps: []step{{1000, 0, 1280, true}, {900, 0, 1280, true}, {1450, 0, 1450, false}}},
		{name: "small from the start", mtu: 500, steps: []step{{450, 0, 450, false}, {1450, 0, 1450, false}}},
		{name: "--mtu", mtu: 1450, fixed: true, steps: []step{{1350, 0, 1450, true}, {1450, 0, 1450, false}, {1500, 0, 1450, false}}},
		{name: "bridge", mtu: 1450, bridge: true, steps: []step{{1350, 0, 1450, true}, {1450, 0, 1450, false}, {1500, 0, 1500, false}}},
		{name: "by hand", mtu: 1450, steps: []step{{1350, 1400, 1400, true}, {1450, 0, 1400, false}, {1350, 1350, 1350, false}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn, err := transport.NewNetwork(transport.NetworkConfig{}).Listen(netip.MustParseAddrPort("192.168.52.203:4789"))
			if err != nil {
				t.Fatal(err)
			}
			endpoint, err := vtep.New(vtep.Config{Conn: conn})
			if err != nil {
				t.Fatal(err)
			}
			defer endpoint.Close()
			device := tap.NewMemory(tap.MemoryConfig{MTU: tc.mtu})
			if err := endpoint.AddVNI(vtep.VNIConfig{VNI: 10, Device: device, Peers: []netip.AddrPort{peer}}); err != nil {
				t.Fatal(err)
			}
			core, logs := observer.New(zap.WarnLevel)
			f := &follower{
				endpoint: endpoint, device: device, vni: 10, log: zap.New(core),
				fixed: tc.fixed, bridge: tc.bridge, fits: tc.mtu, set: tc.mtu,
			}
			for i, s := range tc.steps {
				if s.byHand != 0 {
					if err := device.SetMTU(s.byHand); err != nil {
						t.Fatal(err)
					}
				}
				f.look(s.fits)
				if got := device.MTU(); got != s.want {
					t.Errorf("step %d: MTU %d, want %d", i, got, s.want)
				}
				if warned := len(logs.TakeAll()) > 0; warned != s.warned {
					t.Errorf("step %d: warned %v, want %v", i, warned, s.warned)
				}
			}
			// The end of the VNI is no fault.
			if err := endpoint.DelVNI(10); err != nil {
				t.Fatal(err)
			}
			f.look(9000)
			if warned := logs.TakeAll(); len(warned) > 0 {
				t.Errorf("after the end of the VNI: %v", warned)
			}
		})
	}
}
