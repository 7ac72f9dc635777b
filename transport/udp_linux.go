package transport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/govxlan/govxlan/internal/descriptor"
	"github.com/govxlan/govxlan/internal/namespace"
	"golang.org/x/sys/unix"
)

const (
	// recvBuffer and sendBuffer are asked for; the kernel may give less, and
	// doubles what it gives for its own overhead. The receive buffer is where
	// a bulk transfer queues when this end is the slower one, and every other
	// flow behind it: 4 MB cost a ping 2 ms there, 1 MB 1.5 ms but a quarter
	// of the burst of small datagrams that is taken without loss.
	recvBuffer = 2 << 20
	sendBuffer = 4 << 20
)

// udpConn is the Conn of ListenUDP.
type udpConn struct {
	locals    []netip.AddrPort
	receivers []*socket
	senders   [2][]*socket // IPv4, IPv6: by flow hash
	// unfragmented are those that set DF, beside senders[0] and on the same
	// ports. nil unless UDPConfig.DontFragmentByTrain.
	unfragmented []*socket
	all          []*socket
	ttl          int // of the sockets

	// segments is Limits.Segments; it sinks to 1 when the kernel refuses
	// UDP_SEGMENT at run time.
	segments atomic.Int32

	zones  zones
	groups groups
	// inherited are the memberships of InheritUDP that no Join has taken.
	// Guarded by groups.mu.
	inherited map[netip.Addr]inheritedGroup

	dontFragment bool                          // UDPConfig.DontFragment
	hear         atomic.Pointer[func(*TooBig)] // HearTooBig

	empty atomic.Uint64 // datagrams without content
	left  atomic.Uint64 // drops of groups that were left

	closeOnce sync.Once
}

// socket is one non-blocking UDP socket.
type socket struct {
	fd   *descriptor.FD
	port uint16
	v6   bool
	// single: without a UDP checksum there is no UDP_SEGMENT.
	single bool

	zones *zones      // of the Conn
	hears atomic.Bool // its error queue is on
}

var (
	_ Conn     = (*udpConn)(nil)
	_ Counting = (*udpConn)(nil)
)

