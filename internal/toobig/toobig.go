package toobig

import (
	"encoding/binary"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/vxlan"
)

const (
	// MaxLen is the longest answer, in bytes: an IPv6 packet of the minimum
	// MTU behind an Ethernet header with four tags.
	MaxLen = vxlan.EthernetLen + 4*vxlan.VLANTagLen + maxIPv6

	// maxIPv4 and maxIPv6 bound the answer's IP packet: RFC 1812 section
	// 4.3.2.3 and RFC 4443 section 2.4 (c).
	maxIPv4 = 576
	maxIPv6 = 1280

	// minIPv4 and minIPv6 are the least MTUs that may be asked for: RFC 791
	// section 3.2, RFC 8200 section 5.
	minIPv4 = 68
	minIPv6 = 1280

	icmpLen = 8 // of both versions, up to the quote

	protoICMP     = 1
	protoICMPv6   = 58
	protoHopByHop = 0
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoDestOpts = 60
	protoMobility = 135
	protoHIP      = 139
	protoShim6    = 140

	icmpv6Redirect = 137
)

// MTU returns what the sender of a frame is to be told when frames of up to
// most bytes fit, Ethernet header and VLAN tags included: the largest IP packet
// in bytes. It is 0 when there must be no answer:
//
//   - the frame fits, or is long only by what follows its IP packet
//   - it is not IPv4 or IPv6, or its header is broken
//   - IPv4 without DF: such a packet may be taken apart on the way
//   - an ICMP error (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)), or an
//     IPv6 packet of which it cannot be told
//   - any fragment but the first
//   - to or from a multicast, broadcast, loopback or unspecified address, of
//     Ethernet or of IP
//   - nothing smaller may be asked for: below 68 bytes of IPv4 (RFC 791), or
//     1280 of IPv6 (RFC 8200)
func MTU(frame []byte, most int) int {
	var in vxlan.Inner
	if len(frame) <= most || in.Parse(frame) != nil || in.L3 == 0 {
		return 0
	}
	if (frame[0]|frame[6])&1 != 0 {
		return 0
	}
	mtu := most - in.L3
	if in.End-in.L3 <= mtu {
		return 0
	}
	packet := frame[in.L3:in.End]
	if packet[0]>>4 == 4 {
		if mtu < minIPv4 || !in.DF || !answerableIPv4(packet) {
			return 0
		}
		return mtu
	}
	if mtu < minIPv6 || !answerableIPv6(packet) {
		return 0
	}
	return mtu
}

// Build writes the answer to a frame into dst, which has MaxLen bytes, as a
// frame that comes back from where the other was going: its addresses are
// turned round, as the kernel's vxlan does it for the ports of a bridge. It
// returns the answer's length, 0 when there must be none (see MTU).
func Build(dst, frame []byte, most int) int {
	mtu := MTU(frame, most)
	if mtu == 0 {
		return 0
	}
	var in vxlan.Inner
	if in.Parse(frame) != nil {
		return 0
	}
	_ = dst[MaxLen-1]
	copy(dst[0:6], frame[6:12])
	copy(dst[6:12], frame[0:6])
	copy(dst[12:in.L3], frame[12:in.L3]) // tags and EtherType
	packet := frame[in.L3:in.End]
	if packet[0]>>4 == 4 {
		return in.L3 + buildIPv4(dst[in.L3:], packet, mtu)
	}
	return in.L3 + buildIPv6(dst[in.L3:], packet, mtu)
}

