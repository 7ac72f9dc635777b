package transport

import "net/netip"

// TooBig is word that a datagram did not fit: from a router on its way (ICMP
// "fragmentation needed", ICMPv6 "packet too big"), or from this host, whose
// own underlay device is too narrow.
//
// What a router seems to say may be forged by anybody. The kernel lets through
// only what quotes the addresses and ports of one of the Conn's sockets; the
// rest is for the hearer to judge, by Datagram.
type TooBig struct {
	// To is the VTEP that the datagram was for.
	To netip.AddrPort
	// From is the router. The zero Addr is this host.
	From netip.Addr
	// MTU that the datagram did not fit, in bytes of the outer IP packet. 0: an
	// old router, which did not say.
	MTU int
	// Datagram is the beginning of the datagram, as much as the router sent
	// back; RFC 792 asks for nothing of it, routers of today quote some 500
	// bytes and, over IPv6, nearly all. Empty where this host says so. It is
	// valid during the call.
	Datagram []byte
}

// PathConn is a Conn that hears what the underlay says of datagrams too long.
type PathConn interface {
	Conn
	// HearTooBig has hear called for each such word from now on, by a goroutine
	// that is sending, within its Send. It is to be called once, before
	// anything is sent; until then nothing is heard, and listening costs
	// nothing.
	HearTooBig(hear func(*TooBig))
}
