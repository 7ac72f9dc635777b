package tap

import "encoding/binary"

// tagLen is the length of one VLAN tag.
const tagLen = 4

// VLANTagged says whether the EtherType of a frame is that of a VLAN tag, 802.1Q
// or 802.1ad. (The tag itself may be cut short.)
func VLANTagged(frame []byte) bool {
	if len(frame) < 14 {
		return false
	}
	t := binary.BigEndian.Uint16(frame[12:])
	return t == etherTypeVLAN || t == etherTypeQinQ
}

// Untag takes the outermost VLAN tag out of the frame, in place, and lets the
// offsets in its Header follow. It returns the tag's control field: 3 bits
// priority, 1 bit drop eligible, 12 bits VLAN id. ok is false, and the frame as
// it was, when it has no tag, or only a part of one.
func (f *Frame) Untag() (tci uint16, ok bool) {
	if len(f.Bytes) < 14+tagLen || !VLANTagged(f.Bytes) {
		return 0, false
	}
	tci = binary.BigEndian.Uint16(f.Bytes[14:])
	copy(f.Bytes[tagLen:], f.Bytes[:12])
	f.Bytes = f.Bytes[tagLen:]
	h := &f.Header
	if h.HeaderBytes >= tagLen {
		h.HeaderBytes -= tagLen
	}
	if h.ChecksumStart >= tagLen {
		h.ChecksumStart -= tagLen
	}
	return tci, true
}
