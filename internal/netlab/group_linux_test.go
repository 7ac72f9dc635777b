package netlab_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// A switch that snoops hears of members behind its ports, and a host knows what
// it is a member of.
func TestGroups(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	lab := netlabtest.New(t, "groups")
	host, sw := netlabtest.Namespace(t, lab, "host"), netlabtest.Namespace(t, lab, "switch")
	must(t, sw.Bridge("br0"))
	must(t, sw.Snoop("br0"))
	must(t, lab.Veth(host, "eth0", "192.168.52.203/24", sw, "port0", "", 0))
	must(t, sw.AttachToBridge("port0", "br0"))
	for i, group := range []string{"239.1.1.1", "ff05::100"} {
		g := netip.MustParseAddr(group)
		local := netip.MustParseAddr("192.168.52.203")
		if g.Is6() {
			local = netip.MustParseAddr("fd52::203")
			must(t, host.AddAddr("eth0", "fd52::203/64"))
		}
		is := func(member bool, ports int) {
			t.Helper()
			got, err := host.Membership("eth0", g)
			must(t, err)
			if got != member {
				t.Errorf("%v: member %v, want %v", g, got, member)
			}
			for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				n, err := sw.Joined("br0", g)
				must(t, err)
				if n == ports {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%v: the switch knows of %d ports, want %d", g, n, ports)
				}
			}
		}
		is(false, 0)
		must(t, host.VXLAN(netlab.VXLANConfig{Name: "vxlan0", VNI: uint32(i), Local: local, Group: g, Dev: "eth0"}))
		is(true, 1)
		must(t, host.DelLink("vxlan0"))
	}
}
