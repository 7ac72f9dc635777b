package vtep

import (
	"fmt"
	"net/netip"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/neighbour"
)

// policy is what a VNI does with frames, apart from where they go. It never
// changes once it is in an overlay: another one takes its place.
type policy struct {
	learn        bool
	allowUnknown bool
	clampMSS     bool
	outer        outerPolicy
	header       headerPolicy
	vlan         VLANMode
	neighbours   *neighbours // nil: requests are flooded
	guard        guardPolicy
}

// newPolicy checks the part of a config that may change.
func newPolicy(cfg *VNIConfig, missed func(NeighbourMiss)) (*policy, error) {
	p := &policy{
		learn: !cfg.DisableLearning, allowUnknown: cfg.AllowUnknownVTEPs, clampMSS: cfg.ClampMSS, vlan: cfg.VLAN,
	}
	var err error
	if p.outer, err = cfg.Outer.policy(); err != nil {
		return nil, err
	}
	if cfg.VLAN > VLANDrop {
		return nil, fmt.Errorf("VNIConfig.VLAN is %d, none of VLANKeep, VLANStrip and VLANDrop", cfg.VLAN)
	}
	if p.header, err = newHeaderPolicy(cfg); err != nil {
		return nil, err
	}
	if p.guard, err = cfg.Guard.policy(); err != nil {
		return nil, err
	}
	p.neighbours, err = newNeighbours(cfg, missed)
	return p, err
}

// ChangeVNI gives a VNI other choices while its frames flow: AllowUnknownVTEPs,
// DisableLearning, Ageing, MaxEntries, BoundAll, ClampMSS, VLAN, ReservedBits,
// GroupPolicy, Outer, ARP, SnoopNeighbours and Guard become those of cfg, at once for
// each batch of frames that is begun afterwards. Its device, peers, groups and
// entries stay, and so do its neighbours, unless there were none because of
// ARPFlood: then it begins with cfg.Neighbours. What was learned stays, and ages.
//
// On failure nothing has changed.
func (e *Endpoint) ChangeVNI(cfg VNIConfig) error {
	return e.change(cfg.VNI, "change", func(o *overlay) error {
		p, err := newPolicy(&cfg, e.missedNeighbour)
		if err != nil {
			return err
		}
		was := o.policy.Load()
		if p.header.groups != nil && was.header.groups != nil {
			p.header.groups = was.header.groups // its counters
		}
		if p.neighbours != nil && was.neighbours != nil {
			p.neighbours.table = was.neighbours.table
			p.neighbours.table.Configure(neighbourConfig(&cfg))
		}
		o.table.SetAgeing(cfg.Ageing)
		o.table.SetLimit(cfg.MaxEntries, cfg.BoundAll)
		o.guard(&cfg.Guard)
		o.policy.Store(p)
		o.accel.changed(o)
		o.forgetStrangers(p)
		e.hurryFor(o)
		return nil
	})
}

// neighbourConfig is what a config says of snooped neighbours.
func neighbourConfig(cfg *VNIConfig) neighbour.Config {
	return neighbour.Config{Snoop: cfg.SnoopNeighbours, MaxSnooped: cfg.MaxEntries, Ageing: cfg.Ageing}
}

// forgetStrangers gives up VTEPs that a policy does not let in any more.
// Endpoint.mu is held.
func (o *overlay) forgetStrangers(is *policy) {
	o.forget(func(p *peer) *bool {
		a := p.remote.Addr.Addr()
		switch stays := false; {
		case p.stranger && !is.allowUnknown && !is.guard.admits(a):
			return &p.stranger
		case p.member && len(is.guard.allow) > 0 && !is.guard.admits(a):
			return &p.member
		default:
			return &stays
		}
	})
}

// forget takes a reason back for which VTEPs were let in that nobody named, and
// what was learned from those that have no other. Endpoint.mu is held.
func (o *overlay) forget(reason func(*peer) *bool) {
	var gone []fdb.Remote
	o.changeSenders(func(m map[netip.Addr]*peer) {
		for a, was := range m {
			if !*reason(was) {
				continue
			}
			p := *was
			*reason(&p) = false
			if p.reasons() {
				m[a] = &p
				continue
			}
			o.accel.dismiss(o, was)
			delete(m, a)
			gone = append(gone, p.remote)
		}
	})
	for _, r := range gone {
		o.table.DelRemote(r)
	}
}
