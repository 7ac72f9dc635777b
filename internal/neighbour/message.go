package neighbour

import (
	"encoding/binary"
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

const (
	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeTag  = 0x8100 // 802.1Q
	etherTypeIPv6 = 0x86DD
	etherTypeSTag = 0x88A8 // 802.1ad

	// maxTags is how many VLAN tags are looked behind, as in vxlan.Inner.
	maxTags = 4

	protoICMPv6 = 58
)

// Kind says what a frame is.
type Kind uint8

const (
	// Other: neither ARP nor a neighbour solicitation nor a sound neighbour
	// advertisement.
	Other Kind = iota
	// Request: an ARP request for an IPv4 address on Ethernet.
	Request
	// Reply: an ARP reply about such an address.
	Reply
	// OtherARP: broken, or of another operation, hardware or protocol.
	OtherARP
	// Solicitation: a neighbour solicitation that passes the checks of RFC 4861
	// section 7.1.1.
	Solicitation
	// BadSolicitation: one that does not, to be discarded by every receiver.
	BadSolicitation
	// Advertisement: a neighbour advertisement that passes the checks of RFC
	// 4861 section 7.1.2.
	Advertisement
)

// Asks says whether there can be an answer.
func (k Kind) Asks() bool { return k == Request || k == Solicitation }

// Consumed says whether the proxy of Linux's vxlan device takes it away,
// answered or not: every ARP frame, and every neighbour solicitation.
func (k Kind) Consumed() bool { return k != Other && k != Advertisement }

// Message is what a frame says. It is a value to be reused: Parse sets every
// field.
type Message struct {
	Kind Kind
	// Unicast: sent to one station, so as to see whether it is still there,
	// and not to all.
	Unicast bool
	// Probe: an ARP probe or announcement (RFC 5227 section 1.1), or duplicate
	// address detection (RFC 4862 section 5.4): not a question for somebody else's
	// MAC but for the asker's own right to the address.
	Probe bool
	// Target is the address that is asked for, or advertised. In a Request or a
	// Solicitation only.
	Target netip.Addr
	// Source is the frame's source MAC, and Asker the one that an answer goes
	// to, which the message itself names.
	Source, Asker vxlan.MAC
	// Claim is what the sender says of itself.
	Claim Claim

	l3 int // offset of what is behind the tags
}

// Claim is "this IP address is at my MAC address". Its zero value claims nothing.
type Claim struct {
	IP  netip.Addr
	MAC vxlan.MAC
	// Router is set by a router, where TellsRouter is set: only advertisements
	// say it.
	Router, TellsRouter bool
	// Weak: no reason to give up another MAC that is known (an advertisement
	// without the override flag, RFC 4861 section 7.2.5).
	Weak bool
}

// Candidate says whether Parse could find something in the frame, at next to
// no cost: false for TCP and UDP.
func Candidate(frame []byte) bool {
	if len(frame) < vxlan.EthernetLen {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP, etherTypeTag, etherTypeSTag:
		return true
	case etherTypeIPv6:
		const next = vxlan.EthernetLen + ipv6Next
		return len(frame) > next && frame[next] == protoICMPv6
	}
	return false
}

// Parse reads a frame, which it neither keeps nor changes.
func (m *Message) Parse(frame []byte) {
	*m = Message{}
	if len(frame) < vxlan.EthernetLen {
		return
	}
	m.l3 = vxlan.EthernetLen
	etherType := binary.BigEndian.Uint16(frame[12:])
	for tags := 0; etherType == etherTypeTag || etherType == etherTypeSTag; tags++ {
		if tags == maxTags || len(frame) < m.l3+vxlan.VLANTagLen {
			return
		}
		etherType = binary.BigEndian.Uint16(frame[m.l3+2:])
		m.l3 += vxlan.VLANTagLen
	}
	m.Unicast = frame[0]&1 == 0
	m.Source = vxlan.MAC(frame[6:12])
	switch etherType {
	case etherTypeARP:
		m.parseARP(frame[m.l3:])
	case etherTypeIPv6:
		m.parseIPv6(frame[m.l3:])
	}
}

// claim notes what the sender says of itself, unless nobody could be that. Who
// says it of another MAC than the frame comes from is not believed: that is how
// caches are poisoned.
func (m *Message) claim(c Claim) {
	if Usable(c.IP) && c.MAC == m.Source && unicast(c.MAC) {
		m.Claim = c
	}
}

// Usable says whether a station can have the address: it is not unspecified,
// loopback, multicast or broadcast.
func Usable(ip netip.Addr) bool {
	if ip.Is4() {
		b := ip.As4()
		return b[0] != 0 && b[0] != 127 && b[0] < 224
	}
	return ip.IsValid() && !ip.Is4In6() && !ip.IsUnspecified() && !ip.IsLoopback() && !ip.IsMulticast()
}

func unicast(mac vxlan.MAC) bool { return !mac.IsMulticast() && !mac.IsZero() }
