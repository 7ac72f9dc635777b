package dockerplugin

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"

	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// allocation is what this node, as a manager of a swarm, has chosen for a network
// of all its nodes.
type allocation struct {
	VNI     vxlan.VNI         `json:"vni"`
	Port    uint16            `json:"port"` // of the members; 0: none
	Options map[string]string `json:"options"`
}

const (
	allocationFile = "allocated-"
	nodeFile       = "node"
	// mostAllocated bounds the networks of a swarm that have members, each on a
	// port of its own.
	mostAllocated = 1000
)

// node is what Docker said of this node.
type node struct {
	Address string `json:"address"`
}

// discovered notes this node's own address in the swarm.
func (d *Driver) discovered(data any) error {
	_, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	fields, _ := data.(map[string]any)
	address, _ := fields["Address"].(string)
	if self, _ := fields["Self"].(bool); !self || net.ParseIP(address) == nil || address == d.self.Address {
		return nil
	}
	d.self.Address = address
	d.log.Info("this node's address in the swarm", zap.String("address", address))
	return d.store.put(nodeFile, d.self)
}

// allocate answers a manager who asks what all nodes are to be told of a network.
// The answer takes the place of the options that were given.
func (d *Driver) allocate(id string, given map[string]string) (map[string]string, error) {
	_, end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	if err := checkID(id); err != nil {
		return nil, err
	}
	if a := d.allocated[id]; a != nil {
		return a.Options, nil
	}
	generic := make(map[string]any)
	for k, v := range given {
		generic[k] = v
	}
	o, err := parseOptions(map[string]any{genericOptions: generic}, d.cfg.Port)
	if err != nil {
		return nil, err
	}
	a := &allocation{Options: maps.Clone(given)}
	if a.Options == nil {
		a.Options = make(map[string]string)
	}
	if a.VNI, err = d.chooseVNI(id, o); err != nil {
		return nil, err
	}
	a.Options["vni"] = a.VNI.String()
	if len(o.Peers) == 0 && len(o.Join) == 0 {
		if d.self.Address == "" && d.cfg.Local == "" {
			return nil, errors.New("it is not known yet which address this node has in the swarm, since Docker has not said so: create the swarm with --advertise-addr, or give -o peers=")
		}
		if a.Port, err = d.choosePort(); err != nil {
			return nil, err
		}
		key := make([]byte, membership.KeyBytes)
		rand.Read(key)
		a.Options["join"] = net.JoinHostPort(d.local(), strconv.Itoa(int(a.Port)))
		a.Options["key"] = hex.EncodeToString(key)
	}
	if err := d.store.put(allocationFile+id, a); err != nil {
		return nil, err
	}
	d.allocated[id] = a
	return a.Options, nil
}

// choosePort is the first of the members' ports that no network of this swarm has.
func (d *Driver) choosePort() (uint16, error) {
	taken := make(map[uint16]bool)
	for _, a := range d.allocated {
		taken[a.Port] = true
	}
	for port := uint16(membership.DefaultPort); port < membership.DefaultPort+mostAllocated; port++ {
		if !taken[port] {
			return port, nil
		}
	}
	return 0, fmt.Errorf("%d networks have members: give this one -o peers= with a list of all nodes", mostAllocated)
}

// free forgets what was chosen for a network.
func (d *Driver) free(id string) error {
	_, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	if d.allocated[id] == nil {
		return nil
	}
	if err := d.store.remove(allocationFile + id); err != nil {
		return err
	}
	delete(d.allocated, id)
	return nil
}

// local is the address of this node in the underlay; empty: by routes.
func (d *Driver) local() string {
	if d.cfg.Local != "" {
		return d.cfg.Local
	}
	return d.self.Address
}

// localOf is the address that members are told: the VTEP's, of the family of who
// is to be joined.
func localOf(locals []netip.Addr, join string) (netip.Addr, error) {
	host, _, err := membership.SplitJoin(join)
	if err != nil {
		return netip.Addr{}, err
	}
	to, _ := netip.ParseAddr(host)
	for _, a := range locals {
		if !a.IsUnspecified() && (!to.IsValid() || to.Is4() == a.Is4()) {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("the VTEP has no address of the family of %s: give one with --local", host)
}
