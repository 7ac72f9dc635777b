package vxlan

import (
	"encoding/binary"

	"github.com/govxlan/govxlan/internal/checksum"
)

// Template is an [Outer] compiled for sending many packets with it: the stack as
// 64-bit words, and the sums of what does not change. [Template.Put] then writes
// the same bytes as [Outer.Put] with a fraction of the work. Make one for each
// peer and VNI with [Outer.Compile].
//
// A Template has no pointers; copies are independent, and any number of
// goroutines may use one. The zero value is not usable.
type Template struct {
	// The outer Ethernet header: bytes 0 to 7, bytes 6 to 13, and bytes 14 to 17
	// when there is a tag.
	ethernet0, ethernet6 uint64
	ethernet14           uint32

	// From the IP header on, big-endian, with zeros where a packet has its own:
	// 36 bytes on IPv4, in five words of which the last is half empty, 56 on IPv6.
	words [7]uint64

	ipSum  uint64 // IPv4 header without TOS, total length, ID and checksum
	udpSum uint64 // pseudo-header, UDP and VXLAN header without lengths, source port and checksum

	l3   int  // length of the Ethernet header
	room int  // length of the stack
	most int  // the longest packet
	v6   bool // IPv6
	zero bool // the UDP checksum is sent as zero
}

// Compile makes a Template of o. SrcPort, TOS and ID are left open: they are
// arguments of [Template.Put]. Errors: [ErrFamily], [ErrVNI], [ErrFlowLabel].
func (o *Outer) Compile() (*Template, error) {
	_, _, v6, err := o.family()
	if err != nil {
		return nil, err
	}

	// Let Put write the stack in front of the shortest frame, clear what changes
	// from packet to packet, and take the words and the sums of what is left.
	open := *o
	open.SrcPort, open.TOS, open.ID, open.ZeroChecksum = 0, 0, 0, true
	room := o.Len()
	var pkt [EthernetLen + VLANTagLen + OverheadIPv6]byte
	if err := open.Put(pkt[:room+EthernetLen]); err != nil {
		return nil, err
	}

	t := &Template{room: room, v6: v6, zero: o.ZeroChecksum, l3: EthernetLen}
	if o.Tagged {
		t.l3 += VLANTagLen
	}
	t.ethernet0 = binary.BigEndian.Uint64(pkt[0:])
	t.ethernet6 = binary.BigEndian.Uint64(pkt[6:])
	t.ethernet14 = binary.BigEndian.Uint32(pkt[14:])

	ip := pkt[t.l3:]
	udp := pkt[room-HeaderLen-UDPLen : room]
	clear(udp[4:6]) // length
	if v6 {
		clear(ip[4:6]) // payload length
		t.most = t.l3 + IPv6Len + 0xFFFF
		t.udpSum = checksum.Sum(udp, checksum.Pseudo(ip[8:24], ip[24:40], protoUDP, 0))
	} else {
		clear(ip[2:4])   // total length
		clear(ip[10:12]) // checksum
		t.most = t.l3 + 0xFFFF
		t.ipSum = checksum.Sum(ip[:IPv4Len], 0)
		t.udpSum = checksum.Sum(udp, checksum.Pseudo(ip[12:16], ip[16:20], protoUDP, 0))
	}
	for i := range t.words {
		t.words[i] = binary.BigEndian.Uint64(ip[8*i:])
	}
	return t, nil
}

// Len returns the length of the stack in bytes, as [Outer.Len].
func (t *Template) Len() int { return t.room }

// Put writes the whole stack. pkt is [Template.Len] bytes of room, every one of
// which is written, followed by the inner frame, to the last byte of pkt. tos is
// the outer TOS byte or traffic class with its ECN bits (see [EncapECN]); id is
// the IPv4 identification and not used on IPv6.
//
// Errors, found before anything is written: [ErrFrame], [ErrLong], as for
// [Outer.Put].
func (t *Template) Put(pkt []byte, srcPort uint16, tos uint8, id uint16) error {
	if len(pkt) < t.room+EthernetLen {
		return ErrFrame
	}
	if len(pkt) > t.most {
		return ErrLong
	}
	binary.BigEndian.PutUint64(pkt[0:8], t.ethernet0)
	binary.BigEndian.PutUint64(pkt[6:14], t.ethernet6)
	if t.l3 != EthernetLen {
		binary.BigEndian.PutUint32(pkt[14:18], t.ethernet14)
	}
	ip := pkt[t.l3:]
	if t.v6 {
		length := len(ip) - IPv6Len
		var check uint16
		if !t.zero {
			check = t.udpChecksum(pkt, srcPort, length)
		}
		ip := ip[:IPv6Len+UDPLen+HeaderLen]
		binary.BigEndian.PutUint64(ip[0:8], t.words[0]|uint64(tos)<<52|uint64(length)<<16)
		binary.BigEndian.PutUint64(ip[8:16], t.words[1])
		binary.BigEndian.PutUint64(ip[16:24], t.words[2])
		binary.BigEndian.PutUint64(ip[24:32], t.words[3])
		binary.BigEndian.PutUint64(ip[32:40], t.words[4])
		binary.BigEndian.PutUint64(ip[40:48], t.words[5]|uint64(srcPort)<<48|uint64(length)<<16|uint64(check))
		binary.BigEndian.PutUint64(ip[48:56], t.words[6])
		return nil
	}
	total := len(ip)
	length := total - IPv4Len
	var check uint16
	if !t.zero {
		check = t.udpChecksum(pkt, srcPort, length)
	}
	ipCheck := ^checksum.Fold(t.ipSum + uint64(tos) + uint64(total) + uint64(id))
	ip = ip[:IPv4Len+UDPLen+HeaderLen]
	binary.BigEndian.PutUint64(ip[0:8], t.words[0]|uint64(tos)<<48|uint64(total)<<32|uint64(id)<<16)
	binary.BigEndian.PutUint64(ip[8:16], t.words[1]|uint64(ipCheck)<<32)
	binary.BigEndian.PutUint64(ip[16:24], t.words[2]|uint64(srcPort)<<16)
	binary.BigEndian.PutUint64(ip[24:32], t.words[3]|uint64(length)<<48|uint64(check)<<32)
	binary.BigEndian.PutUint32(ip[32:36], uint32(t.words[4]>>32))
	return nil
}

// udpChecksum returns the UDP checksum of a packet whose stack need not be
// written yet; length is that of the UDP datagram.
func (t *Template) udpChecksum(pkt []byte, srcPort uint16, length int) uint16 {
	// The length counts twice: in the pseudo-header and in the UDP header.
	return udpChecksum(checksum.Sum(pkt[t.room:], t.udpSum+uint64(srcPort)+2*uint64(length)))
}
