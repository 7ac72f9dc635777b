package neighbour

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/vxlan"
)

// What a station announces of itself is what Parse, and gopacket, read of it.
func TestAnnouncement(t *testing.T) {
	mac := vxlan.MAC{0x02, 0x42, 0x0a, 0, 1, 0x64}
	for ip, kind := range map[string]Kind{"10.0.1.100": Request, "fd00:1::64": Advertisement} {
		frame := AppendAnnouncement(nil, netip.MustParseAddr(ip), mac)
		var m Message
		m.Parse(frame)
		if m.Kind != kind || m.Unicast || m.Claim.IP.String() != ip || m.Claim.MAC != mac || m.Claim.Weak || m.Claim.Router {
			t.Errorf("%s is read as %+v", ip, m)
		}
		if kind == Request && !m.Probe {
			t.Errorf("%s: an announcement is no question to answer: %+v", ip, m)
		}
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		if p.ErrorLayer() != nil {
			t.Errorf("%s: %v", ip, p.ErrorLayer().Error())
		}
		if kind == Advertisement && p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement) == nil {
			t.Errorf("%s: no advertisement: %v", ip, p)
		}
	}
}
