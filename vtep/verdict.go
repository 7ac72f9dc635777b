package vtep

// Verdict is what became of a frame, as a capture shows it. Its zero value is a
// frame that was handed on.
type Verdict uint8

// Those of frames that a drop counter counts come first, with the receiver's and
// the transmitter's apart; those of verdictAnswered on are no drops.
const (
	verdictPassed Verdict = iota

	rxBadHeader
	rxShortFrame
	rxUnknownVNI
	rxUnknownVTEP
	rxInvalidSource
	rxOwnMAC
	rxOwnAddress
	rxStaticMAC
	rxECN
	rxOversize
	rxDevice
	rxReservedBits
	rxGroup
	rxVLAN

	txUnknownVLAN
	txNoDestination
	txBadFrame
	txVLAN
	txTooBig
	txUnreachable
	txNoBuffer
	txError
	txARPProxy

	verdictAnswered
	verdictMade
)

// verdicts has the name of each, which is that of its counter, and what it says
// of a frame.
var verdicts = [...]struct{ name, text string }{
	verdictPassed: {"passed", ""},

	rxBadHeader:     {"rx_drop_bad_header", "no VXLAN header, or one without the I flag"},
	rxShortFrame:    {"rx_drop_short_frame", "the inner frame is shorter than an Ethernet header"},
	rxUnknownVNI:    {"rx_drop_unknown_vni", "no such VNI is configured here"},
	rxUnknownVTEP:   {"rx_drop_unknown_vtep", "the sender is no peer of this VNI"},
	rxInvalidSource: {"rx_drop_invalid_source", "the inner source MAC is multicast or zero"},
	rxOwnMAC:        {"rx_drop_own_mac", "the inner source MAC is our own device's: a loop"},
	rxOwnAddress:    {"rx_drop_own_address", "we sent it to the group ourselves, and it came back"},
	rxStaticMAC:     {"rx_drop_static_mac", "a static entry has this MAC behind another VTEP"},
	rxECN:           {"rx_drop_ecn", "congestion was signalled to a flow that cannot hear it"},
	rxOversize:      {"rx_drop_oversize", "longer than the device's MTU"},
	rxDevice:        {"rx_drop_device", "the device did not take it: it is down, or gone"},
	rxReservedBits:  {"rx_drop_reserved_bits", "reserved bits of the VXLAN header are set"},
	rxGroup:         {"rx_drop_group", "of a group that is not accepted"},
	rxVLAN:          {"rx_drop_vlan", "it has a VLAN tag"},

	txUnknownVLAN:   {"tx_drop_unknown_vlan", "its VLAN is that of no VNI"},
	txNoDestination: {"tx_drop_no_destination", "unknown MAC, and nobody to flood to"},
	txBadFrame:      {"tx_drop_bad_frame", "no Ethernet frame, or its headers contradict it"},
	txVLAN:          {"tx_drop_vlan", "it has a VLAN tag"},
	txTooBig:        {"tx_drop_too_big", "longer than the path to the VTEP carries"},
	txUnreachable:   {"tx_drop_unreachable", "no route, the link is down, or no local address"},
	txNoBuffer:      {"tx_drop_no_buffer", "the underlay's queue is full"},
	txError:         {"tx_drop_error", "sending failed"},
	txARPProxy:      {"tx_drop_arp_proxy", "proxied ARP or ND that nobody here can answer"},

	verdictAnswered: {"tx_arp_answered", "answered here instead of sent"},
	verdictMade:     {"made_here", "made by this VTEP, an answer to its own side"},
}

// String is the name of the counter, in JSON, that counted the frame; passed for
// one that was handed on, and made_here for one that this VTEP made.
func (v Verdict) String() string {
	if int(v) < len(verdicts) {
		return verdicts[v].name
	}
	return "unknown"
}

// Dropped says whether the frame went no further.
func (v Verdict) Dropped() bool { return v > verdictPassed && v < verdictAnswered }

// Comment is one clause about it for people, empty for a frame that was handed on.
func (v Verdict) Comment() string {
	switch {
	case v == verdictPassed || int(v) >= len(verdicts):
		return ""
	case v.Dropped():
		return "dropped: " + v.String() + ": " + verdicts[v].text
	}
	return verdicts[v].text
}
