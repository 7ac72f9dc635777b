package transport

import (
	"net"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// packetBytes is the room for one received packet: the longest IPv6 packet
// with its Ethernet header, a tag and the vnet header.
const packetBytes = (vnetHeaderLen + 14 + 4 + 40 + 65535 + 7) &^ 7

// packetReceiver implements Receiver on one packet socket.
type packetReceiver struct {
	c    *packetConn
	sock *socket

	slab  []byte // recvMessages x packetBytes; pages are touched on use only
	msgs  [recvMessages]mmsghdr
	iov   [recvMessages]unix.Iovec
	addrs [recvMessages]unix.RawSockaddrLinklayer

	unpacker unpacker
	device   uint32 // that the packet at hand came by
	zone     func() string

	call  func(fd uintptr) bool
	next  int // how many messages the next Recv asks for
	want  int
	got   int
	errno unix.Errno
}

func newPacketReceiver(c *packetConn, sock *socket) *packetReceiver {
	r := &packetReceiver{c: c, sock: sock, next: recvMessages}
	r.unpacker.port = sock.port
	r.zone = func() string { return sock.zones.name(r.device) }
	r.call = r.recvmmsg
	r.slab = make([]byte, recvMessages*packetBytes)
	for i := range r.msgs {
		r.iov[i].Base = &r.slab[i*packetBytes]
		r.iov[i].SetLen(packetBytes)
		h := &r.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.addrs[i]))
		h.Iov = &r.iov[i]
		h.SetIovlen(1)
		h.Namelen = unix.SizeofSockaddrLinklayer
	}
	return r
}

func (r *packetReceiver) Recv(trains []Train) (int, error) {
	if len(trains) == 0 {
		return 0, nil // recvmmsg would say so for ever
	}
	for {
		r.want, r.got, r.errno = min(len(trains), r.next), 0, 0
		if err := r.sock.raw.Read(r.call); err != nil {
			return 0, net.ErrClosed
		}
		if r.errno != 0 {
			return 0, os.NewSyscallError("recvmmsg", r.errno)
		}
		n, bytes := 0, 0
		for i := range r.got {
			m := &r.msgs[i]
			bytes += int(m.n)
			m.hdr.Namelen = unix.SizeofSockaddrLinklayer
			if m.hdr.Flags&unix.MSG_TRUNC == 0 && r.train(i, &trains[n]) {
				n++
			}
		}
		r.next = recvMessages
		if average := bytes / max(r.got, 1); average > recvBudget/recvMessages {
			r.next = max(recvBudget/average, recvFewest)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// train fills t from the i-th message, or counts why it is none.
func (r *packetReceiver) train(i int, t *Train) bool {
	start := i * packetBytes
	from := &r.addrs[i]
	r.device = uint32(from.Ifindex)
	ethernet := from.Hatype == unix.ARPHRD_ETHER || from.Hatype == unix.ARPHRD_LOOPBACK
	switch r.unpacker.unpack(r.slab[start:start+int(r.msgs[i].n)], ethernet, r.zone, t) {
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
	var since time.Time // when polling began
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.msgs[0])),
			uintptr(r.want), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.got = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			if r.c.busy == 0 {
				return false
			}
			if since.IsZero() {
				since = time.Now()
			} else if time.Since(since) > r.c.busy {
				return false
			}
		case unix.EINVAL:
			// A superframe of a kind that a vnet header has no name for; it is
			// gone from the queue.
			r.c.badPacket.Add(1)
		case unix.ENETDOWN:
			// The device that the socket is bound to: it, or another one of its
			// name, may come back. Reading it cleared it.
		default:
			r.errno = errno
			return true
		}
	}
}
