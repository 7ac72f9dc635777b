package neighbour

import (
	"encoding/binary"
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

// ARP for IPv4 on Ethernet (RFC 826): 2 bytes hardware, 2 protocol, 1 + 1 their
// address lengths, 2 operation, then the sender's MAC and IP and the target's.
const (
	arpLen       = 28
	arpOperation = 6
	arpSenderMAC = 8
	arpSenderIP  = 14
	arpTargetMAC = 18
	arpTargetIP  = 24

	arpRequest = 1
	arpReply   = 2
)

// arpEthernetIPv4 is what a message of that kind begins with.
const arpEthernetIPv4 = 1<<48 | etherTypeIPv4<<32 | 6<<24 | 4<<16

func (m *Message) parseARP(b []byte) {
	m.Kind = OtherARP
	if len(b) < arpLen {
		return
	}
	head := binary.BigEndian.Uint64(b)
	sender := vxlan.MAC(b[arpSenderMAC:])
	if !unicast(sender) {
		return
	}
	from := netip.AddrFrom4([4]byte(b[arpSenderIP:]))
	target := netip.AddrFrom4([4]byte(b[arpTargetIP:]))
	switch head {
	case arpEthernetIPv4 | arpRequest:
		m.Kind = Request
		m.Target = target
		m.Asker = sender
		m.Probe = b[arpSenderIP] == 0 || from == target
	case arpEthernetIPv4 | arpReply:
		m.Kind = Reply
	default:
		return
	}
	m.claim(Claim{IP: from, MAC: sender})
}

// appendARP appends the reply to a request, whose ARP header is asked.
func (m *Message) appendARP(b, asked []byte, mac vxlan.MAC) []byte {
	b = binary.BigEndian.AppendUint64(b, arpEthernetIPv4|arpReply)
	b = append(b, mac[:]...)
	b = append(b, asked[arpTargetIP:arpTargetIP+4]...)
	b = append(b, m.Asker[:]...)
	return append(b, asked[arpSenderIP:arpSenderIP+4]...)
}
