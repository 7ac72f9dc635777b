package vxlan

import (
	"encoding/binary"
	"net/netip"

	"github.com/govxlan/govxlan/internal/checksum"
)

// Packet is a VXLAN packet as read from the wire.
type Packet struct {
	// Outer holds the stack: Put writes it again as it was, IPv4 options aside.
	// ZeroChecksum is set for a UDP checksum of zero.
	Outer
	// Checksum is the UDP checksum as it came.
	Checksum uint16
	// Frame is the inner Ethernet frame, at least 14 bytes. It aliases the bytes
	// that were parsed.
	Frame []byte

	addrs []byte // source and destination address, 8 or 32 bytes of the packet
	udp   []byte // UDP header and payload
}

// ParsePacket reads a packet from its outer Ethernet header on: one optional
// 802.1Q tag, IPv4 with or without options or IPv6 with UDP directly behind its
// header, UDP, VXLAN. Every length is checked against the bytes that are there;
// what follows the IP packet or the UDP datagram, such as Ethernet padding, is
// cut off. Addresses and ports may be any: whether the packet is for this host
// is for the caller to see.
//
// The IPv4 header checksum is verified, the UDP checksum is not: that is
// [Packet.ChecksumOK].
//
// Errors: [ErrShort], [ErrEtherType], [ErrLength], [ErrProtocol], [ErrFragment],
// [ErrFamily], those of [Parse], and [ErrHeaderChecksum]. With the last one the packet is
// returned whole, for a decoder to show; with any other it is empty.
func ParsePacket(pkt []byte) (p Packet, err error) {
	err = p.parse(pkt)
	if err != nil && err != ErrHeaderChecksum {
		p = Packet{}
	}
	return p, err
}

func (p *Packet) parse(pkt []byte) error {
	etherType, ip, err := p.parseEthernet(pkt)
	if err != nil {
		return err
	}
	headerErr, err := p.parseIP(etherType, ip)
	if err != nil {
		return err
	}
	if err := p.parseUDP(); err != nil {
		return err
	}
	if err := p.parseVXLAN(); err != nil {
		return err
	}
	return headerErr
}

// parseEthernet returns the EtherType behind the tag, if there is one, and what
// follows it.
func (p *Packet) parseEthernet(pkt []byte) (etherType uint16, ip []byte, err error) {
	if len(pkt) < EthernetLen {
		return 0, nil, ErrShort
	}
	p.DstMAC = MAC(pkt[0:6])
	p.SrcMAC = MAC(pkt[6:12])
	etherType = binary.BigEndian.Uint16(pkt[12:14])
	ip = pkt[EthernetLen:]
	if etherType == etherTypeTag {
		if len(ip) < VLANTagLen {
			return 0, nil, ErrShort
		}
		p.Tagged = true
		p.VLAN = binary.BigEndian.Uint16(ip[0:2])
		etherType = binary.BigEndian.Uint16(ip[2:4])
		ip = ip[VLANTagLen:]
	}
	return etherType, ip, nil
}

// parseIP leaves the IP payload in p.udp.
func (p *Packet) parseIP(etherType uint16, ip []byte) (headerErr, err error) {
	switch etherType {
	case etherTypeIPv4:
		return p.parseIPv4(ip)
	case etherTypeIPv6:
		return nil, p.parseIPv6(ip)
	}
	return nil, ErrEtherType
}

// parseIPv4 leaves the IP payload in p.udp. A wrong header checksum is not its
// err, but comes apart from it.
func (p *Packet) parseIPv4(ip []byte) (headerErr, err error) {
	if len(ip) < IPv4Len {
		return nil, ErrShort
	}
	headerLen := int(ip[0]&0x0F) * 4
	total := int(binary.BigEndian.Uint16(ip[2:4]))
	if ip[0]>>4 != 4 || headerLen < IPv4Len || total < headerLen || total > len(ip) {
		return nil, ErrLength
	}
	fragment := binary.BigEndian.Uint16(ip[6:8])
	if fragment&0x3FFF != 0 {
		return nil, ErrFragment
	}
	if ip[9] != protoUDP {
		return nil, ErrProtocol
	}
	p.TOS = ip[1]
	p.ID = binary.BigEndian.Uint16(ip[4:6])
	p.DF = fragment&0x4000 != 0
	p.TTL = ip[8]
	p.Src = netip.AddrFrom4([4]byte(ip[12:16]))
	p.Dst = netip.AddrFrom4([4]byte(ip[16:20]))
	p.addrs = ip[12:20]
	p.udp = ip[headerLen:total]
	if checksum.Checksum(ip[:headerLen], 0) != 0 {
		headerErr = ErrHeaderChecksum
	}
	return headerErr, nil
}

// parseIPv6 leaves the IP payload in p.udp.
func (p *Packet) parseIPv6(ip []byte) error {
	if len(ip) < IPv6Len {
		return ErrShort
	}
	word := binary.BigEndian.Uint32(ip[0:4])
	length := int(binary.BigEndian.Uint16(ip[4:6]))
	if word>>28 != 6 || length > len(ip)-IPv6Len {
		return ErrLength
	}
	switch ip[6] {
	case protoUDP:
	case protoFragment:
		return ErrFragment
	default:
		return ErrProtocol
	}
	p.TOS = uint8(word >> 20)
	p.FlowLabel = word & 0xFFFFF
	p.TTL = ip[7]
	p.Src = netip.AddrFrom16([16]byte(ip[8:24]))
	p.Dst = netip.AddrFrom16([16]byte(ip[24:40]))
	if p.Src.Is4In6() || p.Dst.Is4In6() {
		return ErrFamily
	}
	p.addrs = ip[8:40]
	p.udp = ip[IPv6Len : IPv6Len+length]
	return nil
}

// parseUDP reads the datagram in p.udp, and cuts it to its own length.
func (p *Packet) parseUDP() error {
	if len(p.udp) < UDPLen {
		return ErrShort
	}
	length := int(binary.BigEndian.Uint16(p.udp[4:6]))
	if length < UDPLen || length > len(p.udp) {
		return ErrLength
	}
	p.udp = p.udp[:length]
	p.SrcPort = binary.BigEndian.Uint16(p.udp[0:2])
	p.DstPort = binary.BigEndian.Uint16(p.udp[2:4])
	p.Checksum = binary.BigEndian.Uint16(p.udp[6:8])
	p.ZeroChecksum = p.Checksum == 0
	return nil
}

// parseVXLAN reads the payload of the datagram in p.udp.
func (p *Packet) parseVXLAN() error {
	h, frame, err := Parse(p.udp[UDPLen:])
	if err != nil {
		return err
	}
	p.VNI = h.VNI
	p.Frame = frame
	return nil
}

// ChecksumOK verifies the UDP checksum over pseudo-header, UDP header, VXLAN
// header and inner frame, as they stand in the bytes that were parsed.
//
// A checksum of zero is none: accepted on IPv4 (RFC 7348 section 5), refused on
// IPv6 (RFC 8200 section 8.1). A caller who accepts it on IPv6 for this port
// (RFC 6936 section 4) looks at ZeroChecksum first.
func (p *Packet) ChecksumOK() bool {
	if p.ZeroChecksum {
		return p.Src.Is4()
	}
	pseudo := checksum.Sum(p.addrs, protoUDP+uint64(len(p.udp)))
	return checksum.Checksum(p.udp, pseudo) == 0
}
