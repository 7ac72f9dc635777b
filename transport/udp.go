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
	// ErrSharedSourcePort: the source ports are the receiving one alone, of
	// which DontFragmentByTrain could not have a second.
	ErrSharedSourcePort = errors.New("no source port besides the one that receives")
	// ErrNoFamily: a train for an address family that the Conn has no local
	// address of.
	ErrNoFamily = errors.New("no local address of that family")
)

// sourceSockets is how many sockets, and so source ports, carry the entropy of
// inner flows where the range allows it. Sixteen spread flows over the queues
// and links of an underlay well enough, and keep trains together.
const sourceSockets = 16

// TTLAuto in UDPConfig.TTL leaves the TTL to the system: the hop limit of the
// route, or of the system, for unicast, and 1 for multicast.
const TTLAuto = -1

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
	// DontFragmentByTrain is for many trains with DontFragment beside many
	// without: it takes a second set of sending sockets on the ports of the
	// first. Without it each such train costs two more system calls.
	DontFragmentByTrain bool
	// TTL of the outer header, where Train.TTL is 0. 0 = 64, TTLAuto = what the
	// system uses for the route.
	TTL int
	// MulticastTTL is the TTL of what is sent to multicast groups, whatever
	// Train.TTL says. 0 = 1: it stays on the link, as that of the kernel's vxlan
	// does.
	MulticastTTL int
	// AutoFlowLabel leaves the IPv6 flow label of trains that give none to the
	// system, which derives one from addresses and ports (RFC 6438). Otherwise
	// it is 0.
	AutoFlowLabel bool
	// ZeroChecksum4 and ZeroChecksum6 send the UDP checksum as zero over IPv4
	// (what RFC 7348 section 5 prefers) and over IPv6 (RFC 6935: only to VTEPs
	// that accept it). The kernel takes no UDP_SEGMENT on such a socket, so
	// that every datagram of a train is sent by itself.
	ZeroChecksum4, ZeroChecksum6 bool
	// AcceptZeroChecksum6 receives datagrams without a checksum over IPv6 (RFC
	// 6936 section 4); otherwise the system drops them. Over IPv4 they are
	// always accepted.
	AcceptZeroChecksum6 bool
	// NoGSO and NoGRO switch off UDP_SEGMENT and UDP_GRO.
	NoGSO, NoGRO bool
}
