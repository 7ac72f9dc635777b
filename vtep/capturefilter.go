package vtep

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vxlan"
)

// Direction is the way of a captured frame.
type Direction uint8

const (
	// Both is no direction: a filter's wish for either.
	Both Direction = iota
	// In is from the underlay to the device.
	In
	// Out is from the device to the underlay.
	Out
)

// String returns both, in or out.
func (d Direction) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	}
	return "both"
}

// ParseDirection reads what String writes.
func ParseDirection(s string) (Direction, error) {
	for _, d := range []Direction{Both, In, Out} {
		if s == d.String() {
			return d, nil
		}
	}
	return Both, fmt.Errorf("direction %q: give in, out or both", s)
}

// CaptureFilter chooses frames. Each field that is set must agree; the zero value
// chooses all.
type CaptureFilter struct {
	// VNIs of this endpoint, or of what is dropped because it has no such VNI.
	VNIs []vxlan.VNI
	// Peer is the VTEP at the other end, whatever its port, or the multicast
	// group that a frame was sent to.
	Peer netip.Addr
	// MAC is the source or destination of the inner frame. The zero MAC is any.
	MAC vxlan.MAC
	// IP has the source or destination of the inner IP packet, or the sender or
	// target of an ARP message.
	IP netip.Prefix
	// Direction, if not Both.
	Direction Direction
	// Drops leaves out what was handed on.
	Drops bool
}

const etherTypeARP = 0x0806

// wants judges a frame; where it is a datagram, frame is what is behind its VXLAN
// header.
func (f *CaptureFilter) wants(s *sighting, frame []byte) bool {
	if f.Direction != Both && (f.Direction == Out) != s.out {
		return false
	}
	if f.Drops && !s.verdict.Dropped() {
		return false
	}
	if len(f.VNIs) > 0 && !(s.known && slices.Contains(f.VNIs, s.vni)) {
		return false
	}
	if f.Peer.IsValid() && !f.wantsPeer(s) {
		return false
	}
	if f.MAC != (vxlan.MAC{}) {
		if len(frame) < vxlan.EthernetLen || vxlan.MAC(frame[0:6]) != f.MAC && vxlan.MAC(frame[6:12]) != f.MAC {
			return false
		}
	}
	return !f.IP.IsValid() || f.wantsIP(frame)
}

func (f *CaptureFilter) wantsPeer(s *sighting) bool {
	is := func(a netip.Addr) bool { return a.Unmap().WithZone("") == f.Peer }
	return is(s.peer.Addr()) || s.local.IsValid() && is(s.local) ||
		slices.ContainsFunc(s.replicas, func(r fdb.Remote) bool { return is(r.Addr.Addr()) })
}

func (f *CaptureFilter) wantsIP(frame []byte) bool {
	var in vxlan.Inner
	if in.Parse(frame) != nil {
		return false
	}
	four := func(b []byte) bool { return f.IP.Contains(netip.AddrFrom4([4]byte(b))) }
	switch {
	case in.L3 != 0 && in.EtherType == etherTypeIPv6:
		ip := frame[in.L3:]
		return f.IP.Contains(netip.AddrFrom16([16]byte(ip[8:24]))) || f.IP.Contains(netip.AddrFrom16([16]byte(ip[24:40])))
	case in.L3 != 0:
		ip := frame[in.L3:]
		return four(ip[12:16]) || four(ip[16:20])
	case in.EtherType == etherTypeARP:
		arp := frame[vxlan.EthernetLen:]
		for in.Tagged && len(arp) >= vxlan.VLANTagLen && binary.BigEndian.Uint16(frame[len(frame)-len(arp)-2:]) != etherTypeARP {
			arp = arp[vxlan.VLANTagLen:]
		}
		// Ethernet and IPv4: 6 and 4 bytes of address (RFC 826).
		return len(arp) >= 28 && arp[4] == 6 && arp[5] == 4 && (four(arp[14:18]) || four(arp[24:28]))
	}
	return false
}

// check says what is wrong with a filter, and brings its addresses into the form
// in which they are compared.
func (f *CaptureFilter) check() error {
	for _, v := range f.VNIs {
		if !v.Valid() {
			return fmt.Errorf("VNI %d: %w", uint32(v), vxlan.ErrVNI)
		}
	}
	f.Peer = f.Peer.Unmap().WithZone("")
	if f.IP.IsValid() {
		if a := f.IP.Addr(); a.Is4In6() && f.IP.Bits() >= 96 {
			f.IP = netip.PrefixFrom(a.Unmap(), f.IP.Bits()-96)
		}
		f.IP = f.IP.Masked()
	}
	if f.Direction > Out {
		return fmt.Errorf("CaptureFilter.Direction is %d, none of Both, In and Out", f.Direction)
	}
	return nil
}
