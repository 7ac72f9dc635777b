package transport

import (
	"errors"
	"net/netip"
)

// Errors of ListenUDP, wrapped with the address.
var (
	// ErrPortInUse: another socket has the port.
	ErrPortInUse = errors.New("UDP port in use")
	// ErrNoAddress: the local address is not on any device here.
	ErrNoAddress = errors.New("address is not on this host")
	// ErrNoSourcePort: not one port of the source-port range is free.
	ErrNoSourcePort = errors.New("no source port is free")
	// ErrNoFamily: a train for an address family that the Conn has no local
	// address of.
	ErrNoFamily = errors.New("no local address of that family")
)

// sourceSockets is how many sockets, and so source ports, carry the entropy of
// inner flows where the range allows it. Sixteen spread flows over the queues
// and links of an underlay well enough, and keep trains together.
const sourceSockets = 16

// UDPConfig describes a VTEP on UDP sockets.
type UDPConfig struct {
	// Local addresses, at most one of each family; peers of a family that is
	// not here cannot be reached. Unspecified addresses (0.0.0.0, ::) leave
	// the choice to routing.
	Local []netip.Addr
	// Port to receive on. 0 = 4789.
	Port uint16
	// SourcePortLo and SourcePortHi bound the source ports, both included.
	// 0, 0 = 49152 to 65535 (RFC 7348 section 5).
	SourcePortLo, SourcePortHi uint16
	// Receivers is how many sockets share the port, for more cores. 0 = 1.
	Receivers int
	// Netns is the network namespace of the sockets: a path, or a name under
	// /run/netns. Empty: the caller's.
	Netns string
	// Device binds the sockets to this underlay device. Optional.
	Device string
	// DontFragment sets DF in the outer IPv4 header. With or without it, what
	// is too long for the underlay device is refused (EMSGSIZE), never
	// fragmented by this host (RFC 7348 section 4.3).
	DontFragment bool
	// TTL of the outer header. 0 = 64.
	TTL int
	// MulticastTTL is the TTL of what is sent to multicast groups. 0 = 1: it
	// stays on the link, as that of the kernel's vxlan does.
	MulticastTTL int
	// NoGSO and NoGRO switch off UDP_SEGMENT and UDP_GRO.
	NoGSO, NoGRO bool
}
