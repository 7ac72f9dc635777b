package vtep

import (
	"strings"
	"sync"
)

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
	rxMACHeld
	rxStorm
	rxProbeLost

	txUnknownVLAN
	txNoDestination
	txBadFrame
	txVLAN
	txSpoofed
	txStorm
	txTooBig
	txUnreachable
	txNoBuffer
	txError
	txARPProxy

	verdictAnswered
	verdictMade
	verdictProbe
)

// verdicts has the name of each, which is that of its counter.
var verdicts = [...]string{
	verdictPassed: "passed",

	rxBadHeader:     "rx_drop_bad_header",
	rxShortFrame:    "rx_drop_short_frame",
	rxUnknownVNI:    "rx_drop_unknown_vni",
	rxUnknownVTEP:   "rx_drop_unknown_vtep",
	rxInvalidSource: "rx_drop_invalid_source",
	rxOwnMAC:        "rx_drop_own_mac",
	rxOwnAddress:    "rx_drop_own_address",
	rxStaticMAC:     "rx_drop_static_mac",
	rxECN:           "rx_drop_ecn",
	rxOversize:      "rx_drop_oversize",
	rxDevice:        "rx_drop_device",
	rxReservedBits:  "rx_drop_reserved_bits",
	rxGroup:         "rx_drop_group",
	rxVLAN:          "rx_drop_vlan",
	rxMACHeld:       "rx_drop_mac_held",
	rxStorm:         "rx_drop_storm",
	rxProbeLost:     "rx_drop_probe",

	txUnknownVLAN:   "tx_drop_unknown_vlan",
	txNoDestination: "tx_drop_no_destination",
	txBadFrame:      "tx_drop_bad_frame",
	txVLAN:          "tx_drop_vlan",
	txSpoofed:       "tx_drop_spoofed",
	txStorm:         "tx_drop_storm",
	txTooBig:        "tx_drop_too_big",
	txUnreachable:   "tx_drop_unreachable",
	txNoBuffer:      "tx_drop_no_buffer",
	txError:         "tx_drop_error",
	txARPProxy:      "tx_drop_arp_proxy",

	verdictAnswered: "tx_arp_answered",
	verdictMade:     "made_here",
	verdictProbe:    "rx_probes",
}

// String is the name of the counter, in JSON, that counted the frame; passed for
// one that was handed on, and made_here for one that this VTEP made.
func (v Verdict) String() string {
	if int(v) < len(verdicts) {
		return verdicts[v]
	}
	return "unknown"
}

// Dropped says whether the frame went no further.
func (v Verdict) Dropped() bool { return v > verdictPassed && v < verdictAnswered }

// Comment is one clause about it for people, empty for a frame that was handed on.
func (v Verdict) Comment() string {
	switch {
	case v == verdictAnswered:
		return "answered here instead of sent"
	case v == verdictMade:
		return "made by this VTEP, an answer to its own side"
	case v == verdictProbe:
		return "a probe of another VTEP, or its answer to one, for no device"
	case !v.Dropped():
		return ""
	}
	return "dropped: " + v.String() + ": " + meanings()[v.String()]
}

// meanings are what drop counters mean, as clauses.
var meanings = sync.OnceValue(func() map[string]string {
	all := make(map[string]string)
	for _, e := range Explanations() {
		if e.Drop() {
			all[e.Counter] = strings.ToLower(e.Means[:1]) + strings.TrimSuffix(e.Means[1:], ".")
		}
	}
	return all
})
