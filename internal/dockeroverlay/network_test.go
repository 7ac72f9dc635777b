package dockeroverlay

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/vxlan"
)

func sample() Network {
	far := netip.MustParseAddr("192.168.52.204")
	return Network{
		ID: "pyyanoklmp1234", Name: "my-overlay", VNI: 4097, Port: 4790, MTU: 1450, Local: netip.MustParseAddr("192.168.52.203"),
		Stations: []Station{
			{MAC: vxlan.MAC{2, 0x42, 10, 0, 1, 0x64}, IP: netip.MustParseAddr("10.0.1.100"), Here: true, Name: "c1"},
			{MAC: vxlan.MAC{2, 0x42, 10, 0, 1, 0x67}, IP: netip.MustParseAddr("10.0.1.103"), VTEP: far, Entry: true, Neighbour: true},
			{MAC: vxlan.MAC{2, 0, 0, 0, 1, 0xc8}, IP: netip.MustParseAddr("10.0.1.200"), VTEP: netip.MustParseAddr("192.168.52.205"), Entry: true, Neighbour: true},
		},
	}
}

func TestFind(t *testing.T) {
	other := sample()
	other.ID, other.Name, other.VNI = "pyyb", "other", 4098
	all := []Network{sample(), other}
	for which, want := range map[string]vxlan.VNI{"my-overlay": 4097, "4098": 4098, "pyya": 4097, "pyyanoklmp1234": 4097, "pyyb": 4098} {
		if n, err := Find(all, which); err != nil || n.VNI != want {
			t.Errorf("%s: %v, %v", which, n, err)
		}
	}
	for _, which := range []string{"", "pyy", "4099", "my"} {
		if n, err := Find(all, which); !errors.Is(err, ErrNoNetwork) || !strings.Contains(err.Error(), "my-overlay (VNI 4097), other (VNI 4098)") {
			t.Errorf("%q: %v, %v", which, n, err)
		}
	}
	twice := sample()
	twice.VNI = 4099 // another subnet of the same network
	if _, err := Find([]Network{sample(), twice}, "my-overlay"); err == nil || !strings.Contains(err.Error(), "VNI") {
		t.Errorf("two of a name: %v", err)
	}
}

// TestConfig: the file is one that `govxlan up` takes, with just what is there.
func TestConfig(t *testing.T) {
	n := sample()
	text, err := n.Config(netip.MustParsePrefix("10.0.1.200/24"), netip.MustParseAddr("192.168.52.205"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := config.Parse("my-overlay.yaml", text)
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	c, err := config.New(config.Values{}, file)
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	s := c.Specs[0]
	if len(c.Specs) != 1 || c.Endpoint.Port != 4790 || s.VNI != 4097 || s.Device.MTU != 1450 || len(s.Peers) != 2 ||
		len(s.Entries) != 2 || len(s.ARP.Neighbours) != 2 || s.Device.Addrs[0].String() != "10.0.1.200/24" {
		t.Errorf("the file says %+v:\n%s", s, text)
	}
	if at := s.Entries[0].Remote.Addr; at != netip.MustParseAddrPort("192.168.52.203:4790") {
		t.Errorf("a container of this node is behind %v", at)
	}
	n.Local = netip.Addr{}
	if _, err := n.Config(netip.Prefix{}, netip.Addr{}); !errors.Is(err, ErrNoLocal) {
		t.Errorf("without the address of this node: %v", err)
	}
}
