package transport

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// groups are the memberships of a udpConn.
type groups struct {
	// known is replaced as a whole, under mu; nil until the first Join.
	known atomic.Pointer[map[netip.Addr]*udpGroup]

	cfg UDPConfig // what ListenUDP was called with

	mu     sync.Mutex
	closed bool
	links  *netlink.Handle   // asks about devices
	events *nl.NetlinkSocket // tells that something changed
	done   chan struct{}     // the watcher has ended
}

// udpGroup is a Group: a socket bound to the group's address, so that nothing
// else arrives there. One for each group, not one for all: a socket can be
// bound to one group or to every address of the host, and the latter would take
// what is meant for others (and may be in 20 groups at most, by
// net.ipv4.igmp_max_memberships).
type udpGroup struct {
	*udpReceiver
	c      *udpConn
	addr   netip.Addr
	device string
	tell   func(error)
	source [4]byte // to send from, over IPv4

	index atomic.Uint32 // of the device; 0 = it is not there
	own   atomic.Pointer[[]netip.Prefix]

	// Guarded by groups.mu.
	joined uint32 // index of the device that the socket is a member on; 0 = none
	state  GroupState
}

var (
	_ GroupConn = (*udpConn)(nil)
	_ Group     = (*udpGroup)(nil)
)

func (c *udpConn) Join(group netip.Addr, device string, tell func(error)) (_ Group, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("join group %v on %s: %w", group, device, err)
		}
	}()
	group = group.Unmap().WithZone("")
	if !group.IsMulticast() || device == "" {
		return nil, errors.New("a multicast address and the underlay device are needed")
	}
	if group.IsInterfaceLocalMulticast() {
		return nil, errors.New("what is sent to it never leaves the host")
	}
	f := family(group)
	if len(c.senders[f]) == 0 {
		return nil, ErrNoFamily
	}
	c.groups.mu.Lock()
	defer c.groups.mu.Unlock()
	if c.groups.closed {
		return nil, os.ErrClosed
	}
	if c.group(group) != nil {
		return nil, ErrGroupExists
	}
	g := &udpGroup{c: c, addr: group, device: device, tell: tell}
	g.own.Store(&[]netip.Prefix{})
	for _, l := range c.locals {
		if a := l.Addr(); f == 0 && a.Is4() {
			g.source = a.As4()
		}
	}
	if err := c.inNamespace(func() error {
		if err := c.watchLinks(); err != nil {
			return err
		}
		if was, ok := c.take(group, device); ok {
			g.udpReceiver, g.joined, g.state.Joins = newUDPReceiver(was.sock, &c.empty), was.Joined, was.Joins
			return nil
		}
		return g.open()
	}); err != nil {
		return nil, err
	}
	g.check(c.look(device))
	c.changeGroups(func(m map[netip.Addr]*udpGroup) { m[group] = g })
	return g, nil
}

// open opens the socket. groups.mu is held.
func (g *udpGroup) open() error {
	c := g.c
	cfg := c.groups.cfg
	// The membership decides which device it is. A socket bound to a device
	// would die with it.
	cfg.Device = ""
	at := g.addr
	if at.IsLinkLocalMulticast() && at.Is6() {
		// Linux wants a device named to bind to such an address. The loopback
		// is always there; the right one takes its place in join.
		at = at.WithZone("1")
	}
	// A VTEP on another address of this host may be in the same group. Each
	// gets a copy of what is sent to it, unlike that of unicast.
	free := c.shareWildcard(family(g.addr))
	sock, err := c.open(&cfg, netip.AddrPortFrom(at, c.locals[0].Port()), unix.SO_REUSEADDR)
	free()
	if err != nil {
		return err
	}
	if err := c.prepareReceiver(&cfg, sock); err != nil {
		sock.fd.Close()
		return err
	}
	g.udpReceiver = newUDPReceiver(sock, &c.empty)
	return nil
}

// shareWildcard lets a group's socket in beside our own one where that is bound
// to all addresses, until free is called: for good would let strangers in too.
func (c *udpConn) shareWildcard(f int) (free func()) {
	share := func(yes bool) {
		for _, s := range c.receivers {
			if s.v6 == (f == 1) {
				_ = s.allowReuse(yes) // if not, bind says that the port is in use
			}
		}
	}
	for _, l := range c.locals {
		if family(l.Addr()) == f && l.Addr().IsUnspecified() {
			share(true)
			return func() { share(false) }
		}
	}
	return func() {}
}

// group finds a membership, for sending too.
func (c *udpConn) group(a netip.Addr) *udpGroup {
	m := c.groups.known.Load()
	if m == nil {
		return nil
	}
	return (*m)[a.Unmap().WithZone("")]
}

