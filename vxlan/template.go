package vxlan

import (
	"encoding/binary"

	"github.com/govxlan/govxlan/internal/checksum"
)

// Template is an [Outer] compiled for sending many packets with it: the bytes of
// the stack, and the sums of what does not change. [Template.Put] then writes
// the same bytes as [Outer.Put] with a fraction of the work. Make one for each
// peer and VNI.
//
// A Template has no pointers; copies are independent, and any number of
// goroutines may use one. The zero value is not usable.
type Template struct {
	ipSum  uint64 // IPv4 header without TOS, total length, ID and checksum
	udpSum uint64 // pseudo-header, UDP and VXLAN header without lengths, source port and checksum
	room   int    // length of the stack
	most   int    // the longest packet
	v6     bool
	zero   bool // UDP checksum is not computed
	stack  [maxStack]byte
}

// maxStack is the length of the longest stack, IPv6 with a tag.
const maxStack = EthernetLen + VLANTagLen + IPv6Len + UDPLen + HeaderLen

// Compile makes a Template of o. SrcPort, TOS and ID are left open: they are
// arguments of [Template.Put]. Errors: [ErrFamily], [ErrVNI], [ErrFlowLabel].
func (o *Outer) Compile() (*Template, error) {
	_, _, v6, err := o.family()
	if err != nil {
		return nil, err
	}
	t := &Template{room: o.Len(), v6: v6, zero: o.ZeroChecksum}

	// Let Put write the constant bytes, in front of the shortest frame, then
	// blank what changes from packet to packet and sum up what is left.
	open := *o
	open.SrcPort, open.TOS, open.ID, open.ZeroChecksum = 0, 0, 0, true
	var pkt [maxStack + EthernetLen]byte
	if err := open.Put(pkt[:t.room+EthernetLen]); err != nil {
		return nil, err
	}
	copy(t.stack[:], pkt[:t.room])
	udp := t.stack[t.room-HeaderLen-UDPLen : t.room]
	binary.BigEndian.PutUint16(udp[4:6], 0)
	if v6 {
		ip := t.stack[t.room-HeaderLen-UDPLen-IPv6Len:]
		binary.BigEndian.PutUint16(ip[4:6], 0)
		t.udpSum = checksum.Sum(udp, checksum.Pseudo(ip[8:24], ip[24:40], protoUDP, 0))
		t.most = t.room - HeaderLen - UDPLen + 0xFFFF
	} else {
		ip := t.stack[t.room-HeaderLen-UDPLen-IPv4Len:]
		binary.BigEndian.PutUint16(ip[2:4], 0)
		binary.BigEndian.PutUint16(ip[10:12], 0)
		t.ipSum = checksum.Sum(ip[:IPv4Len], 0)
		t.udpSum = checksum.Sum(udp, checksum.Pseudo(ip[12:16], ip[16:20], protoUDP, 0))
		t.most = t.room - HeaderLen - UDPLen - IPv4Len + 0xFFFF
	}
	return t, nil
}

// Len returns the length of the stack in bytes, as [Outer.Len].
func (t *Template) Len() int { return t.room }

// Put writes the whole stack. pkt is [Template.Len] bytes of room followed by
// the inner frame, to the last byte of pkt. tos is the outer TOS byte or traffic
// class, its ECN bits included (see [EncapECN]); id is the IPv4 identification
// and not used on IPv6.
//
// Errors, found before anything is written: [ErrFrame], [ErrLong], as for
// [Outer.Put].
func (t *Template) Put(pkt []byte, srcPort uint16, tos uint8, id uint16) error {
	room := t.room
	if len(pkt) < room+EthernetLen {
		return ErrFrame
	}
	if len(pkt) > t.most {
		return ErrLong
	}
	copy(pkt[:room], t.stack[:room])
	udp := pkt[room-HeaderLen-UDPLen:]
	length := len(udp)
	if t.v6 {
		ip := pkt[room-HeaderLen-UDPLen-IPv6Len:]
		ip[0] |= tos >> 4
		ip[1] |= tos << 4
		binary.BigEndian.PutUint16(ip[4:6], uint16(length))
	} else {
		ip := pkt[room-HeaderLen-UDPLen-IPv4Len:]
		total := uint16(IPv4Len + length)
		ip[1] = tos
		binary.BigEndian.PutUint16(ip[2:4], total)
		binary.BigEndian.PutUint16(ip[4:6], id)
		sum := t.ipSum + uint64(tos) + uint64(total) + uint64(id)
		binary.BigEndian.PutUint16(ip[10:12], ^checksum.Fold(sum))
	}
	binary.BigEndian.PutUint16(udp[0:2], srcPort)
	binary.BigEndian.PutUint16(udp[4:6], uint16(length))
	if !t.zero {
		// The length counts twice: in the pseudo-header and in the UDP header.
		sum := t.udpSum + uint64(srcPort) + 2*uint64(length)
		binary.BigEndian.PutUint16(udp[6:8], udpChecksum(checksum.Sum(pkt[room:], sum)))
	}
	return nil
}
