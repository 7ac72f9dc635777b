package dockerplugin

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// roster keeps the tables of a network's VNI as its members say: who is there gets
// what is flooded, and each container is a static entry and a neighbour. It tells
// the others of the containers here.
type roster struct {
	log      *zap.Logger
	vni      vxlan.VNI
	endpoint *vtep.Endpoint
	members  *membership.Membership

	mu    sync.Mutex
	owner map[vxlan.MAC]string // ID of the member that has it; here: this node
	ips   map[netip.Addr]vxlan.MAC
}

// here is the owner of what is on this node.
const here = "here"

// goodbye is how long saying it may take.
const goodbye = time.Second / 2

// enrol makes this node a member. local is its VTEP.
func (n *network) enrol(log *zap.Logger, e *vtep.Endpoint, local netip.Addr) (*roster, error) {
	_, port, err := membership.SplitJoin(n.Options.Join[0])
	if err != nil {
		return nil, err
	}
	r := &roster{log: log, vni: n.VNI, endpoint: e, owner: make(map[vxlan.MAC]string), ips: make(map[netip.Addr]vxlan.MAC)}
	name, _ := os.Hostname()
	r.members, err = membership.Start(membership.Config{
		Name: name[:min(len(name), membership.MaxName)], Bind: netip.AddrPortFrom(local, port), Join: n.Options.Join, Key: n.Options.Key,
		VTEP: netip.AddrPortFrom(local, n.Options.Port), Handler: r.changed, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("members of %v: %w", n, err)
	}
	err = r.members.AddVNI(n.VNI)
	for _, ep := range n.Endpoints {
		if ep.Container != "" {
			err = errors.Join(err, r.announce(ep))
		}
	}
	if err != nil {
		return nil, errors.Join(err, r.members.Close())
	}
	return r, nil
}

// announce tells the others of a container that is here now.
func (r *roster) announce(e *endpoint) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owner[e.MAC] != here {
		r.withdrawn(e.MAC) // it was elsewhere
	}
	r.owner[e.MAC] = here
	station := membership.Endpoint{MAC: e.MAC}
	for _, text := range []string{e.IPv4, e.IPv6} {
		if p, err := netip.ParsePrefix(text); err == nil {
			station.IPs = append(station.IPs, p.Addr())
			r.forget(p.Addr())
		}
	}
	return r.members.Announce(r.vni, station)
}

// withdraw tells the others that a container is here no more.
func (r *roster) withdraw(e *endpoint) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owner[e.MAC] == here {
		delete(r.owner, e.MAC)
	}
	return r.members.Withdraw(r.vni, e.MAC)
}

// close ends the membership, with a word to the others.
func (r *roster) close() error { return r.members.Leave(goodbye) }

// changed is told of each change of another member.
func (r *roster) changed(c membership.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, is := stationsOf(c.Was, r.vni), stationsOf(c.Is, r.vni)
	if c.Was != nil && c.Is != nil && (c.Was.VTEP != c.Is.VTEP || c.Was.ID != c.Is.ID) {
		r.lose(c.Was, was, nil)
		c.Was, was = nil, nil
	}
	if is != nil {
		if was == nil {
			r.note("add a peer", r.endpoint.AddPeer(r.vni, c.Is.VTEP), vtep.ErrPeerExists)
		}
		for mac, s := range is {
			r.gain(c.Is, mac, s)
		}
	}
	if was != nil {
		r.lose(c.Was, was, is)
	}
}

// stationsOf are those of a member in a VNI; nil: it does not serve it.
func stationsOf(m *membership.Member, v vxlan.VNI) map[vxlan.MAC][]netip.Addr {
	if m == nil {
		return nil
	}
	list, ok := m.VNIs[v]
	if !ok {
		return nil
	}
	stations := make(map[vxlan.MAC][]netip.Addr, len(list))
	for _, s := range list {
		stations[s.MAC] = s.IPs
	}
	return stations
}

// gain takes up a container of another member. The newest word wins.
func (r *roster) gain(m *membership.Member, mac vxlan.MAC, ips []netip.Addr) {
	r.owner[mac] = m.ID
	r.note("set an entry", r.endpoint.SetEntry(r.vni, fdb.VerbReplace, vtep.Entry{
		MAC: mac, Destination: fdb.Destination{Remote: fdb.Remote{Addr: m.VTEP}, Kind: fdb.KindStatic},
	}))
	for _, ip := range ips {
		r.ips[ip] = mac
		r.note("set a neighbour", r.endpoint.ReplaceNeighbour(r.vni, vtep.Neighbour{IP: ip, MAC: mac}))
	}
}

// lose gives up what a member had and has no more.
func (r *roster) lose(m *membership.Member, was, is map[vxlan.MAC][]netip.Addr) {
	for mac := range was {
		if _, stays := is[mac]; !stays && r.owner[mac] == m.ID {
			delete(r.owner, mac)
			r.withdrawn(mac)
		}
	}
	if is == nil {
		r.note("delete a peer", r.endpoint.DelPeer(r.vni, m.VTEP), vtep.ErrNoPeer)
	}
}

// withdrawn removes what the tables say of a MAC.
func (r *roster) withdrawn(mac vxlan.MAC) {
	r.note("delete an entry", r.endpoint.DelEntry(r.vni, mac), fdb.ErrNotFound)
	for ip, of := range r.ips {
		if of == mac {
			r.forget(ip)
		}
	}
}

// forget removes a neighbour.
func (r *roster) forget(ip netip.Addr) {
	if _, ok := r.ips[ip]; ok {
		delete(r.ips, ip)
		r.note("delete a neighbour", r.endpoint.DelNeighbour(r.vni, ip))
	}
}

// note logs what went wrong, if that is not what is to be expected.
func (r *roster) note(what string, err error, expected ...error) {
	for _, e := range append(expected, vtep.ErrNoVNI, vtep.ErrClosed) {
		if errors.Is(err, e) {
			return
		}
	}
	if err != nil {
		r.log.Warn("a table does not follow the members", zap.String("what", what), zap.Stringer("vni", r.vni), zap.Error(err))
	}
}
