package wireguard

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/govxlan/govxlan/transport"
)

// Tunnel: see transport.TunnelConn.
func (c *Conn) Tunnel() transport.Tunnel {
	s := transport.Tunnel{PublicKey: c.cfg.PrivateKey.Public().String(), MTU: int(c.mtu.Load())}
	text, err := c.device.IpcGet()
	if err != nil {
		return s
	}
	readStatus(&s, text)
	slices.SortFunc(s.Peers, func(a, b transport.TunnelPeer) int { return strings.Compare(a.PublicKey, b.PublicKey) })
	return s
}

// readStatus reads what the library says in its protocol.
func readStatus(s *transport.Tunnel, text string) {
	var p *transport.TunnelPeer
	var sec int64
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		n, _ := strconv.ParseUint(value, 10, 64)
		switch key {
		case "listen_port":
			s.ListenPort = uint16(n)
		case "public_key":
			var k Key
			_, _ = hex.Decode(k[:], []byte(value))
			s.Peers = append(s.Peers, transport.TunnelPeer{PublicKey: k.String()})
			p = &s.Peers[len(s.Peers)-1]
		}
		if p == nil {
			continue
		}
		switch key {
		case "endpoint":
			p.Endpoint, _ = netip.ParseAddrPort(value)
		case "last_handshake_time_sec":
			sec = int64(n)
		case "last_handshake_time_nsec":
			if sec != 0 {
				p.LastHandshake = time.Unix(sec, int64(n))
			}
		case "rx_bytes":
			p.RxBytes = n
		case "tx_bytes":
			p.TxBytes = n
		case "allowed_ip":
			if a, err := netip.ParsePrefix(value); err == nil {
				p.AllowedIPs = append(p.AllowedIPs, a)
			}
		}
	}
}
