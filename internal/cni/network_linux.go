package cni

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/vishvananda/netlink"
)

// segment is the VNI on this host: its device and the bridge that this is a port
// of.
type segment struct {
	vni    control.VNI
	bridge netlink.Link
	added  bool // by this call
}

// find looks for the VNI and judges what the endpoint says of it. It returns nil
// where the endpoint does not have it.
func (r *request) find(all []control.VNI) (*control.VNI, error) {
	i := slices.IndexFunc(all, func(v control.VNI) bool { return v.VNI == r.VNI })
	if i < 0 {
		return nil, nil
	}
	v := &all[i]
	switch {
	case v.VLAN != 0:
		return nil, badConfig("network %s: VNI %v is VLAN %d of the trunk %s: containers need a device of its own, on a bridge", r.Name, r.VNI, v.VLAN, v.Device)
	case v.Netns != "":
		return nil, badConfig("network %s: device %s of VNI %v is in network namespace %s: containers need it in that of the host", r.Name, v.Device, r.VNI, v.Netns)
	case v.Bridge == "":
		return nil, badConfig("network %s: device %s of VNI %v is on no bridge: give the endpoint's VNI \"bridge: %s\"", r.Name, v.Device, r.VNI, r.bridge())
	case r.Bridge != "" && r.Bridge != v.Bridge:
		return nil, badConfig("network %s: device %s of VNI %v is a port of %s, and not of %s as the network has it", r.Name, v.Device, r.VNI, v.Bridge, r.Bridge)
	}
	return v, nil
}

// ready says what stands in the way of an ADD as far as the endpoint knows: that it
// does not run, or that the VNI is missing or not as containers need it.
func (r *request) ready(ctx context.Context) error {
	all, err := r.endpoint(ctx)
	if err != nil {
		return err
	}
	v, err := r.find(all)
	if err == nil && v == nil && !r.mayAdd() {
		err = fail(types.ErrTryAgainLater, "network %s: the endpoint has no VNI %v, and addVNI is false: add it with 'govxlan vni add %v --bridge %s', or in the configuration file", r.Name, r.VNI, r.VNI, r.bridge())
	}
	return err
}

// ensure finds the VNI with its bridge, or adds it. The lock is held.
func (r *request) ensure(ctx context.Context) (s *segment, err error) {
	all, err := r.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	v, err := r.find(all)
	if err != nil {
		return nil, err
	}
	added := v == nil
	if added {
		if v, err = r.addVNI(ctx); err != nil {
			return nil, err
		}
	}
	s = &segment{vni: *v, added: added}
	defer func() {
		if err != nil {
			r.forsake(ctx, s)
		}
	}()
	if s.bridge, err = bridgeNamed(v.Bridge); err != nil {
		return s, err
	}
	device, err := netlink.LinkByName(v.Device)
	if err == nil && added {
		err = netlink.LinkSetAlias(device, vniAlias)
	}
	switch {
	case err != nil:
		return s, fail(types.ErrInvalidNetworkConfig, "network %s: device %s of VNI %v is not in this network namespace: %v", r.Name, v.Device, r.VNI, err)
	case device.Attrs().MasterIndex != s.bridge.Attrs().Index:
		return s, fail(types.ErrTryAgainLater, "network %s: device %s of VNI %v is no port of %s any more: 'ip link set %s master %s' mends it", r.Name, v.Device, r.VNI, v.Bridge, v.Device, v.Bridge)
	}
	return s, nil
}

// addVNI adds the VNI, on a bridge that is made for it if there is none.
func (r *request) addVNI(ctx context.Context) (*control.VNI, error) {
	if !r.mayAdd() {
		return nil, fail(types.ErrTryAgainLater, "network %s: VNI %v has just gone", r.Name, r.VNI)
	}
	options, err := r.vniOptions()
	if err != nil {
		return nil, err
	}
	made, err := MakeBridge(r.bridge())
	if err != nil {
		return nil, err
	}
	_, err = r.client.ChangeVNI(ctx, control.VNIWish{Verb: "add", Options: options})
	if err == nil {
		var all []control.VNI
		if all, err = r.client.VNIs(ctx); err == nil {
			var v *control.VNI
			if v, err = r.find(all); v != nil {
				return v, nil
			}
			if err == nil {
				err = errors.New("it was there, and is gone again")
			}
		}
	}
	if made {
		if bridge, err := bridgeNamed(r.bridge()); err == nil {
			_ = netlink.LinkDel(bridge)
		}
	}
	return nil, fail(types.ErrTryAgainLater, "network %s: add VNI %v: %v", r.Name, r.VNI, err)
}

