package transport

import (
	"encoding/binary"
	"net/netip"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/vxlan"
)

// quoteOf reads an ICMP "fragmentation needed" (RFC 792, RFC 1191), from its
// ICMP header on, or an ICMPv6 "packet too big" (RFC 4443 section 3.2), about a
// UDP datagram of ours: what it says, and where the datagram came from. The
// Datagram aliases b. ok is false for everything else. From is not set.
//
// The checksum of ICMP is verified; that of ICMPv6 the kernel has verified,
// with whose addresses it is computed.
func quoteOf(b []byte, v6 bool) (w TooBig, from netip.AddrPort, ok bool) {
	const header = 8
	ipLen := vxlan.IPv4Len
	if v6 {
		ipLen = vxlan.IPv6Len
	}
	if len(b) < header+ipLen+vxlan.UDPLen {
		return w, from, false
	}
	ip := b[header:]
	var src, dst netip.Addr
	if v6 {
		if b[0] != 2 || ip[0]>>4 != 6 || ip[6] != 17 {
			return w, from, false
		}
		w.MTU = int(min(binary.BigEndian.Uint32(b[4:]), 65535))
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	} else {
		ipLen = int(ip[0]&15) * 4
		if b[0] != 3 || b[1] != 4 || checksum.Checksum(b, 0) != 0 || ip[0]>>4 != 4 || ipLen < vxlan.IPv4Len ||
			len(ip) < ipLen+vxlan.UDPLen || ip[9] != 17 || binary.BigEndian.Uint16(ip[6:])&0x1FFF != 0 {
			return w, from, false
		}
		w.MTU = int(binary.BigEndian.Uint16(b[6:]))
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	}
	udp := ip[ipLen:]
	w.To = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(udp[2:]))
	w.Datagram = udp[vxlan.UDPLen:]
	return w, netip.AddrPortFrom(src, binary.BigEndian.Uint16(udp)), true
}
