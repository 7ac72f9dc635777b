package transport

import "net/netip"

// PacketConfig describes a VTEP on packet sockets (AF_PACKET): the whole outer
// stack, from Ethernet to UDP, is written and read here and not by the kernel.
// The fields mean what they mean in UDPConfig where they have the same name.
type PacketConfig struct {
	// Local addresses, at most one of each family. With an unspecified one
	// routing chooses the source, and packets to every address of the host
	// (that of Device, if given) are received.
	Local []netip.Addr
	// Port to receive on. 0 = 4789. A UDP socket holds it, so that the kernel
	// does not answer "port unreachable" and nobody else takes it.
	Port uint16
	// SourcePortLo and SourcePortHi bound the source ports, both included.
	// Every port in between is used: nothing is bound to them.
	// 0, 0 = 49152 to 65535 (RFC 7348 section 5).
	SourcePortLo, SourcePortHi uint16
	// Receivers is how many sockets share what arrives, by flow. 0 = 1.
	Receivers int
	// Netns is the network namespace of the sockets: a path, or a name under
	// /run/netns. Empty: the caller's.
	Netns string
	// Device is the only underlay device. Empty: packets may come by any
	// device, and leave by the one that the route to the peer names.
	Device string
	// DontFragment sets DF in the outer IPv4 header of all packets;
	// Train.DontFragment does for one train.
	DontFragment bool
	// TTL of the outer header, where Train.TTL is 0. 0 = 64, TTLAuto = what the
	// system uses for the route.
	TTL int
	// AutoFlowLabel derives the IPv6 flow label of trains that give none from
	// the source port (RFC 6438). Otherwise it is 0.
	AutoFlowLabel bool
	// ZeroChecksum4 and ZeroChecksum6 send the UDP checksum as zero over IPv4
	// (what RFC 7348 section 5 prefers) and over IPv6 (RFC 6935). Trains are
	// then sent datagram by datagram: the kernel does not segment them without.
	ZeroChecksum4, ZeroChecksum6 bool
	// AcceptZeroChecksum6 receives datagrams without a checksum over IPv6 (RFC
	// 6936 section 4). Over IPv4 they are always accepted.
	AcceptZeroChecksum6 bool
	// NoGSO has trains taken apart and checksums computed here instead of by
	// the kernel or the device. NoGRO has the kernel not put together what
	// arrives.
	NoGSO, NoGRO bool
}

// Counters count what a Conn dropped that the kernel would have dropped, and
// counted, below a UDP socket.
type Counters struct {
	// RxBadPacket: an outer header that contradicts itself or the packet, a
	// wrong IPv4 header checksum, or a datagram without content.
	RxBadPacket uint64
	// RxChecksum: a wrong outer UDP checksum, or an unwanted zero over IPv6.
	RxChecksum uint64
	// RxQueueFull: the socket's buffer was full. Over UDP sockets these are all
	// that the kernel dropped when it had found the socket.
	RxQueueFull uint64
}

// Counting is a Conn that has Counters.
type Counting interface {
	Counters() Counters
}
