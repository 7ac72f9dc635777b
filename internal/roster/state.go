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

// State is what tables have of members, for a process that goes on with them.
type State struct {
	VNIs []VNIState `json:"vnis,omitempty"`
}

// VNIState is that of one VNI.
type VNIState struct {
	VNI      vxlan.VNI        `json:"vni"`
	Peers    []netip.AddrPort `json:"peers,omitempty"`
	Stations []Station        `json:"stations,omitempty"`
}

// Station is an entry, with its neighbours.
type Station struct {
	MAC  vxlan.MAC      `json:"mac"`
	VTEP netip.AddrPort `json:"vtep"`
	IPs  []netip.Addr   `json:"ips,omitempty"`
}

// State is that of now: what is there on account of members alone.
func (r *Roster) State() (s State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for v, o := range r.vnis {
		of := VNIState{VNI: v}
		for a, p := range o.peers {
			if p.ours {
				of.Peers = append(of.Peers, a)
			}
		}
		for mac, ours := range o.ours {
			m := r.told[o.owner[mac]]
			if !ours || m == nil {
				continue
			}
			station := Station{MAC: mac, VTEP: m.VTEP}
			for ip, is := range o.ips {
				if is == mac {
					station.IPs = append(station.IPs, ip)
				}
			}
			of.Stations = append(of.Stations, station)
		}
		s.VNIs = append(s.VNIs, of)
	}
	return s
}

// HasPeer says whether a VTEP is on the flood list on account of members alone.
func (s *State) HasPeer(v vxlan.VNI, a netip.AddrPort) bool {
	return slices.ContainsFunc(s.VNIs, func(of VNIState) bool { return of.VNI == v && slices.Contains(of.Peers, a) })
}

// HasEntry says the same of an entry of the FDB.
func (s *State) HasEntry(v vxlan.VNI, mac vxlan.MAC) bool {
	return s.station(v, func(st *Station) bool { return st.MAC == mac })
}

// HasNeighbour says the same of a neighbour.
func (s *State) HasNeighbour(v vxlan.VNI, ip netip.Addr) bool {
	return s.station(v, func(st *Station) bool { return slices.Contains(st.IPs, ip) })
}

func (s *State) station(v vxlan.VNI, is func(*Station) bool) bool {
	for i := range s.VNIs {
		if s.VNIs[i].VNI != v {
			continue
		}
		for j := range s.VNIs[i].Stations {
			if is(&s.VNIs[i].Stations[j]) {
				return true
			}
		}
	}
	return false
}

// Without takes it out of what a VTEP leaves to one that has no members.
func (s *State) Without(t *vtep.State) {
	for i := range t.VNIs {
		of := &t.VNIs[i]
		of.Flood = slices.DeleteFunc(of.Flood, func(f fdb.Remote) bool { return f.VNI == 0 && s.HasPeer(of.VNI, f.Addr) })
		of.Entries = slices.DeleteFunc(of.Entries, func(e fdb.Entry) bool {
			return e.Kind == fdb.KindStatic && s.HasEntry(of.VNI, vxlan.MAC(e.MAC))
		})
		of.Neighbours = slices.DeleteFunc(of.Neighbours, func(n neighbour.Entry) bool { return n.Static && s.HasNeighbour(of.VNI, n.IP) })
	}
}

// takeUp begins with what the tables have already, on account of members with the
// names of VTEPs. forget ends those.
func (r *Roster) takeUp(s State) (forget func()) {
	stand := make(map[netip.AddrPort]*membership.Member)
	in := func(v vxlan.VNI, a netip.AddrPort) *membership.Member {
		m := stand[a]
		if m == nil {
			m = &membership.Member{ID: "before " + a.String(), VTEP: a, VNIs: make(map[vxlan.VNI][]membership.Endpoint)}
			stand[a] = m
			r.told[m.ID] = m
		}
		m.VNIs[v] = append(m.VNIs[v], []membership.Endpoint{}...)
		return m
	}
	for _, of := range s.VNIs {
		r.follow(of.VNI)
		o := r.vnis[of.VNI]
		for _, a := range of.Peers {
			o.peers[a] = &peer{ids: map[string]bool{in(of.VNI, a).ID: true}, ours: true}
		}
		for _, st := range of.Stations {
			m := in(of.VNI, st.VTEP)
			m.VNIs[of.VNI] = append(m.VNIs[of.VNI], membership.Endpoint{MAC: st.MAC, IPs: st.IPs})
			o.owner[st.MAC], o.ours[st.MAC] = m.ID, true
			for _, ip := range st.IPs {
				o.ips[ip] = st.MAC
			}
			if o.peers[st.VTEP] == nil { // it is there on another account
				o.peers[st.VTEP] = &peer{ids: map[string]bool{m.ID: true}}
			}
		}
	}
	return func() {
		for _, m := range stand {
			r.changed(membership.Change{Was: m})
		}
	}
}
