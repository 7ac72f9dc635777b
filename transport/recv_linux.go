package transport

import (
	"net"
	"net/netip"
	"os"
	"time"
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
	// be in the core's own cache still when they are written on, and for the
	// frames of other flows not to wait long behind a bulk transfer.
	recvBudget = 256 << 10
	// recvFewest is how many messages are asked for at least.
	recvFewest = 4
)

// recvControl has room for UDP_GRO and IP_TOS or IPV6_TCLASS.
type recvControl [64]byte

// udpReceiver implements Receiver on one socket.
type udpReceiver struct {
	sock *socket
	busy time.Duration

	slab    []byte // recvMessages x recvBytes; pages are touched on use only
	msgs    [recvMessages]mmsghdr
	iov     [recvMessages]unix.Iovec
	addrs   [recvMessages]rawAddr
	control [recvMessages]recvControl

	lastRaw  rawAddr // memo of the last source: runs come from one VTEP
	lastAddr netip.AddrPort

	call  func(fd uintptr) bool
	next  int // how many messages the next Recv asks for
	want  int
	got   int
	errno unix.Errno
}

func newUDPReceiver(sock *socket, busy time.Duration) *udpReceiver {
	r := &udpReceiver{sock: sock, busy: busy, next: recvMessages}
	r.call = r.recvmmsg
	r.slab = make([]byte, recvMessages*recvBytes)
	for i := range r.msgs {
		r.iov[i].Base = &r.slab[i*recvBytes]
		r.iov[i].SetLen(recvBytes)
		h := &r.msgs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&r.addrs[i]))
		h.Iov = &r.iov[i]
		h.SetIovlen(1)
		h.Control = unsafe.SliceData(r.control[i][:])
	}
	r.rearm(recvMessages)
	return r
}

// rearm gives the first n messages back the lengths that the kernel overwrote.
func (r *udpReceiver) rearm(n int) {
	for i := range n {
		h := &r.msgs[i].hdr
		h.Namelen = uint32(unsafe.Sizeof(rawAddr{}))
		h.SetControllen(len(recvControl{}))
	}
}

func (r *udpReceiver) Recv(trains []Train) (int, error) {
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
			bytes += int(r.msgs[i].n)
			if r.msgs[i].n == 0 || r.msgs[i].hdr.Flags&unix.MSG_TRUNC != 0 {
				continue // empty: no VXLAN header in it; cut: cannot be, the room is enough
			}
			r.train(i, &trains[n])
			n++
		}
		r.rearm(r.got)
		r.next = recvMessages
		if average := bytes / max(r.got, 1); average > recvBudget/recvMessages {
			r.next = max(recvBudget/average, recvFewest)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// recvmmsg is called by the poller with the descriptor; false waits.
func (r *udpReceiver) recvmmsg(fd uintptr) bool {
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
			if r.busy == 0 {
				return false
			}
			if since.IsZero() {
				since = time.Now()
			} else if time.Since(since) > r.busy {
				return false
			}
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
	m := &r.msgs[i]
	start := i * recvBytes
	end := start + int(m.n)
	*t = Train{Buf: r.slab[start:end:end]}
	if r.addrs[i] != r.lastRaw {
		r.lastRaw = r.addrs[i]
		r.lastAddr = addr(&r.lastRaw, r.sock.zones)
	}
	t.Addr = r.lastAddr

	oob := r.control[i][:m.hdr.Controllen]
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
