package config

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/govxlan/govxlan/internal/hostname"
)

// PeerName is a VTEP as typed: an address, or a name to be resolved.
type PeerName struct {
	host string
	addr netip.Addr // invalid while host is a name
	port uint16
}

// ParsePeer reads ADDR, ADDR:PORT, [ADDR6]:PORT, NAME or NAME:PORT.
func ParsePeer(s string, port uint16) (PeerName, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return checkPeer(s, PeerName{host: s, addr: a.Unmap(), port: port})
	}
	host := s
	if h, p, err := net.SplitHostPort(s); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return PeerName{}, fmt.Errorf("%q: %q is no UDP port", s, p)
		}
		host, port = h, uint16(n)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return checkPeer(s, PeerName{host: host, addr: a.Unmap(), port: port})
	}
	if !hostname.Valid(host) {
		return PeerName{}, fmt.Errorf("%q: give ADDR, ADDR:PORT, [IPV6]:PORT or a host name", s)
	}
	return PeerName{host: host, port: port}, nil
}

func checkPeer(s string, p PeerName) (PeerName, error) {
	switch {
	case p.addr.IsMulticast():
		return p, fmt.Errorf("%s: a multicast group is no peer: give it with --group, and --dev", s)
	case p.addr.IsUnspecified():
		return p, fmt.Errorf("%s: that is no host's address", s)
	}
	return p, nil
}

// ResolvePeers turns names into addresses and leaves out repetitions.
func ResolvePeers(ctx context.Context, names []PeerName) ([]netip.AddrPort, error) {
	return NewResolver().Resolve(ctx, names)
}

// Resolver turns names into addresses, and asks for each of them once.
type Resolver struct{ known map[string]netip.Addr }

// NewResolver returns one that has asked for nothing yet.
func NewResolver() *Resolver { return &Resolver{make(map[string]netip.Addr)} }

// Resolve returns the addresses of peers, without repetitions.
func (r *Resolver) Resolve(ctx context.Context, names []PeerName) ([]netip.AddrPort, error) {
	var peers []netip.AddrPort
	for _, n := range names {
		a := n.addr
		if !a.IsValid() {
			a = r.known[n.host]
		}
		if !a.IsValid() {
			found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", n.host)
			if err != nil || len(found) == 0 {
				return nil, fmt.Errorf("peer %s: the name does not resolve (%w): give an address, or mend DNS or /etc/hosts", n.host, err)
			}
			a = found[0].Unmap()
			r.known[n.host] = a
		}
		peer := netip.AddrPortFrom(a, n.port)
		if !slices.Contains(peers, peer) {
			peers = append(peers, peer)
		}
	}
	return peers, nil
}

// ParseVTEP reads ADDR, ADDR:PORT or [ADDR6]:PORT; without a port, it is 0.
func ParseVTEP(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	to := netip.AddrPortFrom(a, 0)
	if err != nil {
		if to, err = netip.ParseAddrPort(s); err != nil || to.Port() == 0 {
			return to, fmt.Errorf("%q is no address of a VTEP: give ADDR, ADDR:PORT or [IPV6]:PORT", s)
		}
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if _, err := checkPeer(s, PeerName{addr: to.Addr()}); err != nil {
		return to, fmt.Errorf("VTEP %w", err)
	}
	return to, nil
}
