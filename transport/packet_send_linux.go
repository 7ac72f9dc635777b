package transport

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"unsafe"

	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

const (
	// headerBytes is the room for vnet header and stack of one message, and
	// headerStart where they begin, for the IP header to be aligned.
	headerBytes = 96
	headerStart = 6
)

// packetSender implements Sender over the packet sockets of a packetConn.
type packetSender struct {
	c    *packetConn
	sock *socket

	known    map[netip.AddrPort]*hop
	lastAddr netip.AddrPort // memo: trains come in runs to one VTEP
	last     *hop
	id       uint16 // IPv4 identification

	msgs    [sendMessages]mmsghdr
	iov     [2 * sendMessages]unix.Iovec // headers, payload
	headers [sendMessages][headerBytes]byte
	links   [sendMessages]unix.RawSockaddrLinklayer
	addrs   [sendMessages]rawAddr // for packets that the kernel's IP takes

	// State of the system call in progress, for a closure made once.
	call       func(fd uintptr) bool
	try        func(fd uintptr)
	wait       bool     // for room
	full       bool     // there was none
	begun      int      // bytes of the train of the next TrySend that are sent
	rest       [1]Train // what is left of that
	word       TooBig   // for tooBig
	begin, end int      // messages [begin:end] are to be sent
	errno      unix.Errno
}

func newPacketSender(c *packetConn, sock *socket) *packetSender {
	s := &packetSender{c: c, sock: sock, known: make(map[netip.AddrPort]*hop)}
	s.call = s.sendmmsg
	s.try = func(fd uintptr) { s.full = !s.sendmmsg(fd) }
	for i := range s.msgs {
		h := &s.msgs[i].hdr
		h.Iov = &s.iov[2*i]
		h.SetIovlen(2)
	}
	return s
}

func (s *packetSender) Send(trains []Train) (int, error) {
	s.wait = true
	return s.send(trains)
}

func (s *packetSender) TrySend(trains []Train) (int, error) {
	s.wait = false
	return s.send(trains)
}

func (s *packetSender) send(trains []Train) (int, error) {
	if s.c.words.pending.Load() {
		s.c.words.tell()
	}
	done := 0
	for done < len(trains) {
		n, err := s.sendSome(trains[done:])
		done += n
		if err != nil {
			if err == unix.EMSGSIZE {
				s.tooBig(&trains[done])
			}
			return done, err
		}
	}
	return done, nil
}

// tooBig tells of a train that this host's own device does not carry.
func (s *packetSender) tooBig(t *Train) {
	hear := s.c.words.hear.Load()
	if hear == nil {
		return
	}
	if _, state, err := s.way(t); err == nil {
		s.word = TooBig{To: t.Addr, MTU: state.mtu}
		(*hear)(&s.word)
	}
}

// sendSome sends the longest run of trains that one system call takes, at
// least one train.
func (s *packetSender) sendSome(trains []Train) (int, error) {
	if s.begun == 0 {
		return s.sendRun(trains)
	}
	// Its way may be another one by now; what is left is a train as well.
	begun := s.begun
	s.begun = 0
	s.rest[0] = trains[0]
	s.rest[0].Buf = trains[0].Buf[begun:]
	n, err := s.sendRun(s.rest[:])
	s.rest[0] = Train{}
	if err == ErrWouldBlock {
		s.begun += begun
	}
	return n, err
}

// sendRun is sendSome for trains of which nothing is sent yet.
func (s *packetSender) sendRun(trains []Train) (int, error) {
	t := &trains[0]
	h, state, err := s.way(t)
	if err != nil {
		return 0, err
	}
	segments := s.segments(t, state)
	switch {
	case !state.direct || h.ask.Load():
		h.ask.Store(false)
		return s.sendSingly(t, state, s.c.direct[family(t.Addr.Addr())])
	case segments == 1 && t.Len() > 1:
		return s.sendSingly(t, state, s.sock)
	case t.Len() > segments:
		return s.sendPieces(t, state, segments)
	}
	n := 0
	for {
		if err := s.message(n, t, t.Buf, t.Len(), state); err != nil {
			if n == 0 {
				return 0, err
			}
			break
		}
		if n++; n == len(trains) || n == sendMessages {
			break
		}
		t = &trains[n]
		if h, state, err = s.way(t); err != nil || !state.direct || h.ask.Load() || t.Len() > s.segments(t, state) {
			break // not with this call
		}
	}
	sent, err := s.flush(s.sock, n)
	if sent < n && err == unix.EINVAL && trains[sent].Len() > 1 {
		if err = s.fallBack(&trains[sent]); err == nil {
			sent++
		}
	}
	runtime.KeepAlive(trains)
	return sent, err
}

