package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/roster"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// Daemon is a running process.
type Daemon struct {
	log      *zap.Logger
	conn     transport.Conn
	endpoint *vtep.Endpoint
	server   *control.Server
	locals   []netip.Addr
	joins    []netip.Addr // by which members may be found
	downs    downWatches
	sources  []road // that a tunnel sends by
	version  string
	heritage *heritage   // while it starts
	offering atomic.Bool // another process takes over
	// handedOver: another process goes on.
	handedOver atomic.Bool
	started    bool // what is made from now on stays

	source config.Source

	reloading sync.Mutex // held by a reload from its beginning, before mu
	mu        sync.Mutex // held while VNIs come, go and change
	config    *config.Config
	file      *config.File // nil: none
	networks  []*network
	roster    *roster.Roster // nil: no member, or not yet
	// before is what a process that ends meanwhile had of members, to wait for;
	// nil: there is none.
	before roster.State
}

// Options say what to start.
type Options struct {
	Config *config.Config
	// File that Config is made of, and what to read again for a reload. nil and
	// empty: there is no file.
	File    *config.File
	Source  config.Source
	Log     *zap.Logger
	Version string
}

// Start makes what the configuration asks for, or nothing. It returns nil
// without an error when ctx is done before everything was made.
//
// What a process before this one left is gone on with: with --takeover one that
// runs, which then ends; else what the service manager has kept.
func Start(ctx context.Context, o Options) (*Daemon, error) {
	h, err := kept()
	if err != nil {
		o.Log.Warn("starting anew", zap.Error(err))
	}
	if h == nil {
		return start(ctx, o, nil)
	}
	d, err := start(ctx, o, h)
	if err == nil {
		return d, nil
	}
	// Another configuration than before: frames are lost, as in any restart.
	o.Log.Warn("what the process before left does not fit, starting anew", zap.Error(err))
	return start(ctx, o, nil)
}

