package cni

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/internal/neighbour"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// add gives a container an interface. All of it or nothing: what was made is
// taken back, last things first, when something fails.
func add(ctx context.Context, r *request) (err error) {
	if r.previous != nil {
		return r.join(ctx)
	}
	if err := r.checkTarget(); err != nil {
		return err
	}
	// Before addresses are asked for: a pool that gives one and takes it back at
	// each try does not give it to the next that asks.
	if err := r.ready(ctx); err != nil {
		return err
	}
	addresses, err := r.newIPAM(ctx)
	if err != nil {
		return err
	}
	var undo []func(context.Context)
	defer func() {
		if err == nil {
			return
		}
		// Also when the time for this call is over.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		for _, f := range slices.Backward(undo) {
			f(ctx)
		}
	}()

	result := &types100.Result{}
	if addresses != nil {
		if result, err = addresses.add(ctx); err != nil {
			return err
		}
		undo = append(undo, func(ctx context.Context) { _ = addresses.do(ctx, "DEL") })
	}
	r.finish(result)

	s, pair, err := r.attach(ctx, result)
	if err != nil {
		return err
	}
	undo = append(undo, func(ctx context.Context) { _ = r.detach(ctx, s) })

	if err := inside(r.Netns, func() error { return r.configure(result, pair) }); err != nil {
		return asError(err)
	}
	r.announce(result, pair)

	bridge := s.bridge.Attrs()
	result.Interfaces = []*types100.Interface{
		{Name: bridge.Name, Mac: bridge.HardwareAddr.String()},
		{Name: pair.host.Attrs().Name, Mac: pair.host.Attrs().HardwareAddr.String()},
		{Name: r.IfName, Mac: pair.mac.String(), Mtu: pair.mtu, Sandbox: r.Netns},
	}
	for _, ip := range result.IPs {
		ip.Interface = types100.Int(len(result.Interfaces) - 1)
	}
	return printResult(result, r.CNIVersion)
}