// reaches says whether something can be sent to a group.
func (c *udpConn) reaches(a netip.Addr) bool {
	g := c.group(a)
	return g != nil && g.index.Load() != 0
}

// changeGroups replaces the map by a changed copy. groups.mu is held.
func (c *udpConn) changeGroups(change func(map[netip.Addr]*udpGroup)) {
	m := make(map[netip.Addr]*udpGroup)
	if was := c.groups.known.Load(); was != nil {
		m = maps.Clone(*was)
	}
	change(m)
	c.groups.known.Store(&m)
}

func (g *udpGroup) State() GroupState {
	g.c.groups.mu.Lock()
	defer g.c.groups.mu.Unlock()
	return g.state
}

func (g *udpGroup) Locate(a netip.Addr) Place {
	if z := a.Zone(); z != "" && z != g.device {
		return Elsewhere
	}
	return locate(a, *g.own.Load(), g.c.groups.cfg.MulticastTTL)
}

// Leave closes the socket, which makes the kernel tell the routers and switches
// on the link.
func (g *udpGroup) Leave() error {
	g.c.groups.mu.Lock()
	defer g.c.groups.mu.Unlock()
	if g.c.group(g.addr) != g {
		return nil
	}
	g.c.changeGroups(func(m map[netip.Addr]*udpGroup) { delete(m, g.addr) })
	g.c.left.Add(uint64(drops(g.sock)))
	return g.sock.fd.Close()
}

// check brings the membership into line with the device, and reports whether
// that changed the state. groups.mu is held.
func (g *udpGroup) check(d *link) (changed bool) {
	g.index.Store(d.index)
	if !slices.Equal(*g.own.Load(), d.own) {
		g.own.Store(&d.own)
	}
	was := g.state.Err
	if g.joined != 0 && (g.joined != d.index || d.err != nil) {
		// Nothing is heard of this on a link that is down. It makes room for
		// a join that is: Linux repeats its own only after `ip link set down`
		// and not when a cable is put into another switch.
		_ = g.member(false, g.joined)
		g.joined = 0
	}
	g.state.Err = d.err
	if d.err == nil && g.joined == 0 {
		if g.state.Err = g.member(true, d.index); g.state.Err == nil {
			g.joined = d.index
			g.state.Joins++
			return true
		}
	}
	return (g.state.Err == nil) != (was == nil) || g.state.Err != nil && g.state.Err.Error() != was.Error()
}

// member makes the socket a member on a device, or not any more.
func (g *udpGroup) member(join bool, index uint32) (failed error) {
	err := g.sock.fd.Do(func(fd uintptr) {
		if !g.sock.v6 {
			what, name := unix.IP_ADD_MEMBERSHIP, "IP_ADD_MEMBERSHIP"
			if !join {
				what, name = unix.IP_DROP_MEMBERSHIP, "IP_DROP_MEMBERSHIP"
			}
			m := unix.IPMreqn{Multiaddr: g.addr.As4(), Ifindex: int32(index)}
			failed = os.NewSyscallError("setsockopt "+name, unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, what, &m))
			return
		}
		what, name := unix.IPV6_JOIN_GROUP, "IPV6_JOIN_GROUP"
		if !join {
			what, name = unix.IPV6_LEAVE_GROUP, "IPV6_LEAVE_GROUP"
		} else {
			// IPv6 does not look at the device of a membership when it
			// delivers: another program's, of this group on another device,
			// would be ours too.
			err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, int(index))
			if failed = os.NewSyscallError("setsockopt SO_BINDTOIFINDEX", err); failed != nil {
				return
			}
		}
		m := unix.IPv6Mreq{Multiaddr: g.addr.As16(), Interface: index}
		failed = os.NewSyscallError("setsockopt "+name, unix.SetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IPV6, what, &m))
	})
	if err != nil {
		return err
	}
	return failed
}

// putDevice writes the control message that sends to a group by its device.
func (g *udpGroup) putDevice(oob []byte) int {
	index := g.index.Load()
	if index == 0 {
		index = math.MaxInt32 // gone this moment; 0 would let routing choose another
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(oob)))
	if g.sock.v6 {
		h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
		// Without an address here, the one that the socket is bound to stays.
		*(*unix.Inet6Pktinfo)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = unix.Inet6Pktinfo{Ifindex: index}
		return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	*(*unix.Inet4Pktinfo)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = unix.Inet4Pktinfo{Ifindex: int32(index), Spec_dst: g.source}
	return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
}
