package ping

import "net/netip"

// Knocked is what came of a datagram to a UDP port.
type Knocked struct {
	// State is one of the constants below.
	State string `json:"state"`
	// By is who refused; empty when nobody did.
	By netip.Addr `json:"by,omitzero"`
}

const (
	// NotRefused: nothing came back. Somebody listens, or a firewall is silent.
	NotRefused = "not_refused"
	// Refused: the host has nobody who listens on that port, or says so.
	Refused = "refused"
	// Prohibited: a firewall says that it is one.
	Prohibited = "prohibited"
	// Unreachable: a router, or this host, knows no way.
	Unreachable = "unreachable"
	// Untried: it could not be sent, or there was no need.
	Untried = "untried"
)
