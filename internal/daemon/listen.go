package daemon

import (
	"net/netip"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/transport"
)

// ListenError is why the sockets of the underlay could not be opened; see the
// Err variables of package transport.
type ListenError struct {
	Err   error
	Local []netip.Addr // that they were to listen on
}

func (e *ListenError) Error() string { return e.Err.Error() }
func (e *ListenError) Unwrap() error { return e.Err }

// listen opens the transport that was asked for.
func listen(c *config.Config, local []netip.Addr) (transport.Conn, error) {
	e := c.Endpoint
	ttl := int(c.Sockets.TTL)
	if c.Sockets.AutoTTL {
		ttl = transport.TTLAuto
	}
	if e.Packet {
		return transport.ListenPacket(transport.PacketConfig{
			Local: local, Port: e.Port, Device: e.Dev,
			SourcePortLo: e.SourcePorts.Lo, SourcePortHi: e.SourcePorts.Hi,
			Receivers: e.Queues, NoGSO: !e.Offload, NoGRO: !e.Offload,
			DontFragment: c.Sockets.DontFragment, TTL: ttl, AutoFlowLabel: c.Sockets.AutoLabel,
			ZeroChecksum4: e.NoChecksum4, ZeroChecksum6: e.NoChecksum6, AcceptZeroChecksum6: e.AcceptNoChecksum6,
		})
	}
	return transport.ListenUDP(transport.UDPConfig{
		Local: local, Port: e.Port, Device: e.Dev,
		SourcePortLo: e.SourcePorts.Lo, SourcePortHi: e.SourcePorts.Hi,
		Receivers: e.Queues, NoGSO: !e.Offload, NoGRO: !e.Offload, MulticastTTL: e.MulticastTTL,
		DontFragment: c.Sockets.DontFragment, DontFragmentByTrain: c.Sockets.ByTrain,
		TTL: ttl, AutoFlowLabel: c.Sockets.AutoLabel,
		ZeroChecksum4: e.NoChecksum4, ZeroChecksum6: e.NoChecksum6, AcceptZeroChecksum6: e.AcceptNoChecksum6,
	})
}
