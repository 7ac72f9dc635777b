//go:build !linux

package main

import (
	"errors"
	"net/netip"
)

// routeTo needs netlink, which only Linux has.
func routeTo(netip.Addr, netip.Addr) (netip.Addr, int, error) {
	return netip.Addr{}, 0, errors.New("no routing table to ask on this system")
}
