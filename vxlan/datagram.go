package vxlan

import (
	"encoding/binary"

	"github.com/govxlan/govxlan/internal/checksum"
)

// ParseDatagram reads a packet as [ParsePacket] does, but only down to its UDP
// payload, which it returns and does not look at: VNI and Frame stay empty.
// [Packet.ChecksumOK] works. It is for a packet socket below a VTEP that judges
// VXLAN headers itself. p is set whole, whatever was in it.
//
// Errors: [ErrShort], [ErrEtherType], [ErrLength], [ErrProtocol],
// [ErrFragment], [ErrFamily], [ErrHeaderChecksum]. p means nothing then.
func (p *Packet) ParseDatagram(pkt []byte) (payload []byte, err error) {
	*p = Packet{}
	etherType, ip, err := p.parseEthernet(pkt)
	if err != nil {
		return nil, err
	}
	return p.parseDatagram(etherType, ip)
}

// ParseIPDatagram is [Packet.ParseDatagram] for links without Ethernet: the
// packet begins with its IP header, whose version says which one it is. The MAC
// addresses stay zero.
func (p *Packet) ParseIPDatagram(pkt []byte) (payload []byte, err error) {
	*p = Packet{}
	if len(pkt) == 0 {
		return nil, ErrShort
	}
	switch pkt[0] >> 4 {
	case 4:
		return p.parseDatagram(etherTypeIPv4, pkt)
	case 6:
		return p.parseDatagram(etherTypeIPv6, pkt)
	}
	return nil, ErrEtherType
}

func (p *Packet) parseDatagram(etherType uint16, ip []byte) ([]byte, error) {
	headerErr, err := p.parseIP(etherType, ip)
	if err != nil {
		return nil, err
	}
	if err := p.parseUDP(); err != nil {
		return nil, err
	}
	if headerErr != nil {
		return nil, headerErr
	}
	return p.udp[UDPLen:], nil
}

// UDPTemplate is the stack of an [Outer] down to the UDP header, compiled for
// sending many datagrams whose payload, VXLAN header and frame, lies somewhere
// else. What [Template] is for a frame with room in front, this is for a system
// call that takes headers and payload from two places.
//
// A UDPTemplate has no pointers; copies are independent, and any number of
// goroutines may use one. The zero value is not usable.
type UDPTemplate struct {
	stack [EthernetLen + VLANTagLen + IPv6Len + UDPLen]byte

	ipSum     uint64 // of the IPv4 header, without what UDPFields and lengths add
	pseudoSum uint64 // of the pseudo-header without the length
	udpSum    uint64 // of pseudo-header and UDP header without lengths and source port

	l3   int // length of the Ethernet header
	room int // length of the stack
	v6   bool
}

// UDPFields are what may differ between the datagrams of one [UDPTemplate].
type UDPFields struct {
	SrcPort   uint16
	TOS       uint8  // IPv4 TOS byte or IPv6 traffic class
	TTL       uint8  // IPv4 TTL or IPv6 hop limit
	DF        bool   // IPv4 only
	ID        uint16 // IPv4 only
	FlowLabel uint32 // IPv6 only: 20 bits
	Checksum  UDPChecksum
}

// UDPChecksum says what [UDPTemplate.Put] writes for a UDP checksum.
type UDPChecksum uint8

const (
	// FullChecksum is computed over the payload, and so reads it.
	FullChecksum UDPChecksum = iota
	// PartialChecksum is the sum of the pseudo-header alone, folded and not
	// complemented: what Linux and network cards want to find there that
	// compute the rest.
	PartialChecksum
	// NoChecksum is zero: RFC 7348 section 5, RFC 6935.
	NoChecksum
)

