package doctor

import (
	"net/netip"

	"github.com/govxlan/govxlan/internal/reach"
	"github.com/govxlan/govxlan/vtep"
)

// tunnel is what the endpoint's packets travel through, nil if they are in clear.
func (x *examination) tunnel() *vtep.TunnelStatus {
	if x.Status == nil {
		return nil
	}
	return x.Status.Tunnel
}

// underPort is the UDP port of the underlay.
func (x *examination) underPort() uint16 {
	if t := x.tunnel(); t != nil {
		return t.ListenPort
	}
	return x.port
}

// far is where packets go on the underlay: to the peers, or to the other ends of
// the tunnel.
func (x *examination) far() []netip.AddrPort {
	t := x.tunnel()
	if t == nil {
		return x.peers(nil)
	}
	var all []netip.AddrPort
	for _, p := range t.Peers {
		if a, err := netip.ParseAddrPort(p.Endpoint); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// checkTunnel: has each other end agreed on keys, and does each peer belong to one.
func (x *examination) checkTunnel() {
	t := x.tunnel()
	if t == nil {
		return
	}
	for _, p := range t.Peers {
		switch {
		case p.LastHandshake != nil:
			x.find("tunnel", OK, "", "%s at %s: the last handshake was %v ago", p.PublicKey, p.Endpoint, reach.Ago(*p.LastHandshake))
		case p.Endpoint == "":
			x.find("tunnel", Warn, "", "%s has no endpoint here and has not come yet: nothing can be sent to it", p.PublicKey)
		case p.TxBytes == 0:
			x.find("tunnel", OK, "", "%s at %s: nothing was sent yet", p.PublicKey, p.Endpoint)
		default:
			x.find("tunnel", Fail, "", "%s at %s has not answered: is it up, and does each end have the public (and preshared) key of the other? This one's is %s", p.PublicKey, p.Endpoint, t.PublicKey)
		}
	}
	for _, peer := range x.peers(nil) {
		if !allowed(t, peer.Addr()) {
			x.report.add(Finding{Check: "tunnel", State: Fail, Peer: peer.Addr(), Text: "peer " + peer.Addr().String() + " is in the AllowedIPs of no end of the tunnel: add it there, and start the endpoint again"})
		}
	}
}

// allowed says whether an address belongs to somebody in the tunnel.
func allowed(t *vtep.TunnelStatus, a netip.Addr) bool {
	for _, p := range t.Peers {
		for _, text := range p.AllowedIPs {
			if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Contains(a) {
				return true
			}
		}
	}
	return false
}
