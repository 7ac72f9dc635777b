package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// flowInfoSend is IPV6_FLOWINFO_SEND of linux/in6.h: the flow label of a message
// is that of its address.
const flowInfoSend = 33

// option is one socket option with a number for its value.
type option struct {
	level, name, value int
	what               string
}

// outerOptions are what a socket is told of the outer header beside TTL and
// fragmentation.
func outerOptions(cfg *UDPConfig, v6 bool) []option {
	var options []option
	on := func(yes bool, level, name int, what string) {
		if yes {
			options = append(options, option{level, name, 1, what})
		}
	}
	if !v6 {
		on(cfg.ZeroChecksum4, unix.SOL_SOCKET, unix.SO_NO_CHECK, "SO_NO_CHECK")
		return options
	}
	// The label comes with the address of each message, which costs nothing,
	// unlike a control message.
	on(true, unix.IPPROTO_IPV6, flowInfoSend, "IPV6_FLOWINFO_SEND")
	if !cfg.AutoFlowLabel {
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_AUTOFLOWLABEL, 0, "IPV6_AUTOFLOWLABEL"})
	}
	on(cfg.ZeroChecksum6, unix.SOL_UDP, unix.UDP_NO_CHECK6_TX, "UDP_NO_CHECK6_TX")
	on(cfg.AcceptZeroChecksum6, unix.SOL_UDP, unix.UDP_NO_CHECK6_RX, "UDP_NO_CHECK6_RX")
	return options
}

// openUnfragmented opens a second socket on the port of each that sends over
// IPv4, with DF set: no control message does that for a single datagram.
func (c *udpConn) openUnfragmented(cfg *UDPConfig, local netip.Addr) error {
	df := *cfg
	df.DontFragment = true
	twins := make([]*socket, len(c.senders[0]))
	found := -1
	for i, s := range c.senders[0] {
		if s.port == cfg.Port {
			// A second socket here would take what is sent to the first.
			continue
		}
		twin, err := c.twin(&df, s, netip.AddrPortFrom(local, s.port))
		if err != nil {
			return fmt.Errorf("second socket on source port %d: %w", s.port, err)
		}
		twins[i], found = twin, i
	}
	if found < 0 {
		return fmt.Errorf("source ports %d-%d on %v: %w", cfg.SourcePortLo, cfg.SourcePortHi, local, ErrSharedSourcePort)
	}
	for i := range twins {
		if twins[i] == nil {
			twins[i] = twins[found]
		}
	}
	c.unfragmented = twins
	return nil
}

// twin opens a second socket on the port of s. Both allow it for no longer than
// that takes: the port shall stay ours alone.
func (c *udpConn) twin(cfg *UDPConfig, s *socket, at netip.AddrPort) (*socket, error) {
	if err := s.allowReuse(true); err != nil {
		return nil, err
	}
	twin, err := c.open(cfg, at, unix.SO_REUSEADDR)
	if err != nil {
		return nil, err
	}
	c.all = append(c.all, twin)
	return twin, errors.Join(s.allowReuse(false), twin.allowReuse(false), refuseAll(twin))
}

// allowReuse says whether others who want it too may bind to the port.
func (s *socket) allowReuse(yes bool) error {
	value := 0
	if yes {
		value = 1
	}
	var failed error
	err := s.fd.Do(func(fd uintptr) {
		failed = os.NewSyscallError("setsockopt SO_REUSEADDR", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, value))
	})
	return errors.Join(err, failed)
}

// mostSegments is how many datagrams one send takes at most, on the sockets
// that take more than one.
func (c *udpConn) mostSegments() int {
	for _, set := range c.senders {
		if len(set) > 0 && !set[0].single {
			return int(c.segments.Load())
		}
	}
	return 1
}

// putTOS writes the control message that sets the outer TOS of one send.
func putTOS(oob []byte, v6 bool, tos uint8) int {
	if v6 {
		return putNumber(oob, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos)
	}
	return putNumber(oob, unix.IPPROTO_IP, unix.IP_TOS, tos)
}

// putTTL writes the control message that sets the outer TTL of one send.
func putTTL(oob []byte, v6 bool, ttl uint8) int {
	if v6 {
		return putNumber(oob, unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, ttl)
	}
	return putNumber(oob, unix.IPPROTO_IP, unix.IP_TTL, ttl)
}

// putNumber writes a control message of one C int and returns its length.
func putNumber(oob []byte, level, kind int32, value uint8) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(oob)))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(4))
	*(*int32)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = int32(value)
	return unix.CmsgSpace(4)
}