// ListenUDP opens the sockets of a VTEP: one (or UDPConfig.Receivers) on each
// local address to receive from, and a set of sending ones whose ports stand
// for inner flows. On failure nothing stays open.
func ListenUDP(cfg UDPConfig) (Conn, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	c := newUDPConn(cfg)
	err := namespace.Do(cfg.Netns, func() error {
		seen := [2]bool{}
		for _, local := range cfg.Local {
			local = local.Unmap()
			if !local.IsValid() {
				return errors.New("a local address is empty; 0.0.0.0 leaves the choice to routing")
			}
			if f := family(local); seen[f] {
				return fmt.Errorf("two local addresses of one family: %v", cfg.Local)
			} else {
				seen[f] = true
			}
			if err := c.listen(&cfg, local); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.Close()
		return nil, err
	}
	c.levelSenders()
	return c, nil
}

// complete fills in the defaults.
func (cfg *UDPConfig) complete() error {
	if cfg.Port == 0 {
		cfg.Port = 4789
	}
	if cfg.SourcePortLo == 0 && cfg.SourcePortHi == 0 {
		cfg.SourcePortLo, cfg.SourcePortHi = 49152, 65535
	}
	if cfg.SourcePortLo > cfg.SourcePortHi {
		return fmt.Errorf("source ports %d-%d: the first is larger than the last", cfg.SourcePortLo, cfg.SourcePortHi)
	}
	if cfg.Receivers < 1 {
		cfg.Receivers = 1
	}
	if cfg.TTL == 0 {
		cfg.TTL = 64
	}
	if len(cfg.Local) == 0 {
		return errors.New("no local address given")
	}
	if cfg.MulticastTTL == 0 {
		cfg.MulticastTTL = 1
	}
	return nil
}

// single says whether datagrams leave one by one.
func (cfg *UDPConfig) single(v6 bool) bool {
	if v6 {
		return cfg.ZeroChecksum6
	}
	return cfg.ZeroChecksum4
}

func newUDPConn(cfg UDPConfig) *udpConn {
	return &udpConn{zones: zones{netns: cfg.Netns}, groups: groups{cfg: cfg}, ttl: cfg.TTL, dontFragment: cfg.DontFragment}
}

// levelSenders gives both families as many places for source ports, so that
// Limits.Flows holds for both, where one of them found fewer ports free.
func (c *udpConn) levelSenders() {
	flows := max(len(c.senders[0]), len(c.senders[1]))
	for f, set := range c.senders {
		for i := len(set); i > 0 && i < flows; i++ {
			c.senders[f] = append(c.senders[f], set[i%len(set)])
			if f == 0 && c.unfragmented != nil {
				c.unfragmented = append(c.unfragmented, c.unfragmented[i%len(set)])
			}
		}
	}
}

// family is the index of an address's family in udpConn.senders.
func family(a netip.Addr) int {
	if a.Is4() || a.Is4In6() {
		return 0
	}
	return 1
}

// listen opens the sockets of one local address.
func (c *udpConn) listen(cfg *UDPConfig, local netip.Addr) error {
	at := netip.AddrPortFrom(local, cfg.Port)
	if cfg.Receivers > 1 {
		// SO_REUSEPORT would let us in beside a stranger who has set it too,
		// and each would get a part of the datagrams. Without it, bind tells.
		probe, err := c.open(cfg, at, 0)
		if err != nil {
			return err
		}
		probe.fd.Close()
	}
	reuse := 0
	if cfg.Receivers > 1 {
		reuse = unix.SO_REUSEPORT
	}
	for range cfg.Receivers {
		s, err := c.open(cfg, at, reuse)
		if err != nil {
			return err
		}
		c.all = append(c.all, s)
		c.receivers = append(c.receivers, s)
		if err := c.prepareReceiver(cfg, s); err != nil {
			return fmt.Errorf("listen on %v: %w", at, err)
		}
	}
	c.locals = append(c.locals, at)
	return c.openSenders(cfg, local)
}

// openSenders opens the sockets whose ports stand for flows. They are spread
// over the range at random, so that two VTEPs behind one NAT differ.
func (c *udpConn) openSenders(cfg *UDPConfig, local netip.Addr) error {
	f := family(local)
	size := int(cfg.SourcePortHi) - int(cfg.SourcePortLo) + 1
	want := min(sourceSockets, size)
	// Each socket has a stretch of the range of its own, in which it looks
	// for a free port.
	for i := range want {
		first, end := size*i/want, size*(i+1)/want
		offset := rand.IntN(end - first)
		for try := range min(end-first, 64) {
			port := cfg.SourcePortLo + uint16(first+(offset+try)%(end-first))
			if port == cfg.Port {
				// The range has our own port in it: send from there.
				c.senders[f] = append(c.senders[f], c.receivers[len(c.receivers)-1])
				break
			}
			s, err := c.open(cfg, netip.AddrPortFrom(local, port), 0)
			if errors.Is(err, ErrPortInUse) {
				continue
			}
			if err != nil {
				return err
			}
			c.all = append(c.all, s)
			c.senders[f] = append(c.senders[f], s)
			if err := refuseAll(s); err != nil {
				return fmt.Errorf("source port %d: %w", port, err)
			}
			break
		}
	}
	if len(c.senders[f]) == 0 {
		return fmt.Errorf("source ports %d-%d on %v: %w", cfg.SourcePortLo, cfg.SourcePortHi, local, ErrNoSourcePort)
	}
	if f == 0 && cfg.DontFragmentByTrain && !cfg.DontFragment {
		return c.openUnfragmented(cfg, local)
	}
	return nil
}

// open opens and binds one socket with what all of ours have in common. reuse is
// SO_REUSEPORT, SO_REUSEADDR or 0.
func (c *udpConn) open(cfg *UDPConfig, at netip.AddrPort, reuse int) (_ *socket, err error) {
	domain, v6 := unix.AF_INET, at.Addr().Is6()
	if v6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()

	if err := setOptions(fd, cfg, v6, reuse, false); err != nil {
		return nil, err
	}
	bufferSize(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	if cfg.Device != "" {
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, cfg.Device); err != nil {
			return nil, fmt.Errorf("bind to device %s: %w", cfg.Device, err)
		}
	}
	var sa unix.Sockaddr
	if v6 {
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16(), ZoneId: c.zones.index(at.Addr().Zone())}
	} else {
		sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	if err := unix.Bind(fd, sa); err != nil {
		switch {
		case errors.Is(err, unix.EADDRINUSE):
			return nil, fmt.Errorf("bind %v: %w", at, ErrPortInUse)
		case errors.Is(err, unix.EADDRNOTAVAIL):
			return nil, fmt.Errorf("bind %v: %w", at, ErrNoAddress)
		}
		return nil, fmt.Errorf("bind %v: %w", at, err)
	}
	return &socket{fd: descriptor.New(fd, "udp"), port: at.Port(), v6: v6, single: cfg.single(v6), zones: &c.zones}, nil
}

// setOptions sets what all our sockets have in common, but for buffers and
// addresses.
func setOptions(fd int, cfg *UDPConfig, v6 bool, reuse int, bound bool) error {
	// PMTUDISC_INTERFACE: the device's MTU is the limit, DF is clear, nothing
	// is fragmented here, and forged ICMP cannot lower it. PMTUDISC_PROBE: the
	// same with DF set.
	discover := unix.IP_PMTUDISC_INTERFACE
	if cfg.DontFragment {
		discover = unix.IP_PMTUDISC_PROBE
	}
	options := []option{
		{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, discover, "IP_MTU_DISCOVER"},
		{unix.IPPROTO_IP, unix.IP_TTL, cfg.TTL, "IP_TTL"},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, cfg.MulticastTTL, "IP_MULTICAST_TTL"},
		// Nothing of our own comes back, and nothing of groups that only
		// others on this host have joined.
		{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0, "IP_MULTICAST_LOOP"},
		{unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0, "IP_MULTICAST_ALL"},
	}
	if v6 {
		const level = unix.IPPROTO_IPV6
		options = []option{
			{level, unix.IPV6_V6ONLY, 1, "IPV6_V6ONLY"},
			{level, unix.IPV6_MTU_DISCOVER, discover, "IPV6_MTU_DISCOVER"},
			{level, unix.IPV6_UNICAST_HOPS, cfg.TTL, "IPV6_UNICAST_HOPS"},
			{level, unix.IPV6_MULTICAST_HOPS, cfg.MulticastTTL, "IPV6_MULTICAST_HOPS"},
			{level, unix.IPV6_MULTICAST_LOOP, 0, "IPV6_MULTICAST_LOOP"},
			{level, unix.IPV6_MULTICAST_ALL, 0, "IPV6_MULTICAST_ALL"},
		}
	}
	options = append(options, outerOptions(cfg, v6)...)
	if reuse != 0 {
		options = append(options, option{unix.SOL_SOCKET, reuse, 1, "SO_REUSEPORT or SO_REUSEADDR"})
	}
	for _, o := range options {
		err := unix.SetsockoptInt(fd, o.level, o.name, o.value)
		if err == unix.EINVAL && bound && o.name == unix.IPV6_V6ONLY && o.level == unix.IPPROTO_IPV6 {
			continue // to be set before bind
		}
		if err == unix.ENOPROTOOPT && o.name == unix.IPV6_MULTICAST_ALL && o.level == unix.IPPROTO_IPV6 {
			continue // before Linux 4.20: such datagrams do not reach the address that we are bound to
		}
		if err != nil {
			return os.NewSyscallError("setsockopt "+o.what, err)
		}
	}
	return nil
}

// prepareReceiver sets what only a receiving socket needs, and finds out what
// the kernel can do.
func (c *udpConn) prepareReceiver(cfg *UDPConfig, s *socket) error {
	var failed error
	err := s.fd.Do(func(fd uintptr) {
		bufferSize(int(fd), unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, recvBuffer)
		level, name := unix.IPPROTO_IP, unix.IP_RECVTOS
		if s.v6 {
			level, name = unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS
		}
		if failed = os.NewSyscallError("setsockopt RECVTOS", unix.SetsockoptInt(int(fd), level, name, 1)); failed != nil {
			return
		}
		if !cfg.NoGRO {
			// Absent before 5.0: then trains are of one datagram.
			_ = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1)
		}
		segments := int32(1)
		if !cfg.NoGSO {
			segments = probeSegments(int(fd))
		}
		c.segments.Store(segments)
	})
	if err != nil {
		return err
	}
	return failed
}

