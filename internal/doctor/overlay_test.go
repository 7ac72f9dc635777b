package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/dockeroverlay"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

func TestOverlays(t *testing.T) {
	far := netip.MustParseAddr("192.168.52.204")
	station := func(last byte, entry, neighbour bool) dockeroverlay.Station {
		return dockeroverlay.Station{
			MAC: vxlan.MAC{2, 0x42, 10, 0, 1, last}, IP: netip.AddrFrom4([4]byte{10, 0, 1, last}), VTEP: far, Entry: entry, Neighbour: neighbour,
		}
	}
	network := dockeroverlay.Network{Name: "ov1", VNI: 4097, Port: 4789, MTU: 1450, Stations: []dockeroverlay.Station{
		{MAC: vxlan.MAC{2, 0x42, 10, 0, 1, 100}, Here: true, Name: "c1"}, station(103, true, true),
	}}
	for _, tc := range []struct {
		name   string
		more   []dockeroverlay.Station
		status *control.Status
		want   []string // state and words
	}{
		{name: "well", want: []string{"ok known here 1, behind 1 other VTEPs 1"}},
		{name: "no entry", more: []dockeroverlay.Station{station(104, false, true)}, want: []string{"fail 10.0.1.104", "ok known here 1"}},
		{name: "no neighbour", more: []dockeroverlay.Station{station(105, true, false)}, want: []string{"warn 02:42:0a:00:01:69", "ok known here 1"}},
		{name: "same VNI", status: &control.Status{Status: vtep.Status{VNIs: []vtep.VNIStatus{{VNI: 4097, Device: "vx4097"}}}}, want: []string{"warn vx4097", "ok known here 1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := network
			n.Stations = append(slices.Clone(n.Stations), tc.more...)
			x := examination{Config: Config{Overlays: []dockeroverlay.Network{n}, Status: tc.status}, port: 4789}
			x.checkOverlays()
			if len(x.report.Findings) != len(tc.want) {
				t.Fatalf("found %+v", x.report.Findings)
			}
			for i, f := range x.report.Findings {
				state, words, _ := strings.Cut(tc.want[i], " ")
				if string(f.State) != state || !strings.Contains(f.Text, words) || *f.VNI != 4097 {
					t.Errorf("%+v, want %s", f, tc.want[i])
				}
			}
		})
	}
	x := examination{Config: Config{OverlayError: dockeroverlay.ErrNoNetwork}}
	x.checkOverlays()
	if f := x.report.Findings; len(f) != 1 || f[0].State != Skip {
		t.Errorf("without networks: %+v", f)
	}
}