// MakeBridge makes a bridge for a VNI's device, unless it is there, and sets it
// up. Its MAC address is its own: one without would change with its ports.
func MakeBridge(name string) (made bool, err error) {
	if link, err := netlink.LinkByName(name); err == nil {
		if link.Type() != "bridge" {
			return false, badConfig("bridge %s: there is a device of that name, and it is a %s", name, link.Type())
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return false, fail(types.ErrIOFailure, "set bridge %s up: %v", name, err)
		}
		return false, nil
	}
	mac := make(net.HardwareAddr, 6)
	if _, err := rand.Read(mac); err != nil {
		return false, err
	}
	mac[0] = mac[0]&^1 | 2 // a station's, locally administered
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.Alias = name, mac, bridgeAlias
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return false, fail(types.ErrIOFailure, "make bridge %s: %v", name, err)
	}
	err = netlink.LinkSetAlias(bridge, bridgeAlias)
	if err == nil {
		err = netlink.LinkSetUp(bridge)
	}
	if err != nil {
		_ = netlink.LinkDel(bridge)
		return false, fail(types.ErrIOFailure, "make bridge %s: %v", name, err)
	}
	return true, nil
}

func bridgeNamed(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fail(types.ErrIOFailure, "bridge %s: %v", name, err)
	}
	if link.Type() != "bridge" {
		return nil, badConfig("bridge %s is a %s", name, link.Type())
	}
	return link, nil
}

// forsake removes a VNI that this call added, when it cannot go on with it and no
// other container has come to it since. The lock is held.
func (r *request) forsake(ctx context.Context, s *segment) {
	if s == nil || !s.added {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	links, err := netlink.LinkList()
	if err != nil {
		return
	}
	for _, l := range links {
		if s.bridge != nil && l.Attrs().MasterIndex == s.bridge.Attrs().Index && strings.HasPrefix(l.Attrs().Alias, portAlias) {
			return
		}
	}
	if _, err := r.client.ChangeVNI(ctx, control.VNIWish{Verb: "del", VNI: &r.VNI}); err == nil {
		_ = r.release(ctx)
	}
}

// release removes the VNI and the bridge when nothing is on the bridge any more,
// each only if a call of the plugin made it. Where the endpoint does not answer
// they are left: the next ADD goes on with them, or the DEL after it removes
// them. The lock is held.
func (r *request) release(ctx context.Context) error {
	all, err := r.endpoint(ctx)
	if err != nil {
		return nil
	}
	v, err := r.find(all)
	if err != nil {
		return nil // it is not as we make it
	}
	name, device, ours := r.bridge(), "", false
	if v != nil {
		name, device = v.Bridge, v.Device
		link, err := netlink.LinkByName(device)
		ours = err == nil && link.Attrs().Alias == vniAlias && v.Origin == "request"
	}
	bridge, err := netlink.LinkByName(name)
	if err != nil {
		return nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return fail(types.ErrIOFailure, "list devices: %v", err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index && l.Attrs().Name != device {
			return nil
		}
	}
	if v != nil {
		if !ours {
			return nil
		}
		if _, err := r.client.ChangeVNI(ctx, control.VNIWish{Verb: "del", VNI: &r.VNI}); err != nil {
			return fail(types.ErrTryAgainLater, "network %s: remove VNI %v: %v", r.Name, r.VNI, err)
		}
	}
	if bridge.Attrs().Alias != bridgeAlias {
		return nil
	}
	if err := netlink.LinkDel(bridge); err != nil {
		return fail(types.ErrIOFailure, "remove bridge %s: %v", name, err)
	}
	return nil
}
