package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/govxlan/govxlan/internal/descriptor"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// packetConn is the Conn of ListenPacket.
type packetConn struct {
	locals    []netip.AddrPort
	ports     vxlan.PortRange
	df        bool
	label     bool    // an IPv6 flow label where trains have none
	zero      [2]bool // no checksum over IPv4, IPv6
	accept6   bool    // none is right over IPv6
	offload   bool    // checksums and segmentation are the kernel's work
	receivers []*socket
	senders   []*socket // AF_PACKET, shared out among Senders
	direct    [2]*socket
	hold      []*socket
	hops      *hops
	words     words

	// segments is Limits.Segments; it sinks to 1 when the kernel refuses to
	// segment what a packet socket sends.
	segments atomic.Int32
	given    atomic.Uint32 // Senders
	device   int           // index that is in the filters; 0 = any

	badPacket, badChecksum atomic.Uint64
	mu                     sync.Mutex
	queueFull              uint64 // reading it from the kernel clears it

	zones     zones
	closeOnce sync.Once
}

var (
	_ Conn     = (*packetConn)(nil)
	_ Counting = (*packetConn)(nil)
)

// ListenPacket opens the sockets of a VTEP that writes and reads whole packets.
// It needs CAP_NET_RAW. On failure nothing stays open.
func ListenPacket(cfg PacketConfig) (Conn, error) {
	if cfg.Port == 0 {
		cfg.Port = vxlan.Port
	}
	c := &packetConn{
		ports: vxlan.PortRange{Lo: cfg.SourcePortLo, Hi: cfg.SourcePortHi},
		df:    cfg.DontFragment, label: cfg.AutoFlowLabel, offload: !cfg.NoGSO,
		zero: [2]bool{cfg.ZeroChecksum4, cfg.ZeroChecksum6}, accept6: cfg.AcceptZeroChecksum6,
		zones: zones{netns: cfg.Netns},
	}
	if c.ports == (vxlan.PortRange{}) {
		c.ports = vxlan.PortRange{Lo: vxlan.SourcePortLo, Hi: vxlan.SourcePortHi}
	}
	if !c.ports.Valid() {
		return nil, fmt.Errorf("source ports %v: give the lower one first, and not 0", c.ports)
	}
	if cfg.TTL == 0 {
		cfg.TTL = 64
	}
	if cfg.TTL != TTLAuto && (cfg.TTL < 0 || cfg.TTL > 255) {
		return nil, fmt.Errorf("TTL %d: %w", cfg.TTL, unix.EINVAL)
	}
	cfg.Receivers = max(cfg.Receivers, 1)
	c.segments.Store(1)
	if err := namespace.Do(cfg.Netns, func() error { return c.open(&cfg) }); err != nil {
		c.Close()
		return nil, err
	}
	for _, at := range c.locals {
		if c.offload && !c.zero[family(at.Addr())] {
			c.segments.Store(MaxSegments)
		}
	}
	c.hops.start()
	return c, nil
}

// open opens everything; the calling thread is in the namespace.
func (c *packetConn) open(cfg *PacketConfig) error {
	if len(cfg.Local) == 0 {
		return errors.New("no local address given")
	}
	var locals [2]netip.Addr
	for _, local := range cfg.Local {
		local = local.Unmap()
		if !local.IsValid() {
			return errors.New("a local address is empty; 0.0.0.0 leaves the choice to routing")
		}
		f := family(local)
		if locals[f].IsValid() {
			return fmt.Errorf("two local addresses of one family: %v", cfg.Local)
		}
		locals[f] = local
		at := netip.AddrPortFrom(local, cfg.Port)
		if err := c.holdPort(cfg, at); err != nil {
			return err
		}
		c.locals = append(c.locals, at)
	}
	var err error
	if c.hops, err = newHops(locals, cfg.Device, &c.zones, c.follow); err != nil {
		return err
	}
	c.hops.autoTTL = cfg.TTL == TTLAuto
	for range cfg.Receivers {
		s, err := packetSocket(0)
		if err != nil {
			return err
		}
		c.senders = append(c.senders, s)
	}
	for _, at := range c.locals {
		f := family(at.Addr())
		if c.direct[f], err = c.directSocket(cfg, f == 1); err != nil {
			return err
		}
		if c.hops.ttl[f], err = defaultTTL(c.direct[f], f == 1, cfg.TTL); err != nil {
			return err
		}
		if err := c.openReceivers(cfg, at); err != nil {
			return fmt.Errorf("listen on %v: %w", at, err)
		}
	}
	return nil
}

