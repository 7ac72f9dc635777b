package transport

import (
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// quoteBytes is how much of a quoted datagram is read: more than the
	// headers of whatever is inside.
	quoteBytes = 512
	// mostErrors bounds the words read at once, and mostRetries how often one
	// send is tried again for them: somebody may send us ICMP without end.
	mostErrors  = 64
	mostRetries = 4

	icmpUnreachable, icmpFragNeeded = 3, 4
	icmpv6PacketTooBig              = 2
)

var _ PathConn = (*udpConn)(nil)

// HearTooBig switches the error queues of the sending sockets on. Of two on one
// port the kernel tells the one that was bound last, which is the one with DF,
// that routers answer to. A socket that
// receives as well, because the source ports include our own, is left out: its
// Recv would get the errors.
func (c *udpConn) HearTooBig(hear func(*TooBig)) {
	c.hear.Store(&hear)
	for _, set := range [][]*socket{c.senders[0], c.senders[1], c.unfragmented} {
		for _, s := range set {
			if s.port != c.locals[0].Port() {
				s.hears.Store(s.hearErrors() == nil)
			}
		}
	}
}

// hearErrors switches the error queue of a socket on.
func (s *socket) hearErrors() error {
	var failed error
	err := s.fd.Do(func(fd uintptr) {
		level, name := unix.IPPROTO_IP, unix.IP_RECVERR
		if s.v6 {
			level, name = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
			// PMTUDISC_INTERFACE would be told nothing. PROBE does as it does
			// but that the kernel takes note for others, as it always may.
			failed = unix.SetsockoptInt(int(fd), level, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
			if failed != nil {
				return
			}
		}
		failed = unix.SetsockoptInt(int(fd), level, name, 1)
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt RECVERR", failed)
}

// errorQueue is what reading a socket's error queue needs, made once.
type errorQueue struct {
	msg     unix.Msghdr
	iov     unix.Iovec
	addr    rawAddr
	control [256]byte
	quote   [quoteBytes]byte
	word    TooBig
}

// hearQueue reads what came back to the sender's socket and tells of it. It
// returns whether anything came from the network: then the error that a send
// got may have been of an earlier one.
func (s *udpSender) hearQueue(fd uintptr) (fromNetwork bool) {
	hear := s.c.hear.Load()
	if hear == nil {
		return false
	}
	q := s.queue
	if q == nil {
		q = new(errorQueue)
		s.queue = q
	}
	for range mostErrors {
		q.iov.Base = &q.quote[0]
		q.iov.SetLen(len(q.quote))
		q.msg = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&q.addr)), Namelen: uint32(unsafe.Sizeof(q.addr)), Iov: &q.iov, Control: &q.control[0]}
		q.msg.SetIovlen(1)
		q.msg.SetControllen(len(q.control))
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&q.msg)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			break
		}
		ee, from := q.extended(s.sock.zones)
		if ee == nil {
			continue
		}
		network := ee.Origin == unix.SO_EE_ORIGIN_ICMP || ee.Origin == unix.SO_EE_ORIGIN_ICMP6
		fromNetwork = fromNetwork || network
		tooBig := ee.Origin == unix.SO_EE_ORIGIN_ICMP && ee.Type == icmpUnreachable && ee.Code == icmpFragNeeded ||
			ee.Origin == unix.SO_EE_ORIGIN_ICMP6 && ee.Type == icmpv6PacketTooBig ||
			ee.Origin == unix.SO_EE_ORIGIN_LOCAL && unix.Errno(ee.Errno) == unix.EMSGSIZE
		if !tooBig {
			continue
		}
		q.word = TooBig{To: addr(&q.addr, s.sock.zones), MTU: int(min(ee.Info, 65535))}
		if network {
			q.word.From, q.word.Datagram = from, q.quote[:min(int(n), len(q.quote))]
		}
		(*hear)(&q.word)
	}
	return fromNetwork
}

// extended finds the extended error among the control messages, and who sent
// it.
func (q *errorQueue) extended(z *zones) (*unix.SockExtendedErr, netip.Addr) {
	oob := q.control[:min(int(q.msg.Controllen), len(q.control))]
	for len(oob) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(oob)))
		size := int(h.Len)
		if size < unix.CmsgLen(0) || size > len(oob) {
			break
		}
		body := oob[unix.CmsgLen(0):size]
		const fixed = int(unsafe.Sizeof(unix.SockExtendedErr{}))
		is := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR || h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR
		if is && len(body) >= fixed {
			ee := (*unix.SockExtendedErr)(unsafe.Pointer(&body[0]))
			var raw rawAddr
			copy((*[unsafe.Sizeof(raw)]byte)(unsafe.Pointer(&raw))[:], body[fixed:])
			if raw.Family != unix.AF_INET && raw.Family != unix.AF_INET6 {
				return ee, netip.Addr{}
			}
			return ee, addr(&raw, z).Addr()
		}
		next := unix.CmsgSpace(len(body))
		if next > len(oob) {
			break
		}
		oob = oob[next:]
	}
	return nil, netip.Addr{}
}
