package vxlan

import "encoding/binary"

// Bits of the group policy extension (draft-smith-vxlan-group-policy-05 section
// 2.1), as [ReservedBits] returns them.
const (
	gbpG = 0x80 << 56 // a group is given
	gbpD = 0x40 << 48 // do not learn the source MAC
	gbpA = 0x08 << 48 // policy has been applied

	// GBPBits are the bits of the header that the group policy extension uses,
	// as a big-endian number.
	GBPBits uint64 = gbpG | gbpD | gbpA | 0xFFFF<<32
)

// GBP is what the group policy extension of VXLAN carries in bits that RFC 7348
// reserves:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|G|R|R|R|I|R|R|R|R|D|R|R|A|R|R|R|        Group Policy ID        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                      VNI                      |   reserved    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// It is not authenticated: whoever may send to the VTEP may claim any group.
type GBP struct {
	// ID is the group of the sender of the inner frame.
	ID uint16
	// DontLearn asks the receiver not to learn the inner source MAC.
	DontLearn bool
	// Applied says that policy has been applied already, and must not be again.
	Applied bool
}

// ParseGBP reads the extension from the header at the start of b. ok is false if
// its G bit is clear: then the other bits mean nothing. It panics if b is shorter
// than [HeaderLen].
func ParseGBP(b []byte) (g GBP, ok bool) {
	bits := binary.BigEndian.Uint64(b)
	if bits&gbpG == 0 {
		return GBP{}, false
	}
	return GBP{ID: uint16(bits >> 32), DontLearn: bits&gbpD != 0, Applied: bits&gbpA != 0}, true
}

// Bits returns the extension as it is added to a header: to the big-endian
// number that its 8 bytes are, by OR. The G bit is set.
func (g GBP) Bits() uint64 {
	bits := gbpG | uint64(g.ID)<<32
	if g.DontLearn {
		bits |= gbpD
	}
	if g.Applied {
		bits |= gbpA
	}
	return bits
}

// Put adds the extension to the header at the start of b, which [Header.Put]
// wrote. It panics if b is shorter than [HeaderLen].
func (g GBP) Put(b []byte) {
	binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)&^GBPBits|g.Bits())
}
