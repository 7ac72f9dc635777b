//go:build !linux

package main

import (
	"errors"
	"net/netip"
)

// findUnderlay needs --local where the routing table cannot be asked.
func findUnderlay(p *upPlan, _ []netip.AddrPort) (*underlay, error) {
	if len(p.local) == 0 {
		return nil, errors.New("give the address to listen on with --local")
	}
	return &underlay{local: p.local}, nil
}
