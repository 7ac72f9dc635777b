package vxlan

import (
	"encoding/binary"
	"net/netip"

	"github.com/govxlan/govxlan/internal/checksum"
)

// Outer is the outer stack of a VXLAN packet: Ethernet with an optional 802.1Q
// tag, IPv4 without options or IPv6 without extension headers, UDP, VXLAN (RFC
// 7348 section 5, figures 1 and 2). Its fields go onto the wire as they stand:
// there are no defaults. Lengths and checksums are computed.
type Outer struct {
	SrcMAC, DstMAC MAC
	// Tagged puts an 802.1Q tag (0x8100) behind the MAC addresses, with VLAN as
	// its control field: 3 bits priority, 1 bit drop eligible, 12 bits VLAN id.
	Tagged bool
	VLAN   uint16

	// Src and Dst are both IPv4 or both IPv6. An IPv4 address mapped into IPv6
	// counts as IPv4; zones are ignored.
	Src, Dst netip.Addr
	TTL      uint8 // IPv4 TTL or IPv6 hop limit
	TOS      uint8 // IPv4 TOS byte or IPv6 traffic class: 6 bits DSCP, 2 bits ECN

	DF bool   // IPv4 only: Don't Fragment
	ID uint16 // IPv4 only: identification

	FlowLabel uint32 // IPv6 only: 20 bits

	SrcPort, DstPort uint16
	// ZeroChecksum sends a UDP checksum of zero, meaning none: what RFC 7348
	// section 5 wants on IPv4, and RFC 6936 allows on IPv6 under conditions.
	ZeroChecksum bool

	VNI VNI
}

// family returns the outer addresses without an IPv4-in-IPv6 mapping, and
// whether they are IPv6.
func (o *Outer) family() (src, dst netip.Addr, v6 bool, err error) {
	src, dst = o.Src.Unmap(), o.Dst.Unmap()
	if !src.IsValid() || !dst.IsValid() || src.Is4() != dst.Is4() {
		return src, dst, false, ErrFamily
	}
	return src, dst, dst.Is6(), nil
}

// Len returns the length of the stack in bytes, from the outer Ethernet header
// to the VXLAN header: 50 on IPv4, 70 on IPv6, and 4 more with a tag.
func (o *Outer) Len() int {
	n := EthernetLen + UDPLen + HeaderLen
	if o.Tagged {
		n += VLANTagLen
	}
	if o.Dst.Unmap().Is6() {
		return n + IPv6Len
	}
	return n + IPv4Len
}

// Put writes the whole stack. pkt is [Outer.Len] bytes of room, every one of
// which is written, followed by the inner frame, to the last byte of pkt. Put
// reads the frame only for the UDP checksum.
//
// Errors, found before anything is written: [ErrFamily], [ErrVNI],
// [ErrFlowLabel], [ErrFrame] when less than 14 bytes follow the room (or the
// room itself is not there), [ErrLong] when the IP packet would be longer than
// 65,535 bytes (IPv6: the IP payload).
func (o *Outer) Put(pkt []byte) error {
	src, dst, v6, err := o.family()
	if err != nil {
		return err
	}
	if err := o.check(v6); err != nil {
		return err
	}
	l3, err := o.fit(len(pkt), v6)
	if err != nil {
		return err
	}

	copy(pkt[0:6], o.DstMAC[:])
	copy(pkt[6:12], o.SrcMAC[:])
	if o.Tagged {
		binary.BigEndian.PutUint16(pkt[12:14], etherTypeTag)
		binary.BigEndian.PutUint16(pkt[14:16], o.VLAN)
	}
	var udp []byte
	var pseudo uint64
	if v6 {
		binary.BigEndian.PutUint16(pkt[l3-2:l3], etherTypeIPv6)
		ip := pkt[l3 : l3+IPv6Len]
		udp = pkt[l3+IPv6Len:]
		binary.BigEndian.PutUint32(ip[0:4], 6<<28|uint32(o.TOS)<<20|o.FlowLabel)
		binary.BigEndian.PutUint16(ip[4:6], uint16(len(udp)))
		ip[6] = protoUDP
		ip[7] = o.TTL
		*(*[16]byte)(ip[8:24]) = src.As16()
		*(*[16]byte)(ip[24:40]) = dst.As16()
		pseudo = checksum.Pseudo(ip[8:24], ip[24:40], protoUDP, len(udp))
	} else {
		binary.BigEndian.PutUint16(pkt[l3-2:l3], etherTypeIPv4)
		ip := pkt[l3 : l3+IPv4Len]
		udp = pkt[l3+IPv4Len:]
		ip[0] = 0x45
		ip[1] = o.TOS
		binary.BigEndian.PutUint16(ip[2:4], uint16(IPv4Len+len(udp)))
		binary.BigEndian.PutUint16(ip[4:6], o.ID)
		binary.BigEndian.PutUint16(ip[6:8], flagDF(o.DF))
		ip[8] = o.TTL
		ip[9] = protoUDP
		binary.BigEndian.PutUint16(ip[10:12], 0)
		*(*[4]byte)(ip[12:16]) = src.As4()
		*(*[4]byte)(ip[16:20]) = dst.As4()
		binary.BigEndian.PutUint16(ip[10:12], checksum.Checksum(ip, 0))
		pseudo = checksum.Pseudo(ip[12:16], ip[16:20], protoUDP, len(udp))
	}
	binary.BigEndian.PutUint16(udp[0:2], o.SrcPort)
	binary.BigEndian.PutUint16(udp[2:4], o.DstPort)
	binary.BigEndian.PutUint16(udp[4:6], uint16(len(udp)))
	binary.BigEndian.PutUint16(udp[6:8], 0)
	Header{o.VNI}.Put(udp[UDPLen:])
	if !o.ZeroChecksum {
		binary.BigEndian.PutUint16(udp[6:8], udpChecksum(checksum.Sum(udp, pseudo)))
	}
	return nil
}

// check looks at the fields whose type is wider than their place on the wire.
func (o *Outer) check(v6 bool) error {
	if !o.VNI.Valid() {
		return ErrVNI
	}
	if v6 && o.FlowLabel > 0xFFFFF {
		return ErrFlowLabel
	}
	return nil
}

// fit looks whether a packet of n bytes can be one with this stack, and returns
// the offset of its IP header.
func (o *Outer) fit(n int, v6 bool) (l3 int, err error) {
	l3 = EthernetLen
	if o.Tagged {
		l3 += VLANTagLen
	}
	room, most := l3+IPv4Len+UDPLen+HeaderLen, l3+0xFFFF
	if v6 {
		room, most = l3+IPv6Len+UDPLen+HeaderLen, l3+IPv6Len+0xFFFF
	}
	if n < room+EthernetLen {
		return 0, ErrFrame
	}
	if n > most {
		return 0, ErrLong
	}
	return l3, nil
}

// flagDF returns the 16 bits of flags and fragment offset of an IPv4 header.
func flagDF(df bool) uint16 {
	if df {
		return 0x4000
	}
	return 0
}

// udpChecksum turns a sum into a UDP checksum. A computed zero is sent as
// 0xFFFF, since zero says that there is none (RFC 768).
func udpChecksum(sum uint64) uint16 {
	c := ^checksum.Fold(sum)
	if c == 0 {
		return 0xFFFF
	}
	return c
}
