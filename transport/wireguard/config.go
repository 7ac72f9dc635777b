package wireguard

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"
)

// What WireGuard takes of an IP packet of the underlay, in bytes: IP, UDP, its own
// header (16) and the authenticator (16).
const (
	OverheadIPv4 = 20 + 8 + 32
	OverheadIPv6 = 40 + 8 + 32
)

// DefaultMTU of a tunnel is what 1500 bytes leave in the worst case, IPv6.
const DefaultMTU = 1500 - OverheadIPv6

// Config is a tunnel, as files of wg(8) and wg-quick(8) describe it.
type Config struct {
	// File is where it was read from; for messages.
	File string
	// PrivateKey of this end.
	PrivateKey Key
	// ListenPort is the UDP port of the underlay. 0 = any that is free.
	ListenPort uint16
	// FirewallMark of what is sent (SO_MARK, on Linux). 0 = none.
	FirewallMark uint32
	// Addresses of this end in the tunnel: at most one of each family.
	Addresses []netip.Addr
	// MTU is the longest IP packet in the tunnel, in bytes. 0 = not said.
	MTU int
	// Peers by their public keys.
	Peers []Peer
	// Ignored are keys of wg-quick that ask for what is not done here, with
	// their lines.
	Ignored []Ignored
	// Readable: others than the owner can read the file.
	Readable bool
}

// Peer is one other end.
type Peer struct {
	PublicKey    Key
	PresharedKey Key // zero = none
	// AllowedIPs are the addresses in the tunnel that are its own.
	AllowedIPs []netip.Prefix
	// Endpoint is where it is on the underlay, HOST:PORT. Empty: it will come
	// from somewhere.
	Endpoint string
	// Addr is Endpoint with its name resolved (Config.Resolve).
	Addr netip.AddrPort
	// Keepalive is how often something is sent to it at least, in whole
	// seconds. 0 = never without need.
	Keepalive time.Duration
}

// Ignored is a setting that was not followed.
type Ignored struct {
	Line int
	Key  string
}

// ReadFile reads a file in the format of wg(8).
func ReadFile(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	c, err := Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.File, c.Readable = path, readable(stat)
	return c, nil
}

// Resolve looks up the names in endpoints.
func (c *Config) Resolve(ctx context.Context) error {
	for i := range c.Peers {
		p := &c.Peers[i]
		if p.Endpoint == "" {
			continue
		}
		host, text, err := net.SplitHostPort(p.Endpoint)
		if err != nil {
			return fmt.Errorf("endpoint %s: %w", p.Endpoint, err)
		}
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return fmt.Errorf("endpoint %s: port %w", p.Endpoint, err)
		}
		addr, err := netip.ParseAddr(host)
		if err != nil {
			found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			if err != nil {
				return fmt.Errorf("endpoint %s of peer %v: %w", p.Endpoint, p.PublicKey, err)
			}
			addr = found[0]
		}
		p.Addr = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	}
	return nil
}

// PeerOf returns the peer that an address in the tunnel belongs to, by the longest
// of the prefixes that it is in, or nil.
func (c *Config) PeerOf(a netip.Addr) *Peer {
	var found *Peer
	bits := -1
	for i := range c.Peers {
		for _, prefix := range c.Peers[i].AllowedIPs {
			if prefix.Bits() > bits && prefix.Contains(a) {
				found, bits = &c.Peers[i], prefix.Bits()
			}
		}
	}
	return found
}
