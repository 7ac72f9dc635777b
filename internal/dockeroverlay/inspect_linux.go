package dockeroverlay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sandboxName is that of an overlay network: a generation, and the beginning of its ID.
var sandboxName = regexp.MustCompile(`^[0-9]+-[0-9a-z]{10}$`)

// Inspect reads all overlay networks of this node. unnamed says why Docker could not be
// asked for names.
func Inspect(ctx context.Context, o Options) (all []Network, unnamed, err error) {
	files, err := os.ReadDir(o.Sandboxes)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("%s: %w: is Docker running here? (its namespaces may be elsewhere: --sandboxes)", o.Sandboxes, fs.ErrNotExist)
	case err != nil:
		return nil, nil, err
	}
	for _, f := range files {
		if !sandboxName.MatchString(f.Name()) {
			continue
		}
		path := filepath.Join(o.Sandboxes, f.Name())
		_, id, _ := strings.Cut(f.Name(), "-")
		var found []Network
		if err := namespace.Do(path, func() (err error) {
			found, err = sandbox()
			return err
		}); err != nil {
			return nil, nil, fmt.Errorf("sandbox %s: %w", path, err)
		}
		for _, n := range found {
			n.ID, n.Sandbox = id, path
			all = append(all, n)
		}
	}
	if len(all) == 0 {
		return nil, nil, fmt.Errorf("%s: %w on this node: a node has those in which a container of its own is", o.Sandboxes, ErrNoNetwork)
	}
	unnamed = ask(ctx, o, all)
	for i := range all {
		n := &all[i]
		if o.Local.IsValid() {
			n.Local = o.Local
		}
		for j := range n.Stations {
			if s := &n.Stations[j]; s.Here {
				s.VTEP = n.Local
			}
		}
		n.sort()
	}
	return all, unnamed, nil
}

// ask has Docker name what was found.
func ask(ctx context.Context, o Options, all []Network) error {
	d, err := newDocker(o.Docker)
	if err != nil {
		return err
	}
	local, err := d.local(ctx)
	if err != nil {
		return err
	}
	named, err := d.networks(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		all[i].Local = local
		for j := range named {
			if strings.HasPrefix(named[j].ID, all[i].ID) {
				all[i].name(&named[j])
				break
			}
		}
	}
	return nil
}

// sandbox reads the networks of the namespace that it is called in.
func sandbox() (all []Network, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		v, ok := l.(*netlink.Vxlan)
		if !ok {
			continue
		}
		n := Network{Device: v.Name, VNI: vxlan.VNI(v.VxlanId), Port: uint16(v.Port), MTU: v.MTU, Subnets: []netip.Prefix{}, Stations: []Station{}}
		if err := n.remote(v); err != nil {
			return nil, err
		}
		for _, master := range links {
			if master.Attrs().Index == v.MasterIndex {
				n.Bridge = master.Attrs().Name
				if n.MTU = master.Attrs().MTU; v.MTU != 0 {
					n.MTU = min(n.MTU, v.MTU)
				}
				if err := n.subnets(master); err != nil {
					return nil, err
				}
			}
		}
		for _, port := range links {
			if port.Type() == "veth" && port.Attrs().MasterIndex == v.MasterIndex && v.MasterIndex != 0 {
				if err := n.here(port); err != nil {
					return nil, err
				}
			}
		}
		all = append(all, n)
	}
	return all, nil
}

func (n *Network) subnets(bridge netlink.Link) error {
	addrs, err := netlink.AddrList(bridge, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			ones, _ := a.Mask.Size()
			n.Subnets = append(n.Subnets, netip.PrefixFrom(ip.Unmap(), ones).Masked())
		}
	}
	return nil
}

// remote reads what Docker says of containers on other nodes.
func (n *Network) remote(v *netlink.Vxlan) error {
	entries, err := netlink.NeighList(v.Index, unix.AF_BRIDGE)
	if err != nil {
		return err
	}
	for _, e := range entries {
		mac, ok := macOf(e.HardwareAddr)
		at, has := netip.AddrFromSlice(e.IP)
		if ok && has && !mac.IsZero() && !mac.IsMulticast() {
			n.Stations = append(n.Stations, Station{MAC: mac, VTEP: at.Unmap(), Entry: true})
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		neighbours, err := netlink.NeighList(v.Index, family)
		if err != nil {
			return err
		}
		for _, e := range neighbours {
			mac, ok := macOf(e.HardwareAddr)
			ip, has := netip.AddrFromSlice(e.IP)
			if ok && has && e.State&netlink.NUD_PERMANENT != 0 && !ip.IsMulticast() {
				n.neighbour(mac, ip.Unmap())
			}
		}
	}
	return nil
}

// neighbour notes the address of a station.
func (n *Network) neighbour(mac vxlan.MAC, ip netip.Addr) {
	for i := range n.Stations {
		if s := &n.Stations[i]; s.MAC == mac && !s.IP.IsValid() {
			s.IP, s.Neighbour = ip, true
			return
		}
	}
	n.Stations = append(n.Stations, Station{MAC: mac, IP: ip, Neighbour: true})
}

// here reads which MACs were heard behind a port of the bridge.
func (n *Network) here(port netlink.Link) error {
	entries, err := netlink.NeighList(port.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		return err
	}
	for _, e := range entries {
		mac, ok := macOf(e.HardwareAddr)
		if ok && e.State&netlink.NUD_PERMANENT == 0 && !mac.IsMulticast() && !bytes.Equal(e.HardwareAddr, port.Attrs().HardwareAddr) {
			n.Stations = append(n.Stations, Station{MAC: mac, Here: true})
		}
	}
	return nil
}

func macOf(a net.HardwareAddr) (mac vxlan.MAC, ok bool) {
	if len(a) != len(mac) {
		return mac, false
	}
	return vxlan.MAC(a), true
}
