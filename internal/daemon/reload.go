package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/systemd"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// ErrNoFile: the process was started without a configuration file.
var ErrNoFile = errors.New("there is no configuration file to read again: the endpoint was started without --config")

// step is a part of a reload: what it does can be taken back.
type step struct {
	do, undo func() error
}

// plan is what a reload is going to do.
type plan struct {
	config *config.Config
	file   *config.File
	done   control.Reloaded
	// What needs nothing that is in use comes first, and what removes last: the
	// later a step, the less is to be taken back when one fails.
	leave []step // multicast groups, which others may want to join elsewhere
	fresh []step // new VNIs beside those that are there
	place []step // changes in place
	last  []step // removals, and VNIs that need the place of those
	// settle is what remains when nothing can fail any more.
	settle []func()
}

// Reload reads the configuration file again and applies what differs: all of it,
// or nothing. What the file does not name, and did not name before, stays: VNIs
// that were added by request, entries that were made at run time.
func (d *Daemon) Reload(ctx context.Context) (control.Reloaded, error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if d.source.Path != "" {
		// What cannot be told is no reason not to reload.
		_ = systemd.Reloading()
		defer func() { _ = systemd.Ready(d.Summary()) }()
	}
	done, err := d.reload(ctx)
	if err != nil {
		err = fmt.Errorf("reload: %w; the configuration stays as it was", err)
		if errors.Is(err, ErrNoFile) {
			err = fmt.Errorf("reload: %w", ErrNoFile)
		}
		d.log.Error(err.Error())
		return done, err
	}
	d.log.Info("configuration is read again", zap.String("file", done.File), zap.Int("added", len(done.Added)), zap.Int("removed", len(done.Removed)),
		zap.Int("changed", len(done.Changed)), zap.Int("remade", len(done.Remade)), zap.Int("same", done.Same))
	return done, nil
}

