package cni

import (
	"context"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
)

// join is ADD behind another plugin that has made the interface, such as bridge:
// it sees to it that the bridge is joined to the VNI, and passes the result on.
func (r *request) join(ctx context.Context) error {
	if err := r.takeBridge(); err != nil {
		return err
	}
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := r.ensure(ctx)
	if err != nil {
		return err
	}
	for _, i := range r.previous.Interfaces {
		if i.Sandbox != "" && i.Mtu > s.vni.MTU {
			r.forsake(ctx, s)
			return badConfig("network %s: the MTU of %s is %d, but VNI %v carries no more than %d: set mtu of the plugin that makes it", r.Name, i.Name, i.Mtu, r.VNI, s.vni.MTU)
		}
	}
	return printResult(r.previous, r.CNIVersion)
}

// takeBridge takes the bridge of the result before, unless the network names one.
func (r *request) takeBridge() error {
	if r.Bridge != "" {
		return nil
	}
	i := slices.IndexFunc(r.previous.Interfaces, func(i *types100.Interface) bool {
		if i.Sandbox != "" {
			return false
		}
		link, err := netlink.LinkByName(i.Name)
		return err == nil && link.Type() == "bridge"
	})
	if i < 0 {
		return badConfig("network %s: the plugin before this one made no bridge: name the bridge that VNI %v is to join", r.Name, r.VNI)
	}
	r.Bridge = r.previous.Interfaces[i].Name
	return nil
}
