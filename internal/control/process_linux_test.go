package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

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

func (fakeProcess) TakeOver(t Takeover) (TakenOver, error) {
	if t.Door == "" {
		return TakenOver{}, errors.New("there is no door")
	}
	return TakenOver{Version: "test", Process: 7}, nil
}
