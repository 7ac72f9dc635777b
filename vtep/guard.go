package vtep

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/rate"
	"github.com/govxlan/govxlan/vxlan"
)

// Guard says who may speak in a VNI, and how much. Its zero value leaves that to
// peers and static entries, and limits nothing.
type Guard struct {
	// Allow accepts frames from VTEPs in one of these prefixes, beside those that
	// somebody named. Where there are Groups too, it is their members that have to
	// be in one.
	Allow []netip.Prefix
	// Damping holds MACs that keep moving between VTEPs; frames of such a MAC
	// from elsewhere are dropped meanwhile.
	Damping fdb.Damping
	// LearnRate bounds how many new MACs are learned. Frames of what is too much
	// are delivered, and their MACs not learned.
	LearnRate Rate
	// Storm bounds the broadcast and multicast frames from the underlay and, by
	// itself, the frames of the device that would be flooded: broadcast,
	// multicast and unknown unicast, each counted once however many copies would
	// leave. What is too much is dropped.
	Storm Rate
	// AntiSpoof checks what the device sends, so that a station behind it cannot
	// take the place of another: with LocalMACs and the device's own as source
	// MACs, and with AntiSpoofIP the LocalIPs, and the link-local addresses that
	// follow from those MACs (RFC 4291 appendix A), as source addresses.
	AntiSpoof AntiSpoof
	LocalMACs []vxlan.MAC
	LocalIPs  []netip.Prefix
}

// Rate bounds how often something happens: PerSecond in the long run, and Burst at
// once. Its zero value bounds nothing.
type Rate struct {
	PerSecond int // up to 1e9; 0: no bound
	Burst     int // 0: as many as PerSecond
}

// burst is Burst as it holds.
func (r Rate) burst() int {
	if r.Burst == 0 {
		return r.PerSecond
	}
	return r.Burst
}

// limit is nil where there is no bound.
func (r Rate) limit() *rate.Limit {
	if r.PerSecond == 0 {
		return nil
	}
	l := rate.New(r.PerSecond, r.burst())
	return &l
}

func (r Rate) check(name string) error {
	if r.PerSecond < 0 || r.PerSecond > 1e9 || r.Burst < 0 || r.Burst > 1e9 || r.PerSecond == 0 && r.Burst != 0 {
		return fmt.Errorf("VNIConfig.Guard.%s: %d a second, %d at once: both are from 0 to 1e9, and the second needs the first", name, r.PerSecond, r.Burst)
	}
	return nil
}

// guardPolicy is a Guard made ready for the packet path.
type guardPolicy struct {
	allow  []netip.Prefix
	learn  Rate
	storm  *rate.Limit // nil: none
	locals *locals     // nil: whatever the device sends
}

func (g *Guard) policy() (p guardPolicy, err error) {
	for _, a := range g.Allow {
		if !a.IsValid() || a.Addr().Is4In6() {
			return p, fmt.Errorf("VNIConfig.Guard.Allow: %v is no prefix", a)
		}
	}
	if g.Damping.Moves < 0 || g.Damping.Within < 0 || g.Damping.Hold < 0 {
		return p, fmt.Errorf("VNIConfig.Guard.Damping: %+v: nothing of it may be negative", g.Damping)
	}
	if err = g.LearnRate.check("LearnRate"); err != nil {
		return p, err
	}
	if err = g.Storm.check("Storm"); err != nil {
		return p, err
	}
	p.allow = slices.Clone(g.Allow)
	p.learn, p.storm = g.LearnRate, g.Storm.limit()
	p.locals, err = newLocals(g)
	return p, err
}

// admits says whether a VTEP that nobody named may speak for its address.
func (g *guardPolicy) admits(a netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool { return p.Contains(a) })
}

// guard gives a table the bounds of a Guard.
func (o *overlay) guard(g *Guard) {
	o.table.SetDamping(g.Damping)
	o.table.SetLearnRate(g.LearnRate.PerSecond, g.LearnRate.burst())
}

// relearn calls f, which learns what was known before: as fast as it can.
func (o *overlay) relearn(f func()) {
	o.table.SetLearnRate(0, 0)
	f()
	r := o.policy.Load().guard.learn
	o.table.SetLearnRate(r.PerSecond, r.burst())
}

// storms are what is left of a VNI's Guard.Storm, each way.
type storms struct{ in, out rate.Bucket }
