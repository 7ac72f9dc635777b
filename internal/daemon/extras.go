package daemon

import (
	"slices"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/roster"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// extras are what the VNIs of a network have that neither flags nor file named:
// made at run time, they outlive a new device.
type extras struct {
	entries    map[vxlan.VNI][]vtep.Entry
	neighbours map[vxlan.VNI][]vtep.Neighbour
}

// extras gathers them. What is there on account of members comes again by itself.
func (d *Daemon) extras(n *network, members roster.State) *extras {
	x := &extras{make(map[vxlan.VNI][]vtep.Entry), make(map[vxlan.VNI][]vtep.Neighbour)}
	for _, m := range n.spec.VNIs() {
		for _, e := range d.userEntries(m.VNI, true) {
			if members.HasEntry(m.VNI, e.MAC) || e.MAC.IsZero() && members.HasPeer(m.VNI, e.Remote.Addr) {
				continue
			}
			if e.MAC.IsZero() && slices.Contains(n.peers, e.Remote.Addr) && e.Remote.VNI == 0 {
				continue
			}
			if !slices.ContainsFunc(n.spec.Entries, func(own vtep.Entry) bool { return own.MAC == e.MAC && own.Remote == e.Remote }) {
				x.entries[m.VNI] = append(x.entries[m.VNI], e)
			}
		}
		for _, neighbour := range d.staticNeighbours(m.VNI) {
			if members.HasNeighbour(m.VNI, neighbour.IP) {
				continue
			}
			if !slices.ContainsFunc(n.spec.ARP.Neighbours, func(own vtep.Neighbour) bool { return own.IP == neighbour.IP }) {
				x.neighbours[m.VNI] = append(x.neighbours[m.VNI], neighbour)
			}
		}
	}
	return x
}

// restore gives them to the network that took its place. What the new one has of
// its own wins; what it has no use for goes.
func (d *Daemon) restore(n *network, x *extras) {
	if x == nil {
		return
	}
	for _, m := range n.spec.VNIs() {
		for _, e := range x.entries[m.VNI] {
			if err := d.endpoint.SetEntry(m.VNI, fdb.VerbAppend, e); err != nil {
				d.log.Warn("an entry made at run time is lost", zap.Stringer("vni", m.VNI), zap.Stringer("mac", e.MAC), zap.Error(err))
			}
		}
		for _, neighbour := range x.neighbours[m.VNI] {
			own := func(o vtep.Neighbour) bool { return o.IP == neighbour.IP }
			if n.spec.ARP.Mode == vtep.ARPFlood || slices.ContainsFunc(n.spec.ARP.Neighbours, own) {
				continue
			}
			if err := d.endpoint.AddNeighbour(m.VNI, neighbour); err != nil {
				d.log.Warn("a neighbour made at run time is lost", zap.Stringer("vni", m.VNI), zap.Stringer("ip", neighbour.IP), zap.Error(err))
			}
		}
	}
}
