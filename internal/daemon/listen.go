package daemon

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/transport/wireguard"
	"go.uber.org/zap"
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
func listen(c *config.Config, local []netip.Addr, log *zap.Logger) (transport.Conn, error) {
	e := c.Endpoint
	ttl := int(c.Sockets.TTL)
	if c.Sockets.AutoTTL {
		ttl = transport.TTLAuto
	}
	if e.WireGuard != nil {
		return listenWireGuard(c, log)
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

// listenPatiently is listen, but waits a little for a port that is held: where a
// process was killed a moment ago, the kernel closes its sockets in the
// background (those that an io_uring knows, behind the devices that go with it).
func listenPatiently(ctx context.Context, c *config.Config, locals []netip.Addr, log *zap.Logger) (transport.Conn, error) {
	const patience, pause = time.Second, 20 * time.Millisecond
	for deadline := time.Now().Add(patience); ; {
		conn, err := listen(c, locals, log)
		if !errors.Is(err, transport.ErrPortInUse) && !errors.Is(err, wireguard.ErrPortInUse) || time.Now().After(deadline) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}
