package demo

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	protoICMP     = 1
)

// kind is what a frame of the overlay is, as far as the demo follows it.
type kind uint8

const (
	other kind = iota
	arpRequest
	arpReply
	echoRequest
	echoReply
)

// key tells the frames of one exchange from all others.
type key struct {
	kind kind
	// id and seq of an echo.
	id, seq uint16
	// asker and asked of an ARP exchange, in the reply as in the request.
	asker, asked netip.Addr
}

// readFrame reads a frame of the overlay and says in a line what it is.
func readFrame(frame []byte) (key, string) {
	var in vxlan.Inner
	if in.Parse(frame) != nil {
		return key{}, fmt.Sprintf("%d bytes", len(frame))
	}
	switch {
	case in.EtherType == etherTypeARP:
		return readARP(frame)
	case in.EtherType == etherTypeIPv4 && in.L4 != 0 && in.Proto == protoICMP && in.End-in.L4 >= 8:
		return readEcho(frame[in.L3:in.End], in.L4-in.L3)
	}
	return key{}, fmt.Sprintf("EtherType 0x%04x, %d bytes", in.EtherType, len(frame))
}

// readARP reads ARP for IPv4 over Ethernet, RFC 826: 8 bytes of types and
// lengths, then sender and target, each 6 bytes of MAC and 4 of IP.
func readARP(frame []byte) (key, string) {
	b := frame[vxlan.EthernetLen:]
	if len(b) < 28 {
		return key{}, "ARP, cut short"
	}
	sender, target := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	switch binary.BigEndian.Uint16(b[6:]) {
	case 1:
		return key{kind: arpRequest, asker: sender, asked: target},
			fmt.Sprintf("ARP request: who has %s? Tell %s", target, sender)
	case 2:
		return key{kind: arpReply, asker: target, asked: sender},
			fmt.Sprintf("ARP reply: %s is at %s", sender, vxlan.MAC(b[8:14]))
	}
	return key{}, "ARP of another kind"
}

// readEcho reads an IPv4 packet with an ICMP header at offset l4.
func readEcho(packet []byte, l4 int) (key, string) {
	src, dst := netip.AddrFrom4([4]byte(packet[12:16])), netip.AddrFrom4([4]byte(packet[16:20]))
	icmp := packet[l4:]
	k := key{id: binary.BigEndian.Uint16(icmp[4:]), seq: binary.BigEndian.Uint16(icmp[6:])}
	name := ""
	switch icmp[0] {
	case 8:
		k.kind, name = echoRequest, "ICMP echo request"
	case 0:
		k.kind, name = echoReply, "ICMP echo reply"
	default:
		return key{}, fmt.Sprintf("ICMP type %d", icmp[0])
	}
	return k, fmt.Sprintf("%s %s > %s", name, src, dst)
}
