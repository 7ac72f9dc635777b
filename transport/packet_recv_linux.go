package transport

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// packetReceiver implements Receiver on one packet socket.
type packetReceiver struct {
	slabReceiver
	c        *packetConn
	unpacker unpacker
	device   uint32 // that the packet at hand came by
	zone     func() string
}

var _ Pollable = (*packetReceiver)(nil)

func newPacketReceiver(c *packetConn, sock *socket) *packetReceiver {
	r := &packetReceiver{c: c}
	r.unpacker.port, r.unpacker.zero6 = sock.port, c.accept6
	r.zone = func() string { return sock.zones.name(r.device) }
	r.train, r.passing = r.packet, r.passingError
	r.init(sock)
	return r
}

// packet fills t from the i-th message, or counts why it is none.
func (r *packetReceiver) packet(i int, t *Train) bool {
	start := i * recvBytes
	// The shorter of the two kinds of address lies at the same place.
	from := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&r.slab.addrs[i]))
	r.device = uint32(from.Ifindex)
	ethernet := from.Hatype == unix.ARPHRD_ETHER || from.Hatype == unix.ARPHRD_LOOPBACK
	switch r.unpacker.unpack(r.slab.bytes[start:start+int(r.slab.msgs[i].n)], ethernet, r.zone, t) {
	case taken:
		return true
	case badPacket, empty:
		r.c.badPacket.Add(1)
	case badChecksum:
		r.c.badChecksum.Add(1)
	}
	return false
}

func (r *packetReceiver) passingError(errno unix.Errno) bool {
	switch errno {
	case unix.EINVAL:
		// A superframe of a kind that a vnet header has no name for; it is
		// gone from the queue.
		r.c.badPacket.Add(1)
		return true
	case unix.ENETDOWN:
		return true // a device went down, or away
	}
	return false
}
