package ping

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// echoLine asks a host by ICMP echo, with Don't Fragment set.
type echoLine struct {
	fd      int
	to      netip.Addr
	id      uint16
	raw     bool // the socket takes and gives what is for all
	answers chan vtep.ProbeAnswer
	done    chan struct{}
	once    sync.Once

	mu   sync.Mutex
	seqs map[uint16]uint32 // of what was sent, by what ICMP has room for
	next uint16
}

const icmpHeader = 8

// NewEcho opens a Line to a host. It sends IP packets of the length that a probe
// of the same size has; AnswerSize means nothing to it. It needs CAP_NET_RAW, or
// a group that net.ipv4.ping_group_range allows. local may be the zero Addr.
func NewEcho(local, to netip.Addr) (Line, error) {
	to = to.Unmap()
	domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if to.Is6() {
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	l := &echoLine{
		to: to, id: uint16(rand.Uint32()), answers: make(chan vtep.ProbeAnswer, 1024),
		done: make(chan struct{}), seqs: make(map[uint16]uint32),
	}
	const kind = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|kind, protocol)
	if err != nil {
		l.raw = true
		if fd, err = unix.Socket(domain, unix.SOCK_RAW|kind, protocol); err != nil {
			if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
				return nil, errors.New("ICMP needs the capability CAP_NET_RAW: run this as root")
			}
			return nil, os.NewSyscallError("socket for ICMP", err)
		}
	}
	l.fd = fd
	if err := l.prepare(local); err != nil {
		unix.Close(fd)
		return nil, err
	}
	go l.receive()
	return l, nil
}

func (l *echoLine) prepare(local netip.Addr) error {
	level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	probe := unix.IP_PMTUDISC_PROBE // DF, whatever the host thinks of the path
	if l.to.Is6() {
		level, option, probe = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
	}
	if err := unix.SetsockoptInt(l.fd, level, option, probe); err != nil {
		return os.NewSyscallError("setsockopt MTU_DISCOVER", err)
	}
	if local.IsValid() && !local.IsUnspecified() && local.Is4() == l.to.Is4() {
		if err := unix.Bind(l.fd, sockaddr(netip.AddrPortFrom(local, 0))); err != nil {
			return fmt.Errorf("bind %v: %w", local, err)
		}
	}
	return nil
}

func zone(name string) uint32 {
	if name == "" {
		return 0
	}
	if link, err := net.InterfaceByName(name); err == nil {
		return uint32(link.Index)
	}
	return 0
}

// room is how much longer the ICMP message is than the frame that it stands for:
// both are in an IP packet of one length.
const room = vxlan.UDPLen + vxlan.HeaderLen

func (l *echoLine) Send(all ...vtep.Probe) (at time.Time, err error) {
	for _, p := range all {
		l.mu.Lock()
		l.next++
		seq := l.next
		l.seqs[seq] = p.Seq
		l.mu.Unlock()
		b := make([]byte, p.Size+room)
		b[0] = 8
		if l.to.Is6() {
			b[0] = 128
		}
		binary.BigEndian.PutUint16(b[4:], l.id)
		binary.BigEndian.PutUint16(b[6:], seq)
		for i := icmpHeader; i < len(b); i++ {
			b[i] = byte(i)
		}
		if l.to.Is4() {
			binary.BigEndian.PutUint16(b[2:], checksum.Checksum(b, 0))
		} // ICMPv6: the kernel does
		at = time.Now()
		if err := unix.Sendto(l.fd, b, 0, sockaddr(netip.AddrPortFrom(l.to, 0))); err != nil {
			return at, err
		}
	}
	return at, nil
}

func (l *echoLine) Answers() <-chan vtep.ProbeAnswer { return l.answers }

// receive takes replies until Close.
func (l *echoLine) receive() {
	defer close(l.answers)
	b := make([]byte, 1<<16)
	for {
		select {
		case <-l.done:
			return
		default:
		}
		// Short, so that Close is noticed.
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}, 20); n <= 0 {
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
			continue
		}
		n, from, err := unix.Recvfrom(l.fd, b, 0)
		at := time.Now()
		if err != nil {
			continue // an ICMP error, or nothing after all
		}
		if seq, size, ok := l.reply(b[:n], from); ok {
			select {
			case l.answers <- vtep.ProbeAnswer{Seq: seq, Came: size, Size: size, At: at}:
			default:
			}
		}
	}
}

// reply reads a reply to us.
func (l *echoLine) reply(b []byte, from unix.Sockaddr) (seq uint32, size int, ok bool) {
	kind := byte(0)
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		if netip.AddrFrom4(a.Addr) != l.to {
			return 0, 0, false
		}
		if l.raw { // with the IP header
			if len(b) < vxlan.IPv4Len || len(b) < int(b[0]&15)*4 {
				return 0, 0, false
			}
			b = b[int(b[0]&15)*4:]
		}
	case *unix.SockaddrInet6:
		kind = 129
		if netip.AddrFrom16(a.Addr) != l.to.WithZone("") {
			return 0, 0, false
		}
	}
	if len(b) < icmpHeader || b[0] != kind || l.raw && binary.BigEndian.Uint16(b[4:]) != l.id {
		return 0, 0, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	seq, ok = l.seqs[binary.BigEndian.Uint16(b[6:])]
	return seq, len(b) - room, ok
}

// Close ends it.
func (l *echoLine) Close() {
	l.once.Do(func() {
		close(l.done)
		for range l.answers { // until receive has ended
		}
		unix.Close(l.fd)
	})
}
