package reach

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Route asks the routing table what a packet to a VTEP leaves from, and the
// MTU of the device that it leaves by. local is a source address to ask for, or
// the zero Addr.
func Route(to, local netip.Addr) (source netip.Addr, mtu int, err error) {
	options := &netlink.RouteGetOptions{Oif: to.Zone()}
	if local.IsValid() {
		options.SrcAddr = net.IP(local.AsSlice())
	}
	routes, err := netlink.RouteGetWithOptions(net.IP(to.AsSlice()), options)
	if err != nil || len(routes) == 0 {
		return source, 0, fmt.Errorf("no route to %v (%v)", to, err)
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return source, 0, err
	}
	if source, _ = netip.AddrFromSlice(routes[0].Src); source.IsValid() {
		source = source.Unmap()
		if source.Is6() && source.IsLinkLocalUnicast() {
			source = source.WithZone(link.Attrs().Name)
		}
	}
	return source, min(link.Attrs().MTU, 65535), nil
}