// start makes everything, of what there is in h, which it takes over in any case.
func start(ctx context.Context, o Options, h *heritage) (made *Daemon, err error) {
	d := &Daemon{log: o.Log, config: o.Config, file: o.File, source: o.Source, version: o.Version}
	defer func() {
		if made == nil && d.heritage != nil {
			d.heritage.abandon(cmp.Or(err, errInterrupted))
		}
		d.heritage.close()
		d.heritage = nil
	}()
	d.heritage = h
	peers, err := resolveAll(ctx, o.Config.Specs)
	if ctx.Err() != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := resolveTunnel(ctx, o.Config.Endpoint); err != nil {
		if ctx.Err() != nil {
			return nil, nil
		}
		return nil, err
	}
	unders, err := d.underlays(ctx, o.Config, peers)
	if err != nil {
		return nil, err
	}
	for _, s := range o.Config.Specs {
		if err := d.check(s, peers[s]); err != nil {
			return nil, err
		}
	}
	v4, v6 := families(d.locals)
	if err := o.Config.Endpoint.CheckFamilies(v4, v6); err != nil {
		return nil, err
	}
	if o.Config.Endpoint.Takeover && h == nil {
		path, err := d.controlPath()
		if err != nil {
			return nil, err
		}
		if d.heritage, err = claim(ctx, path, o.Version, d.users()...); err != nil {
			return nil, err
		}
		if d.heritage == nil {
			d.log.Info("nothing runs that could be taken over: starting anew")
		}
	}
	if d.heritage != nil {
		d.conn, err = inherit(o.Config, d.locals, d.heritage)
	} else {
		d.conn, err = listenPatiently(ctx, o.Config, d.locals, o.Log)
	}
	if err != nil {
		return nil, &ListenError{Err: err, Local: d.locals}
	}
	e := o.Config.Endpoint
	if d.endpoint, err = vtep.New(vtep.Config{
		Conn: d.conn, Logger: o.Log, Workers: e.Workers, NoRing: e.NoRing, Datapath: e.Datapath, BusyPoll: e.BusyPoll,
		DisablePathMTU: e.NoPathMTU, PathMTU: e.PathMTU, DisableProbeAnswers: !e.Bool("answer-probes"),
	}); err != nil {
		var refused *vtep.DatapathError
		if errors.As(err, &refused) {
			err = fmt.Errorf("--datapath ebpf: %w", refused.Err)
		}
		return nil, errors.Join(err, d.conn.Close())
	}
	for _, s := range o.Config.Specs {
		if ctx.Err() != nil {
			return nil, d.close() // hundreds of devices take their time
		}
		if _, err := d.make(s, peers[s], unders[s]); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	if d.heritage != nil {
		if err := d.makeAdded(); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	if d.heritage != nil && !d.heritage.kept && e.Members != nil {
		// Its port is in use until it ends.
		if d.before = d.heritage.Members; d.before == nil {
			d.before = roster.State{}
		}
	} else if err := d.enrol(d.heritage.members()); err != nil {
		return nil, errors.Join(err, d.close())
	}
	if d.server, err = d.listenControl(o.Version); err != nil {
		return nil, errors.Join(err, d.close())
	}
	if err := d.succeed(); err != nil {
		return nil, errors.Join(err, d.server.Close(), d.close())
	}
	if m := e.Members; m != nil && m.Readable {
		d.log.Warn("others than its owner can read the key of the members: take that right from them with 'chmod 600'", zap.String("file", m.File))
	}
	if e.NoChecksum4 || e.NoChecksum6 {
		d.log.Info("the outer UDP checksum is off, for which the kernel takes no UDP_SEGMENT: datagrams leave one by one")
	}
	for _, n := range d.networks {
		d.announce(n)
	}
	status := d.endpoint.Status()
	d.log.Info("endpoint is up", zap.Int("vnis", len(d.networks)), zap.Int("workers", e.Workers),
		zap.String("transport", status.Transport), zap.String("datapath", status.DatapathStatus.String()),
		zap.Int("train", d.conn.Limits().Segments), zap.Int("source_ports", d.conn.Limits().Flows),
		zap.String("version", o.Version))
	return d, nil
}

// succeed is the step of no return: the process before ends, and this one goes on
// with what it knew.
func (d *Daemon) succeed() error {
	if h := d.heritage; h != nil {
		s, err := h.commit()
		if err != nil {
			return err
		}
		h.adapt(&s, d)
		if d.config.Endpoint.Members == nil {
			h.Members.Without(&s)
		}
		d.endpoint.Restore(s)
		d.log.Info("going on in place of another process", zap.Int("process", h.Process), zap.String("version", h.Version))
	}
	d.server.Keep(true)
	d.started = true
	for _, n := range d.networks {
		d.persist(n)
	}
	return nil
}

var errInterrupted = errors.New("the new process was interrupted")

// underlays finds out how to reach what all VNIs send to, and with it the local
// addresses.
func (d *Daemon) underlays(ctx context.Context, c *config.Config, peers map[*config.Spec][]netip.AddrPort) (map[*config.Spec]*underlay, error) {
	d.locals = slices.Clone(c.Endpoint.Local)
	unders := make(map[*config.Spec]*underlay)
	w := newWay(c.Endpoint, false)
	d.joins = joinTargets(ctx, c.Endpoint)
	w.joins = d.joins
	// Those that say where to send to come first: the others take what these
	// found.
	for _, idle := range []bool{false, true} {
		for _, s := range c.Specs {
			if idle != (len(peers[s]) == 0 && len(s.Groups) == 0) {
				continue
			}
			u, err := w.find(s, peers[s], d.locals)
			if err != nil {
				return nil, err
			}
			unders[s], d.locals = u, u.local
		}
	}
	if len(c.Specs) == 0 {
		u, err := w.find(new(config.Spec), nil, d.locals)
		if err != nil {
			return nil, err
		}
		d.locals = u.local
	}
	return unders, nil
}

// check refuses what a VNI cannot have with the endpoint's addresses and sockets.
func (d *Daemon) check(s *config.Spec, peers []netip.AddrPort) error {
	for _, a := range peers {
		if slices.Contains(d.locals, a.Addr()) && a.Port() == d.config.Endpoint.Port {
			return fmt.Errorf("peer %v is this endpoint itself: give the address of the other host", a.Addr())
		}
	}
	for _, a := range s.Device.Addrs {
		if mtu := s.Device.MTU; a.Addr().Is6() && mtu != 0 && mtu < leastFollowed {
			return fmt.Errorf("%v: address %v: IPv6 needs an MTU of %d at least, and this is %d", s, a, leastFollowed, mtu)
		}
	}
	if err := s.CheckFamilies(families(d.locals)); err != nil {
		return err
	}
	return d.config.Sockets.Suit(s)
}

// families says which address families there are.
func families(local []netip.Addr) (v4, v6 bool) {
	for _, a := range local {
		v4, v6 = v4 || a.Is4(), v6 || a.Is6()
	}
	return v4, v6
}

// close takes everything back.
func (d *Daemon) close() error {
	for _, n := range d.networks {
		n.forget()
	}
	d.networks = nil
	// Whoever goes on has everything but the port of members: what it waits for most
	// comes first. Else the others send no more before there is nobody to receive it.
	if d.handedOver.Load() {
		return errors.Join(d.endpoint.Close(), d.resign())
	}
	return errors.Join(d.resign(), d.endpoint.Close())
}

// Lines says of each VNI that its frames can flow.
func (d *Daemon) Lines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var lines []string
	for _, n := range d.networks {
		lines = append(lines, d.line(n))
	}
	return lines
}

// Summary says in a few words what runs.
func (d *Daemon) Summary() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for _, n := range d.networks {
		names = append(names, n.device.Name())
	}
	if len(names) > 3 {
		names = append(names[:3], "...")
	}
	return fmt.Sprintf("version %s, VNIs: %d (%s)", d.version, len(d.networks), strings.Join(names, " "))
}

