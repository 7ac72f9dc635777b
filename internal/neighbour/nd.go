package neighbour

import (
	"encoding/binary"
	"net/netip"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/vxlan"
)

// Neighbour discovery (RFC 4861 sections 4.3 and 4.4): 1 byte type, 1 code, 2
// checksum, 4 flags or reserved, 16 target, options. An option is 1 byte type, 1
// length in units of 8 bytes, and what it says.
const (
	ndLen    = 24
	ndFlags  = 4
	ndTarget = 8

	typeSolicitation  = 135
	typeAdvertisement = 136

	flagRouter    = 0x80
	flagSolicited = 0x40
	flagOverride  = 0x20

	optionSource = 1
	optionTarget = 2
	optionLen    = 8 // of a MAC

	ndHopLimit = 255 // proves that no router was in between

	ipv6Payload  = 4
	ipv6Next     = 6
	ipv6HopLimit = 7
	ipv6Source   = 8
	ipv6Dest     = 24
)

// parseIPv6 reads an IPv6 packet, which may be followed by padding. Messages
// behind extension headers are Other: nobody sends such, and Linux's proxy does
// not look there either.
func (m *Message) parseIPv6(p []byte) {
	if len(p) < vxlan.IPv6Len+1 || p[0]>>4 != 6 || p[ipv6Next] != protoICMPv6 {
		return
	}
	n := int(binary.BigEndian.Uint16(p[ipv6Payload:]))
	if n == 0 || n > len(p)-vxlan.IPv6Len {
		return
	}
	p = p[:vxlan.IPv6Len+n]
	switch p[vxlan.IPv6Len] {
	case typeSolicitation:
		m.Kind = BadSolicitation
		if m.parseSolicitation(p) {
			m.Kind = Solicitation
		}
	case typeAdvertisement:
		if m.parseAdvertisement(p) {
			m.Kind = Advertisement
		}
	}
}

// sound makes the checks that solicitations and advertisements share.
func sound(p []byte) bool {
	nd := p[vxlan.IPv6Len:]
	return len(nd) >= ndLen && p[ipv6HopLimit] == ndHopLimit && nd[1] == 0 &&
		nd[ndTarget] != 0xFF && p[ipv6Source] != 0xFF &&
		checksum.Checksum(nd, checksum.Pseudo(p[ipv6Source:ipv6Dest], p[ipv6Dest:vxlan.IPv6Len], protoICMPv6, len(nd))) == 0
}

// parseSolicitation makes the checks of RFC 4861 section 7.1.1.
func (m *Message) parseSolicitation(p []byte) bool {
	if !sound(p) {
		return false
	}
	nd := p[vxlan.IPv6Len:]
	mac, given, ok := linkLayer(nd[ndLen:], optionSource)
	if !ok {
		return false
	}
	from := netip.AddrFrom16([16]byte(p[ipv6Source:]))
	if from.IsUnspecified() {
		if given || !solicitedNode([16]byte(p[ipv6Dest:])) {
			return false
		}
		m.Probe = true
	}
	m.Target = netip.AddrFrom16([16]byte(nd[ndTarget:]))
	m.Asker = m.Source
	if given {
		m.Asker = mac
		m.claim(Claim{IP: from, MAC: mac})
	}
	return unicast(m.Asker)
}

// parseAdvertisement makes the checks of RFC 4861 section 7.1.2.
func (m *Message) parseAdvertisement(p []byte) bool {
	if !sound(p) {
		return false
	}
	nd := p[vxlan.IPv6Len:]
	if p[ipv6Dest] == 0xFF && nd[ndFlags]&flagSolicited != 0 {
		return false
	}
	mac, given, ok := linkLayer(nd[ndLen:], optionTarget)
	if given {
		m.claim(Claim{
			IP: netip.AddrFrom16([16]byte(nd[ndTarget:])), MAC: mac,
			Router: nd[ndFlags]&flagRouter != 0, TellsRouter: true,
			Weak: nd[ndFlags]&flagOverride == 0,
		})
	}
	return ok
}

// linkLayer finds the link-layer address among options. ok is false when they
// are malformed: one of length 0, one that is cut short, or an address that no
// station of an Ethernet has.
func linkLayer(options []byte, kind uint8) (mac vxlan.MAC, given, ok bool) {
	for len(options) > 0 {
		if len(options) < 2 {
			return mac, false, false
		}
		n := 8 * int(options[1])
		if n == 0 || n > len(options) {
			return mac, false, false
		}
		if options[0] == kind && !given {
			mac, given = vxlan.MAC(options[2:]), true
			if n != optionLen || !unicast(mac) {
				return mac, false, false
			}
		}
		options = options[n:]
	}
	return mac, given, true
}

// solicitedNode says whether an address is in ff02::1:ff00:0/104.
func solicitedNode(a [16]byte) bool {
	return [13]byte(a[:]) == [13]byte{0: 0xFF, 1: 2, 11: 1, 12: 0xFF}
}

// appendND appends the advertisement that answers a solicitation, whose IPv6
// packet is asked (RFC 4861 section 7.2.4).
func (m *Message) appendND(b, asked []byte, mac vxlan.MAC, router bool) []byte {
	start := len(b)
	// The upper half of the traffic class as it was asked, like Linux's proxy.
	b = append(b, asked[0], 0, 0, 0, 0, ndLen+optionLen, protoICMPv6, ndHopLimit)
	b = append(b, asked[vxlan.IPv6Len+ndTarget:vxlan.IPv6Len+ndLen]...)
	b = append(b, asked[ipv6Source:ipv6Dest]...)
	flags := byte(flagSolicited | flagOverride)
	if router {
		flags |= flagRouter
	}
	b = append(b, typeAdvertisement, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, asked[vxlan.IPv6Len+ndTarget:vxlan.IPv6Len+ndLen]...)
	b = append(b, optionTarget, optionLen/8)
	b = append(b, mac[:]...)
	p := b[start:]
	nd := p[vxlan.IPv6Len:]
	sum := checksum.Checksum(nd, checksum.Pseudo(p[ipv6Source:ipv6Dest], p[ipv6Dest:vxlan.IPv6Len], protoICMPv6, len(nd)))
	binary.BigEndian.PutUint16(nd[2:], sum)
	return b
}
