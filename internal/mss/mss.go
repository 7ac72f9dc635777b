// Package mss lowers the maximum segment size that the two ends of a TCP
// connection tell each other, so that what they send fits a path that is
// narrower than their own links. It is pure: no I/O, no allocation.
package mss

import (
	"encoding/binary"
	"math/bits"

	"github.com/govxlan/govxlan/internal/checksum"
)

// Sum says what a frame's TCP checksum covers.
type Sum uint8

const (
	// Full: the whole segment; a changed option needs a changed checksum.
	Full Sum = iota
	// Partial: the pseudo header only; somebody else adds the rest later.
	Partial
	// Unknown: to be found out by looking at it.
	Unknown
)

const (
	ethernetLen, tagLen = 14, 4
	ipv4Len, ipv6Len    = 20, 40
	tcpLen              = 20

	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86DD
	etherTypeTag  = 0x8100
	etherTypeSTag = 0x88A8

	protoTCP      = 6
	protoHopByHop = 0
	protoRouting  = 43
	protoDestOpts = 60

	tcpSYN      = 0x02
	tcpChecksum = 16

	optionEnd, optionNop, optionMSS = 0, 1, 2

	// least is the smallest MSS that is ever written: what Linux's
	// TCP_MIN_MSS is, since smaller ones serve only attacks.
	least = 88
)

// Clamp lowers the MSS option of a TCP SYN (RFC 9293 section 3.7.1) to what
// fits IP packets of mtu bytes in frames of most bytes, Ethernet header and
// VLAN tags included, and says whether it changed the frame. A frame that is
// not a SYN, has no such option, or a smaller one, stays as it is, and so does
// one that is broken. A checksum that was wrong stays wrong.
func Clamp(frame []byte, mtu, most int, sum Sum) bool {
	l3, l4, end := find(frame)
	if l4 == 0 {
		return false
	}
	tcp := frame[l4:end]
	headers := int(tcp[12]>>4) * 4
	if tcp[13]&tcpSYN == 0 || headers < tcpLen || headers > len(tcp) {
		return false
	}
	at := option(tcp[:headers])
	if at == 0 {
		return false
	}
	v6 := frame[l3]>>4 == 6
	limit := min(mtu, most-l3) - tcpLen - ipv4Len
	if v6 {
		limit += ipv4Len - ipv6Len
	}
	limit = max(limit, least)
	was := binary.BigEndian.Uint16(tcp[at:])
	if int(was) <= limit {
		return false
	}
	is := uint16(limit)
	if sum == Unknown {
		src, dst := frame[l3+12:l3+16], frame[l3+16:l3+20]
		if v6 {
			src, dst = frame[l3+8:l3+24], frame[l3+24:l3+40]
		}
		sum = Full
		if binary.BigEndian.Uint16(tcp[tcpChecksum:]) == checksum.Fold(checksum.Pseudo(src, dst, protoTCP, len(tcp))) {
			sum = Partial
		}
	}
	binary.BigEndian.PutUint16(tcp[at:], is)
	if sum == Full {
		if at&1 != 0 {
			// It lies across two words of the sum, which adds the same two
			// bytes the other way round (RFC 1071 section 2 (B)).
			was, is = bits.ReverseBytes16(was), bits.ReverseBytes16(is)
		}
		check := binary.BigEndian.Uint16(tcp[tcpChecksum:])
		binary.BigEndian.PutUint16(tcp[tcpChecksum:], checksum.Update(check, was, is))
	}
	return true
}

// find returns where the IP header, the TCP header and the end of the packet
// are, and zeroes for anything but an unfragmented TCP segment with a whole
// header.
func find(f []byte) (l3, l4, end int) {
	if len(f) < ethernetLen {
		return 0, 0, 0
	}
	etherType := binary.BigEndian.Uint16(f[12:])
	l3 = ethernetLen
	for tags := 0; etherType == etherTypeTag || etherType == etherTypeSTag; tags++ {
		if tags == 4 || len(f) < l3+tagLen {
			return 0, 0, 0
		}
		etherType = binary.BigEndian.Uint16(f[l3+2:])
		l3 += tagLen
	}
	ip := f[l3:]
	switch etherType {
	case etherTypeIPv4:
		if len(ip) < ipv4Len || ip[0]>>4 != 4 || ip[9] != protoTCP || binary.BigEndian.Uint16(ip[6:])&0x3FFF != 0 {
			return 0, 0, 0
		}
		header, total := int(ip[0]&0xF)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if header < ipv4Len || total > len(ip) || total < header+tcpLen {
			return 0, 0, 0
		}
		return l3, l3 + header, l3 + total
	case etherTypeIPv6:
		if len(ip) < ipv6Len || ip[0]>>4 != 6 {
			return 0, 0, 0
		}
		total := ipv6Len + int(binary.BigEndian.Uint16(ip[4:]))
		if total > len(ip) {
			return 0, 0, 0
		}
		proto, at := ip[6], ipv6Len
		for n := 0; proto == protoHopByHop || proto == protoDestOpts || proto == protoRouting; n++ {
			if n == 8 || at+8 > total {
				return 0, 0, 0
			}
			proto, at = ip[at], at+(int(ip[at+1])+1)*8
		}
		if proto != protoTCP || at+tcpLen > total {
			return 0, 0, 0
		}
		return l3, l3 + at, l3 + total
	}
	return 0, 0, 0
}

// option returns the offset of the MSS in a TCP header, 0 when there is none.
func option(tcp []byte) int {
	for at := tcpLen; at < len(tcp); {
		switch tcp[at] {
		case optionEnd:
			return 0
		case optionNop:
			at++
			continue
		}
		if at+1 >= len(tcp) {
			return 0
		}
		length := int(tcp[at+1])
		if length < 2 || at+length > len(tcp) {
			return 0
		}
		if tcp[at] == optionMSS {
			if length != 4 {
				return 0
			}
			return at + 2
		}
		at += length
	}
	return 0
}