func buildIPv4(b, packet []byte, mtu int) int {
	quote := packet[:min(len(packet), maxIPv4-vxlan.IPv4Len-icmpLen)]
	total := vxlan.IPv4Len + icmpLen + len(quote)

	ip := b[:vxlan.IPv4Len]
	ip[0] = 0x45
	ip[1] = 0xC0 // internetwork control: RFC 1812 section 4.3.2.5
	binary.BigEndian.PutUint16(ip[2:], uint16(total))
	binary.BigEndian.PutUint32(ip[4:], 0x4000) // no identification: DF
	ip[8] = 64
	ip[9] = protoICMP
	ip[10], ip[11] = 0, 0
	copy(ip[12:16], packet[16:20])
	copy(ip[16:20], packet[12:16])
	binary.BigEndian.PutUint16(ip[10:], checksum.Checksum(ip, 0))

	icmp := b[vxlan.IPv4Len:total]
	icmp[0], icmp[1] = 3, 4 // destination unreachable, fragmentation needed and DF set
	binary.BigEndian.PutUint32(icmp[2:], 0)
	binary.BigEndian.PutUint16(icmp[6:], uint16(mtu))
	copy(icmp[icmpLen:], quote)
	binary.BigEndian.PutUint16(icmp[2:], checksum.Checksum(icmp, 0))
	return total
}

func buildIPv6(b, packet []byte, mtu int) int {
	quote := packet[:min(len(packet), maxIPv6-vxlan.IPv6Len-icmpLen)]
	length := icmpLen + len(quote)

	ip := b[:vxlan.IPv6Len]
	binary.BigEndian.PutUint32(ip[0:], 6<<28)
	binary.BigEndian.PutUint16(ip[4:], uint16(length))
	ip[6] = protoICMPv6
	ip[7] = 64
	copy(ip[8:24], packet[24:40])
	copy(ip[24:40], packet[8:24])

	icmp := b[vxlan.IPv6Len : vxlan.IPv6Len+length]
	icmp[0], icmp[1], icmp[2], icmp[3] = 2, 0, 0, 0 // packet too big
	binary.BigEndian.PutUint32(icmp[4:], uint32(mtu))
	copy(icmp[icmpLen:], quote)
	binary.BigEndian.PutUint16(icmp[2:], checksum.Checksum(icmp, checksum.Pseudo(ip[8:24], ip[24:40], protoICMPv6, length)))
	return vxlan.IPv6Len + length
}

// answerableIPv4 says whether the addresses and the protocol allow an answer.
func answerableIPv4(p []byte) bool {
	src, dst := p[12], p[16]
	if src == 0 || src == 127 || src >= 224 || dst == 0 || dst == 127 || dst >= 224 {
		return false
	}
	if binary.BigEndian.Uint16(p[6:])&0x1FFF != 0 {
		return false // not the first fragment
	}
	if p[9] != protoICMP {
		return true
	}
	at := int(p[0]&0xF) * 4
	if at >= len(p) {
		return false
	}
	switch p[at] {
	case 3, 4, 5, 11, 12: // unreachable, quench, redirect, time exceeded, parameter problem
		return false
	}
	return true
}

// answerableIPv6 does the same.
func answerableIPv6(p []byte) bool {
	if p[8] == 0xFF || p[24] == 0xFF || isLow(p[8:24]) || isLow(p[24:40]) {
		return false
	}
	proto, at := p[6], vxlan.IPv6Len
	for range 8 { // more extension headers than that nobody sends
		switch proto {
		case protoICMPv6:
			return at < len(p) && p[at] >= 128 && p[at] != icmpv6Redirect
		case protoHopByHop, protoRouting, protoFragment, protoAH, protoDestOpts, protoMobility, protoHIP, protoShim6:
		default:
			return true
		}
		if at+8 > len(p) {
			return false
		}
		length := (int(p[at+1]) + 1) * 8
		switch proto {
		case protoFragment:
			if binary.BigEndian.Uint16(p[at+2:])&^7 != 0 {
				return false // not the first
			}
			length = 8
		case protoAH:
			length = (int(p[at+1]) + 2) * 4
		}
		proto = p[at]
		at += length
	}
	return false
}

// isLow says whether an IPv6 address is :: or ::1.
func isLow(a []byte) bool {
	return binary.BigEndian.Uint64(a) == 0 && binary.BigEndian.Uint64(a[8:]) <= 1
}
