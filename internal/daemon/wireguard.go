package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/transport/wireguard"
	"go.uber.org/zap"
)

// resolveTunnel finds where the peers of the tunnel are, if there is one.
func resolveTunnel(ctx context.Context, e *config.Endpoint) error {
	if e.WireGuard == nil {
		return nil
	}
	if err := e.WireGuard.Resolve(ctx); err != nil {
		return fmt.Errorf("%s: %w: give an address, or mend DNS or /etc/hosts", e.WireGuard.File, err)
	}
	return nil
}

// listenWireGuard opens the tunnel, with VXLAN inside.
func listenWireGuard(c *config.Config, log *zap.Logger) (transport.Conn, error) {
	e := c.Endpoint
	cfg := *e.WireGuard
	if cfg.Readable {
		log.Warn("others than its owner can read the private key: take that right from them with 'chmod 600'", zap.String("file", cfg.File))
	}
	for _, i := range cfg.Ignored {
		log.Warn("this is for wg-quick, and not done here", zap.String("file", cfg.File), zap.Int("line", i.Line), zap.String("key", i.Key))
	}
	cfg.MTU, _ = newWay(e, false).tunnelMTU()
	o := wireguard.Options{
		Port: e.Port, SourcePorts: e.SourcePorts, TTL: c.Sockets.TTL,
		DontFragment: c.Sockets.DontFragment, AutoFlowLabel: c.Sockets.AutoLabel,
		ZeroChecksum4: e.NoChecksum4, ZeroChecksum6: e.NoChecksum6, AcceptZeroChecksum6: e.AcceptNoChecksum6,
		Logf: func(format string, args ...any) { log.Warn("wireguard: " + fmt.Sprintf(format, args...)) },
		Debugf: func(format string, args ...any) {
			if log.Core().Enabled(zap.DebugLevel) {
				log.Debug("wireguard: " + fmt.Sprintf(format, args...))
			}
		},
	}
	conn, err := wireguard.Listen(cfg, o)
	if err != nil {
		return nil, err // and no Conn that is not nil
	}
	return conn, nil
}

// through is find for peers in a tunnel.
func (w *way) through(s *config.Spec, peers []netip.AddrPort) (*underlay, error) {
	u := &underlay{local: w.endpoint.Local}
	if s.Device.Bridge == "" {
		u.pathMTU = w.endpoint.PathMTU // as in find
	}
	mtu, device := w.tunnelMTU()
	for _, p := range peers {
		if err := w.endpoint.Reached(p.Addr()); err != nil {
			return nil, err
		}
		u.fit(mtu, p.Addr(), device)
	}
	if len(peers) == 0 {
		for _, a := range u.local {
			u.fit(mtu, a, device)
		}
	}
	return u, nil
}

// tunnelMTU is how long an IP packet in the tunnel may be, and which device of the
// underlay says so, "" when none does. What the file says counts; else the ways to its
// peers.
func (w *way) tunnelMTU() (mtu int, device string) {
	c := w.endpoint.WireGuard
	if c.MTU != 0 {
		return c.MTU, c.File
	}
	mtu = wireguard.DefaultMTU
	for i := range c.Peers {
		// One that is not known yet may come by the default route, over IPv6.
		to, overhead := c.Peers[i].Addr.Addr(), wireguard.OverheadIPv6
		if to.Is4() {
			overhead = wireguard.OverheadIPv4
		}
		r, ok := w.roadUnder(to)
		// A loopback's 65,536 is more than the library takes at once.
		if fits := min(r.mtu, 65535) - overhead; ok && (device == "" || fits < mtu) {
			mtu, device = fits, r.device
		}
	}
	return mtu, device
}

// followTunnel has a tunnel carry what the underlay does now, and send from the
// addresses that this host has now: the library holds on to those that it had. It
// returns false while no way to the other ends is there, and nothing to follow.
func (d *Daemon) followTunnel(w *way) bool {
	c, ok := d.conn.(transport.TunnelConn)
	if !ok {
		return true
	}
	mtu, device := w.tunnelMTU()
	if device == "" {
		return false
	}
	c.SetMTU(mtu)
	var sources []road
	for _, p := range c.Tunnel().Peers {
		if !p.Endpoint.IsValid() {
			continue
		}
		if r, ok := w.roadUnder(p.Endpoint.Addr()); ok && r.source.IsValid() {
			sources = append(sources, road{source: r.source, device: r.device})
		}
	}
	if len(sources) == 0 {
		return true
	}
	before := d.sources
	d.sources = sources
	fresh := func(r road) bool { return !slices.Contains(before, r) }
	if len(before) == 0 || !slices.ContainsFunc(sources, fresh) {
		return true
	}
	if err := c.Rebind(); err != nil {
		d.log.Error("the tunnel could not follow a change of this host's addresses or routes", zap.Error(err))
		return true
	}
	d.log.Info("this host's addresses or routes changed, and the tunnel follows")
	return true
}
