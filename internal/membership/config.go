package membership

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/govxlan/govxlan/internal/hostname"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// DefaultPort is the UDP and TCP port of members. It is not memberlist's own, 7946,
// which Docker's swarm has on each node.
const DefaultPort = 7947

// KeyBytes is the length of a key.
const KeyBytes = 32

// Limits of what is taken from others, and of what may be announced.
const (
	MaxMembers  = 1024   // members, this one included
	MaxFacts    = 16384  // VNIs and stations of one member
	MaxAllFacts = 262144 // those of all others together
	MaxIPs      = 16     // addresses of one station
	MaxName     = 64     // bytes of a node's name
)

// Config says where to be a member, and as what.
type Config struct {
	// Name of the node for people to read, such as its host name. At most MaxName
	// bytes; need not be unique. Optional.
	Name string
	// Bind is the address and port to listen on, UDP and TCP; port 0 takes any that
	// is free. The address must be one of this host, which the others can reach.
	Bind netip.AddrPort
	// Advertise is what the others are told instead of Bind. Optional.
	Advertise netip.AddrPort
	// Join lists members to begin with, ADDR[:PORT], [ADDR6]:PORT or NAME[:PORT];
	// they need not be there yet, and this node itself may be among them. Without a
	// port it is DefaultPort. Optional.
	Join []string
	// Key has KeyBytes, the same for all. Without a key everybody who reaches the
	// port is a member.
	Key []byte
	// VTEP is where this node receives VXLAN.
	VTEP netip.AddrPort
	// Handler is called for each change of another node, one call after the other,
	// not by the goroutine of the caller of Start. Changes that come while it works
	// are put together. Optional.
	Handler func(Change)
	// Log. Optional.
	Log *zap.Logger
}

// Errors of Start and Announce.
var (
	ErrKey   = fmt.Errorf("the key is not %d bytes long", KeyBytes)
	ErrFull  = fmt.Errorf("a member has %d VNIs and stations at most", MaxFacts)
	ErrVNI   = errors.New("this node does not serve the VNI: add it first")
	ErrIPs   = fmt.Errorf("a station has %d addresses at most", MaxIPs)
	ErrMAC   = errors.New("the MAC is no station's: it is all-zero, or a group's")
	ErrAddr  = errors.New("give an address of this host, not the unspecified one")
	ErrClose = errors.New("the membership is closed")
)

// check refuses what cannot work, and fills in what is optional.
func (c *Config) check() error {
	if len(c.Key) != 0 && len(c.Key) != KeyBytes {
		return ErrKey
	}
	if len(c.Name) > MaxName {
		return fmt.Errorf("name %q is longer than %d bytes", c.Name, MaxName)
	}
	c.Bind = netip.AddrPortFrom(c.Bind.Addr().Unmap(), c.Bind.Port())
	if !c.Bind.Addr().IsValid() || c.Bind.Addr().IsUnspecified() && !c.Advertise.IsValid() {
		return fmt.Errorf("membership at %v: %w", c.Bind, ErrAddr)
	}
	if a := c.VTEP.Addr(); !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
		return fmt.Errorf("VTEP %v: %w", c.VTEP, ErrAddr)
	}
	c.VTEP = netip.AddrPortFrom(c.VTEP.Addr().Unmap(), c.VTEP.Port())
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	for _, j := range c.Join {
		if _, _, err := SplitJoin(j); err != nil {
			return err
		}
	}
	return nil
}

// SplitJoin takes an element of Config.Join apart. host is an address, without
// brackets, or a name.
func SplitJoin(s string) (host string, port uint16, err error) {
	if a, err := netip.ParseAddr(s); err == nil && hostName(s) {
		return a.String(), DefaultPort, nil
	}
	if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : n-1]); err == nil && hostName(a.String()) {
			return a.String(), DefaultPort, nil
		}
	}
	h, p, err := net.SplitHostPort(s)
	if err != nil {
		h, p = s, strconv.Itoa(DefaultPort)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || !hostName(h) {
		return "", 0, fmt.Errorf("%q is no address of a member: give ADDR, ADDR:PORT, [IPV6]:PORT or a host name", s)
	}
	return h, uint16(n), nil
}

// hostName accepts addresses, and what a resolver could know.
func hostName(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return !a.IsUnspecified() && !a.IsMulticast()
	}
	return hostname.Valid(s)
}

// Endpoint is a station that a node has.
type Endpoint struct {
	MAC vxlan.MAC
	IPs []netip.Addr
}
