package tap

import (
	"encoding/binary"

	"github.com/govxlan/govxlan/internal/checksum"
)

// kind is how much of a frame the Coalescer understands.
type kind uint8

const (
	// opaque: not TCP or UDP over IP, or a fragment, or broken: passed on.
	opaque kind = iota
	// checked: TCP or UDP whose checksum can be judged, but not to be merged.
	checked
	// whole: a candidate for merging.
	whole
)

// parsed is where things are in a frame with TCP or UDP.
type parsed struct {
	l3, l4    int
	headers   int // length of all headers, Ethernet to TCP or UDP
	payload   int
	end       int // where the IP packet ends; behind it is padding
	addresses int // offset of source and destination address
	src, dst  []byte
	id        uint16 // IPv4
	seq       uint32 // TCP
	proto     uint8
	flags     uint8 // TCP
	v6, tcp   bool
}

// parse looks at a frame. Every length is checked here and nowhere later.
func (p *parsed) parse(f []byte) kind {
	var etherType uint16
	p.l3, etherType = layer3(f)
	k := whole
	var end int
	switch etherType {
	case etherTypeIPv4:
		if p.l3 == 0 || len(f) < p.l3+20 {
			return opaque
		}
		ip := f[p.l3:]
		ihl := int(ip[0]&0xF) * 4
		if ip[0]>>4 != 4 || ihl < 20 || len(ip) < ihl {
			return opaque
		}
		if binary.BigEndian.Uint16(ip[6:])&0x3FFF != 0 {
			return opaque // fragment
		}
		if ihl != 20 {
			k = checked
		} else if checksum.Fold(checksum.Sum(ip[:20], 0)) != 0xFFFF {
			return opaque // a superframe's header would hide the damage
		}
		end = p.l3 + int(binary.BigEndian.Uint16(ip[2:]))
		p.l4 = p.l3 + ihl
		p.proto = ip[9]
		p.id = binary.BigEndian.Uint16(ip[4:])
		p.addresses = p.l3 + 12
		p.src, p.dst = ip[12:16], ip[16:20]
	case etherTypeIPv6:
		if p.l3 == 0 || len(f) < p.l3+40 || f[p.l3]>>4 != 6 {
			return opaque
		}
		ip := f[p.l3:]
		end = p.l3 + 40 + int(binary.BigEndian.Uint16(ip[4:]))
		p.l4 = p.l3 + 40
		p.proto = ip[6]
		p.addresses = p.l3 + 8
		p.src, p.dst = ip[8:24], ip[24:40]
		p.v6 = true
	default:
		return opaque
	}
	if end < p.l4 || end > len(f) {
		return opaque
	}
	if end < len(f) {
		// Padded to Ethernet's minimum: the bytes behind the packet would end
		// up in the middle of a superframe.
		k = checked
	}
	p.end = end
	l4 := f[p.l4:end]
	switch p.proto {
	case protoTCP:
		if len(l4) < 20 {
			return opaque
		}
		p.tcp = true
		p.headers = p.l4 + int(l4[12]>>4)*4
		if p.headers < p.l4+20 || p.headers > end {
			return opaque
		}
		p.seq = binary.BigEndian.Uint32(l4[4:])
		p.flags = l4[13]
		if p.flags&(tcpSYN|tcpRST|tcpURG|tcpCWR) != 0 || p.flags&tcpACK == 0 {
			k = checked
		}
	case protoUDP:
		if len(l4) < 8 || int(binary.BigEndian.Uint16(l4[4:])) != len(l4) {
			return opaque
		}
		p.headers = p.l4 + 8
	default:
		return opaque
	}
	p.payload = end - p.headers
	return k
}
