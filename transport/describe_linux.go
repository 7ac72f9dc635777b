package transport

import (
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

var (
	_ OuterConn = (*udpConn)(nil)
	_ OuterConn = (*packetConn)(nil)
)

// Outer: see OuterConn.
func (c *udpConn) Outer(t *Train) vxlan.Outer {
	o := t.outer()
	f := family(o.Dst)
	for _, l := range c.locals {
		if family(l.Addr()) == f {
			o.Src = l.Addr().WithZone("")
		}
	}
	if set := c.senders[f]; len(set) > 0 {
		s := set[uint64(t.Hash)*uint64(len(set))>>32]
		o.SrcPort, o.ZeroChecksum = s.port, s.single
	}
	if f == 0 && c.dontFragment {
		o.DF = true
	}
	switch {
	case o.Dst.IsMulticast():
		o.TTL = uint8(c.groups.cfg.MulticastTTL)
	case o.TTL == 0 && c.ttl > 0:
		o.TTL = uint8(c.ttl)
	}
	return o
}

// Outer: see OuterConn. Where the next hop is known, so are the MAC addresses.
func (c *packetConn) Outer(t *Train) vxlan.Outer {
	o := t.outer()
	o.SrcPort = c.ports.Port(t.Hash)
	f := family(o.Dst)
	o.ZeroChecksum = c.zero[f]
	switch {
	case f == 0:
		o.DF = o.DF || c.df
	case o.FlowLabel == 0 && c.label:
		o.FlowLabel = flowLabel(o.SrcPort)
	}
	if c.direct[f] == nil {
		return o // no local address of this family
	}
	state := c.hops.get(netip.AddrPortFrom(t.Addr.Addr().Unmap(), t.Addr.Port())).state.Load()
	if state.err != nil {
		return o
	}
	way := state.choose(t.Hash).outer
	o.Src, o.SrcMAC, o.DstMAC = way.Src, way.SrcMAC, way.DstMAC
	if o.TTL == 0 {
		o.TTL = state.ttl
	}
	return o
}
