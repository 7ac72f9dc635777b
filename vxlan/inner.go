package vxlan

import "encoding/binary"

// EtherTypes and IP protocol numbers that the codec knows.
const (
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86DD
	etherTypeTag  = 0x8100 // 802.1Q, C-TAG
	etherTypeSTag = 0x88A8 // 802.1ad, S-TAG

	protoHopByHop    = 0
	protoTCP         = 6
	protoUDP         = 17
	protoRouting     = 43
	protoFragment    = 44
	protoAH          = 51
	protoDestOptions = 60
	protoSCTP        = 132
	protoMobility    = 135
	protoHIP         = 139
	protoShim6       = 140
)

const (
	// Bounds on what a hostile frame can make the parser walk. Real frames carry
	// two tags and two or three extension headers.
	maxTags       = 4
	maxExtensions = 8
)

// Inner is what forwarding and an outer header need to know of an inner Ethernet
// frame. It is a value without pointers, made to be reused: [Inner.Parse] sets
// every field.
type Inner struct {
	// L3 is the offset in the frame of an IPv4 or IPv6 header whose version and
	// lengths hold, and End the offset behind the last byte of that IP packet;
	// what follows is padding. Both are 0 when the frame carries no such header:
	// then DSField, HopLimit, Proto, DF, Fragment, FlowLabel and L4 are 0 too.
	L3, End int
	// L4 is the offset of the transport header: behind IPv4 options and IPv6
	// extension headers. At least 20 bytes follow up to End for TCP, 8 for UDP,
	// 12 for SCTP, 1 for other protocols. It is 0 in a fragment, when the header
	// is cut short, and when the extension headers cannot be walked to their end.
	L4 int

	// Hash is the flow hash: one flow has one value on every machine, and all
	// fragments of a packet have one value. It covers
	//
	//	IP addresses, protocol, ports   TCP, UDP, SCTP
	//	IP addresses, protocol          other protocols, and IPv4 fragments
	//	IP addresses                    IPv6 fragments
	//	MAC addresses, EtherType        frames without a sound IP header
	//
	// All its bits are well mixed, high and low.
	Hash uint32
	// FlowLabel is the 20-bit flow label of IPv6.
	FlowLabel uint32

	// EtherType is the type behind all VLAN tags. It is a tag's own, 0x8100 or
	// 0x88A8, when the frame ends inside that tag or carries more than four.
	EtherType uint16
	// VLAN is the outermost tag's control field: 3 bits priority, 1 bit drop
	// eligible, 12 bits VLAN id. Tagged tells a tag of 0 from no tag.
	VLAN   uint16
	Tagged bool

	// Fragment is set for every fragment of a packet, also the first. (An IPv6
	// packet with a fragment header that is at once first and last, RFC 6946, is
	// none.)
	Fragment bool
	// DF is the Don't Fragment bit of IPv4.
	DF bool
	// Proto is the IPv4 protocol, or the last next header of IPv6 that was
	// reached.
	Proto uint8
	// DSField is the IPv4 TOS byte or the IPv6 traffic class: 6 bits DSCP, 2 bits
	// [ECN].
	DSField uint8
	// HopLimit is the IPv4 TTL or the IPv6 hop limit.
	HopLimit uint8
}

// ECN returns the ECN field of the IP header; [NotECT] when there is none.
func (in *Inner) ECN() ECN { return ECN(in.DSField & 3) }

// Parse reads an Ethernet frame, which it neither keeps nor changes, and sets
// every field of in. It never reads past the IP packet's end.
//
// Only a frame of less than 14 bytes is an error, [ErrFrame]. A frame whose IP
// header is broken is a frame like any other to a bridge: L3 is 0 for it.
func (in *Inner) Parse(frame []byte) error {
	*in = Inner{}
	if len(frame) < EthernetLen {
		return ErrFrame
	}
	off := EthernetLen
	etherType := binary.BigEndian.Uint16(frame[12:14])
	if etherType == etherTypeTag || etherType == etherTypeSTag {
		etherType, off = in.parseTags(frame, etherType)
	}
	in.EtherType = etherType
	switch etherType {
	case etherTypeIPv4:
		if in.parseIPv4(frame[off:], off) {
			return nil
		}
	case etherTypeIPv6:
		if in.parseIPv6(frame[off:], off) {
			return nil
		}
	}
	in.Hash = hashEthernet((*[12]byte)(frame), etherType)
	return nil
}

// parseTags walks the tags of a frame and returns the type behind them with the
// offset of what that type names.
func (in *Inner) parseTags(frame []byte, etherType uint16) (uint16, int) {
	off := EthernetLen
	for n := 0; n < maxTags && len(frame) >= off+VLANTagLen; n++ {
		if !in.Tagged {
			in.VLAN = binary.BigEndian.Uint16(frame[off:])
			in.Tagged = true
		}
		etherType = binary.BigEndian.Uint16(frame[off+2:])
		off += VLANTagLen
		if etherType != etherTypeTag && etherType != etherTypeSTag {
			break
		}
	}
	return etherType, off
}

