package vtep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/vxlan"
)

// AntiSpoof is what is checked of the frames that a device sends.
type AntiSpoof uint8

const (
	// AntiSpoofOff: nothing.
	AntiSpoofOff AntiSpoof = iota
	// AntiSpoofMAC: the source MAC, and the MAC that ARP and neighbour discovery
	// name as the sender's own.
	AntiSpoofMAC
	// AntiSpoofIP: these, the source address of IPv4 and IPv6, and the address
	// that ARP and neighbour advertisements claim. What looks like IP or ARP and
	// cannot be read is refused. The unspecified address may be used, as hosts do
	// that have none yet. Of other protocols the MAC alone is checked.
	AntiSpoofIP
)

var antiSpoofs = [...]string{"off", "mac", "ip"}

// ParseAntiSpoof reads off, mac or ip.
func ParseAntiSpoof(s string) (AntiSpoof, error) {
	if i := slices.Index(antiSpoofs[:], s); i >= 0 {
		return AntiSpoof(i), nil
	}
	return 0, fmt.Errorf("%q is none of off, mac, ip", s)
}

// locals are the stations that may be behind a device, beside the device itself.
type locals struct {
	macs map[vxlan.MAC]struct{}
	ip   bool // ips count
	ips  []netip.Prefix
}

// newLocals returns nil where nothing is checked.
func newLocals(g *Guard) (*locals, error) {
	switch {
	case g.AntiSpoof > AntiSpoofIP:
		return nil, fmt.Errorf("VNIConfig.Guard.AntiSpoof: no mode %d", g.AntiSpoof)
	case g.AntiSpoof == AntiSpoofOff && len(g.LocalMACs)+len(g.LocalIPs) > 0:
		return nil, errors.New("VNIConfig.Guard.LocalMACs and LocalIPs are of no use with AntiSpoofOff")
	case g.AntiSpoof == AntiSpoofOff:
		return nil, nil
	}
	l := &locals{macs: make(map[vxlan.MAC]struct{}), ip: g.AntiSpoof == AntiSpoofIP}
	for _, m := range g.LocalMACs {
		if m.IsMulticast() || m.IsZero() {
			return nil, fmt.Errorf("VNIConfig.Guard.LocalMACs: %v is no station's", m)
		}
		l.macs[m] = struct{}{}
	}
	for _, p := range g.LocalIPs {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("VNIConfig.Guard.LocalIPs: %v is no prefix", p)
		}
		l.ips = append(l.ips, p.Masked())
	}
	return l, nil
}

func (l *locals) hasMAC(own, m vxlan.MAC) bool {
	if m == own {
		return true
	}
	_, ok := l.macs[m]
	return ok
}

// hasIP says whether a station behind the device, whose own MAC is given, may have
// an address. The unspecified one is nobody's, and anybody's.
func (l *locals) hasIP(own vxlan.MAC, a netip.Addr) bool {
	if a.IsUnspecified() || slices.ContainsFunc(l.ips, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return true
	}
	if !a.Is6() {
		return false
	}
	mac, ok := linkLocalMAC(a.As16())
	return ok && l.hasMAC(own, mac)
}

// linkLocalMAC is the MAC that a link-local address was made of.
func linkLocalMAC(a [16]byte) (mac vxlan.MAC, ok bool) {
	if [8]byte(a[:8]) != [8]byte{0xFE, 0x80} || a[11] != 0xFF || a[12] != 0xFE {
		return mac, false
	}
	copy(mac[:3], a[8:11])
	copy(mac[3:], a[13:])
	mac[0] ^= 2
	return mac, true
}

const (
	// arpEthernetIPv4 is what ARP for IPv4 on Ethernet begins with (RFC 826):
	// hardware, protocol, lengths of their addresses.
	arpEthernetIPv4 = 1<<32 | etherTypeIPv4<<16 | 6<<8 | 4
	arpLen          = 28
	etherTypeIPv4   = 0x0800
	etherTypeSTag   = 0x88A8

	// Neighbour discovery (RFC 4861 section 4).
	protoICMPv6         = 58
	ndRouterSolicit     = 133
	ndNeighbourAdvert   = 136
	ndTarget            = 8
	ndSourceLink        = 1
	ndTargetLink        = 2
	ndOptionsOfAdverts  = 24 // neighbour solicitations too
	ndOptionsOfRouters  = 16
	ndOptionsOfRSolicit = 8
)

// allow says whether a frame of the device may be sent; in is what was read of it.
func (l *locals) allow(own vxlan.MAC, frame []byte, in *vxlan.Inner) bool {
	if !l.hasMAC(own, vxlan.MAC(frame[6:12])) {
		return false
	}
	switch in.EtherType {
	case etherTypeARP:
		return l.allowARP(own, frame)
	case etherTypeVLAN, etherTypeSTag:
		return !l.ip // more tags than anybody looks behind
	case etherTypeIPv4:
		return !l.ip || in.L3 != 0 && l.hasIP(own, netip.AddrFrom4([4]byte(frame[in.L3+12:])))
	case etherTypeIPv6:
		if in.L3 == 0 {
			return !l.ip
		}
		if l.ip && !l.hasIP(own, netip.AddrFrom16([16]byte(frame[in.L3+8:]))) {
			return false
		}
		return in.Proto != protoICMPv6 || in.L4 == 0 || l.allowND(own, frame[in.L4:in.End])
	}
	return true
}

// allowARP judges what an ARP message says of its sender.
func (l *locals) allowARP(own vxlan.MAC, frame []byte) bool {
	at := vxlan.EthernetLen
	for binary.BigEndian.Uint16(frame[at-2:]) != etherTypeARP { // vxlan.Inner walked the same tags
		at += vxlan.VLANTagLen
	}
	b := frame[at:]
	if len(b) < arpLen || binary.BigEndian.Uint64(b)>>16 != arpEthernetIPv4 {
		return !l.ip
	}
	return l.hasMAC(own, vxlan.MAC(b[8:14])) && (!l.ip || l.hasIP(own, netip.AddrFrom4([4]byte(b[14:18]))))
}

// allowND judges what a message of neighbour discovery says of its sender, whose
// source address has been judged.
func (l *locals) allowND(own vxlan.MAC, b []byte) bool {
	options, link := ndOptionsOfAdverts, byte(ndSourceLink)
	switch b[0] {
	case ndRouterSolicit:
		options = ndOptionsOfRSolicit
	case ndRouterSolicit + 1:
		options = ndOptionsOfRouters
	case ndNeighbourAdvert - 1:
	case ndNeighbourAdvert:
		link = ndTargetLink
		if len(b) < ndTarget+16 {
			return false
		}
		if l.ip && !l.hasIP(own, netip.AddrFrom16([16]byte(b[ndTarget:]))) {
			return false
		}
	default:
		return true
	}
	for b = b[min(options, len(b)):]; len(b) >= 8; b = b[8*int(b[1]):] {
		if b[1] == 0 || 8*int(b[1]) > len(b) {
			return true // every receiver discards it
		}
		if b[0] == link && !l.hasMAC(own, vxlan.MAC(b[2:8])) {
			return false
		}
	}
	return true
}
