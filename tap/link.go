package tap

import "net/netip"

// Link is a Device that the host's network stack knows as an interface, as that
// of Open on Linux: more than its MTU can be changed while frames flow.
type Link interface {
	Device
	// AddAddr puts an address on the device; one that is there already is no
	// error.
	AddAddr(netip.Prefix) error
	// DelAddr takes an address off; one that is not there is no error.
	DelAddr(netip.Prefix) error
	// SetBridge makes the device a port of a bridge, or of none with "".
	// superframeBytes is as in Config. Errors: ErrNoBridge.
	SetBridge(name string, superframeBytes int) error
}
