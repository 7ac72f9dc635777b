package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/govxlan/govxlan/transport/wireguard"
)

// wireguard reads the tunnel, and takes the local addresses from it.
func (e *Endpoint) wireguard() error {
	path := e.Text("wireguard")
	if path == "" {
		if e.Given("wireguard") {
			return e.Errorf("wireguard", "is empty: give a file as wg(8) reads it, or leave it out")
		}
		return nil
	}
	if e.Dev != "" {
		return e.Errorf("dev", "%s with --wireguard: peers are reached through the tunnel alone, leave this out", e.Dev)
	}
	if e.Takeover {
		return e.Errorf("takeover", "with --wireguard: the keys of a session are not handed over, stop the endpoint that runs and start this one")
	}
	if e.Packet {
		return e.Errorf("transport", "packet with --wireguard: the tunnel is the transport, leave this out")
	}
	c, err := wireguard.ReadFile(path)
	if err != nil {
		return e.Errorf("wireguard", "%v", err)
	}
	if len(e.Local) > 0 {
		c.Addresses = slices.Clone(e.Local)
	}
	if e.Local = c.Addresses; len(e.Local) == 0 {
		return e.Errorf("wireguard", "%s: [Interface] has no Address: give the one of this end in the tunnel there, or with --local", path)
	}
	for _, a := range e.Local {
		if a.IsUnspecified() {
			return e.Errorf("local", "%v with --wireguard: give the address of this end in the tunnel", a)
		}
		if p := c.PeerOf(a); p != nil && slices.ContainsFunc(p.AllowedIPs, func(l netip.Prefix) bool { return l.IsSingleIP() && l.Addr() == a }) {
			return e.Errorf("wireguard", "%s: %v is the address of this end, and AllowedIPs of peer %v", path, a, p.PublicKey)
		}
	}
	e.WireGuard = c
	return nil
}

// SameTunnel says whether two endpoints have the same tunnel, whatever the names
// in it resolve to.
func (e *Endpoint) SameTunnel(other *Endpoint) bool {
	if e.WireGuard == nil || other.WireGuard == nil {
		return e.WireGuard == other.WireGuard
	}
	plain := func(c wireguard.Config) wireguard.Config {
		c.Readable, c.Ignored, c.Peers = false, nil, slices.Clone(c.Peers)
		for i := range c.Peers {
			c.Peers[i].Addr = netip.AddrPort{}
		}
		return c
	}
	return reflect.DeepEqual(plain(*e.WireGuard), plain(*other.WireGuard))
}

// noGroup refuses a group in a VNI.
func (s *Spec) noGroup(e *Endpoint) error {
	if list := s.List("group"); len(list) > 0 && e.WireGuard != nil {
		return s.Errorf("group", "%s with --wireguard: a tunnel carries no multicast, give its members with --peer", list[0])
	}
	return nil
}

// Reached says whether the tunnel leads to an address.
func (e *Endpoint) Reached(a netip.Addr) error {
	c := e.WireGuard
	if !slices.ContainsFunc(e.Local, func(l netip.Addr) bool { return l.Is4() == a.Is4() }) {
		return fmt.Errorf("peer %v: this end has no address of that family in the tunnel: add one to Address in %s", a, c.File)
	}
	if c.PeerOf(a) == nil {
		return fmt.Errorf("peer %v is in the AllowedIPs of no [Peer] of %s: give its address in the tunnel, or add it there", a, c.File)
	}
	return nil
}