// Close is for a Daemon that never ran.
func (d *Daemon) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.server.Close(), d.close())
}

// Ready is closed once Run carries frames.
func (d *Daemon) Ready() <-chan struct{} { return d.endpoint.Ready() }

// Run carries frames until ctx is done, or another process takes over. Where a
// service manager keeps descriptors over a restart, it leaves everything with
// that.
func (d *Daemon) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		if keeps() {
			if err := d.keep(); err != nil {
				d.log.Warn("nothing is kept for the next start", zap.Error(err))
			}
		}
		cancel()
	})
	defer stop()
	tasks, inner := errgroup.WithContext(inner)
	tasks.Go(func() error { return d.server.Serve(inner) })
	tasks.Go(func() error {
		defer cancel() // it may have been handed over
		return d.endpoint.Run(inner)
	})
	tasks.Go(func() error { return d.follow(inner) })
	if d.before != nil {
		tasks.Go(func() error {
			d.enrolLate(inner, d.before)
			return nil
		})
	}
	err := tasks.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	err = errors.Join(err, d.close())
	d.log.Info("endpoint is down")
	return err
}

// look has every VNI follow what the underlay carries now.
func (d *Daemon) look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	peers := make(map[vxlan.VNI][]netip.AddrPort)
	for _, v := range d.endpoint.Status().VNIs {
		list := []netip.AddrPort{}
		for _, p := range v.Peers {
			list = append(list, netip.AddrPortFrom(p.VTEP, p.Port))
		}
		peers[v.VNI] = list
	}
	w := d.way()
	if !d.followTunnel(w) {
		return
	}
	for _, n := range d.networks {
		list, ok := peers[n.spec.VNI]
		if !ok {
			continue // its device is gone
		}
		u, err := w.find(n.spec, list, d.locals)
		if err != nil {
			continue // a route that is away at the moment
		}
		n.follower.look(u.overlayMTU)
	}
}

// Ping waits until each worker has come round once, as long as ctx lasts.
func (d *Daemon) Ping(ctx context.Context) error { return d.endpoint.Ping(ctx.Done()) }

// listenControl opens the control socket, at its usual place by default.
func (d *Daemon) listenControl(version string) (*control.Server, error) {
	path, err := d.controlPath()
	if err != nil {
		return nil, err
	}
	if server, err := d.heritage.listen(path, process{d.endpoint, d}, version); server != nil || err != nil {
		return server, err
	}
	return d.serve(path, version)
}
