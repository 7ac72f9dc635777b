package neighbour

import (
	"encoding/binary"
	"net/netip"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/vxlan"
)

// allNodes is ff02::1, and the MAC of its group (RFC 2464 section 7).
var (
	allNodes    = [16]byte{0: 0xff, 1: 0x02, 15: 1}
	allNodesMAC = vxlan.MAC{0x33, 0x33, 0, 0, 0, 1}
)

// AppendAnnouncement appends the frame with which a station tells everybody that
// an address is at its MAC from now on: an ARP announcement (RFC 5227 section 3),
// or an unsolicited neighbour advertisement with the override flag (RFC 4861
// section 7.2.6), from the address itself.
func AppendAnnouncement(b []byte, ip netip.Addr, mac vxlan.MAC) []byte {
	if ip.Is4() {
		address := ip.As4()
		b = append(b, vxlan.Broadcast[:]...)
		b = append(b, mac[:]...)
		b = binary.BigEndian.AppendUint16(b, etherTypeARP)
		b = binary.BigEndian.AppendUint64(b, arpEthernetIPv4|arpRequest)
		b = append(b, mac[:]...)
		b = append(b, address[:]...)
		b = append(b, make([]byte, len(mac))...)
		return append(b, address[:]...)
	}
	address := ip.As16()
	b = append(b, allNodesMAC[:]...)
	b = append(b, mac[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeIPv6)
	l3 := len(b)
	b = append(b, 6<<4, 0, 0, 0, 0, ndLen+optionLen, protoICMPv6, ndHopLimit)
	b = append(b, address[:]...)
	b = append(b, allNodes[:]...)
	b = append(b, typeAdvertisement, 0, 0, 0, flagOverride, 0, 0, 0)
	b = append(b, address[:]...)
	b = append(b, optionTarget, optionLen/8)
	b = append(b, mac[:]...)
	p := b[l3:]
	nd := p[vxlan.IPv6Len:]
	binary.BigEndian.PutUint16(nd[2:], checksum.Checksum(nd, checksum.Pseudo(p[ipv6Source:ipv6Dest], p[ipv6Dest:vxlan.IPv6Len], protoICMPv6, len(nd))))
	return b
}
