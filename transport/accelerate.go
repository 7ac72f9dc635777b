package transport

import "net/netip"

// Accelerable is a Conn whose datagrams somebody else may send and receive
// beside it: programs in the kernel. The Conn of ListenUDP on Linux is one.
type Accelerable interface {
	Conn
	// Accelerate says what there is to know for that. From then on told hears of
	// the way to each VTEP that was asked for with Follow, at once and after each
	// change; it must not wait, and not call the Acceleration. linked hears of the
	// index of every device of the network namespace that came, changed or went;
	// it may wait a little.
	Accelerate(told func(NextHop), linked func(index int)) (*Acceleration, error)
	// SetGRO has what arrives handed over in trains (UDP_GRO), as it is at first,
	// or not.
	SetGRO(on bool)
}

// Underlay is how a Conn sends.
type Underlay struct {
	// Local is the IPv4 address that it receives on.
	Local netip.AddrPort
	// SourcePorts are those that it sends from, by flow.
	SourcePorts []uint16
	// Netns is its network namespace; empty: that of the caller of Accelerate.
	Netns string
	// DontFragment: every datagram leaves with DF set.
	DontFragment bool
}

// NextHop is the way to a VTEP.
type NextHop struct {
	To netip.Addr
	// Device is the index of the underlay's device, Via the neighbour there, and
	// its MTU is the largest IP packet in bytes. Device is 0 where packets have
	// to go through the kernel's IP: it does not know the neighbour at the
	// moment, or the route is none to a single one on an Ethernet.
	Device int
	Via    netip.Addr
	MTU    int
	// TTL of datagrams that have none of their own.
	TTL uint8
}