// segments is how many datagrams of a train the kernel takes as one. Without
// checksums it does not segment. Nor does it look at the length of segments:
// those that seem too long it gets one by one, to refuse what is too long for
// the device at this moment (EMSGSIZE).
func (s *packetSender) segments(t *Train, state *hopState) int {
	if s.zero(state) || state.stack.Len()-state.stack.L3()+t.Stride > state.mtu {
		return 1
	}
	return int(s.c.segments.Load())
}

// fallBack sends a train by itself that the kernel refused to segment (it does
// from 6.2 on), and all trains from now on if that was why.
func (s *packetSender) fallBack(t *Train) error {
	_, state, err := s.way(t)
	if err != nil {
		return err
	}
	if _, err = s.sendSingly(t, state, s.sock); err == nil {
		s.c.segments.Store(1)
	}
	return err
}

// way finds where a train goes next, and whether it can.
func (s *packetSender) way(t *Train) (*hop, *hopState, error) {
	h := s.last
	if h == nil || t.Addr != s.lastAddr || h.dead.Load() {
		if h = s.find(t.Addr); h == nil {
			return nil, nil, ErrNoFamily
		}
		s.last, s.lastAddr = h, t.Addr
	}
	if !h.used.Load() {
		h.used.Store(true)
	}
	state := h.state.Load()
	if state.err != nil {
		return h, nil, state.err
	}
	return h, state.choose(t.Hash), nil
}

// find returns the next hop of a VTEP, nil for a family without local address.
func (s *packetSender) find(to netip.AddrPort) *hop {
	if h := s.known[to]; h != nil && !h.dead.Load() {
		return h
	}
	addr := to.Addr().Unmap()
	if s.c.direct[family(addr)] == nil {
		return nil
	}
	if len(s.known) >= mostHops {
		clear(s.known)
	}
	h := s.c.hops.get(netip.AddrPortFrom(addr, to.Port()))
	s.known[to] = h
	return h
}

// sendPieces sends a train that is longer than the kernel takes at once.
func (s *packetSender) sendPieces(t *Train, state *hopState, segments int) (int, error) {
	for rest := t.Buf; len(rest) > 0; {
		piece := rest[:min(len(rest), segments*t.Stride)]
		err := s.message(0, t, piece, (len(piece)+t.Stride-1)/t.Stride, state)
		if err == nil {
			_, err = s.flush(s.sock, 1)
		}
		if err != nil {
			return 0, s.broken(len(t.Buf)-len(rest), err)
		}
		rest = rest[len(piece):]
	}
	return 1, nil
}

// sendSingly sends a train datagram by datagram, over a packet socket or one
// of the kernel's IP.
func (s *packetSender) sendSingly(t *Train, state *hopState, sock *socket) (int, error) {
	count := max(t.Len(), 1) // an empty train is an empty datagram
	for i := 0; i < count; {
		n := 0
		var err error
		for ; n < sendMessages && i+n < count && err == nil; n++ {
			if sock == s.sock {
				err = s.message(n, t, t.Datagram(i+n), 1, state)
			} else {
				err = s.messageDirect(n, t, t.Datagram(i+n), state)
			}
		}
		if err != nil {
			return 0, err
		}
		sent, err := s.flush(sock, n)
		if i += sent; err != nil {
			return 0, s.broken(i*t.Stride, err)
		}
	}
	return 1, nil
}

// broken notes how far a train came that goes out in several system calls, if it
// is to be gone on with.
func (s *packetSender) broken(begun int, err error) error {
	if err == ErrWouldBlock {
		s.begun = begun
	}
	return err
}

// fields are what a train says about its headers.
func (s *packetSender) fields(t *Train, count int, state *hopState, checksum vxlan.UDPChecksum) vxlan.UDPFields {
	f := vxlan.UDPFields{
		SrcPort: s.c.ports.Port(t.Hash), TOS: t.TOS, TTL: t.TTL, DF: s.c.df || t.DontFragment,
		ID: s.id, FlowLabel: t.FlowLabel & 0xFFFFF, Checksum: checksum,
	}
	s.id += uint16(count)
	if f.TTL == 0 {
		f.TTL = state.ttl
	}
	if f.FlowLabel == 0 && s.c.label {
		f.FlowLabel = flowLabel(f.SrcPort)
	}
	return f
}