// checkTarget looks whether the container can get the interface, before
// anything is asked for or made.
func (r *request) checkTarget() error {
	if len(r.ContainerID) > mostContainerID {
		return fail(types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID has %d characters: at most %d have room in the alias of a device", len(r.ContainerID), mostContainerID)
	}
	here, err := namespace.Identify("/proc/self/ns/net")
	if err != nil {
		return asError(err)
	}
	there, err := namespace.Identify(r.Netns)
	if err != nil {
		return fail(types.ErrInvalidNetNS, "CNI_NETNS: %v", err)
	}
	if here == there {
		return fail(types.ErrInvalidNetNS, "CNI_NETNS %s is the namespace of the host, where the plugin runs: a container has one of its own", r.Netns)
	}
	return asError(inside(r.Netns, func() error {
		link, err := netlink.LinkByName(r.IfName)
		var none netlink.LinkNotFoundError
		switch {
		case errors.As(err, &none):
			return nil
		case err != nil:
			return err
		}
		return fail(types.ErrUnknownContainer, "container %s has an interface %s already (a %s): DEL comes before another ADD", r.ContainerID, link.Attrs().Name, link.Type())
	}))
}

// finish makes of what the IPAM plugin said what the network wants: gateways,
// default routes, DNS.
func (r *request) finish(result *types100.Result) {
	for _, ip := range result.IPs {
		if ip.Gateway == nil && r.IsGateway {
			ip.Gateway = firstOf(&ip.Address)
		}
		if !r.IsDefaultGateway {
			continue
		}
		any := net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if ip.Address.IP.To4() == nil {
			any = net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		if !slices.ContainsFunc(result.Routes, func(have *types.Route) bool { return have.Dst.String() == any.String() }) {
			result.Routes = append(result.Routes, &types.Route{Dst: any, GW: ip.Gateway})
		}
	}
	if !r.DNS.IsEmpty() {
		result.DNS = r.DNS
	}
}

// firstOf is the first address of a network.
func firstOf(n *net.IPNet) net.IP {
	ip := n.IP.Mask(n.Mask)
	ip[len(ip)-1]++
	return ip
}

// pair is the two devices of a container.
type pair struct {
	host netlink.Link     // in this namespace
	mac  net.HardwareAddr // of the container's end
	mtu  int              // of both, in bytes
}

// attach makes the pair, from the bridge to the container. What it made is gone
// when it fails.
func (r *request) attach(ctx context.Context, result *types100.Result) (*segment, *pair, error) {
	unlock, err := lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	s, err := r.ensure(ctx)
	var p *pair
	if err == nil {
		p, err = r.makePair(s, result)
	}
	if err == nil {
		err = r.serve(s, result)
		if err == nil && r.IPMasq {
			err = masquerade(r.port().name(), result.IPs)
		}
		if err == nil {
			return s, p, nil
		}
		_ = netlink.LinkDel(p.host)
	}
	r.forsake(ctx, s)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = r.release(ctx) // of what a call left whose process was killed
	return nil, nil, err
}

// makePair makes the devices with one request, each where it belongs.
func (r *request) makePair(s *segment, result *types100.Result) (*pair, error) {
	p := &pair{mac: r.mac, mtu: s.vni.MTU}
	switch {
	case r.MTU > s.vni.MTU:
		return nil, badConfig("network %s: mtu is %d, but VNI %v carries no more than %d", r.Name, r.MTU, r.VNI, s.vni.MTU)
	case r.MTU != 0:
		p.mtu = r.MTU
	}
	if p.mac == nil && len(result.IPs) > 0 {
		p.mac = macOf(result.IPs[0].Address.IP)
	}
	name := r.port().name()
	// The container may not be heard before it is all there: up comes last.
	if err := inside(r.Netns, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = r.IfName, p.mtu, p.mac
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(home.Fd())}); err != nil {
			return err
		}
		link, err := netlink.LinkByName(r.IfName)
		if err == nil {
			p.mac = link.Attrs().HardwareAddr
		}
		return err
	}); err != nil {
		return nil, &types.Error{Code: types.ErrIOFailure, Msg: "make interface " + r.IfName + " of container " + r.ContainerID, Details: err.Error()}
	}
	host, err := netlink.LinkByName(name)
	what := "find"
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"name the owner of", func() error { return netlink.LinkSetAlias(host, r.port().alias()) }},
		{"set the MTU of", func() error { return netlink.LinkSetMTU(host, p.mtu) }},
		{"put on its bridge", func() error { return netlink.LinkSetMasterByIndex(host, s.bridge.Attrs().Index) }},
		{"set hairpin mode of", func() error { return netlink.LinkSetHairpin(host, r.HairpinMode) }},
		{"set up", func() error { return netlink.LinkSetUp(host) }},
	} {
		if err != nil {
			break
		}
		what, err = step.what, step.do()
	}
	if err != nil {
		if host != nil {
			_ = netlink.LinkDel(host)
		}
		return nil, fail(types.ErrIOFailure, "%s device %s of container %s: %v", what, name, r.ContainerID, err)
	}
	p.host = host
	return p, nil
}

// serve makes the bridge the gateway of its containers, where it is to be.
func (r *request) serve(s *segment, result *types100.Result) error {
	if !r.IsGateway {
		return nil
	}
	for _, ip := range result.IPs {
		if err := r.giveAddress(s.bridge, &net.IPNet{IP: ip.Gateway, Mask: ip.Address.Mask}); err != nil {
			return err
		}
		if err := forward(ip.Gateway); err != nil {
			return fail(types.ErrIOFailure, "network %s: forwarding for containers: %v", r.Name, err)
		}
	}
	return nil
}

