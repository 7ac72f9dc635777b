package daemon

import (
	"net/netip"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// way asks how this host reaches what a VNI sends to. It remembers answers: one
// is for one look at all VNIs.
type way struct {
	endpoint *config.Endpoint
	fixed    bool // local addresses cannot become more: the sockets are open
	// joins are members to be found, for those VNIs that have nobody else to send to.
	joins   []netip.Addr
	roads   map[netip.Addr]road
	devices map[string]deviceAddrs
}

// way is one look with the sockets as they are open.
func (d *Daemon) way() *way {
	w := newWay(d.config.Endpoint, true)
	w.joins = d.joins
	return w
}

// road is the route to one address.
type road struct {
	source netip.Addr
	mtu    int
	device string
	here   bool // it is an address of this host
	err    error
}

func newWay(e *config.Endpoint, fixed bool) *way {
	return &way{endpoint: e, fixed: fixed, roads: make(map[netip.Addr]road), devices: make(map[string]deviceAddrs)}
}

// underlay is how this host reaches the peers.
type underlay struct {
	// local addresses, at most one of each family.
	local []netip.Addr
	// device is the interface with the smallest MTU among those to the peers.
	device string
	// deviceMTU is that of --dev.
	deviceMTU int
	// overlayMTU is the largest that fits all of them; 0 = not known.
	overlayMTU int
	// pathMTU bounds what an interface is taken to carry; 0 = no bound.
	pathMTU int
}

// fit lowers the overlay's MTU to what the device carries.
func (u *underlay) fit(mtu int, to netip.Addr, device string) {
	overhead := vxlan.OverheadIPv4
	if to.Is6() {
		overhead = vxlan.OverheadIPv6
	}
	if u.pathMTU != 0 {
		mtu = min(mtu, u.pathMTU)
	}
	// A loopback's 65,536 is more than one datagram holds.
	fits := min(mtu-overhead, transport.MaxBytes-vxlan.HeaderLen-vxlan.EthernetLen)
	if u.overlayMTU == 0 || fits < u.overlayMTU {
		u.overlayMTU, u.device = fits, device
	}
}
