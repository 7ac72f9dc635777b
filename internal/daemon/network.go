package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vtep"
	"go.uber.org/zap"
)

// network is a device with its VNI, or with its VNIs if it is a trunk.
type network struct {
	spec     *config.Spec
	peers    []netip.AddrPort // those of spec, resolved
	device   tap.Device
	follower *follower
	unwatch  func() // of the device
	unpin    func() // of its namespace
	origin   string
}

// make makes the device of a spec and serves its VNIs. On failure nothing is
// left. d.mu is held, or nobody else has d yet.
func (d *Daemon) make(s *config.Spec, peers []netip.AddrPort, under *underlay) (*network, error) {
	return d.makeOn(nil, s, peers, under)
}

// Opener makes the device of a VNI, of what is known of it by then, in place of
// a TAP of this host.
type Opener func(tap.Config) (tap.Device, error)

// makeOn is make with a device of the caller's; nil: a TAP.
func (d *Daemon) makeOn(open Opener, s *config.Spec, peers []netip.AddrPort, under *underlay) (*network, error) {
	device := s.Device
	if device.MAC == nil {
		mac := deriveMAC(s.VNI, d.locals[0])
		device.MAC = mac[:]
	}
	if device.MTU == 0 {
		device.MTU = under.overlayMTU
	} else if under.overlayMTU != 0 && device.MTU > under.overlayMTU {
		d.log.Warn("frames of full size will not fit the underlay and be dropped, though their senders are told: lower --mtu, or raise the underlay's",
			zap.Stringer("vni", s.VNI), zap.Int("mtu", device.MTU), zap.Int("fits", under.overlayMTU), zap.String("underlay", under.device))
	}
	if device.Bridge == "" {
		device.SuperframeBytes = vtep.SuperframeBytes(device.MTU)
	}
	netns := device.Netns
	name, unpin, err := pin(netns)
	if err != nil {
		return nil, err
	}
	device.Netns = name
	n := &network{spec: s, peers: peers, unwatch: func() {}, unpin: unpin, origin: fromStart}
	if open != nil {
		// It has no link whose end could be heard of.
	} else if stop, err := d.downs.add(device.Netns, device.Name, func() { d.forgetLearned(s) }); err == nil {
		n.unwatch = stop
	} else if device.Netns == "" {
		d.log.Warn("cannot hear when the device goes down", zap.String("device", device.Name), zap.Error(err))
	} // else Open says what is wrong with the namespace
	if open == nil {
		open = func(device tap.Config) (tap.Device, error) { return d.open(s, device) }
	}
	dev, err := open(device)
	if err != nil {
		n.forget()
		if name != netns {
			err = fmt.Errorf("network namespace %s: %w", netns, err)
		}
		return nil, err
	}
	n.device = dev
	n.follower = &follower{
		endpoint: d.endpoint, device: dev, vni: s.VNI, log: d.log.With(zap.Stringer("vni", s.VNI)),
		fixed: s.Device.MTU != 0, bridge: s.Device.Bridge != "", fits: under.overlayMTU, set: dev.MTU(),
	}
	for i, m := range s.VNIs() {
		if err := d.endpoint.AddVNI(vniConfig(s, m, dev, peers)); err != nil {
			for _, made := range s.VNIs()[:i] {
				err = errors.Join(err, d.endpoint.DelVNI(made.VNI))
			}
			if i == 0 {
				err = errors.Join(err, dev.Close()) // otherwise it went with the last VNI
			}
			n.forget()
			return nil, err
		}
	}
	d.networks = append(d.networks, n)
	if err := d.enlist(n); err != nil {
		return nil, errors.Join(err, d.remove(n))
	}
	if d.started {
		d.persist(n) // else at the end of the start, which may fail
	}
	return n, nil
}

// open opens the device of a spec, or goes on with that of a process before this
// one.
func (d *Daemon) open(s *config.Spec, device tap.Config) (tap.Device, error) {
	if h, fds, ok := d.heritage.device(s); ok {
		if s.Device.MTU == 0 {
			device.MTU = 0 // it followed the underlay, and goes on from there
		}
		dev, err := tap.Inherit(device, h, fds)
		if err != nil {
			return nil, fmt.Errorf("take over: the device of %v is %s: %w: give the same --name, --netns, --queues and --offload, or stop the endpoint that runs and start this one", s, h.Name, err)
		}
		return dev, nil
	}
	dev, err := tap.Open(device)
	// As for the port: a process that was killed has it for a moment yet.
	for tries := 0; errors.Is(err, tap.ErrBusy) && tries < 50; tries++ {
		time.Sleep(20 * time.Millisecond)
		dev, err = tap.Open(device)
	}
	switch {
	case errors.Is(err, tap.ErrExists):
		return nil, fmt.Errorf("%w: choose another with --name, or go on with a device that persists by --persist", err)
	case errors.Is(err, tap.ErrForeign), errors.Is(err, tap.ErrBusy):
		return nil, fmt.Errorf("%w: choose another with --name, or remove it with 'ip link del %s'", err, device.Name)
	}
	return dev, err
}

