//go:build !linux

package transport

import "net/netip"

// Acceleration follows the ways to VTEPs for who sends beside a Conn, which
// needs Linux.
type Acceleration struct{}

// Underlay is how the Conn sends.
func (a *Acceleration) Underlay() Underlay { return Underlay{} }

// Follow begins to follow the way to a VTEP.
func (a *Acceleration) Follow(to netip.AddrPort) {}

// Forget ends that.
func (a *Acceleration) Forget(to netip.AddrPort) {}

// Close ends all of it.
func (a *Acceleration) Close() {}
