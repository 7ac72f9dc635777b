package transport

import (
	"net/netip"
	"time"
)

// TunnelConn is a Conn whose packets travel inside an encrypted tunnel, such as
// that of package wireguard.
type TunnelConn interface {
	Conn
	// Tunnel returns the state of the tunnel. Any goroutine may call it.
	Tunnel() Tunnel
	// SetMTU changes how long a packet in the tunnel may be, in bytes.
	SetMTU(mtu int)
	// Rebind has it forget which addresses of this host it has sent from, since
	// they have changed.
	Rebind() error
}

// Tunnel is a tunnel at one moment.
type Tunnel struct {
	// PublicKey of this end, as text.
	PublicKey string
	// ListenPort is the UDP port of the underlay.
	ListenPort uint16
	// MTU is the longest IP packet in the tunnel, in bytes.
	MTU   int
	Peers []TunnelPeer // by their keys
}

// TunnelPeer is another end.
type TunnelPeer struct {
	PublicKey string
	// Endpoint is where it was last on the underlay; invalid: not known.
	Endpoint netip.AddrPort
	// AllowedIPs are its addresses in the tunnel.
	AllowedIPs []netip.Prefix
	// LastHandshake is when both ends last agreed on keys; zero: never.
	LastHandshake time.Time
	// RxBytes and TxBytes are those of UDP payloads, handshakes among them.
	RxBytes, TxBytes uint64
}
