package daemon

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/neighbour"
	"github.com/govxlan/govxlan/internal/roster"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// heritageFormat is raised when an older program would misunderstand.
const heritageFormat = 1

// testament says what one process leaves to the next, as JSON: fields are added,
// and those that are unknown left out.
type testament struct {
	Format      int              `json:"format"`
	Version     string           `json:"version"`
	Process     int              `json:"pid"`
	Descriptors vtep.Descriptors `json:"descriptors"`
	// Networks are in the order of Descriptors.Devices.
	Networks []networkTestament `json:"networks"`
	// Control is the path of the control socket, of which the last descriptor
	// is; "" without.
	Control string `json:"control,omitempty"`
	// Members is what the tables have on account of members alone.
	Members roster.State `json:"members"`
	// State is there when all comes at once.
	State *vtep.State `json:"state,omitempty"`
}

// networkTestament is how a device and its VNIs were configured.
type networkTestament struct {
	// Options by name, as written; those that nobody chose are missing.
	Options map[string][]string `json:"options"`
	// Peers are those of the options, resolved.
	Peers []netip.AddrPort `json:"peers"`
	// Added: not by a file or by the flags of up, but while running.
	Added bool `json:"added,omitempty"`
}

// options are what a network was configured with.
func (n *network) testament() networkTestament {
	t := networkTestament{Options: make(map[string][]string), Peers: n.peers, Added: n.origin == fromRequest}
	for i := range config.Options {
		if name := config.Options[i].Name; n.spec.Given(name) {
			t.Options[name] = n.spec.List(name)
		}
	}
	return t
}

// values are options as a configuration has them.
func (t *networkTestament) values() config.Values {
	v := make(config.Values)
	for name, texts := range t.Options {
		value := config.Value{Texts: texts}
		if len(texts) == 0 {
			// A list that is empty on purpose, which only a file can have.
			value.Places = []config.Place{{File: "the process before"}}
		}
		v[name] = value
	}
	return v
}

// heritage is what a process got of the one before it, and has not used yet.
type heritage struct {
	testament
	fds     []int // all of them; -1 = used
	control int   // a descriptor; -1 = none, or used
	// commit ends the life of the one before, and returns what it knew. Up to
	// then that one goes on as if nothing had been, should this process fail.
	commit func() (vtep.State, error)
	// abandon tells the one before why it has to go on.
	abandon func(error)
	// kept: the one before has ended long since.
	kept bool
}

// newHeritage arranges descriptors.
func newHeritage(t testament, fds []int) *heritage {
	h := &heritage{testament: t, fds: fds, control: -1}
	if t.Control != "" && len(fds) > 0 {
		h.control = fds[len(fds)-1]
		h.fds = fds[:len(fds)-1]
	}
	return h
}

// makeAdded makes the VNIs that were added to the process before by request, and
// says which of the others end with it.
func (d *Daemon) makeAdded() error {
	h := d.heritage
	for i, dev := range h.Descriptors.Devices {
		if i >= len(h.Networks) {
			break
		}
		t := &h.Networks[i]
		if slices.ContainsFunc(dev.VNIs, func(v vxlan.VNI) bool { return d.networkOf(v) != nil }) {
			continue
		}
		if !t.Added {
			d.log.Info("a VNI of the process before is none of this one's and ends", zap.Stringer("vni", dev.VNIs[0]), zap.String("device", dev.Name))
			continue
		}
		if err := d.makeOneAdded(t); err != nil {
			err = fmt.Errorf("VNI %v, which was added to the process before: %w", dev.VNIs[0], err)
			if !h.kept {
				return err
			}
			d.log.Warn("a VNI ends", zap.Error(err)) // nobody is there to go on
		}
	}
	return nil
}

func (d *Daemon) makeOneAdded(t *networkTestament) error {
	s, err := d.config.NewSpec(t.values(), nil)
	if err != nil {
		return err
	}
	if err := config.Fit(append(d.specs(), s)); err != nil {
		return err
	}
	under, err := d.way().find(s, t.Peers, d.locals)
	if err != nil {
		return err
	}
	if err := d.check(s, t.Peers); err != nil {
		return err
	}
	n, err := d.make(s, t.Peers, under)
	if err == nil {
		n.origin = fromRequest
	}
	return err
}

// members is what the tables have of members; nothing where nothing was left.
func (h *heritage) members() (s roster.State) {
	if h != nil {
		s = h.Members
	}
	return s
}

// conn takes the descriptors of the sockets.
func (h *heritage) conn() []int { return h.take(0, len(h.Descriptors.Conn.Sockets)) }

// device finds what there is of a spec's device: the one of the same VNIs, or of
// some of them. It takes its descriptors.
func (h *heritage) device(s *config.Spec) (tap.Handover, []int, bool) {
	if h == nil {
		return tap.Handover{}, nil, false
	}
	at := len(h.Descriptors.Conn.Sockets)
	for _, d := range h.Descriptors.Devices {
		if slices.ContainsFunc(s.VNIs(), func(v config.VLAN) bool { return slices.Contains(d.VNIs, v.VNI) }) {
			return d.Handover, h.take(at, d.Queues), true
		}
		at += d.Queues
	}
	return tap.Handover{}, nil, false
}

// take hands out n descriptors, those that there are and that nobody has.
func (h *heritage) take(at, n int) (fds []int) {
	for i := at; i < min(at+n, len(h.fds)); i++ {
		if h.fds[i] >= 0 {
			fds = append(fds, h.fds[i])
			h.fds[i] = -1
		}
	}
	return fds
}

// adapt takes out of what the one before knew what its configuration said and
// this one's does not: peers, entries and neighbours that were taken out of the
// file. What was added while it ran stays.
func (h *heritage) adapt(s *vtep.State, d *Daemon) {
	for i := range s.VNIs {
		v := &s.VNIs[i]
		now := d.networkOf(v.VNI)
		was, old := h.networkOf(d.config, v.VNI)
		if now == nil || was == nil {
			continue
		}
		v.Flood = slices.DeleteFunc(v.Flood, func(r fdb.Remote) bool {
			return slices.Contains(was.Peers, r.Addr) && !slices.Contains(now.peers, r.Addr)
		})
		for _, e := range old.Entries {
			if slices.ContainsFunc(now.spec.Entries, func(n vtep.Entry) bool { return n.MAC == e.MAC && n.Remote == e.Remote }) {
				continue
			}
			v.Entries = slices.DeleteFunc(v.Entries, func(f fdb.Entry) bool {
				return vxlan.MAC(f.MAC) == e.MAC && f.Remote == e.Remote && f.Kind != fdb.KindLearned
			})
		}
		for _, e := range old.ARP.Neighbours {
			if slices.ContainsFunc(now.spec.ARP.Neighbours, func(n vtep.Neighbour) bool { return n.IP == e.IP }) {
				continue
			}
			v.Neighbours = slices.DeleteFunc(v.Neighbours, func(n neighbour.Entry) bool { return n.IP == e.IP && n.Static && n.MAC == e.MAC })
		}
	}
}

// networkOf finds how a VNI was configured. Of options that this version does not
// understand the spec is empty.
func (h *heritage) networkOf(c *config.Config, v vxlan.VNI) (*networkTestament, *config.Spec) {
	for i, d := range h.Descriptors.Devices {
		if i < len(h.Networks) && slices.Contains(d.VNIs, v) {
			t := &h.Networks[i]
			spec, err := c.NewSpec(t.values(), nil)
			if err != nil {
				spec = new(config.Spec)
			}
			return t, spec
		}
	}
	return nil, nil
}
