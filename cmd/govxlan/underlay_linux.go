package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
)

// findUnderlay asks the routing table for what the flags leave open: local
// addresses, and the MTU towards the peers.
func findUnderlay(p *upPlan, peers []netip.AddrPort) (*underlay, error) {
	u := &underlay{local: slices.Clone(p.local)}
	if p.device.Bridge == "" {
		// A bridge would drop, and tell nobody, what other ports send that is
		// longer than this one takes. It is ours to tell them.
		u.pathMTU = p.pathMTU
	}
	if p.dev != "" {
		// A group takes a local address of its family, as a peer does.
		targets := slices.Clone(peers)
		for _, g := range p.groups {
			targets = append(targets, g.Addr)
		}
		if err := u.useDevice(p.dev, targets); err != nil {
			return nil, err
		}
		for _, g := range p.groups {
			if !u.hasFamily(g.Addr.Addr()) {
				return nil, fmt.Errorf("underlay interface %s has no address to send to group %v from: add one of its family with 'ip address add'", p.dev, g.Addr.Addr())
			}
			u.fit(u.deviceMTU, g.Addr.Addr(), p.dev)
		}
	}
	for _, peer := range peers {
		if err := u.route(peer.Addr(), p.dev); err != nil {
			return nil, err
		}
	}
	if len(u.local) == 0 {
		// Nobody to send to yet: listen where the default route leads.
		name := defaultDevice()
		if name == "" {
			return nil, errors.New("neither --peer nor --local is given and there is no default route: give the address to listen on with --local")
		}
		if err := u.useDevice(name, nil); err != nil {
			return nil, err
		}
	}
	if len(peers) == 0 && u.overlayMTU == 0 {
		for _, a := range u.local {
			u.addressMTU(a)
		}
	}
	return u, nil
}

// defaultDevice is where the default route leads, IPv4 before IPv6; "" without
// one. (Asking for the route to 0.0.0.0 would lead to the loopback.)
func defaultDevice() string {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteList(nil, family)
		if err != nil {
			continue
		}
		slices.SortStableFunc(routes, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })
		for _, r := range routes {
			if r.Dst != nil {
				if ones, _ := r.Dst.Mask.Size(); ones != 0 {
					continue
				}
			}
			if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				return link.Attrs().Name
			}
		}
	}
	return ""
}

// hasFamily says whether there is a local address that can reach a.
func (u *underlay) hasFamily(a netip.Addr) bool {
	return slices.ContainsFunc(u.local, func(l netip.Addr) bool { return l.Is4() == a.Is4() })
}

// useDevice takes missing local addresses and the MTU from --dev.
func (u *underlay) useDevice(name string, peers []netip.AddrPort) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("underlay interface %s does not exist: give one that 'ip link' shows with --dev", name)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", name, err)
	}
	want := func(a netip.Addr) bool {
		if len(peers) == 0 {
			return len(u.local) == 0
		}
		return !u.hasFamily(a) && slices.ContainsFunc(peers, func(p netip.AddrPort) bool { return p.Addr().Is4() == a.Is4() })
	}
	for _, linkLocal := range []bool{false, true} {
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if !ok {
				continue
			}
			ip = ip.Unmap()
			if ip.IsLinkLocalUnicast() == linkLocal && want(ip) {
				if linkLocal && ip.Is6() {
					ip = ip.WithZone(name)
				}
				u.local = append(u.local, ip)
			}
		}
	}
	if len(u.local) == 0 {
		return fmt.Errorf("underlay interface %s has no address to send from: add one with 'ip address add'", name)
	}
	u.deviceMTU = link.Attrs().MTU
	u.fit(u.deviceMTU, u.local[0], name)
	return nil
}

// route finds the way to one peer.
func (u *underlay) route(to netip.Addr, dev string) error {
	options := &netlink.RouteGetOptions{Oif: dev}
	for _, l := range u.local {
		if l.Is4() == to.Is4() && !l.IsUnspecified() {
			options.SrcAddr = net.IP(l.AsSlice())
		}
	}
	if to.Zone() != "" && dev == "" {
		options.Oif = to.Zone()
	}
	routes, err := netlink.RouteGetWithOptions(net.IP(to.AsSlice()), options)
	if err != nil || len(routes) == 0 {
		if local := options.SrcAddr; local != nil {
			// IPv4 and IPv6 differ in what they call a source that is not here.
			options.SrcAddr = nil
			if _, err := netlink.RouteGetWithOptions(net.IP(to.AsSlice()), options); err == nil {
				return fmt.Errorf("local address %v is not on this host: give one that 'ip address' shows with --local", local)
			}
		}
		return fmt.Errorf("no route to peer %v (%v): check 'ip route get %v', or give --dev or --local", to, errOrNone(err), to)
	}
	r := routes[0]
	if !u.hasFamily(to) {
		src, ok := netip.AddrFromSlice(r.Src)
		if !ok {
			return fmt.Errorf("the route to peer %v has no source address: give one with --local", to)
		}
		src = src.Unmap()
		if src.Is6() && src.IsLinkLocalUnicast() {
			src = src.WithZone(to.Zone())
		}
		u.local = append(u.local, src)
	}
	link, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return fmt.Errorf("interface of the route to %v: %w", to, err)
	}
	mtu := link.Attrs().MTU
	if r.MTU > 0 {
		// It may be what the kernel noted from an ICMP message, which anybody
		// can send: the routing table itself tells what was configured.
		options.FIBMatch = true
		if table, err := netlink.RouteGetWithOptions(net.IP(to.AsSlice()), options); err == nil && len(table) > 0 {
			r.MTU = table[0].MTU
		}
		if r.MTU > 0 {
			mtu = min(mtu, r.MTU)
		}
	}
	u.fit(mtu, to, link.Attrs().Name)
	return nil
}

// addressMTU takes the MTU of the interface that carries a local address.
func (u *underlay) addressMTU(local netip.Addr) {
	links, err := netlink.LinkList()
	if err != nil {
		return
	}
	for _, link := range links {
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == local.WithZone("") {
				u.fit(link.Attrs().MTU, local, link.Attrs().Name)
				return
			}
		}
	}
}

// fit lowers the overlay's MTU to what the device carries.
func (u *underlay) fit(mtu int, to netip.Addr, device string) {
	overhead := vxlan.OverheadIPv4
	if to.Is6() {
		overhead = vxlan.OverheadIPv6
	}
	if u.pathMTU != 0 {
		mtu = min(mtu, u.pathMTU)
	}
	// A loopback's 65,536 is more than one datagram holds.
	fits := min(mtu-overhead, transport.MaxBytes-vxlan.HeaderLen-vxlan.EthernetLen)
	if u.overlayMTU == 0 || fits < u.overlayMTU {
		u.overlayMTU, u.device = fits, device
	}
}

func errOrNone(err error) error {
	if err == nil {
		return errors.New("none found")
	}
	return err
}
