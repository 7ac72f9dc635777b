package vtep

import (
	"time"

	"github.com/govxlan/govxlan/transport"
)

// TunnelStatus is an encrypted tunnel at one moment; see transport.Tunnel.
type TunnelStatus struct {
	PublicKey  string             `json:"public_key"` // of this end
	ListenPort uint16             `json:"listen_port"`
	MTU        int                `json:"mtu"`
	Peers      []TunnelPeerStatus `json:"peers"`
}

// TunnelPeerStatus is another end of it.
type TunnelPeerStatus struct {
	PublicKey string `json:"public_key"`
	// Endpoint is where it was last on the underlay; empty: not known.
	Endpoint   string   `json:"endpoint,omitempty"`
	AllowedIPs []string `json:"allowed_ips"`
	// LastHandshake is the time since both ends agreed on keys; nil: never.
	LastHandshake *Seconds `json:"last_handshake_s"`
	RxBytes       uint64   `json:"rx_bytes"`
	TxBytes       uint64   `json:"tx_bytes"`
}

// tunnelStatus asks a Conn that is a tunnel.
func tunnelStatus(conn transport.Conn) *TunnelStatus {
	c, ok := conn.(transport.TunnelConn)
	if !ok {
		return nil
	}
	t := c.Tunnel()
	s := &TunnelStatus{PublicKey: t.PublicKey, ListenPort: t.ListenPort, MTU: t.MTU, Peers: []TunnelPeerStatus{}}
	for _, p := range t.Peers {
		ps := TunnelPeerStatus{PublicKey: p.PublicKey, AllowedIPs: []string{}, RxBytes: p.RxBytes, TxBytes: p.TxBytes}
		if p.Endpoint.IsValid() {
			ps.Endpoint = p.Endpoint.String()
		}
		for _, a := range p.AllowedIPs {
			ps.AllowedIPs = append(ps.AllowedIPs, a.String())
		}
		if !p.LastHandshake.IsZero() {
			age := seconds(max(time.Since(p.LastHandshake), 0))
			ps.LastHandshake = &age
		}
		s.Peers = append(s.Peers, ps)
	}
	return s
}
