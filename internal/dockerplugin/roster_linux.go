package dockerplugin

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/internal/roster"
	"github.com/govxlan/govxlan/vtep"
	"go.uber.org/zap"
)

// enrol makes this node a member of a network, with the containers that are here.
// local is its VTEP.
func (n *network) enrol(log *zap.Logger, e *vtep.Endpoint, local netip.Addr) (*roster.Roster, error) {
	_, port, err := membership.SplitJoin(n.Options.Join[0])
	if err != nil {
		return nil, err
	}
	r, err := roster.Start(roster.Config{Tables: e, Config: membership.Config{
		Bind: netip.AddrPortFrom(local, port), Join: n.Options.Join, Key: n.Options.Key,
		VTEP: netip.AddrPortFrom(local, n.Options.Port), Log: log,
	}})
	if err != nil {
		return nil, fmt.Errorf("members of %v: %w", n, err)
	}
	if err := errors.Join(r.AddVNI(n.VNI), r.Announce(n.VNI, n.stations()...)); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// stations are the containers that are here.
func (n *network) stations() (list []membership.Endpoint) {
	for _, e := range n.Endpoints {
		if e.Container == "" {
			continue
		}
		station := membership.Endpoint{MAC: e.MAC}
		for _, text := range []string{e.IPv4, e.IPv6} {
			if p, err := netip.ParsePrefix(text); err == nil {
				station.IPs = append(station.IPs, p.Addr())
			}
		}
		list = append(list, station)
	}
	return list
}

// resign ends the membership, if there is one, with a word to the others.
func (n *network) resign() error {
	if n.roster == nil {
		return nil
	}
	r := n.roster
	n.roster = nil
	return r.Leave()
}

// announce tells the others which containers are here.
func (n *network) announce() error {
	if n.roster == nil {
		return nil
	}
	return n.roster.Announce(n.VNI, n.stations()...)
}
