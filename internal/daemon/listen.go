package daemon

import (
	"context"
	"errors"
	"fmt"
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
	if e.WireGuard != nil {
		return listenWireGuard(c, log)
	}
	if e.Packet {
		return transport.ListenPacket(transport.PacketConfig{
			Local: local, Port: e.Port, Device: e.Dev,
			SourcePortLo: e.SourcePorts.Lo, SourcePortHi: e.SourcePorts.Hi,
			Receivers: e.Queues, NoGSO: !e.Offload, NoGRO: !e.Offload,
			DontFragment: c.Sockets.DontFragment, TTL: socketTTL(c), AutoFlowLabel: c.Sockets.AutoLabel,
			ZeroChecksum4: e.NoChecksum4, ZeroChecksum6: e.NoChecksum6, AcceptZeroChecksum6: e.AcceptNoChecksum6,
		})
	}
	return transport.ListenUDP(udpConfig(c, local))
}

// inherit goes on with the sockets of a process before this one.
func inherit(c *config.Config, local []netip.Addr, h *heritage) (transport.Conn, error) {
	if c.Endpoint.WireGuard != nil {
		// Its frames would go on in clear.
		return nil, fmt.Errorf("take over: --wireguard cannot be had so, the one that runs has no tunnel: %w", errors.ErrUnsupported)
	}
	if c.Endpoint.Packet {
		return nil, fmt.Errorf("take over: --transport packet cannot be had so, the one that runs has UDP sockets: %w", errors.ErrUnsupported)
	}
	conn, err := transport.InheritUDP(udpConfig(c, local), h.Descriptors.Conn, h.conn())
	var differ *transport.DifferError
	if errors.As(err, &differ) {
		values := "is not that of the endpoint that runs"
		switch differ.Field {
		case "Local", "Port", "Device", "Receivers", "TTL", "MulticastTTL":
			values = fmt.Sprintf("is %v here, and %v in the endpoint that runs", differ.Want, differ.Have)
		}
		return nil, fmt.Errorf("take over: --%s %s, whose sockets have it for good: give the same, or stop that one and start this",
			flagOf[differ.Field], values)
	}
	return conn, err
}

// flagOf names the options that sockets are opened with.
var flagOf = map[string]string{
	"Local": "local", "Port": "port", "Device": "dev", "SourcePortLo": "source-ports", "SourcePortHi": "source-ports",
	"Receivers": "queues", "Netns": "netns", "DontFragment": "df", "DontFragmentByTrain": "df", "TTL": "ttl",
	"MulticastTTL": "multicast-ttl", "AutoFlowLabel": "flow-label", "ZeroChecksum4": "udp-csum",
	"ZeroChecksum6": "udp-zero-csum6-tx", "AcceptZeroChecksum6": "udp-zero-csum6-rx", "NoGSO": "offload", "NoGRO": "offload",
}

func udpConfig(c *config.Config, local []netip.Addr) transport.UDPConfig {
	e := c.Endpoint
	return transport.UDPConfig{
		Local: local, Port: e.Port, Device: e.Dev,
		SourcePortLo: e.SourcePorts.Lo, SourcePortHi: e.SourcePorts.Hi,
		Receivers: e.Queues, NoGSO: !e.Offload, NoGRO: !e.Offload, MulticastTTL: e.MulticastTTL,
		DontFragment: c.Sockets.DontFragment, DontFragmentByTrain: c.Sockets.ByTrain,
		TTL: socketTTL(c), AutoFlowLabel: c.Sockets.AutoLabel,
		ZeroChecksum4: e.NoChecksum4, ZeroChecksum6: e.NoChecksum6, AcceptZeroChecksum6: e.AcceptNoChecksum6,
	}
}

// socketTTL is that of what VNIs leave to the sockets.
func socketTTL(c *config.Config) int {
	if c.Sockets.AutoTTL {
		return transport.TTLAuto
	}
	return int(c.Sockets.TTL)
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
