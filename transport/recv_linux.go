package transport

import (
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// recvMessages is how many messages one recvmmsg takes: 64 datagrams of a
	// wire without receive offload, in which TCP segments are to be found that
	// belong together.
	recvMessages = 64
	// recvBytes is the room for each: a whole superframe.
	recvBytes = 65536
	// recvBudget is about how many bytes one Recv should bring: few enough to
	// be in the core's own cache still when they are written on, and for other
	// sockets not to wait long for their turn behind a bulk transfer.
	recvBudget = 128 << 10
)

// recvControl has room for UDP_GRO and IP_TOS or IPV6_TCLASS.
type recvControl [64]byte

// Slab is the memory that datagrams are received into, with what recvmmsg wants
// to know of it. It has room for one Recv, and can serve one receiver after the
// other: those that have nothing at the moment then need no memory. Make one
// with NewSlab.
type Slab struct {
	bytes   []byte // recvMessages x recvBytes; pages are touched on use only
	msgs    [recvMessages]mmsghdr
	iov     [recvMessages]unix.Iovec
	addrs   [recvMessages]rawAddr
	control [recvMessages]recvControl
}

// NewSlab returns an empty one.
func NewSlab() *Slab {
	s := &Slab{bytes: make([]byte, recvMessages*recvBytes)}
	for i := range s.msgs {
		s.iov[i].Base = &s.bytes[i*recvBytes]
		s.iov[i].SetLen(recvBytes)
		h := &s.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&s.addrs[i]))
		h.Iov = &s.iov[i]
		h.SetIovlen(1)
		h.Control = unsafe.SliceData(s.control[i][:])
	}
	s.rearm(recvMessages)
	return s
}

// rearm gives the first n messages back the lengths that the kernel overwrote.
func (s *Slab) rearm(n int) {
	for i := range n {
		h := &s.msgs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(rawAddr{}))
		h.SetControllen(len(recvControl{}))
	}
}

// udpReceiver implements Receiver on one socket.
type udpReceiver struct {
	sock *socket
	own  *Slab // for Recv

	lastRaw  rawAddr // memo of the last source: runs come from one VTEP
	lastAddr netip.AddrPort

	call  func(fd uintptr) bool
	try   func(fd uintptr)
	slab  *Slab
	next  int // how many messages the next Recv asks for
	want  int
	got   int
	errno unix.Errno
}

var _ Pollable = (*udpReceiver)(nil)

func newUDPReceiver(sock *socket) *udpReceiver {
	r := &udpReceiver{sock: sock, next: recvMessages}
	r.call = r.recvmmsg
	r.try = func(fd uintptr) { r.recvmmsg(fd) }
	return r
}

func (r *udpReceiver) Recv(trains []Train) (int, error) {
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

func (r *udpReceiver) TryRecv(trains []Train, slab *Slab) (int, error) {
	if len(trains) == 0 {
		return 0, nil
	}
	r.begin(trains, slab)
	if err := r.sock.fd.Do(r.try); err != nil {
		return 0, err
	}
	return r.end(trains)
}

func (r *udpReceiver) Descriptor() int { return r.sock.fd.Number() }

// begin prepares a system call.
func (r *udpReceiver) begin(trains []Train, slab *Slab) {
	r.slab, r.want, r.got, r.errno = slab, min(len(trains), r.next), 0, 0
}

// end turns what the system call brought into trains.
func (r *udpReceiver) end(trains []Train) (int, error) {
	if r.errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", r.errno)
	}
	n, bytes := 0, 0
	for i := range r.got {
		m := &r.slab.msgs[i]
		bytes += int(m.n)
		if m.n == 0 || m.hdr.Flags&unix.MSG_TRUNC != 0 {
			continue // empty: no VXLAN header in it; cut: cannot be, the room is enough
		}
		r.train(i, &trains[n])
		n++
	}
	r.slab.rearm(r.got)
	r.next = recvMessages
	if average := bytes / max(r.got, 1); average > recvBudget/recvMessages {
		r.next = max(recvBudget/average, 1)
	}
	return n, nil
}

// recvmmsg is called by the poller with the descriptor; false waits.
func (r *udpReceiver) recvmmsg(fd uintptr) bool {
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
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.ENETDOWN:
			// The echo of something sent, or a link that comes and goes: the
			// socket goes on receiving. Reading it cleared it.
		default:
			r.errno = errno
			return true
		}
	}
}

// train fills t from the i-th message.
func (r *udpReceiver) train(i int, t *Train) {
	m := &r.slab.msgs[i]
	start := i * recvBytes
	end := start + int(m.n)
	*t = Train{Buf: r.slab.bytes[start:end:end]}
	if r.slab.addrs[i] != r.lastRaw {
		r.lastRaw = r.slab.addrs[i]
		r.lastAddr = addr(&r.lastRaw, r.sock.zones)
	}
	t.Addr = r.lastAddr

	oob := r.slab.control[i][:m.hdr.Controllen]
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(oob)))
		size := int(h.Len)
		if size < unix.CmsgLen(0) || size > len(oob) {
			break
		}
		body := oob[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(body) >= 4:
			t.Stride = int(*(*int32)(unsafe.Pointer(&body[0])))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS && len(body) >= 1:
			t.TOS = body[0]
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && len(body) >= 4:
			t.TOS = uint8(*(*int32)(unsafe.Pointer(&body[0])))
		}
		next := unix.CmsgSpace(len(body))
		if next > len(oob) {
			break
		}
		oob = oob[next:]
	}
}
