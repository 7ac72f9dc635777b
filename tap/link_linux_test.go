package tap

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// Addresses and bridge of a device change while it is there; what is so already
// is no error.
func TestLinkChanges(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		must(t, ns.Bridge("br0"))
		var d Link = openIn(t, ns, Config{Name: "vx0", Offload: offload, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.1/24")}})
		for range 2 {
			must(t, d.AddAddr(netip.MustParsePrefix("10.0.2.1/24")))
			must(t, d.AddAddr(netip.MustParsePrefix("fd10::1/64")))
			must(t, d.DelAddr(netip.MustParsePrefix("10.0.1.1/24")))
		}
		must(t, d.SetBridge("br0", 0))
		link, err := ns.Link("vx0")
		must(t, err)
		if link.Bridge != "br0" || slices.Contains(link.Addrs, "10.0.1.1/24") ||
			!slices.Contains(link.Addrs, "10.0.2.1/24") || !slices.Contains(link.Addrs, "fd10::1/64") {
			t.Errorf("the device: %+v", link)
		}
		if err := d.SetBridge("br9", 0); !errors.Is(err, ErrNoBridge) {
			t.Errorf("a bridge that is not there: %v", err)
		}
		must(t, d.SetBridge("", 32000))
		link, err = ns.Link("vx0")
		must(t, err)
		if link.Bridge != "" {
			t.Errorf("the device is still a port: %+v", link)
		}
	})
}
