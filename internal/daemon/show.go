package daemon

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/roster"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Config is what is in force: the options, with what was changed at run time.
func (d *Daemon) Config() (yaml []byte, asJSON json.RawMessage, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reap()
	now := &config.Config{Endpoint: d.config.Endpoint, Sockets: d.config.Sockets}
	networks := make(map[*config.Spec]*network)
	members := d.ofMembers()
	for _, n := range d.networks {
		s := *n.spec
		s.View = append(config.View{d.live(n, members)}, s.View...)
		now.Specs = append(now.Specs, &s)
		networks[&s] = n
	}
	slices.SortFunc(now.Specs, func(a, b *config.Spec) int { return cmp.Compare(a.VNI, b.VNI) })
	shown := &config.Shown{Config: now, Now: func(s *config.Spec, option string) string {
		n := networks[s]
		switch {
		case n == nil && option == "local":
			return fmt.Sprint(d.locals)
		case n == nil && option == "workers":
			return fmt.Sprint(d.config.Endpoint.Workers)
		case n == nil && option == "queues":
			return fmt.Sprint(d.config.Endpoint.Queues)
		case n == nil:
			return ""
		case option == "name":
			return n.device.Name()
		case option == "mtu":
			return fmt.Sprint(n.device.MTU())
		case option == "mac":
			return n.device.MAC().String()
		case option == "queues":
			return fmt.Sprint(n.spec.Device.Queues)
		}
		return ""
	}}
	asJSON, err = json.Marshal(shown)
	return shown.YAML(), asJSON, err
}

// live are the values of the options that commands change at run time, where they
// are not those of the spec any more. Of a trunk, its first VNI stands for all.
// What is there on account of members no option made.
func (d *Daemon) live(n *network, members roster.State) config.Values {
	values := make(config.Values)
	port := d.config.Endpoint.Port
	list, err := d.endpoint.Flood(n.spec.VNI)
	if err != nil {
		return values // gone this moment
	}
	var peers []netip.AddrPort
	var entries []string
	for _, r := range list {
		switch {
		case r.VNI == 0 && members.HasPeer(n.spec.VNI, r.Addr):
		case r.Addr.Addr().IsMulticast():
			// Groups come from flags and files alone.
		case r.VNI != 0:
			entries = append(entries, entryWords(vtep.Entry{Destination: fdb.Destination{Remote: r}}, port))
		default:
			peers = append(peers, r.Addr)
		}
	}
	if !sameSet(peers, n.peers) {
		words := make([]string, len(peers))
		for i, a := range peers {
			words[i] = short(a, port)
		}
		values["peer"] = config.Value{Texts: words, Places: make([]config.Place, 1)}
	}
	for _, e := range d.userEntries(n.spec.VNI, false) {
		if members.HasEntry(n.spec.VNI, e.MAC) {
			continue
		}
		entries = append(entries, entryWords(e, port))
	}
	var own []string
	for _, e := range n.spec.Entries {
		if !e.MAC.IsZero() || e.Remote.VNI != 0 {
			own = append(own, entryWords(e, port))
		}
	}
	if !sameSet(entries, own) {
		values["fdb"] = config.Value{Texts: entries, Places: make([]config.Place, 1)}
	}
	if n.spec.ARP.Mode != vtep.ARPFlood {
		neighbours := slices.DeleteFunc(d.staticNeighbours(n.spec.VNI), func(own vtep.Neighbour) bool {
			return members.HasNeighbour(n.spec.VNI, own.IP)
		})
		if !sameSet(neighbours, n.spec.ARP.Neighbours) {
			words := []string{}
			for _, n := range neighbours {
				word := n.IP.String() + "=" + n.MAC.String()
				if n.Router {
					word += "=true"
				}
				words = append(words, word)
			}
			values["neigh"] = config.Value{Texts: words, Places: make([]config.Place, 1)}
		}
	}
	return values
}

// entryWords is an entry as the option fdb has it.
func entryWords(e vtep.Entry, port uint16) string {
	kind := ""
	if e.Kind == fdb.KindPermanent || e.Kind == fdb.KindDynamic {
		kind = e.Kind.String()
	}
	vni := ""
	if e.Remote.VNI != 0 {
		vni = vxlan.VNI(e.Remote.VNI).String()
	}
	return strings.TrimRight(e.MAC.String()+"="+short(e.Remote.Addr, port)+"="+kind+"="+vni, "=")
}
