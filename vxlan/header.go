package vxlan

import (
	"encoding/binary"
	"fmt"
)

// Lengths, in bytes.
const (
	HeaderLen   = 8  // VXLAN header, RFC 7348 section 5
	EthernetLen = 14 // Ethernet header without tags
	VLANTagLen  = 4  // one 802.1Q or 802.1ad tag
	IPv4Len     = 20 // IPv4 header without options
	IPv6Len     = 40 // IPv6 header without extension headers
	UDPLen      = 8  // UDP header

	// OverheadIPv4 and OverheadIPv6 are what an inner IP packet grows by on its
	// way into an outer IP packet: inner Ethernet, VXLAN, UDP and outer IP
	// header. The MTU of an overlay is that of its underlay less this, and less
	// VLANTagLen for each tag that inner frames may carry. (The outer stack that
	// [Outer.Len] counts happens to have the same length: it has the outer
	// Ethernet header and not the inner one.)
	OverheadIPv4 = IPv4Len + UDPLen + HeaderLen + EthernetLen
	OverheadIPv6 = IPv6Len + UDPLen + HeaderLen + EthernetLen
)

// UDP destination ports.
const (
	Port      = 4789 // assigned by IANA, RFC 7348 section 5
	LinuxPort = 8472 // default of Linux, older than the assignment
)

const (
	flagI = 0x08 << 56 // the VNI is valid

	// definedBits are the bits of the header, as a big-endian number, to which
	// RFC 7348 gives a meaning: the I flag and the VNI. The rest is reserved.
	definedBits = flagI | uint64(MaxVNI)<<8

	// ReservedBitsMask are the bits of the header, as a big-endian number, that
	// RFC 7348 section 5 reserves: all that [ReservedBits] may return.
	ReservedBitsMask uint64 = ^uint64(definedBits)
)

// Header is a VXLAN header: 8 bytes, of which all that RFC 7348 section 5 does
// not reserve is the VNI. A Header has no pointers and is comparable.
type Header struct {
	VNI VNI
}

// Parse reads the header at the start of a UDP payload and returns it with the
// inner Ethernet frame, which aliases b.
//
// The reserved bits are ignored whatever they are, as RFC 7348 section 5
// demands; a receiver that wants to be stricter asks [ReservedBits] too.
//
// Errors: [ErrShort] for less than 8 bytes, [ErrFlags] for a clear I flag,
// [ErrFrame] for an inner frame of less than 14 bytes.
func Parse(b []byte) (h Header, frame []byte, err error) {
	if len(b) < HeaderLen {
		return Header{}, nil, ErrShort
	}
	if b[0]&(flagI>>56) == 0 {
		return Header{}, nil, ErrFlags
	}
	if len(b) < HeaderLen+EthernetLen {
		return Header{}, nil, ErrFrame
	}
	return Header{VNI(binary.BigEndian.Uint32(b[4:8]) >> 8)}, b[HeaderLen:], nil
}

// ReservedBits returns the bits of the header at the start of b that RFC 7348
// reserves, as a big-endian 64-bit number in which the I flag and the VNI are
// cleared: 0 for a header as RFC 7348 wants it sent. With a mask of the bits to
// tolerate, ReservedBits(b)&^mask != 0 is the stricter rule of the Linux
// kernel. Some of them are those of an extension: see [GBPBits]. It panics if b
// is shorter than [HeaderLen].
func ReservedBits(b []byte) uint64 {
	return binary.BigEndian.Uint64(b) &^ definedBits
}

// Put writes the header into the first 8 bytes of b, every one of them: I flag
// set, reserved bits zero, VNI. It panics if b is shorter than [HeaderLen]. Of
// a VNI that is not valid the low 24 bits are written; see [Header.AppendBinary]
// for a writer that checks.
func (h Header) Put(b []byte) {
	binary.BigEndian.PutUint64(b, flagI|uint64(h.VNI&MaxVNI)<<8)
}

// AppendBinary appends the 8 bytes of the header to b. The error wraps [ErrVNI];
// b is then returned as it came.
func (h Header) AppendBinary(b []byte) ([]byte, error) {
	if !h.VNI.Valid() {
		return b, fmt.Errorf("%w: %d", ErrVNI, uint32(h.VNI))
	}
	return binary.BigEndian.AppendUint64(b, flagI|uint64(h.VNI)<<8), nil
}

// MarshalBinary returns the 8 bytes of the header. The error wraps [ErrVNI].
func (h Header) MarshalBinary() ([]byte, error) {
	return h.AppendBinary(nil)
}
