package neighbour

import "github.com/govxlan/govxlan/vxlan"

// MaxAnswer is the length of the longest answer: an advertisement behind all the
// tags that a question can have.
const MaxAnswer = vxlan.EthernetLen + maxTags*vxlan.VLANTagLen + vxlan.IPv6Len + ndLen + optionLen

// AppendAnswer appends the frame with which the target would answer: an ARP
// reply, or an advertisement with the solicited and override flags, and with
// the router flag if it is a router. It comes from the target's MAC, goes to the
// asker's, and has the VLAN tags of the question. It does not allocate when b has
// room for MaxAnswer bytes.
//
// frame is the one that was parsed, and m.Kind.Asks; a solicitation with Probe
// set has no sender that could be answered.
func (m *Message) AppendAnswer(b, frame []byte, mac vxlan.MAC, router bool) []byte {
	b = append(b, m.Asker[:]...)
	b = append(b, mac[:]...)
	b = append(b, frame[12:m.l3]...) // tags and EtherType
	if m.Kind == Request {
		return m.appendARP(b, frame[m.l3:], mac)
	}
	return m.appendND(b, frame[m.l3:], mac, router)
}
