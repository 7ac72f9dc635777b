package transport

import (
	"encoding/binary"
	"net"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sendMessages is how many messages one sendmmsg carries.
const sendMessages = 64

// mmsghdr is struct mmsghdr; on 64-bit systems Go pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// sendControl has room for UDP_SEGMENT, IP_TOS or IPV6_TCLASS, and IP_TTL or
// IPV6_HOPLIMIT or, with any of them, IP_PKTINFO or IPV6_PKTINFO.
type sendControl [128]byte

// udpSender implements Sender over the sockets of a udpConn.
type udpSender struct {
	c *udpConn

	msgs    [sendMessages]mmsghdr
	iov     [sendMessages]unix.Iovec
	addrs   [sendMessages]rawAddr
	control [sendMessages]sendControl

	// State of the system call in progress, for a closure made once.
	call        func(fd uintptr) bool
	try         func(fd uintptr)
	wait        bool // for room
	full        bool // there was none
	begun       int  // bytes of the train of the next TrySend that are sent
	first, last int  // messages [first:last] are to be sent
	errno       unix.Errno
	sock        *socket

	alone       [1]Train // for sendDF
	how         int
	setDiscover func(fd uintptr)

	queue *errorQueue // nil until there was an error
}

func newUDPSender(c *udpConn) *udpSender {
	s := &udpSender{c: c}
	s.call = s.sendmmsg
	s.try = func(fd uintptr) { s.full = !s.sendmmsg(fd) }
	return s
}

func (s *udpSender) Send(trains []Train) (int, error) {
	s.wait = true
	return s.send(trains)
}

func (s *udpSender) TrySend(trains []Train) (int, error) {
	s.wait = false
	return s.send(trains)
}

func (s *udpSender) send(trains []Train) (int, error) {
	done := 0
	for done < len(trains) {
		n, err := s.sendSome(trains[done:])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// sendSome sends the longest run of trains that goes through one socket with
// one system call, at least one train.
func (s *udpSender) sendSome(trains []Train) (int, error) {
	sock := s.socket(&trains[0])
	if sock == nil {
		if len(s.c.senders[family(trains[0].Addr.Addr())]) > 0 {
			return 0, ErrNoGroup
		}
		return 0, ErrNoFamily
	}
	if s.wantsDF(&trains[0], sock) {
		return s.sendDF(&trains[0], sock)
	}
	segments := int(s.c.segments.Load())
	if sock.single {
		segments = 1
	}
	if trains[0].Len() > 1 && segments == 1 {
		return s.sendSingly(&trains[0], sock)
	}
	n := 0
	for n < len(trains) && n < sendMessages {
		t := &trains[n]
		if t.Len() > segments {
			if n > 0 {
				break
			}
			return s.sendPieces(t, sock, segments)
		}
		if n > 0 && (s.socket(t) != sock || s.wantsDF(t, sock)) {
			break
		}
		stride := 0
		if t.Len() > 1 {
			stride = t.Stride
		}
		s.message(n, t, t.Buf, stride)
		n++
	}
	sent, err := s.flush(sock, n)
	if sent < n && trains[sent].Len() > 1 && err != ErrWouldBlock {
		if err = s.fallBack(&trains[sent], sock, err); err == nil {
			sent++
		}
	}
	runtime.KeepAlive(trains)
	return sent, err
}

// fallBack tries a train again that UDP_SEGMENT was refused for, with less of
// it, and returns why it cannot be sent at all.
func (s *udpSender) fallBack(t *Train, sock *socket, err error) error {
	if err == unix.EIO {
		// The device cannot complete checksums for UDP_SEGMENT
		// (net/ipv4/udp.c): do without from now on.
		s.c.segments.Store(1)
		_, err = s.sendSingly(t, sock)
		return err
	}
	if err == unix.EMSGSIZE && sock.hears.Load() {
		// Only for a single datagram the kernel says what would fit.
		s.message(0, t, t.Datagram(0), 0)
		_, _ = s.flush(sock, 1)
		return err
	}
	if err != unix.EINVAL {
		return err
	}
	if t.Len() > oldMaxSegments {
		if _, err := s.sendPieces(t, sock, oldMaxSegments); err == nil {
			s.c.segments.Store(oldMaxSegments)
			return nil
		}
	}
	// Kernels before 6.14 say EINVAL where a single datagram would get
	// EMSGSIZE: one by one, the reason comes out.
	_, err = s.sendSingly(t, sock)
	return err
}

// sendPieces sends a train that is longer than one system call takes.
func (s *udpSender) sendPieces(t *Train, sock *socket, segments int) (int, error) {
	for rest := t.Buf[s.begun:]; len(rest) > 0; {
		piece := rest[:min(len(rest), segments*t.Stride)]
		s.message(0, t, piece, t.Stride)
		if _, err := s.flush(sock, 1); err != nil {
			return 0, s.broken(t, rest, err)
		}
		rest = rest[len(piece):]
	}
	s.begun = 0
	return 1, nil
}

// sendSingly sends a train datagram by datagram, for a kernel without
// UDP_SEGMENT.
func (s *udpSender) sendSingly(t *Train, sock *socket) (int, error) {
	for i := s.begun / max(t.Stride, 1); i < t.Len(); {
		n := 0
		for ; n < sendMessages && i+n < t.Len(); n++ {
			s.message(n, t, t.Datagram(i+n), 0)
		}
		sent, err := s.flush(sock, n)
		if i += sent; err != nil {
			return 0, s.broken(t, t.Buf[i*t.Stride:], err)
		}
	}
	s.begun = 0
	return 1, nil
}

// broken notes how far a train came that goes out in several system calls, if it
// is to be gone on with.
func (s *udpSender) broken(t *Train, rest []byte, err error) error {
	s.begun = 0
	if err == ErrWouldBlock {
		s.begun = len(t.Buf) - len(rest)
	}
	return err
}

// socket returns the one whose port stands for the train's flow.
func (s *udpSender) socket(t *Train) *socket {
	set := s.c.senders[family(t.Addr.Addr())]
	if len(set) == 0 {
		return nil
	}
	if a := t.Addr.Addr(); a.IsMulticast() && !s.c.reaches(a) {
		return nil // routing would choose a device
	}
	// The high half times the count: no division, and no bits shared with
	// tables that use the low half.
	i := uint64(t.Hash) * uint64(len(set)) >> 32
	if t.DontFragment && s.c.unfragmented != nil && !set[i].v6 {
		return s.c.unfragmented[i]
	}
	return set[i]
}

// message fills the i-th message.
func (s *udpSender) message(i int, t *Train, b []byte, stride int) {
	s.iov[i].Base = unsafe.SliceData(b)
	s.iov[i].SetLen(len(b))
	h := &s.msgs[i].hdr
	h.Name = (*byte)(unsafe.Pointer(&s.addrs[i]))
	h.Namelen = putAddr(&s.addrs[i], t.Addr, &s.c.zones)
	h.Iov = &s.iov[i]
	h.SetIovlen(1)
	oob := s.control[i][:]
	used := 0
	if stride > 0 && stride < len(b) {
		used = putSegment(oob, uint16(stride))
	}
	v6 := s.addrs[i].Family == unix.AF_INET6
	if v6 {
		// Network order, and without effect unless outerOptions asked for it.
		binary.BigEndian.PutUint32((*[4]byte)(unsafe.Pointer(&s.addrs[i].Flowinfo))[:], t.FlowLabel&0xFFFFF)
	}
	if t.TOS != 0 {
		used += putTOS(oob[used:], v6, t.TOS)
	}
	if a := t.Addr.Addr(); a.IsMulticast() {
		// Its TTL is that of the socket, which says how far the group reaches.
		if g := s.c.group(a); g != nil {
			used += g.putDevice(oob[used:])
		}
	} else if t.TTL != 0 && int(t.TTL) != s.c.ttl {
		used += putTTL(oob[used:], v6, t.TTL)
	}
	h.Control = nil
	if used > 0 {
		h.Control = unsafe.SliceData(oob)
	}
	h.SetControllen(used)
}

// flush sends the first n messages and returns how many were.
func (s *udpSender) flush(sock *socket, n int) (int, error) {
	s.first, s.last, s.errno, s.sock = 0, n, 0, sock
	if !s.wait {
		if err := sock.fd.Do(s.try); err != nil {
			return s.first, err
		}
		if s.full {
			return s.first, ErrWouldBlock
		}
	} else if err := sock.fd.Write(s.call); err != nil {
		return s.first, net.ErrClosed
	}
	if s.errno != 0 {
		return s.first, s.errno
	}
	return s.first, nil
}

// sendmmsg is called by the poller with the descriptor; false waits for room.
func (s *udpSender) sendmmsg(fd uintptr) bool {
	retried, heard := false, 0
	for s.first < s.last {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.msgs[s.first])),
			uintptr(s.last-s.first), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch {
		case errno == 0:
			s.first += int(n)
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			return false
		case s.sock.hears.Load() && heard < mostRetries && (s.hearQueue(fd) || heard == 0):
			// What came back to an earlier datagram; this one may not have been
			// tried. What does fail of itself fails once more.
			heard++
		case errno == unix.ECONNREFUSED && !retried:
			// The ICMP answer to an earlier datagram; this one was not tried.
			retried = true
		default:
			s.errno = errno
			return true
		}
	}
	return true
}