// CompileUDP makes a UDPTemplate of o. What is in [UDPFields] is left open, VNI
// and ZeroChecksum mean nothing. Errors: [ErrFamily].
func (o *Outer) CompileUDP() (*UDPTemplate, error) {
	_, _, v6, err := o.family()
	if err != nil {
		return nil, err
	}
	open := *o
	open.SrcPort, open.TOS, open.TTL, open.DF, open.ID, open.FlowLabel = 0, 0, 0, false, 0, 0
	open.VNI, open.ZeroChecksum = 0, true
	stack := o.Len()
	var pkt [EthernetLen + VLANTagLen + OverheadIPv6]byte
	if err := open.Put(pkt[:stack+EthernetLen]); err != nil {
		return nil, err
	}
	t := &UDPTemplate{l3: EthernetLen, room: stack - HeaderLen, v6: v6}
	if o.Tagged {
		t.l3 += VLANTagLen
	}
	copy(t.stack[:t.room], pkt[:t.room])
	ip, udp := t.stack[t.l3:t.room], t.stack[t.room-UDPLen:t.room]
	clear(udp[4:6]) // length
	if v6 {
		clear(ip[4:6]) // payload length
		t.pseudoSum = checksum.Pseudo(ip[8:24], ip[24:40], protoUDP, 0)
	} else {
		clear(ip[2:4])   // total length
		clear(ip[10:12]) // checksum
		t.ipSum = checksum.Sum(ip[:IPv4Len], 0)
		t.pseudoSum = checksum.Pseudo(ip[12:16], ip[16:20], protoUDP, 0)
	}
	t.udpSum = checksum.Sum(udp, t.pseudoSum)
	return t, nil
}

// Len returns the length of the stack in bytes, UDP header included: 42 on
// IPv4, 62 on IPv6, and 4 more with a tag.
func (t *UDPTemplate) Len() int { return t.room }

// L3 returns the offset of the IP header: 14, or 18 with a tag.
func (t *UDPTemplate) L3() int { return t.l3 }

// V6 reports whether the IP header is one of IPv6.
func (t *UDPTemplate) V6() bool { return t.v6 }

// Put writes the whole stack into the first [UDPTemplate.Len] bytes of b, every
// one of them, for a datagram with this payload. It panics if b is shorter.
//
// Errors, found before anything is written: [ErrLong] as for [Outer.Put],
// [ErrFlowLabel].
func (t *UDPTemplate) Put(b, payload []byte, f *UDPFields) error {
	length := UDPLen + len(payload)
	b = b[:t.room]
	if t.v6 {
		if length > 0xFFFF {
			return ErrLong
		}
		if f.FlowLabel > 0xFFFFF {
			return ErrFlowLabel
		}
		copy(b, t.stack[:t.room])
		ip := b[t.l3 : t.l3+IPv6Len]
		binary.BigEndian.PutUint32(ip[0:4], 6<<28|uint32(f.TOS)<<20|f.FlowLabel)
		binary.BigEndian.PutUint16(ip[4:6], uint16(length))
		ip[7] = f.TTL
	} else {
		total := IPv4Len + length
		if total > 0xFFFF {
			return ErrLong
		}
		copy(b, t.stack[:t.room])
		ip := b[t.l3 : t.l3+IPv4Len]
		df := flagDF(f.DF)
		ip[1] = f.TOS
		binary.BigEndian.PutUint16(ip[2:4], uint16(total))
		binary.BigEndian.PutUint16(ip[4:6], f.ID)
		binary.BigEndian.PutUint16(ip[6:8], df)
		ip[8] = f.TTL
		sum := t.ipSum + uint64(f.TOS) + uint64(total) + uint64(f.ID) + uint64(df) + uint64(f.TTL)<<8
		binary.BigEndian.PutUint16(ip[10:12], ^checksum.Fold(sum))
	}
	udp := b[t.room-UDPLen:]
	binary.BigEndian.PutUint16(udp[0:2], f.SrcPort)
	binary.BigEndian.PutUint16(udp[4:6], uint16(length))
	switch f.Checksum {
	case FullChecksum:
		// The length counts twice: in the pseudo-header and in the UDP header.
		sum := checksum.Sum(payload, t.udpSum+uint64(f.SrcPort)+2*uint64(length))
		binary.BigEndian.PutUint16(udp[6:8], udpChecksum(sum))
	case PartialChecksum:
		binary.BigEndian.PutUint16(udp[6:8], checksum.Fold(t.pseudoSum+uint64(length)))
	}
	return nil
}
