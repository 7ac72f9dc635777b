package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/internal/roster"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// joinTargets are the addresses by which members may be found, as far as they are
// known now: their routes say what is to be sent from.
func joinTargets(ctx context.Context, e *config.Endpoint) (to []netip.Addr) {
	if e.Members == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, j := range e.Members.Join {
		host, _, err := membership.SplitJoin(j)
		if err != nil {
			continue
		}
		if a, err := netip.ParseAddr(host); err == nil {
			to = append(to, a.Unmap())
			continue
		}
		// A name that does not resolve yet is tried again when it is joined.
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err == nil && len(found) > 0 {
			to = append(to, found[0].Unmap())
		}
	}
	return to
}

// enrol makes this node a member, if the configuration says so. Before is what the
// tables have of members already. d.mu is held, or nobody else has d yet.
func (d *Daemon) enrol(before roster.State) error {
	e := d.config.Endpoint
	m := e.Members
	if m == nil {
		return nil
	}
	local := d.locals[0]
	if local.Zone() != "" {
		return fmt.Errorf("members cannot be found from the link-local address %v: give another with --local", local)
	}
	maps.DeleteFunc(before, func(v vxlan.VNI, _ roster.VNIState) bool {
		n := d.networkOf(v)
		return n == nil || !follows(n.spec)
	})
	bind := netip.AddrPortFrom(local, m.Port)
	r, err := roster.Start(roster.Config{
		Tables: d.endpoint, Before: before,
		Config: membership.Config{
			Bind: bind, Join: m.Join, Key: m.Key, VTEP: netip.AddrPortFrom(local, e.Port), Log: d.log,
		},
	})
	if err != nil {
		return &MemberError{Err: err, Bind: bind}
	}
	d.roster = r
	for _, n := range d.networks {
		if err := d.enlist(n); err != nil {
			d.roster = nil
			return errors.Join(err, r.Close())
		}
	}
	return nil
}

// MemberError: the port of members cannot be had.
type MemberError struct {
	Err  error
	Bind netip.AddrPort
}

func (e *MemberError) Error() string { return e.Err.Error() }
func (e *MemberError) Unwrap() error { return e.Err }

// enrolLate is enrol once the process before has let go of the port.
func (d *Daemon) enrolLate(ctx context.Context, before roster.State) {
	const step, patience = 50 * time.Millisecond, 5 * time.Second
	began, warned := time.Now(), false
	for {
		d.mu.Lock()
		err := d.enrol(before)
		d.mu.Unlock()
		if err == nil {
			return
		}
		if !warned && time.Since(began) > patience {
			warned = true
			d.log.Warn("not a member yet, trying again", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(step):
		}
	}
}

// join changes the addresses by which members are found. d.mu is held.
func (d *Daemon) join(m *config.Members) error {
	if d.roster == nil {
		return nil // not yet: then it begins with those that are in force
	}
	return d.roster.Membership().SetJoin(m.Join)
}

// follows says whether a network's VNIs have the members as their peers: not where a
// multicast group has the same task.
func follows(s *config.Spec) bool { return len(s.Groups) == 0 }

// enlist has the VNIs of a network follow the members, and tells those which stations
// are here. d.mu is held.
func (d *Daemon) enlist(n *network) error {
	if d.roster == nil || !follows(n.spec) {
		return nil
	}
	for _, m := range n.spec.VNIs() {
		if err := d.roster.AddVNI(m.VNI); err != nil {
			return fmt.Errorf("members of %v: %w", n.spec, err)
		}
		if err := d.roster.Announce(m.VNI, stations(n)...); err != nil {
			return fmt.Errorf("members of %v: %w", n.spec, err)
		}
	}
	return nil
}

// enlistAgain is enlist for a network that was changed.
func (d *Daemon) enlistAgain(n *network) {
	if d.roster == nil {
		return
	}
	if !follows(n.spec) {
		d.strike(n)
		return
	}
	if err := d.enlist(n); err != nil {
		d.log.Warn("the members are not told of a change", zap.Error(err))
	}
	for _, m := range n.spec.VNIs() {
		d.roster.Refresh(m.VNI)
	}
}

// stations are those of a network that are known to be here: the device itself, unless
// it is the port of a bridge, and what the user named.
func stations(n *network) []membership.Endpoint {
	var list []membership.Endpoint
	if n.spec.Device.Bridge == "" {
		own := membership.Endpoint{MAC: vxlan.MAC(n.device.MAC())}
		if len(n.spec.Trunk) == 0 {
			for _, a := range n.spec.Device.Addrs {
				own.IPs = append(own.IPs, a.Addr())
			}
		}
		own.IPs = own.IPs[:min(len(own.IPs), membership.MaxIPs)]
		list = append(list, own)
	}
	for _, mac := range n.spec.Guard.LocalMACs {
		if !slices.ContainsFunc(list, func(e membership.Endpoint) bool { return e.MAC == mac }) {
			list = append(list, membership.Endpoint{MAC: mac})
		}
	}
	return list
}

// strike is the end of that, when a network goes.
func (d *Daemon) strike(n *network) {
	if d.roster == nil {
		return
	}
	for _, m := range n.spec.VNIs() {
		if err := d.roster.DelVNI(m.VNI); err != nil {
			d.log.Warn("the members are not told that a VNI is gone", zap.Stringer("vni", m.VNI), zap.Error(err))
		}
	}
}

// resign ends the membership: with a word to the others, unless another process goes on.
func (d *Daemon) resign() error {
	switch {
	case d.roster == nil:
		return nil
	case d.handedOver.Load():
		return d.roster.Close()
	}
	return d.roster.Leave()
}

// ofMembers is what the tables have on account of members alone. d.mu is held.
func (d *Daemon) ofMembers() roster.State {
	if d.roster == nil {
		return d.before // it is not a member yet, or never
	}
	return d.roster.State()
}

// Members are those that are known of, this process among them.
func (d *Daemon) Members() control.Membership {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := control.Membership{Members: []control.Member{}, Joins: []control.Join{}}
	m := d.config.Endpoint.Members
	if m == nil {
		return list
	}
	list.On = true
	if d.roster == nil {
		return list // it waits for the process before
	}
	members := d.roster.Membership()
	list.Address = members.Addr()
	for _, j := range members.Joins() {
		list.Joins = append(list.Joins, control.Join{Address: j.Join, Joined: j.Joined, Error: j.Err})
	}
	c := members.Counters()
	list.Counters = control.MemberCounters(c)
	for _, of := range members.Members() {
		list.Members = append(list.Members, memberOf(of))
	}
	return list
}

func memberOf(m membership.Member) control.Member {
	shown := control.Member{
		Name: m.Name, Address: m.Addr, VTEP: m.VTEP.Addr(), Port: m.VTEP.Port(), Self: m.Self,
		State: m.State.String(), Since: m.Since, VNIs: []control.MemberVNI{},
	}
	for v, stations := range m.VNIs {
		of := control.MemberVNI{VNI: v, Stations: []control.Station{}}
		for _, s := range stations {
			of.Stations = append(of.Stations, control.Station{MAC: s.MAC, IPs: append([]netip.Addr{}, s.IPs...)})
		}
		shown.VNIs = append(shown.VNIs, of)
	}
	slices.SortFunc(shown.VNIs, func(a, b control.MemberVNI) int { return int(a.VNI) - int(b.VNI) })
	return shown
}
