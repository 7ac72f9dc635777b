package control

import (
	"encoding/json"
	"testing"

	"github.com/govxlan/govxlan/vxlan"
)

// What programs read from these answers keeps its name.
func TestShapes(t *testing.T) {
	for want, v := range map[string]any{
		`[{"vni":5,"device":"vx5","vlan":7,"mac":"02:00:00:00:00:01","mtu":1450,"netns":"n","bridge":"b","peers":["192.168.52.204"],"groups":[],"origin":"start"}]`: []VNI{{
			VNI: 5, Device: "vx5", VLAN: 7, MAC: vxlan.MAC{2, 0, 0, 0, 0, 1}, MTU: 1450, Netns: "n", Bridge: "b",
			Peers: []string{"192.168.52.204"}, Groups: []string{}, Origin: "start",
		}},
		`{"vni":5,"line":"up vx5"}`: VNIChanged{Changed{5}, "up vx5"},
		`{"file":"f","added":[1],"removed":[2],"remade":[{"vni":3,"options":["mac"]}],"changed":[],"endpoint":["log-level"],"same":4}`: Reloaded{
			File: "f", Added: []vxlan.VNI{1}, Removed: []vxlan.VNI{2}, Remade: []VNIDifference{{3, []string{"mac"}}},
			Changed: []VNIDifference{}, Endpoint: []string{"log-level"}, Same: 4,
		},
	} {
		if b, err := json.Marshal(v); err != nil || string(b) != want {
			t.Errorf("%T is %s (%v), want %s", v, b, err, want)
		}
	}
}
