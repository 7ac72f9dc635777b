package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// hop is where packets to one VTEP go next, as routing and neighbours have it.
// Senders read it without a lock.
type hop struct {
	to    netip.AddrPort
	state atomic.Pointer[hopState]
	// ask has the next train go through the kernel's IP, which then looks after
	// a neighbour that it has not heard of for a while.
	ask atomic.Bool
	// used since routes were last looked up: those that are not are forgotten.
	used atomic.Bool
	// dead: forgotten, to be asked for again.
	dead atomic.Bool
}

// hopState is immutable.
type hopState struct {
	err   error // a bare errno: there is no way
	index int   // of the device
	mtu   int
	ttl   uint8      // of trains that have none
	via   netip.Addr // the neighbour; invalid where there is none to resolve
	outer vxlan.Outer
	stack *vxlan.UDPTemplate
	// direct: the stack is complete. Otherwise the kernel's IP takes the packet
	// from the IP header on: it finds the neighbour, and keeps the packet as
	// long; it knows what is local; and it knows links without Ethernet.
	direct bool
	// paths are all ways of a route that has several, by weight; nil for one.
	// Then s itself stands for what the kernel chose.
	paths []*hopState
}

// validNeighbour are the states in which the kernel uses the address that it
// has (NUD_VALID, include/net/neighbour.h).
const validNeighbour = unix.NUD_PERMANENT | unix.NUD_NOARP | unix.NUD_REACHABLE | unix.NUD_PROBE | unix.NUD_STALE | unix.NUD_DELAY

// resolve looks the way to h up and stores it. p.mu is held.
func (p *hops) resolve(h *hop) {
	s, stale := p.lookUp(h.to)
	h.state.Store(s)
	if p.told != nil {
		p.told(h)
	}
	if stale {
		h.ask.Store(true)
	}
}

// lookUp asks the kernel for the route to a VTEP, the devices and the
// neighbours. stale says that the kernel has not heard of the only neighbour for
// a while.
func (p *hops) lookUp(to netip.AddrPort) (s *hopState, stale bool) {
	local := p.local[family(to.Addr())]
	options := netlink.RouteGetOptions{OifIndex: p.device}
	if !local.IsUnspecified() {
		options.SrcAddr = net.IP(local.AsSlice())
	}
	if zone := to.Addr().Zone(); zone != "" {
		options.OifIndex = int(p.zones.index(zone))
	}
	dst := net.IP(to.Addr().AsSlice())
	routes, err := p.handle.RouteGetWithOptions(dst, &options)
	if err != nil || len(routes) == 0 {
		return &hopState{err: errnoOf(err, unix.ENETUNREACH)}, false
	}
	r := &routes[0]
	outer := vxlan.Outer{Src: local.WithZone(""), Dst: to.Addr().WithZone(""), DstPort: to.Port()}
	if local.IsUnspecified() {
		src, ok := netip.AddrFromSlice(r.Src)
		if !ok {
			return &hopState{err: unix.EADDRNOTAVAIL}, false
		}
		outer.Src = src.Unmap()
	}
	outer.TTL = p.routeTTL(r, outer.Dst)
	unicast := r.Type == unix.RTN_UNICAST
	s, stale = p.path(outer, r.LinkIndex, r.Gw, r.Via, unicast)
	if s.err == nil && unicast {
		options.FIBMatch = true // the route as it stands in the table
		if routes, err := p.handle.RouteGetWithOptions(dst, &options); err == nil && len(routes) > 0 {
			s.paths = p.multipath(outer, routes[0].MultiPath)
		}
	}
	return s, stale && s.paths == nil
}

// routeTTL is the TTL of trains that have none: with TTLAuto as the kernel finds
// it, which is 1 for multicast, else that of the route, of the device (IPv6
// routers announce one), or of the system.
func (p *hops) routeTTL(r *netlink.Route, dst netip.Addr) uint8 {
	ttl := p.ttl[family(dst)]
	switch {
	case !p.autoTTL:
	case dst.IsMulticast():
		return 1
	case r.Hoplimit > 0:
		return uint8(r.Hoplimit)
	case dst.Is6():
		link, err := p.handle.LinkByIndex(r.LinkIndex)
		if err != nil {
			break
		}
		var text []byte
		if namespace.Do(p.zones.netns, func() (err error) {
			text, err = os.ReadFile("/proc/sys/net/ipv6/conf/" + link.Attrs().Name + "/hop_limit")
			return err
		}) == nil {
			if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 8); err == nil && n > 0 {
				return uint8(n)
			}
		}
	}
	return ttl
}

