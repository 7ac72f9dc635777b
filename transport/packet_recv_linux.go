package transport

import (
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// packetReceiver implements Receiver on one packet socket.
type packetReceiver struct {
	c    *packetConn
	sock *socket
	own  *Slab // for Recv

	unpacker unpacker
	device   uint32 // that the packet at hand came by
	zone     func() string

	call  func(fd uintptr) bool
	try   func(fd uintptr)
	slab  *Slab
	next  int // how many messages the next Recv asks for
	want  int
	got   int
	errno unix.Errno
}

var _ Pollable = (*packetReceiver)(nil)

func newPacketReceiver(c *packetConn, sock *socket) *packetReceiver {
	r := &packetReceiver{c: c, sock: sock, next: recvMessages}
	r.unpacker.port, r.unpacker.zero6 = sock.port, c.accept6
	r.zone = func() string { return sock.zones.name(r.device) }
	r.call = r.recvmmsg
	r.try = func(fd uintptr) { r.recvmmsg(fd) }
	return r
}

func (r *packetReceiver) Recv(trains []Train) (int, error) {
	if len(trains) == 0 {
		return 0, nil // recvmmsg would say so for ever
	}
	if r.own == nil {
		r.own = NewSlab()
	}
	for {
		r.begin(trains, r.own)
		if err := r.sock.fd.Read(r.call); err != nil {
			return 0, net.ErrClosed
		}
		if n, err := r.end(trains); n > 0 || err != nil {
			return n, err
		}
	}
}

func (r *packetReceiver) TryRecv(trains []Train, slab *Slab) (int, error) {
	if len(trains) == 0 {
		return 0, nil
	}
	r.begin(trains, slab)
	if err := r.sock.fd.Do(r.try); err != nil {
		return 0, err
	}
	return r.end(trains)
}

func (r *packetReceiver) Descriptor() int { return r.sock.fd.Number() }

// begin prepares a system call.
func (r *packetReceiver) begin(trains []Train, slab *Slab) {
	r.slab, r.want, r.got, r.errno = slab, min(len(trains), r.next), 0, 0
}

// end turns what the system call brought into trains.
func (r *packetReceiver) end(trains []Train) (int, error) {
	if r.errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", r.errno)
	}
	n, bytes := 0, 0
	for i := range r.got {
		m := &r.slab.msgs[i]
		bytes += int(m.n)
		if m.hdr.Flags&unix.MSG_TRUNC == 0 && r.train(i, &trains[n]) {
			n++
		}
	}
	r.slab.rearm(r.got)
	r.next = recvMessages
	if average := bytes / max(r.got, 1); average > recvBudget/recvMessages {
		r.next = max(recvBudget/average, 1)
	}
	return n, nil
}

// train fills t from the i-th message, or counts why it is none.
func (r *packetReceiver) train(i int, t *Train) bool {
	start := i * recvBytes
	// The shorter of the two kinds of address lies at the same place.
	from := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&r.slab.addrs[i]))
	r.device = uint32(from.Ifindex)
	ethernet := from.Hatype == unix.ARPHRD_ETHER || from.Hatype == unix.ARPHRD_LOOPBACK
	switch r.unpacker.unpack(r.slab.bytes[start:start+int(r.slab.msgs[i].n)], ethernet, r.zone, t) {
	case taken:
		return true
	case badPacket:
		r.c.badPacket.Add(1)
	case badChecksum:
		r.c.badChecksum.Add(1)
	}
	return false
}

// recvmmsg is called by the poller with the descriptor; false waits.
func (r *packetReceiver) recvmmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.slab.msgs[0])),
			uintptr(r.want), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.got = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		case unix.EINVAL:
			// A superframe of a kind that a vnet header has no name for; it is
			// gone from the queue.
			r.c.badPacket.Add(1)
		case unix.ENETDOWN:
			// A device went down, or away. Reading it cleared it.
		default:
			r.errno = errno
			return true
		}
	}
}
