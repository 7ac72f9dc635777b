package vtep

import (
	"encoding/binary"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
)

// VLANMode is what a VNI does with frames that carry VLAN tags, 802.1Q or
// 802.1ad (RFC 7348 section 6.1).
type VLANMode uint8

const (
	// VLANKeep carries tags as they are, in both directions: the "unless
	// configured otherwise" of the RFC, and what the Linux kernel does.
	VLANKeep VLANMode = iota
	// VLANStrip is what the RFC recommends: tags are taken off before
	// encapsulation, all of them, and frames that arrive with one are dropped.
	VLANStrip
	// VLANDrop drops frames with tags in both directions.
	VLANDrop
)

const (
	etherTypeVLAN = 0x8100
	// mostTags is how many tags a frame may have, as vxlan.Inner has it.
	mostTags = 4
	// vidMask is the VLAN id in a tag's control field.
	vidMask = 0xFFF
)

// untag does with a tagged frame of the device what the VNI wants, and says
// whether it may go on.
func (p *policy) untag(f *tap.Frame) bool {
	if p.vlan == VLANDrop {
		return false
	}
	for range mostTags {
		if _, ok := f.Untag(); !ok {
			break
		}
	}
	return !tap.VLANTagged(f.Bytes)
}

// pushTag puts a VLAN tag into the frame of a VXLAN packet, for which the VXLAN
// header makes room, and returns the frame.
func pushTag(packet []byte, vid uint16) []byte {
	frame := packet[vxlan.HeaderLen-vxlan.VLANTagLen:]
	copy(frame[:12], packet[vxlan.HeaderLen:])
	vlanTag(frame[12:], vid)
	return frame
}

// vlanTag writes an 802.1Q tag and returns it.
func vlanTag(b []byte, vid uint16) []byte {
	binary.BigEndian.PutUint16(b, etherTypeVLAN)
	binary.BigEndian.PutUint16(b[2:], vid)
	return b[:vxlan.VLANTagLen]
}

// tagLen is by how much frames of the VNI are longer on its device than in VXLAN
// packets.
func (o *overlay) tagLen() int {
	if o.vid == 0 {
		return 0
	}
	return vxlan.VLANTagLen
}
