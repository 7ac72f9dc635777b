package transport

import (
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// recvMessages is how many messages one recvmmsg takes: 64 datagrams of a
	// wire without receive offload, in which TCP segments are to be found that
	// belong together.
	recvMessages = 64
	// recvBytes is the room for each: a whole superframe, from packet sockets
	// with its outer headers, in whole pages.
	recvBytes = 65536 + 4096
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

// udpReceiver implements Receiver on one UDP socket.
type udpReceiver struct {
	slabReceiver
	empty    *atomic.Uint64
	lastRaw  rawAddr // memo of the last source: runs come from one VTEP
	lastAddr netip.AddrPort
}

var _ Pollable = (*udpReceiver)(nil)

func newUDPReceiver(sock *socket, empty *atomic.Uint64) *udpReceiver {
	r := &udpReceiver{empty: empty}
	r.train, r.passing = r.datagrams, udpPassing
	r.init(sock)
	return r
}

// udpPassing: the echo of something sent, or a link that comes and goes.
func udpPassing(errno unix.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.ENETDOWN:
		return true
	}
	return false
}

// datagrams fills t from the i-th message.
func (r *udpReceiver) datagrams(i int, t *Train) bool {
	m := &r.slab.msgs[i]
	if m.n == 0 {
		r.empty.Add(1) // no VXLAN header in it
		return false
	}
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
	return true
}