// giveAddress gives the bridge the address of the gateway. One of another
// network goes beside it; another one of the same network would make two
// gateways, and is a mistake.
func (r *request) giveAddress(bridge netlink.Link, want *net.IPNet) error {
	family := unix.AF_INET6
	if want.IP.To4() != nil {
		family = unix.AF_INET
	}
	have, err := netlink.AddrList(bridge, family)
	if err != nil {
		return fail(types.ErrIOFailure, "addresses of bridge %s: %v", bridge.Attrs().Name, err)
	}
	for _, a := range have {
		switch {
		case a.IP.Equal(want.IP):
			return nil
		case !want.Contains(a.IP) || a.IP.IsLinkLocalUnicast():
		case r.ForceAddress:
			if err := netlink.AddrDel(bridge, &a); err != nil {
				return fail(types.ErrIOFailure, "remove %v from bridge %s: %v", a.IPNet, bridge.Attrs().Name, err)
			}
		default:
			return badConfig("network %s: bridge %s has %v, but its gateway is to be %v: change one of them, or set forceAddress", r.Name, bridge.Attrs().Name, a.IPNet, want)
		}
	}
	a := &netlink.Addr{IPNet: want}
	if family == unix.AF_INET6 {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(bridge, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fail(types.ErrIOFailure, "give bridge %s the address %v: %v", bridge.Attrs().Name, want, err)
	}
	return nil
}

// forward has the host forward packets of the gateway's family.
func forward(gateway net.IP) error {
	path := "/proc/sys/net/ipv6/conf/all/forwarding"
	if gateway.To4() != nil {
		path = "/proc/sys/net/ipv4/ip_forward"
	}
	return setSysctl(path, "1")
}

// setSysctl leaves alone what is right already: /proc/sys is often read-only.
func setSysctl(path, value string) error {
	is, err := os.ReadFile(path)
	if err == nil && string(is) == value+"\n" {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0o644)
}

// configure gives the container's end its addresses and routes. It runs in the
// container's namespace.
func (r *request) configure(result *types100.Result, p *pair) error {
	link, err := netlink.LinkByName(r.IfName)
	if err != nil {
		return fail(types.ErrIOFailure, "interface %s of container %s: %v", r.IfName, r.ContainerID, err)
	}
	for _, ip := range result.IPs {
		a := &netlink.Addr{IPNet: &ip.Address}
		if ip.Address.IP.To4() == nil {
			// IPAM answers for it that nobody else has it, and a container
			// does not want to wait for the kernel to find that out again.
			a.Flags = unix.IFA_F_NODAD
			if err := setSysctl("/proc/sys/net/ipv6/conf/"+r.IfName+"/disable_ipv6", "0"); err != nil {
				return fail(types.ErrIOFailure, "IPv6 of container %s: %v", r.ContainerID, err)
			}
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fail(types.ErrIOFailure, "give container %s the address %v: %v", r.ContainerID, &ip.Address, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fail(types.ErrIOFailure, "set interface %s of container %s up: %v", r.IfName, r.ContainerID, err)
	}
	for _, want := range result.Routes {
		if err := netlink.RouteAdd(routeOf(want, result.IPs, link)); err != nil && !errors.Is(err, unix.EEXIST) {
			return fail(types.ErrIOFailure, "give container %s the route %v: %v", r.ContainerID, want, err)
		}
	}
	return nil
}

// routeOf is a route of a result as the kernel has it. One without a gateway is by
// that of the addresses of its family.
func routeOf(want *types.Route, ips []*types100.IPConfig, link netlink.Link) *netlink.Route {
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: &want.Dst, Gw: want.GW,
		MTU: want.MTU, AdvMSS: want.AdvMSS, Priority: want.Priority,
	}
	if want.Table != nil {
		route.Table = *want.Table
	}
	if want.Scope != nil {
		route.Scope = netlink.Scope(*want.Scope)
	}
	for _, ip := range ips {
		if route.Gw == nil && (ip.Address.IP.To4() == nil) == (want.Dst.IP.To4() == nil) && route.Scope != netlink.SCOPE_LINK {
			route.Gw = ip.Gateway
		}
	}
	if route.Gw == nil && want.Scope == nil {
		route.Scope = netlink.SCOPE_LINK
	}
	return route
}

// announce tells the overlay that the addresses are the container's from now on:
// what others still have of somebody who had them before is then put right. It
// is a courtesy, and never fails an ADD.
func (r *request) announce(result *types100.Result, p *pair) {
	awaitUp(p.host)
	_ = inside(r.Netns, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		link, err := netlink.LinkByName(r.IfName)
		if err != nil {
			return err
		}
		for _, ip := range result.IPs {
			address, _ := netip.AddrFromSlice(ip.Address.IP)
			frame := neighbour.AppendAnnouncement(nil, address.Unmap(), vxlan.MAC(p.mac))
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6}); err != nil {
				return err
			}
		}
		return nil
	})
}

// awaitUp waits until a port of a bridge forwards, which the kernel makes of the
// carrier a moment after both ends are up.
func awaitUp(port netlink.Link) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		link, err := netlink.LinkByIndex(port.Attrs().Index)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return
		}
	}
}

// asError is an error with a code.
func asError(err error) error {
	var e *types.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return fail(types.ErrIOFailure, "%v", err)
}
