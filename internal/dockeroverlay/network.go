package dockeroverlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/govxlan/govxlan/vxlan"
)

// Network is an overlay network as one node has it: one vxlan device of its sandbox.
type Network struct {
	// ID is what Docker calls it, or its beginning where Docker was not asked.
	ID   string `json:"id"`
	Name string `json:"name,omitempty"` // "" where Docker was not asked
	// Sandbox is the path of its network namespace, with Device and Bridge in it.
	Sandbox string         `json:"sandbox"`
	Device  string         `json:"device"`
	Bridge  string         `json:"bridge,omitempty"`
	VNI     vxlan.VNI      `json:"vni"`
	Port    uint16         `json:"port"`
	MTU     int            `json:"mtu"`
	Subnets []netip.Prefix `json:"subnets"`
	// Local is the VTEP of this node; invalid where nobody said.
	Local netip.Addr `json:"local,omitzero"`
	// Stations are the containers that are known of, by VTEP and address.
	Stations []Station `json:"stations"`
}

// Station is a container, or Docker's load balancer of a node.
type Station struct {
	MAC vxlan.MAC  `json:"mac"`
	IP  netip.Addr `json:"ip,omitzero"`
	// VTEP is the node that it is on; invalid for this one where Local is not known.
	VTEP netip.Addr `json:"vtep,omitzero"`
	// Here: on this node.
	Here bool   `json:"here,omitempty"`
	Name string `json:"name,omitempty"` // of those that are here, where Docker was asked
	// Entry: the FDB has it. Neighbour: the neighbour table has. Both are for those of
	// other nodes.
	Entry     bool `json:"entry,omitempty"`
	Neighbour bool `json:"neighbour,omitempty"`
}

// ErrNoNetwork: there is no such network.
var ErrNoNetwork = errors.New("no such overlay network")

// Find picks a network by its name, the beginning of its ID, or its VNI.
func Find(all []Network, which string) (*Network, error) {
	var found []*Network
	var names []string
	for i := range all {
		n := &all[i]
		names = append(names, n.String())
		if n.Name == which || n.VNI.String() == which || len(which) >= 4 && (strings.HasPrefix(n.ID, which) || n.ID != "" && strings.HasPrefix(which, n.ID)) {
			found = append(found, n)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%q is more than one overlay network: name it by its VNI", which)
	}
	return nil, fmt.Errorf("%q: %w on this node, which has %s: a node has those in which a container of its own is", which, ErrNoNetwork, strings.Join(names, ", "))
}

func (n *Network) String() string {
	if n.Name == "" {
		return "VNI " + n.VNI.String()
	}
	return n.Name + " (VNI " + n.VNI.String() + ")"
}

// sort puts stations in order: those here first, then by VTEP and address.
func (n *Network) sort() {
	slices.SortFunc(n.Stations, func(a, b Station) int {
		if a.Here != b.Here {
			if a.Here {
				return -1
			}
			return 1
		}
		if c := a.VTEP.Compare(b.VTEP); c != 0 {
			return c
		}
		if c := a.IP.Compare(b.IP); c != 0 {
			return c
		}
		return slices.Compare(a.MAC[:], b.MAC[:])
	})
}

// ErrNoLocal: the stations of this node cannot be told to others.
var ErrNoLocal = errors.New("the address of this node is not known: name it with --local")

// fileVNI is a VNI of a configuration file.
type fileVNI struct {
	VNI   vxlan.VNI   `yaml:"vni"`
	MTU   int         `yaml:"mtu"`
	Addr  []string    `yaml:"addr,omitempty"`
	ARP   string      `yaml:"arp"`
	Peers []string    `yaml:"peers"`
	FDB   []fileEntry `yaml:"fdb"`
	Neigh []fileNeigh `yaml:"neigh"`
}

type fileEntry struct {
	MAC  string `yaml:"mac"`
	VTEP string `yaml:"vtep"`
	Kind string `yaml:"kind"`
}

type fileNeigh struct {
	IP  string `yaml:"ip"`
	MAC string `yaml:"mac"`
}

// Config is the file for `govxlan up --config` with which another host joins: own is its
// address in the network, vtep that of the host, whose own stations are left out. Both
// may be left open.
func (n *Network) Config(own netip.Prefix, vtep netip.Addr) ([]byte, error) {
	v := fileVNI{VNI: n.VNI, MTU: n.MTU, ARP: "suppress", Peers: []string{}, FDB: []fileEntry{}, Neigh: []fileNeigh{}}
	if own.IsValid() {
		v.Addr = []string{own.String()}
	}
	add := func(a netip.Addr) {
		if text := a.String(); !slices.Contains(v.Peers, text) {
			v.Peers = append(v.Peers, text)
		}
	}
	if n.Local.IsValid() {
		add(n.Local)
	}
	for _, s := range n.Stations {
		at := s.VTEP
		if s.Here {
			at = n.Local
		}
		if !at.IsValid() {
			return nil, ErrNoLocal
		}
		if at == vtep {
			continue
		}
		add(at)
		v.FDB = append(v.FDB, fileEntry{s.MAC.String(), at.String(), "permanent"})
		if s.IP.IsValid() {
			v.Neigh = append(v.Neigh, fileNeigh{s.IP.String(), s.MAC.String()})
		}
	}
	body, err := yaml.Marshal(struct {
		Port uint16    `yaml:"port"`
		VNIs []fileVNI `yaml:"vnis"`
	}{n.Port, []fileVNI{v}})
	if err != nil {
		return nil, err
	}
	return append([]byte("# Docker's overlay network "+n.String()+". Containers that come later are not in it: export it again.\n"), body...), nil
}