// holdPort binds a UDP socket to the port that drops all that it gets: the
// kernel then neither answers for the port nor gives it to anybody else. It
// also is who UDP_GRO is asked of: the kernel puts packets together for the
// port, whoever takes them.
func (c *packetConn) holdPort(cfg *PacketConfig, at netip.AddrPort) error {
	opener := udpConn{zones: zones{netns: c.zones.netns}}
	s, err := opener.open(&UDPConfig{Device: cfg.Device, TTL: 64}, at, 0)
	if err != nil {
		return err
	}
	c.hold = append(c.hold, s)
	if err := refuseAll(s); err != nil {
		return fmt.Errorf("hold %v: %w", at, err)
	}
	if cfg.NoGRO {
		return nil
	}
	// Absent before 5.0: then nothing is put together.
	return s.fd.Do(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1) })
}

// packetSocket opens a packet socket that receives nothing before it is bound.
func packetSocket(receivers int) (_ *socket, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("packet socket: %w (run as root, or with CAP_NET_RAW)", err)
		}
		return nil, os.NewSyscallError("socket AF_PACKET", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	// A vnet header in front of each packet, both ways: what of checksums and
	// segmentation is left to do.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt PACKET_VNET_HDR", err)
	}
	if receivers > 0 {
		bufferSize(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, recvBuffer)
	} else {
		bufferSize(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	}
	return &socket{fd: descriptor.New(fd, "packet")}, nil
}

// directSocket opens a socket that gives the kernel's IP packets from the IP
// header on. It receives nothing.
func (c *packetConn) directSocket(cfg *PacketConfig, v6 bool) (_ *socket, err error) {
	domain := unix.AF_INET
	if v6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, os.NewSyscallError("socket IPPROTO_RAW", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	// As for UDP sockets: the device's MTU is the limit, nothing is fragmented
	// here, and the path-MTU cache has no say.
	level, name := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if v6 {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	if err := unix.SetsockoptInt(fd, level, name, unix.IP_PMTUDISC_INTERFACE); err != nil {
		return nil, os.NewSyscallError("setsockopt MTU_DISCOVER", err)
	}
	bufferSize(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	if cfg.Device != "" {
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, cfg.Device); err != nil {
			return nil, fmt.Errorf("bind to device %s: %w", cfg.Device, err)
		}
	}
	return &socket{fd: descriptor.New(fd, "ip")}, nil
}

// defaultTTL is the TTL as configured, or with TTLAuto what the namespace has for
// routes that say nothing.
func defaultTTL(s *socket, v6 bool, ttl int) (uint8, error) {
	if ttl != TTLAuto {
		return uint8(ttl), nil
	}
	level, name := unix.IPPROTO_IP, unix.IP_TTL
	if v6 {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
	}
	var failed error
	if err := s.fd.Do(func(fd uintptr) { ttl, failed = unix.GetsockoptInt(int(fd), level, name) }); err != nil {
		return 0, err
	}
	return uint8(ttl), os.NewSyscallError("getsockopt TTL", failed)
}

// openReceivers opens the packet sockets of one family.
func (c *packetConn) openReceivers(cfg *PacketConfig, at netip.AddrPort) error {
	filter, err := c.filter(at)
	if err != nil {
		return err
	}
	var group int // of sockets that share what arrives
	for i := range cfg.Receivers {
		s, err := packetSocket(1)
		if err != nil {
			return err
		}
		s.v6, s.zones, s.port = at.Addr().Is6(), &c.zones, at.Port()
		c.receivers = append(c.receivers, s)
		var failed error
		if err := s.fd.Do(func(fd uintptr) {
			if failed = attachFilter(int(fd), filter); failed == nil {
				failed = bindPacket(int(fd), s.v6)
			}
			if failed == nil {
				group, failed = joinGroup(int(fd), group, i == 0, cfg.Receivers > 1)
			}
		}); err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
	}
	return nil
}

// joinGroup makes the socket one of a fanout group, which there is for a single
// one as well: in a group, IPv4 fragments are put together first.
func joinGroup(fd, group int, first, several bool) (int, error) {
	flags := uint32(unix.PACKET_FANOUT_FLAG_DEFRAG)
	if first {
		flags |= unix.PACKET_FANOUT_FLAG_UNIQUEID
	}
	if several {
		flags |= unix.PACKET_FANOUT_HASH // one flow, one receiver
	} else {
		flags |= unix.PACKET_FANOUT_CPU // cheaper
	}
	how := int32(flags<<16 | uint32(group))
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, int(how)); err != nil {
		return 0, os.NewSyscallError("setsockopt PACKET_FANOUT", err)
	}
	if first {
		got, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
		if err != nil {
			return 0, os.NewSyscallError("getsockopt PACKET_FANOUT", err)
		}
		group = got & 0xFFFF
	}
	return group, nil
}

// filter makes the filter of one local address.
func (c *packetConn) filter(at netip.AddrPort) ([]unix.SockFilter, error) {
	addrs := []netip.Addr{at.Addr()}
	if at.Addr().IsUnspecified() {
		var err error
		if addrs, err = c.hops.localAddrs(at.Addr().Is6()); err != nil {
			return nil, err
		}
	}
	c.device = c.hops.device
	return udpFilter(addrs, at.Addr().Is6(), at.Port(), c.device), nil
}

// networkOrder is an EtherType as socket addresses of packets have it.
func networkOrder(etherType uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], etherType)
	return binary.NativeEndian.Uint16(b[:])
}

