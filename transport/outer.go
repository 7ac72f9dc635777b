package transport

import "github.com/govxlan/govxlan/vxlan"

// OuterConn is a Conn that knows what the headers around its datagrams look
// like, for whoever shows them: the kernel or the network card writes them, and
// nobody here sees the packet. Those of ListenUDP, ListenPacket and a [Network]
// are.
type OuterConn interface {
	// Outer returns the outer headers of the datagrams of a train that is sent,
	// by its Addr, Hash, TOS, TTL, DontFragment and FlowLabel; Buf does not
	// matter. What the Conn does not know is zero: MAC addresses below UDP
	// sockets, the IPv4 identification, a TTL or a source address that the
	// system chooses, and the VNI always. Any goroutine may call it.
	Outer(t *Train) vxlan.Outer
}

// outer is what a train says about its headers.
func (t *Train) outer() vxlan.Outer {
	o := vxlan.Outer{Dst: t.Addr.Addr().Unmap().WithZone(""), DstPort: t.Addr.Port(), TOS: t.TOS, TTL: t.TTL}
	if o.Dst.Is6() {
		o.FlowLabel = t.FlowLabel & 0xFFFFF
	} else {
		o.DF = t.DontFragment
	}
	return o
}