func (d *Daemon) reload(ctx context.Context) (done control.Reloaded, err error) {
	if d.source.Path == "" {
		return done, ErrNoFile
	}
	p := &plan{done: control.Reloaded{
		File: d.source.Path, Added: []vxlan.VNI{}, Removed: []vxlan.VNI{},
		Remade: []control.VNIDifference{}, Changed: []control.VNIDifference{}, Endpoint: []string{},
	}}
	if p.config, p.file, err = d.source.Load(); err != nil {
		return done, err
	}
	peers, err := resolveAll(ctx, p.config.Specs)
	if err != nil {
		return done, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reap()
	if err := d.prepare(p, peers); err != nil {
		return done, err
	}
	if err := p.run(); err != nil {
		return done, err
	}
	p.config.Sockets = d.config.Sockets // as they are open
	d.config, d.file = p.config, p.file
	for _, f := range p.settle {
		f()
	}
	return p.done, nil
}

// resolveAll finds the addresses of all peers. A name is asked for once.
func resolveAll(ctx context.Context, specs []*config.Spec) (map[*config.Spec][]netip.AddrPort, error) {
	all := make(map[*config.Spec][]netip.AddrPort)
	r := config.NewResolver()
	for _, s := range specs {
		peers, err := r.Resolve(ctx, s.Peers)
		if err != nil {
			return nil, err
		}
		all[s] = peers
	}
	return all, nil
}

// run takes all steps, or takes back those that were taken.
func (p *plan) run() error {
	steps := slices.Concat(p.leave, p.fresh, p.place, p.last)
	for i := range steps {
		err := steps[i].do()
		if err == nil {
			continue
		}
		for _, s := range slices.Backward(steps[:i]) {
			if failed := s.undo(); failed != nil {
				err = fmt.Errorf("%w (and this could not be taken back: %w)", err, failed)
			}
		}
		return err
	}
	return nil
}

// prepare finds out what differs, and checks all of it.
func (d *Daemon) prepare(p *plan, peers map[*config.Spec][]netip.AddrPort) error {
	if err := d.compareEndpoint(p); err != nil {
		return err
	}
	w := d.way()
	named := make(map[*network]*config.Spec)
	unders := make(map[*config.Spec]*underlay)
	after := slices.Clone(p.config.Specs) // what there will be
	for _, s := range p.config.Specs {
		under, err := w.find(s, peers[s], d.locals)
		if err != nil {
			return err
		}
		unders[s] = under
		if err := d.check(s, peers[s]); err != nil {
			return err
		}
		if n := d.networkOf(s.VNI); n != nil && n.spec.VNI == s.VNI {
			named[n] = s
		}
	}
	var gone, remade []*network
	for _, n := range d.networks {
		switch s := named[n]; {
		case s != nil && len(d.remakes(n, s)) > 0:
			remade = append(remade, n)
		case s == nil && n.origin == fromRequest:
			after = append(after, n.spec)
		case s == nil:
			gone = append(gone, n)
		}
	}
	if err := config.Fit(after); err != nil {
		return err
	}

	away := append(slices.Clone(gone), remade...)
	var late []*config.Spec
	for _, s := range p.config.Specs {
		n := d.networkOf(s.VNI)
		switch {
		case n != nil && named[n] == s && !slices.Contains(remade, n):
			if err := d.change(p, n, s, peers[s], unders[s]); err != nil {
				return err
			}
		case n != nil && named[n] == s:
			late = append(late, s)
			p.done.Remade = append(p.done.Remade, control.VNIDifference{VNI: s.VNI, Options: d.differences(n, s)})
		default:
			p.done.Added = append(p.done.Added, s.VNI)
			if slices.ContainsFunc(away, func(n *network) bool { return overlap(n.spec, s) }) {
				late = append(late, s)
				continue
			}
			p.fresh = append(p.fresh, d.making(s, peers[s], unders[s], nil))
		}
	}
	for _, n := range gone {
		p.done.Removed = append(p.done.Removed, n.spec.VNI)
	}
	waiting := func(n *network) bool {
		return slices.ContainsFunc(late, func(s *config.Spec) bool { return overlap(n.spec, s) })
	}
	kept := make(map[vxlan.VNI]*extras)
	members := d.ofMembers()
	removals := func(want bool) {
		for _, n := range away {
			if waiting(n) == want {
				kept[n.spec.VNI] = d.extras(n, members)
				p.last = append(p.last, d.removing(n, w, kept[n.spec.VNI]))
			}
		}
	}
	removals(true)
	for _, s := range late {
		p.last = append(p.last, d.making(s, peers[s], unders[s], kept[s.VNI]))
	}
	removals(false)
	return nil
}

// overlap says whether two specs cannot be there at once.
func overlap(a, b *config.Spec) bool { return config.Fit([]*config.Spec{a, b}) != nil }

// making is the step that makes a network. Of one that there was before it gets
// what was not named by the file.
func (d *Daemon) making(s *config.Spec, peers []netip.AddrPort, under *underlay, had *extras) step {
	var n *network
	return step{
		do: func() (err error) {
			if n, err = d.make(s, peers, under); err == nil {
				d.announce(n)
				d.restore(n, had)
			}
			return err
		},
		undo: func() error { return d.remove(n) },
	}
}

// removing is the step that removes one.
func (d *Daemon) removing(n *network, w *way, had *extras) step {
	return step{
		do: func() error {
			if err := d.remove(n); err != nil {
				d.log.Warn("remove a VNI", zap.Stringer("vni", n.spec.VNI), zap.Error(err))
			}
			return nil
		},
		undo: func() error {
			under, err := w.find(n.spec, n.peers, d.locals)
			if err != nil {
				return err
			}
			again, err := d.make(n.spec, n.peers, under)
			if err == nil {
				again.origin = n.origin
				d.restore(again, had)
			}
			return err
		},
	}
}

// compareEndpoint refuses what only a restart can change.
func (d *Daemon) compareEndpoint(p *plan) error {
	was, is := d.config.Endpoint, p.config.Endpoint
	var names []string
	for i := range config.Options {
		o := &config.Options[i]
		if o.Scope != config.OfEndpoint && o.Scope != config.OfBoth || same(o, was, is) {
			continue
		}
		switch {
		case o.Name == "log-level":
			level, before := is.LogLevel.Level(), was.LogLevel.Level()
			p.place = append(p.place, step{
				do:   func() error { was.LogLevel.SetLevel(level); return nil },
				undo: func() error { was.LogLevel.SetLevel(before); return nil },
			})
			p.done.Endpoint = append(p.done.Endpoint, o.Name)
			p.settle = append(p.settle, func() { is.LogLevel = was.LogLevel })
		case o.Name == "join" && was.Members != nil && is.Members != nil:
			set := func(m *config.Members) func() error {
				return func() error { return d.join(m) }
			}
			p.place = append(p.place, step{do: set(is.Members), undo: set(was.Members)})
			p.done.Endpoint = append(p.done.Endpoint, o.Name)
		case o.Name == "local" && len(is.Local) > 0 && sameSet(is.Local, d.locals):
		default:
			names = append(names, o.Name)
		}
	}
	if !was.SameTunnel(is) {
		names = append(names, "what is in the file of wireguard")
	}
	if !was.SameKey(is) && was.Text("key-file") == is.Text("key-file") {
		names = append(names, "the key in "+is.Text("key-file"))
	}
	is.WireGuard = was.WireGuard // with names resolved
	if len(p.settle) == 0 {
		p.settle = append(p.settle, func() { is.LogLevel = was.LogLevel }) // what the logger has
	}
	if len(names) > 0 {
		return fmt.Errorf("%s needs a restart of the endpoint: %s cannot change while it runs", p.file.Name, strings.Join(names, ", "))
	}
	return nil
}

// same says whether an option has one value for both, whether it is written or left to
// its default.
func same(o *config.Option, a, b *config.Endpoint) bool {
	if o.Kind == config.List {
		return slices.Equal(a.List(o.Name), b.List(o.Name))
	}
	return a.Text(o.Name) == b.Text(o.Name)
}

// sameSet says whether two lists have the same in them, in any order.
func sameSet[T comparable](a, b []T) bool {
	set := func(list []T) map[T]struct{} {
		m := make(map[T]struct{}, len(list))
		for _, v := range list {
			m[v] = struct{}{}
		}
		return m
	}
	return maps.Equal(set(a), set(b))
}

// differences names the options of a VNI that are not as they were.
func (d *Daemon) differences(n *network, s *config.Spec) (names []string) {
	for i := range config.Options {
		o := &config.Options[i]
		if o.Scope == config.OfEndpoint || o.Name == "proxy" {
			continue
		}
		same := n.spec.Text(o.Name) == s.Text(o.Name)
		switch {
		case o.Name == "arp":
			same = n.spec.ARP.Mode == s.ARP.Mode
		case o.Name == "name":
			same = n.spec.Device.Name == s.Device.Name
		case o.Name == "mac":
			mac := s.Device.MAC
			if mac == nil {
				derived := deriveMAC(s.VNI, d.locals[0])
				mac = derived[:]
			}
			same = slices.Equal(n.device.MAC(), mac)
		case o.Kind == config.List:
			same = sameSet(n.spec.List(o.Name), s.List(o.Name))
		}
		if !same {
			names = append(names, o.Name)
		}
	}
	return names
}

// remakes names those of them for which the device has to be made anew.
func (d *Daemon) remakes(n *network, s *config.Spec) []string {
	return slices.DeleteFunc(d.differences(n, s), func(name string) bool {
		return config.ByName(name).Change != config.Remade
	})
}
