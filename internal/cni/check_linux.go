package cni

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// check compares what is there with what ADD resulted in, as chained plugins have
// changed it since.
func check(ctx context.Context, r *request) error {
	if r.previous == nil {
		return badConfig("network %s: prevResult is missing: CHECK compares with it", r.Name)
	}
	addresses, err := r.newIPAM(ctx)
	if err != nil {
		return err
	}
	if addresses != nil {
		if err := addresses.do(ctx, "CHECK"); err != nil {
			return err
		}
	}
	ours := slices.ContainsFunc(r.previous.Interfaces, func(i *types100.Interface) bool { return i.Sandbox == "" && i.Name == r.port().name() })
	if !ours {
		if err := r.takeBridge(); err != nil {
			return err
		}
	}
	all, err := r.endpoint(ctx)
	if err != nil {
		return err
	}
	v, err := r.find(all)
	if err != nil {
		return err
	}
	if v == nil {
		return r.wrong("the endpoint has no VNI %v (any more): the next ADD adds it, or 'govxlan vni add'", r.VNI)
	}
	bridge, err := bridgeNamed(v.Bridge)
	if err != nil {
		return err
	}
	if err := r.checkPort(bridge, v.Device); err != nil || !ours {
		return err
	}
	if err := r.checkHost(bridge); err != nil {
		return err
	}
	return asError(inside(r.Netns, func() error { return r.checkContainer(v.MTU) }))
}

// wrong is a difference between what is and what should be.
func (r *request) wrong(format string, args ...any) error {
	return fail(types.ErrInternal, "container %s, network %s: %s", r.ContainerID, r.Name, fmt.Sprintf(format, args...))
}

// checkPort: a device is a port of the bridge, and both are up.
func (r *request) checkPort(bridge netlink.Link, name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return r.wrong("device %s: %v", name, err)
	}
	if link.Attrs().MasterIndex != bridge.Attrs().Index {
		return r.wrong("device %s is no port of bridge %s", name, bridge.Attrs().Name)
	}
	for _, l := range []netlink.Link{link, bridge} {
		if l.Attrs().Flags&net.FlagUp == 0 {
			return r.wrong("device %s is down", l.Attrs().Name)
		}
	}
	return nil
}

// checkHost checks what there is of the container in the host's namespace.
func (r *request) checkHost(bridge netlink.Link) error {
	name := r.port().name()
	if err := r.checkPort(bridge, name); err != nil {
		return err
	}
	for _, i := range r.previous.Interfaces {
		if i.Sandbox != "" || i.Name != name && i.Name != bridge.Attrs().Name {
			continue
		}
		if err := r.checkMAC(i); err != nil {
			return err
		}
	}
	if r.IsGateway {
		have, err := netlink.AddrList(bridge, unix.AF_UNSPEC)
		if err != nil {
			return fail(types.ErrIOFailure, "addresses of bridge %s: %v", bridge.Attrs().Name, err)
		}
		for _, ip := range r.previous.IPs {
			if ip.Gateway != nil && r.mine(ip) && !slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IP.Equal(ip.Gateway) }) {
				return r.wrong("bridge %s does not have the gateway's address %v", bridge.Attrs().Name, ip.Gateway)
			}
		}
	}
	if r.IPMasq {
		there, err := masqueraded(name)
		if err != nil {
			return err
		}
		for _, ip := range r.previous.IPs {
			if r.mine(ip) && !slices.Contains(there, ip.Address.IP.String()) {
				return r.wrong("there is no rule to masquerade %v", ip.Address.IP)
			}
		}
	}
	return nil
}

// mine says whether an address is one of the container's interface.
func (r *request) mine(ip *types100.IPConfig) bool {
	if ip.Interface == nil {
		return true
	}
	n := *ip.Interface
	return n >= 0 && n < len(r.previous.Interfaces) && r.previous.Interfaces[n].Name == r.IfName && r.previous.Interfaces[n].Sandbox != ""
}

func (r *request) checkMAC(i *types100.Interface) error {
	link, err := netlink.LinkByName(i.Name)
	if err != nil {
		return r.wrong("interface %s: %v", i.Name, err)
	}
	mac, err := net.ParseMAC(i.Mac)
	if err == nil && !bytes.Equal(mac, link.Attrs().HardwareAddr) {
		return r.wrong("interface %s has the MAC address %v, and not %v", i.Name, link.Attrs().HardwareAddr, mac)
	}
	return nil
}

// checkContainer checks what there is in the container's namespace, where it runs.
// most is the MTU of the VNI; a later plugin may have set a smaller one.
func (r *request) checkContainer(most int) error {
	link, err := netlink.LinkByName(r.IfName)
	if err != nil {
		return r.wrong("interface %s: %v", r.IfName, err)
	}
	if link.Type() != "veth" {
		return r.wrong("interface %s is a %s, and not the end of a veth pair", r.IfName, link.Type())
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return r.wrong("interface %s is down", r.IfName)
	}
	if link.Attrs().MTU > most {
		return r.wrong("interface %s has the MTU %d, but VNI %v carries no more than %d", r.IfName, link.Attrs().MTU, r.VNI, most)
	}
	for _, i := range r.previous.Interfaces {
		if i.Sandbox == "" || i.Name != r.IfName {
			continue
		}
		if err := r.checkMAC(i); err != nil {
			return err
		}
	}
	have, err := netlink.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return fail(types.ErrIOFailure, "addresses of %s: %v", r.IfName, err)
	}
	for _, ip := range r.previous.IPs {
		if r.mine(ip) && !slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IPNet.String() == ip.Address.String() }) {
			return r.wrong("interface %s does not have the address %v", r.IfName, &ip.Address)
		}
	}
	for _, want := range r.previous.Routes {
		if err := r.checkRoute(want, link); err != nil {
			return err
		}
	}
	return nil
}

// checkRoute looks for a route, which a later plugin may have moved to another
// interface.
func (r *request) checkRoute(want *types.Route, link netlink.Link) error {
	wanted := routeOf(want, r.previous.IPs, link)
	filter, mask := &netlink.Route{Dst: &want.Dst, Table: wanted.Table}, netlink.RT_FILTER_DST
	if wanted.Table != 0 {
		mask |= netlink.RT_FILTER_TABLE
	}
	family := unix.AF_INET6
	if want.Dst.IP.To4() != nil {
		family = unix.AF_INET
	}
	found, err := netlink.RouteListFiltered(family, filter, mask)
	if err != nil {
		return fail(types.ErrIOFailure, "routes of container %s: %v", r.ContainerID, err)
	}
	if !slices.ContainsFunc(found, func(f netlink.Route) bool { return wanted.Gw == nil || f.Gw.Equal(wanted.Gw) }) {
		var others []string
		for _, f := range found {
			others = append(others, f.String())
		}
		return r.wrong("there is no route to %v by %v (%s)", &want.Dst, wanted.Gw, strings.Join(others, ", "))
	}
	return nil
}
