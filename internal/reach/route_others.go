//go:build !linux

package reach

import (
	"errors"
	"net/netip"
)

// Route needs netlink, which only Linux has.
func Route(netip.Addr, netip.Addr) (netip.Addr, int, error) {
	return netip.Addr{}, 0, errors.New("no routing table to ask on this system")
}
