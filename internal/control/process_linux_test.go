package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// fakeProcess makes VNIs with devices in memory, and has no file: what the
// process itself does is tested where it is, here only how it is asked.
type fakeProcess struct{ *vtep.Endpoint }

func (p fakeProcess) AddVNI(_ context.Context, wish VNIWish) (string, error) {
	v, err := vxlan.ParseVNI(wish.Options["vni"][0])
	if err != nil {
		return "", err
	}
	name := "vx" + v.String()
	if err := p.Endpoint.AddVNI(vtep.VNIConfig{VNI: v, Device: tap.NewMemory(tap.MemoryConfig{Name: name})}); err != nil {
		return "", err
	}
	return fmt.Sprintf("up %s vni %v local 192.168.52.203:4789 peers 192.168.52.204 mtu 1450 mac 02:00:00:00:00:00", name, v), nil
}

func (p fakeProcess) VNIs() (all []VNI) {
	for _, v := range p.Status().VNIs {
		all = append(all, VNI{
			VNI: v.VNI, Device: v.Device, VLAN: 5, MAC: v.MAC, MTU: v.MTU, Netns: "/run/netns/sandbox", Bridge: "br0",
			Peers: []string{"192.168.52.204"}, Groups: []string{}, Origin: "start",
		})
	}
	return all
}

func (fakeProcess) Reload(context.Context) (Reloaded, error) {
	difference := []VNIDifference{{VNI: 10, Options: []string{"mtu"}}}
	return Reloaded{
		File: "/etc/govxlan/govxlan.yaml", Added: []vxlan.VNI{}, Removed: []vxlan.VNI{},
		Remade: []VNIDifference{}, Changed: difference, Endpoint: []string{}, Same: 1,
	}, nil
}

func (fakeProcess) Config() ([]byte, json.RawMessage, error) {
	return []byte("vnis:\n  - vni: 4097\n"), json.RawMessage(`{"vnis":[{"vni":4097}]}`), nil
}

func (fakeProcess) Members() Membership {
	at := netip.MustParseAddrPort("192.168.52.203:7947")
	return Membership{
		On: true, Address: at, Joins: []Join{{Address: "192.168.52.204", Error: "nobody listens there yet"}},
		Members: []Member{{
			Name: "hostA", Address: at, VTEP: at.Addr(), Port: 4789, Self: true, State: "alive", Since: time.Unix(0, 0),
			VNIs: []MemberVNI{{VNI: 10, Stations: []Station{{MAC: vxlan.MAC{2, 0, 0, 0, 0, 1}, IPs: []netip.Addr{netip.MustParseAddr("10.0.1.100")}}}}},
		}},
	}
}
func (fakeProcess) TakeOver(t Takeover) (TakenOver, error) {
	if t.Door == "" {
		return TakenOver{}, errors.New("there is no door")
	}
	return TakenOver{Version: "test", Process: 7}, nil
}