// probeSegments asks how many datagrams one send may carry: 1 where
// UDP_SEGMENT is not known.
func probeSegments(fd int) int32 {
	if _, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_SEGMENT); err != nil {
		return 1
	}
	return probeGSO()
}

// refuseAll keeps datagrams away from a socket that only sends: whoever
// answers to a source port instead of ours shall not fill its buffer.
func refuseAll(s *socket) error {
	var failed error
	err := s.fd.Do(func(fd uintptr) {
		drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
		prog := unix.SockFprog{Len: 1, Filter: &drop}
		failed = os.NewSyscallError("setsockopt SO_ATTACH_FILTER", unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog))
	})
	if err != nil {
		return err
	}
	return failed
}

// bufferSize asks for a buffer above the system's limit, then below it.
func bufferSize(fd, force, plain, bytes int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bytes) != nil {
		// Without CAP_NET_ADMIN the system's limit holds; it is only speed.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, bytes)
	}
}

func (c *udpConn) Locals() []netip.AddrPort { return c.locals }

func (c *udpConn) Limits() Limits {
	return Limits{
		Segments: c.mostSegments(),
		Flows:    max(len(c.senders[0]), len(c.senders[1])),

		DontFragment: c.dontFragment,
	}
}

func (c *udpConn) Receivers() []Receiver {
	receivers := make([]Receiver, len(c.receivers))
	for i, s := range c.receivers {
		receivers[i] = newUDPReceiver(s, &c.empty)
	}
	return receivers
}