// flowLabel is the IPv6 flow label of a flow that has none of its own (RFC 6438).
func flowLabel(port uint16) uint32 { return max(uint32(port)*0x9E3779B1>>12, 1) }

// zero says whether there is to be no checksum on this way.
func (s *packetSender) zero(state *hopState) bool {
	if state.stack.V6() {
		return s.c.zero[1]
	}
	return s.c.zero[0]
}

// message fills the i-th message for a packet socket: count datagrams of t
// that are in b.
func (s *packetSender) message(i int, t *Train, b []byte, count int, state *hopState) error {
	kind := vxlan.FullChecksum
	switch {
	case s.zero(state):
		kind = vxlan.NoChecksum
	case s.c.offload:
		kind = vxlan.PartialChecksum
	}
	f := s.fields(t, count, state, kind)
	header := s.headers[i][headerStart:]
	length := state.stack.Len()
	if err := state.stack.Put(header[vnetHeaderLen:], b, &f); err != nil {
		return unix.EMSGSIZE
	}
	vnet := header[:vnetHeaderLen]
	clear(vnet)
	if kind == vxlan.PartialChecksum {
		vnet[0] = vnetNeedsChecksum
		binary.NativeEndian.PutUint16(vnet[6:], uint16(length-vxlan.UDPLen))
		binary.NativeEndian.PutUint16(vnet[8:], 6)
		if count > 1 {
			vnet[1] = vnetGSOUDP
			binary.NativeEndian.PutUint16(vnet[2:], uint16(length))
			binary.NativeEndian.PutUint16(vnet[4:], uint16(t.Stride))
		}
	}
	link := &s.links[i]
	link.Family = unix.AF_PACKET
	link.Ifindex = int32(state.index)
	link.Protocol = networkOrder(unix.ETH_P_IP)
	if state.stack.V6() {
		link.Protocol = networkOrder(unix.ETH_P_IPV6)
	}
	h := &s.msgs[i].hdr
	h.Name = (*byte)(unsafe.Pointer(link))
	h.Namelen = unix.SizeofSockaddrLinklayer
	s.parts(i, header[:vnetHeaderLen+length], b)
	return nil
}

// messageDirect fills the i-th message for the kernel's IP: one datagram, from
// its IP header on.
func (s *packetSender) messageDirect(i int, t *Train, b []byte, state *hopState) error {
	kind := vxlan.FullChecksum
	if s.zero(state) {
		kind = vxlan.NoChecksum
	}
	f := s.fields(t, 1, state, kind)
	header := s.headers[i][headerStart+vnetHeaderLen:]
	if err := state.stack.Put(header, b, &f); err != nil {
		return unix.EMSGSIZE
	}
	h := &s.msgs[i].hdr
	h.Name = (*byte)(unsafe.Pointer(&s.addrs[i]))
	h.Namelen = putAddr(&s.addrs[i], netip.AddrPortFrom(t.Addr.Addr(), 0), &s.c.zones)
	s.parts(i, header[state.stack.L3():state.stack.Len()], b)
	return nil
}

// parts gives the i-th message its two places.
func (s *packetSender) parts(i int, header, payload []byte) {
	s.iov[2*i].Base = unsafe.SliceData(header)
	s.iov[2*i].SetLen(len(header))
	s.iov[2*i+1].Base = unsafe.SliceData(payload)
	s.iov[2*i+1].SetLen(len(payload))
}

// flush sends the first n messages and returns how many were.
func (s *packetSender) flush(sock *socket, n int) (int, error) {
	s.begin, s.end, s.errno = 0, n, 0
	if !s.wait {
		if err := sock.fd.Do(s.try); err != nil {
			return s.begin, err
		}
		if s.full {
			return s.begin, ErrWouldBlock
		}
	} else if err := sock.fd.Write(s.call); err != nil {
		return s.begin, net.ErrClosed
	}
	if s.errno != 0 {
		return s.begin, s.errno
	}
	return s.begin, nil
}

// sendmmsg is called by the poller with the descriptor; false waits for room.
func (s *packetSender) sendmmsg(fd uintptr) bool {
	for s.begin < s.end {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.msgs[s.begin])),
			uintptr(s.end-s.begin), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			s.begin += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		case unix.ENXIO, unix.ENODEV:
			// The device was deleted; the next hop is looked up anew soon.
			s.errno = unix.ENETDOWN
			return true
		default:
			s.errno = errno
			return true
		}
	}
	return true
}
