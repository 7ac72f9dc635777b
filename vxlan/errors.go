package vxlan

import "errors"

// Errors of the readers. They are prebuilt, so that a flood of bad packets
// costs no allocation, and say only what is wrong with the bytes: the caller
// knows the port or the peer they came from, counts, and drops.
var (
	// ErrShort: the bytes end before the headers they should hold.
	ErrShort = errors.New("vxlan: packet is shorter than its headers")
	// ErrFlags: the I flag is clear, so the VNI is not valid (RFC 7348 section
	// 5). Many peers that send this speak another protocol on the port.
	ErrFlags = errors.New("vxlan: I flag is clear, the header carries no valid VNI")
	// ErrFrame: the inner frame is shorter than an Ethernet header, 14 bytes.
	ErrFrame = errors.New("vxlan: inner frame is shorter than an Ethernet header")
	// ErrEtherType: the outer frame carries neither IPv4 nor IPv6.
	ErrEtherType = errors.New("vxlan: outer frame is neither IPv4 nor IPv6")
	// ErrProtocol: the outer IP packet does not carry UDP directly behind its
	// header. IPv6 extension headers are not walked.
	ErrProtocol = errors.New("vxlan: outer IP packet does not carry UDP")
	// ErrFragment: the outer IP packet is a fragment. A VTEP may drop those
	// silently (RFC 7348 section 4.3).
	ErrFragment = errors.New("vxlan: outer IP packet is a fragment")
	// ErrLength: a version or a length field of an outer header contradicts the
	// bytes: IP version, IHL, total or payload length, UDP length.
	ErrLength = errors.New("vxlan: length field of an outer header contradicts the packet")
	// ErrHeaderChecksum: the checksum of the outer IPv4 header is wrong. A host
	// must drop such a packet (RFC 1122 section 3.2.1.2).
	ErrHeaderChecksum = errors.New("vxlan: checksum of the outer IPv4 header is wrong")
)

// Errors of the writers and of the text parsers.
var (
	// ErrVNI: a VNI is not a number from 0 to 16777215.
	ErrVNI = errors.New("vxlan: VNI is not in 0-16777215")
	// ErrMAC: a text is not a 48-bit MAC address.
	ErrMAC = errors.New("vxlan: not a MAC address such as 02:42:ac:11:00:02")
	// ErrPortRange: a text is not a range of UDP ports, low to high, without 0.
	ErrPortRange = errors.New("vxlan: not a range of ports such as 49152-65535")
	// ErrFamily: the outer addresses are missing, or are not both IPv4 or both
	// IPv6. Of a reader: an IPv6 header carries an IPv4-mapped address
	// (::ffff:0:0/96), which has no place on a wire.
	ErrFamily = errors.New("vxlan: outer addresses must both be IPv4 or both be IPv6")
	// ErrFlowLabel: an IPv6 flow label does not fit 20 bits.
	ErrFlowLabel = errors.New("vxlan: IPv6 flow label is not in 0-1048575")
	// ErrLong: the packet does not fit the 16-bit length of its outer IP header.
	ErrLong = errors.New("vxlan: packet is longer than an IP packet can be")
)