// persist has the device outlive this process, if the spec says so.
func (d *Daemon) persist(n *network) {
	if err := n.persist(n.spec.Persist); err != nil {
		d.log.Warn("the device does not outlive this process", zap.Error(err))
	}
}

// persist has the device outlive this process, or not any more.
func (n *network) persist(yes bool) error {
	dev, ok := n.device.(tap.Persistent)
	if !ok {
		return nil
	}
	return dev.Persist(yes)
}

// announce logs that a network is there.
func (d *Daemon) announce(n *network) {
	d.log.Info("VNI is up", zap.Stringer("vni", n.spec.VNI), zap.String("device", n.device.Name()),
		zap.Stringer("offload", n.device.Features()), zap.Int("queues", len(n.device.Readers())))
}

// vniConfig is one VNI of a spec as vtep has it.
func vniConfig(s *config.Spec, m config.VLAN, dev tap.Device, peers []netip.AddrPort) vtep.VNIConfig {
	return vtep.VNIConfig{
		VNI: m.VNI, Device: dev, Trunk: len(s.Trunk) > 0, VID: m.VID, Peers: peers, Groups: s.Groups,
		AllowUnknownVTEPs: s.Strangers, DisableLearning: !s.Learning,
		Ageing: s.Ageing, MaxEntries: s.Entry.Most, BoundAll: s.Entry.All, ClampMSS: s.ClampMSS,
		Entries: s.Entries, Outer: s.Outer.OuterConfig, ReservedBits: s.Header.Reserved, GroupPolicy: s.Header.Policy,
		VLAN: s.VLAN,
		ARP:  s.ARP.Mode, Neighbours: s.ARP.Neighbours, SnoopNeighbours: s.ARP.Snoop,
		Guard: s.Guard,
	}
}

// forgetLearned removes the learned and dynamic entries of a device that went
// down, as the kernel's vxlan does.
func (d *Daemon) forgetLearned(s *config.Spec) {
	for _, m := range s.VNIs() {
		// An error is of a VNI that has just been deleted.
		if removed, err := d.endpoint.Flush(m.VNI, fdb.Filter{Kinds: []fdb.Kind{fdb.KindLearned, fdb.KindDynamic}}); err == nil {
			d.log.Info("the device is down, what was learned is forgotten", zap.String("device", s.Device.Name),
				zap.Stringer("vni", m.VNI), zap.Int("entries", removed))
		}
	}
}

// forget ends what follows a network.
func (n *network) forget() {
	n.unwatch()
	n.unpin()
}

// remove ends a network and removes its device. d.mu is held.
func (d *Daemon) remove(n *network) error {
	n.unwatch()
	d.strike(n)
	var errs []error
	if n.spec.Persist {
		// Whoever removes a VNI wants the device gone.
		errs = append(errs, n.persist(false))
	}
	d.networks = slices.DeleteFunc(d.networks, func(other *network) bool { return other == n })
	for _, m := range n.spec.VNIs() {
		if err := d.endpoint.DelVNI(m.VNI); !errors.Is(err, vtep.ErrNoVNI) {
			errs = append(errs, err)
		}
	}
	n.unpin()
	return errors.Join(errs...)
}

// line says that the frames of a network can flow.
func (d *Daemon) line(n *network) string {
	port := d.config.Endpoint.Port
	var locals, names, groups []string
	for _, a := range d.conn.Locals() {
		locals = append(locals, a.String())
	}
	for _, a := range n.peers {
		names = append(names, short(a, port))
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	line := fmt.Sprintf("up %s vni %v local %s peers %s", n.device.Name(), n.spec.VNI, strings.Join(locals, ","), strings.Join(names, ","))
	for _, g := range n.spec.Groups {
		groups = append(groups, short(g.Addr, port))
	}
	if len(groups) > 0 {
		line += " groups " + strings.Join(groups, ",") + " dev " + n.spec.Groups[0].Device
	}
	if m := d.config.Endpoint.Members; m != nil && follows(n.spec) {
		line += " members at " + netip.AddrPortFrom(d.locals[0], m.Port).String()
	}
	line += fmt.Sprintf(" mtu %d mac %v", n.device.MTU(), n.device.MAC())
	if trunk := n.spec.TrunkWords(); trunk != "" {
		line += " vlans " + trunk
	}
	return line
}

// short is an address without the port that all have.
func short(a netip.AddrPort, port uint16) string {
	if a.Port() == port {
		return a.Addr().String()
	}
	return a.String()
}
