package roster

import (
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/internal/neighbour"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// State is what tables have on account of members alone, by VNI, for a process that goes
// on with them, and to tell it from what somebody entered.
type State map[vxlan.VNI]VNIState

// VNIState is that of one VNI.
type VNIState struct {
	Peers      []netip.AddrPort             `json:"peers,omitempty"`
	Entries    map[vxlan.MAC]netip.AddrPort `json:"entries,omitempty"` // behind which VTEP
	Neighbours map[netip.Addr]vxlan.MAC     `json:"neighbours,omitempty"`
}

// State is that of now.
func (r *Roster) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(State, len(r.vnis))
	for v, o := range r.vnis {
		s := VNIState{Entries: make(map[vxlan.MAC]netip.AddrPort), Neighbours: make(map[netip.Addr]vxlan.MAC)}
		for a, p := range o.peers {
			if p.ours {
				s.Peers = append(s.Peers, a)
			}
		}
		for mac, st := range o.stations {
			if m := r.told[st.owner]; m != nil && st.ours {
				s.Entries[mac] = m.VTEP
				for _, ip := range st.ips {
					s.Neighbours[ip] = mac
				}
			}
		}
		all[v] = s
	}
	return all
}

// HasPeer says whether a VTEP is on the flood list on account of members alone.
func (s State) HasPeer(v vxlan.VNI, a netip.AddrPort) bool { return slices.Contains(s[v].Peers, a) }

// HasEntry says the same of an entry of the FDB.
func (s State) HasEntry(v vxlan.VNI, mac vxlan.MAC) bool {
	_, ok := s[v].Entries[mac]
	return ok
}

// HasNeighbour says the same of a neighbour.
func (s State) HasNeighbour(v vxlan.VNI, ip netip.Addr) bool {
	_, ok := s[v].Neighbours[ip]
	return ok
}

// Without takes it out of what a VTEP leaves to one that has no members.
func (s State) Without(t *vtep.State) {
	for i := range t.VNIs {
		of := &t.VNIs[i]
		of.Flood = slices.DeleteFunc(of.Flood, func(f fdb.Remote) bool { return f.VNI == 0 && s.HasPeer(of.VNI, f.Addr) })
		of.Entries = slices.DeleteFunc(of.Entries, func(e fdb.Entry) bool {
			return e.Kind == fdb.KindStatic && s.HasEntry(of.VNI, vxlan.MAC(e.MAC))
		})
		of.Neighbours = slices.DeleteFunc(of.Neighbours, func(n neighbour.Entry) bool { return n.Static && s.HasNeighbour(of.VNI, n.IP) })
	}
}

// takeUp begins with what the tables have already, on account of a stand-in for each
// VTEP. forget ends those.
func (r *Roster) takeUp(before State) (forget func()) {
	standIns := make(map[netip.AddrPort]*membership.Member)
	standIn := func(v vxlan.VNI, a netip.AddrPort) *membership.Member {
		m := standIns[a]
		if m == nil {
			m = &membership.Member{ID: "before " + a.String(), VTEP: a, VNIs: make(map[vxlan.VNI][]membership.Endpoint)}
			standIns[a] = m
			r.told[m.ID] = m
		}
		if _, ok := m.VNIs[v]; !ok {
			m.VNIs[v] = nil
		}
		return m
	}
	for v, s := range before {
		r.follow(v)
		o := r.vnis[v]
		for _, a := range s.Peers {
			o.peers[a] = &peer{ids: map[string]bool{standIn(v, a).ID: true}, ours: true}
		}
		for mac, a := range s.Entries {
			m := standIn(v, a)
			o.stations[mac] = &station{owner: m.ID, ours: true}
			if o.peers[a] == nil { // it is there on another account
				o.peers[a] = &peer{ids: map[string]bool{m.ID: true}}
			}
		}
		for ip, mac := range s.Neighbours {
			if o.stations[mac] != nil {
				o.give(ip, mac)
			}
		}
		for mac, a := range s.Entries {
			m := standIns[a]
			m.VNIs[v] = append(m.VNIs[v], membership.Endpoint{MAC: mac, IPs: slices.Clone(o.stations[mac].ips)})
		}
	}
	return func() {
		for _, m := range standIns {
			r.changed(membership.Change{Was: m})
		}
	}
}