// bindPacket lets a packet socket receive what one IP version brings. Not by one
// device alone: its index is in the filter, which can follow it. A socket of one
// protocol sees what the kernel's IP would see, once, and nothing that goes out.
func bindPacket(fd int, v6 bool) error {
	protocol := networkOrder(unix.ETH_P_IP)
	if v6 {
		protocol = networkOrder(unix.ETH_P_IPV6)
	}
	return os.NewSyscallError("bind AF_PACKET", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol}))
}

// follow adapts the sockets to what changed in the namespace: the device may be
// another one of that name, and an unspecified address stand for others. What
// fails is tried again at the next change. Only hops calls it.
func (c *packetConn) follow() {
	moved := c.hops.device != c.device
	for _, s := range c.receivers {
		at := c.locals[0]
		if at.Addr().Is6() != s.v6 {
			at = c.locals[1]
		}
		if !moved && !at.Addr().IsUnspecified() {
			continue
		}
		if filter, err := c.filter(at); err == nil {
			_ = s.fd.Do(func(fd uintptr) { _ = attachFilter(int(fd), filter) })
		}
	}
	if !moved {
		return
	}
	for _, s := range append([]*socket{c.direct[0], c.direct[1]}, c.hold...) {
		if s == nil {
			continue
		}
		_ = s.fd.Do(func(fd uintptr) {
			_ = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, c.hops.deviceName)
		})
	}
}

func (c *packetConn) Locals() []netip.AddrPort { return c.locals }

func (c *packetConn) Limits() Limits {
	return Limits{Segments: int(c.segments.Load()), Flows: c.ports.Len()}
}

func (c *packetConn) Receivers() []Receiver {
	receivers := make([]Receiver, len(c.receivers))
	for i, s := range c.receivers {
		receivers[i] = newPacketReceiver(c, s)
	}
	return receivers
}

func (c *packetConn) NewSender() Sender {
	n := c.given.Add(1)
	return newPacketSender(c, c.senders[int(n)%len(c.senders)])
}

// Counters returns what was dropped since ListenPacket.
func (c *packetConn) Counters() Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.receivers {
		_ = s.fd.Do(func(fd uintptr) {
			if stats, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
				c.queueFull += uint64(stats.Drops)
			}
		})
	}
	return Counters{
		RxBadPacket: c.badPacket.Load(), RxChecksum: c.badChecksum.Load(), RxQueueFull: c.queueFull,
	}
}

// String names the transport.
func (c *packetConn) String() string { return "packet" }

func (c *packetConn) Close() error {
	c.closeOnce.Do(func() {
		if c.hops != nil {
			c.hops.close()
		}
		c.words.close()
		all := append(append(append([]*socket{c.direct[0], c.direct[1]}, c.receivers...), c.senders...), c.hold...)
		for _, s := range all {
			if s != nil {
				s.fd.Close()
			}
		}
	})
	return nil
}