func (c *udpConn) NewSender() Sender { return newUDPSender(c) }

// Counters returns what was dropped since ListenUDP, as far as the kernel tells:
// it counts datagrams with a wrong checksum among those that found no room.
func (c *udpConn) Counters() Counters {
	n := Counters{RxBadPacket: c.empty.Load()}
	for _, s := range c.receivers {
		n.RxQueueFull += uint64(drops(s))
	}
	c.groups.mu.Lock() // so that no group is between known and left
	defer c.groups.mu.Unlock()
	if known := c.groups.known.Load(); known != nil {
		for _, g := range *known {
			n.RxQueueFull += uint64(drops(g.sock))
		}
	}
	n.RxQueueFull += c.left.Load()
	return n
}

// drops is how many datagrams the kernel dropped that were for a socket: 0 where
// it does not tell, before Linux 4.12.
func drops(s *socket) (n uint32) {
	var info [skMeminfoVars]uint32
	_ = s.fd.Do(func(fd uintptr) {
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 && size == uint32(unsafe.Sizeof(info)) {
			n = info[skMeminfoDrops]
		}
	})
	return n
}

// What SO_MEMINFO returns (include/uapi/linux/sock_diag.h).
const (
	skMeminfoDrops = 8
	skMeminfoVars  = 9
)

// String names the transport.
func (c *udpConn) String() string { return "udp" }

func (c *udpConn) Close() error {
	c.closeOnce.Do(func() {
		c.Settle()
		c.closeGroups()
		for _, s := range c.all {
			s.fd.Close()
		}
	})
	return nil
}