// path looks one way up: by a device, to a gateway if there is one.
func (p *hops) path(outer vxlan.Outer, index int, gw net.IP, via netlink.Destination, unicast bool) (s *hopState, stale bool) {
	link, err := p.handle.LinkByIndex(index)
	if err != nil {
		return &hopState{err: errnoOf(err, unix.ENETDOWN)}, false
	}
	a := link.Attrs()
	s = &hopState{index: a.Index, mtu: a.MTU, ttl: outer.TTL, outer: outer}
	if a.EncapType == "ether" && len(a.HardwareAddr) == 6 && unicast {
		s.outer.SrcMAC = vxlan.MAC(a.HardwareAddr)
		s.via = outer.Dst
		if ip, ok := netip.AddrFromSlice(gw); ok {
			s.via = ip.Unmap()
		} else if v, ok := via.(*netlink.Via); ok { // IPv4 over an IPv6 neighbour, RFC 8950
			if ip, ok := netip.AddrFromSlice(v.Addr); ok {
				s.via = ip
			}
		}
		if n, err := p.neighbour(s.index, s.via); err == nil { // else there is none yet
			s.meet(n)
			stale = s.direct && n.State&unix.NUD_STALE != 0
		}
	}
	if s.stack, err = s.outer.CompileUDP(); err != nil {
		return &hopState{err: unix.EAFNOSUPPORT}, false
	}
	return s, stale
}

// meet takes over what the kernel says of the neighbour.
func (s *hopState) meet(n *netlink.Neigh) {
	s.direct = n.State&validNeighbour != 0 && len(n.HardwareAddr) == 6
	s.outer.DstMAC = vxlan.MAC{}
	if s.direct {
		s.outer.DstMAC = vxlan.MAC(n.HardwareAddr)
	}
}

// neighbour asks the kernel for one neighbour.
func (p *hops) neighbour(index int, ip netip.Addr) (*netlink.Neigh, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, 0)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: p.query}
	nlFamily := unix.AF_INET
	if ip.Is6() {
		nlFamily = unix.AF_INET6
	}
	req.AddData(&netlink.Ndmsg{Family: uint8(nlFamily), Index: uint32(index)})
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, ip.AsSlice()))
	answers, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	if err != nil {
		return nil, err
	}
	if len(answers) == 0 {
		return nil, unix.ENOENT
	}
	return netlink.NeighDeserialize(answers[0])
}

// hear takes over what the kernel says of a neighbour by itself. p.mu is held.
func (p *hops) hear(n *netlink.Neigh, gone bool) {
	ip, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return
	}
	if gone {
		n.State = unix.NUD_NONE
	}
	stale := n.State&unix.NUD_STALE != 0
	for _, h := range p.table {
		s := h.state.Load()
		next, several := s.hear(n, ip)
		if next != s {
			h.state.Store(next)
			if p.told != nil {
				p.told(h)
			}
		}
		switch {
		case several && (stale || gone || n.State&unix.NUD_FAILED != 0):
			p.poke(&hopState{index: n.LinkIndex, via: ip})
		case s.paths == nil && stale && next.direct && next.at(n.LinkIndex, ip):
			h.ask.Store(true)
		}
	}
}

// errnoOf is the errno in err, or another where it has none.
func errnoOf(err error, otherwise syscall.Errno) error {
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != 0 {
		return errno
	}
	return otherwise
}

// localAddrs are the addresses of the namespace, or of one device.
func (p *hops) localAddrs(v6 bool) ([]netip.Addr, error) {
	nlFamily := netlink.FAMILY_V4
	if v6 {
		nlFamily = netlink.FAMILY_V6
	}
	list, err := p.handle.AddrList(nil, nlFamily)
	if err != nil {
		return nil, fmt.Errorf("addresses of this host: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && (p.device == 0 || a.LinkIndex == p.device) {
			addrs = append(addrs, ip.Unmap())
		}
	}
	return addrs, nil
}