// parseIPv4 reads the IPv4 packet at the start of p, which is the frame from off
// on. It reports whether the header is sound, and changes nothing if not.
func (in *Inner) parseIPv4(p []byte, off int) bool {
	if len(p) < IPv4Len {
		return false
	}
	headerLen := int(p[0]&0x0F) * 4
	total := int(binary.BigEndian.Uint16(p[2:4]))
	if p[0]>>4 != 4 || headerLen < IPv4Len || total < headerLen || total > len(p) {
		return false
	}
	proto := p[9]
	fragment := binary.BigEndian.Uint16(p[6:8])
	in.L3 = off
	in.End = off + total
	in.Proto = proto
	in.DSField = p[1]
	in.HopLimit = p[8]
	in.DF = fragment&0x4000 != 0

	rest := uint64(proto)
	if fragment&0x3FFF != 0 { // more fragments to come, or an offset
		in.Fragment = true
	} else if need := int(transportLen[proto]); total-headerLen >= need {
		in.L4 = off + headerLen
		if need > 1 {
			rest |= ports(p[headerLen:])
		}
	}
	in.Hash = hashIPv4((*[8]byte)(p[12:20]), rest)
	return true
}

// parseIPv6 reads the IPv6 packet at the start of p, which is the frame from off
// on. It reports whether the header is sound, and changes nothing if not.
func (in *Inner) parseIPv6(p []byte, off int) bool {
	if len(p) < IPv6Len {
		return false
	}
	word := binary.BigEndian.Uint32(p[0:4])
	total := IPv6Len + int(binary.BigEndian.Uint16(p[4:6]))
	if word>>28 != 6 || total > len(p) {
		return false
	}
	p = p[:total]
	in.L3 = off
	in.End = off + total
	in.DSField = uint8(word >> 20)
	in.FlowLabel = word & 0xFFFFF
	in.HopLimit = p[7]

	proto, l4, fragment := p[6], IPv6Len, false
	if isExtension[proto] {
		proto, l4, fragment = walkExtensions(p)
	}
	in.Proto = proto
	rest := uint64(proto)
	if fragment {
		// The fragments of one packet may name different next headers (RFC 8200
		// section 4.5), so that the protocol has no part in their hash.
		in.Fragment = true
		rest = protoFragment
	} else if need := int(transportLen[proto]); l4 != 0 && total-l4 >= need {
		in.L4 = off + l4
		if need > 1 {
			rest |= ports(p[l4:])
		}
	}
	in.Hash = hashIPv6((*[32]byte)(p[8:40]), rest)
	return true
}

// walkExtensions follows the extension headers of the IPv6 packet p, cut to its
// length, to the transport header. It returns the last next header it reached
// and the offset of what that names, 0 if that cannot be told, and whether the
// packet is a fragment.
func walkExtensions(p []byte) (proto uint8, l4 int, fragment bool) {
	proto = p[6]
	l4 = IPv6Len
	for n := 0; isExtension[proto]; n++ {
		// Every extension header has at least 8 bytes (RFC 8200 section 4).
		if n == maxExtensions || len(p)-l4 < 8 {
			return proto, 0, false
		}
		ext := p[l4:]
		length := (int(ext[1]) + 1) * 8
		switch proto {
		case protoFragment:
			length = 8
			// Offset and the M flag; both zero is a whole packet (RFC 6946).
			if binary.BigEndian.Uint16(ext[2:4])&0xFFF9 != 0 {
				return ext[0], 0, true
			}
		case protoAH:
			length = (int(ext[1]) + 2) * 4 // RFC 4302 section 2.2
		}
		proto = ext[0]
		l4 += length
		if l4 > len(p) {
			return proto, 0, false
		}
	}
	return proto, l4, false
}

// ports returns the ports at the start of a transport header in the upper bytes
// of the word that is hashed.
func ports(p []byte) uint64 {
	return uint64(binary.LittleEndian.Uint32(p)) << 32
}

// transportLen is the length of the header, in bytes, of the protocols whose
// ports go into the flow hash; 1 for the others.
var transportLen = func() (t [256]uint8) {
	for i := range t {
		t[i] = 1
	}
	t[protoTCP] = 20
	t[protoUDP] = UDPLen
	t[protoSCTP] = 12
	return t
}()

// isExtension has the IPv6 extension headers that can be stepped over. ESP is
// not one: what follows it is encrypted.
var isExtension = [256]bool{
	protoHopByHop:    true,
	protoRouting:     true,
	protoFragment:    true,
	protoAH:          true,
	protoDestOptions: true,
	protoMobility:    true,
	protoHIP:         true,
	protoShim6:       true,
}
