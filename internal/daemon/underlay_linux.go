package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// find asks the routing table for what the configuration leaves open: local
// addresses beside those that are there already, and the MTU towards the peers.
func (w *way) find(spec *config.Spec, peers []netip.AddrPort, local []netip.Addr) (*underlay, error) {
	if w.endpoint.WireGuard != nil {
		return w.through(spec, peers)
	}
	u := &underlay{local: slices.Clone(local)}
	if spec.Device.Bridge == "" {
		// A bridge would drop, and tell nobody, what other ports send that is
		// longer than this one takes. It is ours to tell them.
		u.pathMTU = w.endpoint.PathMTU
	}
	if dev := spec.Text("dev"); dev != "" {
		// A group takes a local address of its family, as a peer does, where
		// the sockets are bound to the device.
		var targets []netip.AddrPort
		if dev == w.endpoint.Dev {
			targets = slices.Clone(peers)
		}
		for _, g := range spec.Groups {
			targets = append(targets, g.Addr)
		}
		if err := w.useDevice(u, dev, targets); err != nil {
			return nil, err
		}
		for _, g := range spec.Groups {
			if !u.hasFamily(g.Addr.Addr()) {
				return nil, fmt.Errorf("underlay interface %s has no address to send to group %v from: add one of its family with 'ip address add'", dev, g.Addr.Addr())
			}
			u.fit(u.deviceMTU, g.Addr.Addr(), dev)
		}
	}
	for _, peer := range peers {
		if err := w.route(u, peer.Addr()); err != nil {
			return nil, err
		}
	}
	if len(peers) == 0 && len(spec.Groups) == 0 {
		for _, a := range w.joins {
			// One that cannot be reached now is not the only one, perhaps; and it is
			// tried again for ever.
			w.towards(u, a)
		}
	}
	if len(u.local) == 0 {
		// Nobody to send to yet: listen where the default route leads.
		name := defaultDevice()
		if name == "" {
			return nil, errors.New("neither --peer nor --local is given and there is no default route: give the address to listen on with --local")
		}
		if err := w.useDevice(u, name, nil); err != nil {
			return nil, err
		}
	}
	if len(peers) == 0 && u.overlayMTU == 0 {
		for _, a := range u.local {
			u.addressMTU(a)
		}
	}
	if w.fixed && len(u.local) > len(local) {
		return nil, fmt.Errorf("%v needs an address of the underlay that the endpoint does not listen on, %v: restart it with both in --local", spec, u.local[len(u.local)-1])
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

// deviceAddrs is what an underlay interface has.
type deviceAddrs struct {
	mtu   int
	addrs []netlink.Addr
	err   error
}

func (w *way) device(name string) deviceAddrs {
	d, ok := w.devices[name]
	if !ok {
		link, err := netlink.LinkByName(name)
		if err != nil {
			d.err = fmt.Errorf("underlay interface %s does not exist: give one that 'ip link' shows with --dev", name)
		} else if d.addrs, err = netlink.AddrList(link, netlink.FAMILY_ALL); err != nil {
			d.err = fmt.Errorf("addresses of %s: %w", name, err)
		} else {
			d.mtu = link.Attrs().MTU
		}
		w.devices[name] = d
	}
	return d
}

// useDevice takes missing local addresses and the MTU from an interface.
func (w *way) useDevice(u *underlay, name string, peers []netip.AddrPort) error {
	d := w.device(name)
	if d.err != nil {
		return d.err
	}
	want := func(a netip.Addr) bool {
		if len(peers) == 0 {
			return len(u.local) == 0
		}
		return !u.hasFamily(a) && slices.ContainsFunc(peers, func(p netip.AddrPort) bool { return p.Addr().Is4() == a.Is4() })
	}
	for _, linkLocal := range []bool{false, true} {
		for _, a := range d.addrs {
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
	u.deviceMTU = d.mtu
	u.fit(u.deviceMTU, u.local[0], name)
	return nil
}

// route takes the source address, if there is none of its family, and the MTU
// from the way to one peer.
func (w *way) route(u *underlay, to netip.Addr) error {
	r := w.road(u, to)
	if r.err != nil {
		return r.err
	}
	if !u.hasFamily(to) {
		if !r.source.IsValid() {
			return fmt.Errorf("the route to peer %v has no source address: give one with --local", to)
		}
		u.local = append(u.local, r.source)
	}
	u.fit(r.mtu, to, r.device)
	return nil
}

// towards takes the same from the way to a member, as far as there is one. This host
// itself may be among those to join.
func (w *way) towards(u *underlay, to netip.Addr) {
	r := w.road(u, to)
	if r.err != nil || w.fixed && !u.hasFamily(to) {
		return
	}
	if len(u.local) == 0 && r.source.IsValid() {
		u.local = append(u.local, r.source)
	}
	if !r.here && u.hasFamily(to) {
		u.fit(r.mtu, to, r.device)
	}
}

// road is the way to an address, which is asked for once.
func (w *way) road(u *underlay, to netip.Addr) road {
	r, ok := w.roads[to]
	if !ok {
		r = w.ask(u, to)
		w.roads[to] = r
	}
	return r
}

// ask asks the routing table for the way to one peer.
func (w *way) ask(u *underlay, to netip.Addr) (found road) {
	dev := w.endpoint.Dev
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
				return road{err: fmt.Errorf("local address %v is not on this host: give one that 'ip address' shows with --local", local)}
			}
		}
		return road{err: fmt.Errorf("no route to peer %v (%v): check 'ip route get %v', or give --dev or --local", to, errOrNone(err), to)}
	}
	r := routes[0]
	found.here = r.Type == unix.RTN_LOCAL
	if src, ok := netip.AddrFromSlice(r.Src); ok {
		found.source = src.Unmap()
		if found.source.Is6() && found.source.IsLinkLocalUnicast() {
			found.source = found.source.WithZone(to.Zone())
		}
	}
	link, err := netlink.LinkByIndex(r.LinkIndex)
	if err != nil {
		return road{err: fmt.Errorf("interface of the route to %v: %w", to, err)}
	}
	found.device, found.mtu = link.Attrs().Name, link.Attrs().MTU
	if r.MTU > 0 {
		// It may be what the kernel noted from an ICMP message, which anybody
		// can send: the routing table itself tells what was configured.
		options.FIBMatch = true
		if table, err := netlink.RouteGetWithOptions(net.IP(to.AsSlice()), options); err == nil && len(table) > 0 {
			r.MTU = table[0].MTU
		}
		if r.MTU > 0 {
			found.mtu = min(found.mtu, r.MTU)
		}
	}
	return found
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

func errOrNone(err error) error {
	if err == nil {
		return errors.New("none found")
	}
	return err
}
