package transport

import (
	"net"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// multipath looks up the ways of a route that has several, each as often as its
// weight says; nil when there is only one that can be used.
func (p *hops) multipath(outer vxlan.Outer, ways []*netlink.NexthopInfo) (paths []*hopState) {
	alive := 0
	for _, w := range ways {
		if w.Flags&(unix.RTNH_F_DEAD|unix.RTNH_F_LINKDOWN) != 0 {
			continue
		}
		s, stale := p.path(outer, w.LinkIndex, w.Gw, w.Via, true)
		if s.err != nil {
			continue
		}
		alive++
		if stale || !s.direct && s.via.IsValid() {
			p.poke(s)
		}
		for range min(w.Hops, 255) + 1 {
			paths = append(paths, s)
		}
	}
	if alive < 2 {
		return nil
	}
	return paths
}

// poke has the kernel ask for the neighbour of one of several ways: given a
// packet, it would choose a way of its own. Where it may not be told
// (CAP_NET_ADMIN), packets go by its IP until the neighbour is known.
func (p *hops) poke(s *hopState) {
	_ = p.handle.NeighSet(&netlink.Neigh{LinkIndex: s.index, IP: net.IP(s.via.AsSlice()), Flags: netlink.NTF_USE})
}

// choose returns the way of one flow.
func (s *hopState) choose(hash uint32) *hopState {
	if s.paths == nil {
		return s
	}
	// Other bits of the hash than those that choose the source port.
	return s.paths[uint64(hash*0x9E3779B1)*uint64(len(s.paths))>>32]
}

// hear returns s as it is after what the kernel says of the neighbour ip: s
// itself where nothing changes. several says that it is a neighbour of one of
// several ways.
func (s *hopState) hear(n *netlink.Neigh, ip netip.Addr) (next *hopState, several bool) {
	next = s.meetAt(n, ip)
	var paths []*hopState
	for i, path := range s.paths {
		if !path.at(n.LinkIndex, ip) {
			continue
		}
		several = true
		if heard := path.meetAt(n, ip); heard != path {
			if paths == nil {
				paths = slices.Clone(s.paths)
			}
			paths[i] = heard
		}
	}
	if paths != nil {
		c := *next
		c.paths = paths
		next = &c
	}
	return next, several
}

// at says whether the way leads to this neighbour.
func (s *hopState) at(index int, ip netip.Addr) bool {
	return s.err == nil && s.index == index && s.via == ip
}

// meetAt is meet on a copy, where it changes anything.
func (s *hopState) meetAt(n *netlink.Neigh, ip netip.Addr) *hopState {
	if !s.at(n.LinkIndex, ip) {
		return s
	}
	next := *s
	next.meet(n)
	if next.direct == s.direct && next.outer.DstMAC == s.outer.DstMAC {
		return s
	}
	// It compiled before with other addresses.
	next.stack, _ = next.outer.CompileUDP()
	return &next
}
