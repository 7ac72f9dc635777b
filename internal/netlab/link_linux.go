package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Veth joins two namespaces with a veth pair and brings both ends up. An empty
// CIDR gives an end no address; mtu 0 leaves the kernel's 1500.
func (l *Lab) Veth(a *Namespace, aName, aCIDR string, b *Namespace, bName, bCIDR string, mtu int) error {
	what := fmt.Sprintf("netlab: veth %s in %s to %s in %s", aName, a.name, bName, b.name)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = aName, mtu
	// The far end is made where it belongs at once: moved there afterwards it
	// could clash with a device of its name here.
	err := a.link.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: bName, PeerMTU: uint32(mtu),
		PeerNamespace: netlink.NsFd(b.file.Fd()),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	// Both up first: an IPv6 address waits for a carrier.
	for _, err := range []error{a.SetUp(aName), b.SetUp(bName)} {
		if err != nil {
			return err
		}
	}
	for _, end := range []struct {
		ns         *Namespace
		name, cidr string
	}{{a, aName, aCIDR}, {b, bName, bCIDR}} {
		if err := end.ns.SetUp(end.name); err != nil {
			return err
		}
		if end.cidr == "" {
			continue
		}
		if err := end.ns.AddAddr(end.name, end.cidr); err != nil {
			return err
		}
	}
	return nil
}

// Bridge makes a bridge and brings it up. It floods multicast, and sends nothing
// of its own: multicast snooping, which would have it join a group, is off.
func (ns *Namespace) Bridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	snooping := false
	if err := ns.link.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
		return fmt.Errorf("netlab: add bridge %s in %s: %w", name, ns.name, err)
	}
	return ns.SetUp(name)
}

// change applies one operation to the named device.
func (ns *Namespace) change(what, dev string, f func(netlink.Link) error) error {
	link, err := ns.link.LinkByName(dev)
	if err == nil {
		err = f(link)
	}
	if err != nil {
		return fmt.Errorf("netlab: %s %s in %s: %w", what, dev, ns.name, err)
	}
	return nil
}

// AttachToBridge makes the device a port of the bridge.
func (ns *Namespace) AttachToBridge(dev, bridge string) error {
	return ns.change("attach to bridge "+bridge, dev, func(link netlink.Link) error {
		br, err := ns.link.LinkByName(bridge)
		if err != nil {
			return err
		}
		return ns.link.LinkSetMaster(link, br)
	})
}

// AddAddr gives the device an address, IPv4 or IPv6, with its prefix length.
// An IPv6 address is usable at once.
func (ns *Namespace) AddAddr(dev, cidr string) error {
	return ns.change("add address "+cidr+" to", dev, func(link netlink.Link) error {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := ns.link.AddrAdd(link, addr); err != nil {
			return err
		}
		const carrier = unix.IFF_UP | unix.IFF_LOWER_UP
		if link.Attrs().RawFlags&carrier != carrier {
			return nil // usable when it has one
		}
		return ns.AwaitAddr(prefix.Addr())
	})
}

// AwaitAddr waits until the namespace takes what is sent to an address of its
// own. Linux enters an IPv6 address's route a moment after the address, without
// duplicate address detection too.
func (ns *Namespace) AwaitAddr(addr netip.Addr) error {
	if addr.Is4() {
		return nil
	}
	own := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: ipNet(netip.PrefixFrom(addr, addr.BitLen()))}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		routes, err := ns.link.RouteListFiltered(unix.AF_INET6, own, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err != nil {
			return fmt.Errorf("netlab: route of %v in %s: %w", addr, ns.name, err)
		}
		if len(routes) > 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("netlab: address %v in %s cannot be used after 20 s", addr, ns.name)
		}
	}
}

// AddRoute sends what goes to the prefix ("default" for everything, of the
// gateway's family) over the device, through the gateway unless it is empty.
func (ns *Namespace) AddRoute(prefix, gateway, dev string) error {
	return ns.change("add route "+prefix+" via "+dev, dev, func(link netlink.Link) error {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK}
		if gateway != "" {
			addr, err := netip.ParseAddr(gateway)
			if err != nil {
				return err
			}
			route.Gw, route.Scope = addr.AsSlice(), netlink.SCOPE_UNIVERSE
		}
		if prefix == "default" {
			prefix = "0.0.0.0/0"
			if route.Gw != nil && route.Gw.To4() == nil {
				prefix = "::/0"
			}
		}
		p, err := netip.ParsePrefix(prefix)
		if err != nil {
			return err
		}
		route.Dst = ipNet(p)
		return ns.link.RouteAdd(route)
	})
}

// AddNeighbour enters a permanent IP -> MAC mapping, in place of an older one.
func (ns *Namespace) AddNeighbour(dev, ip, mac string) error {
	return ns.change("add neighbour "+ip+" to", dev, func(link netlink.Link) error {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return err
		}
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return err
		}
		return ns.link.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: unix.NUD_PERMANENT,
			IP: addr.AsSlice(), HardwareAddr: hw,
		})
	})
}

// SetUp brings the device up.
func (ns *Namespace) SetUp(dev string) error {
	return ns.change("set up", dev, ns.link.LinkSetUp)
}

// SetDown takes the device down.
func (ns *Namespace) SetDown(dev string) error {
	return ns.change("set down", dev, ns.link.LinkSetDown)
}

// SetMTU sets the largest payload of a frame in bytes.
func (ns *Namespace) SetMTU(dev string, mtu int) error {
	return ns.change(fmt.Sprintf("set MTU %d of", mtu), dev, func(link netlink.Link) error {
		return ns.link.LinkSetMTU(link, mtu)
	})
}

// SetMAC sets the device's own address.
func (ns *Namespace) SetMAC(dev, mac string) error {
	return ns.change("set address "+mac+" of", dev, func(link netlink.Link) error {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return err
		}
		return ns.link.LinkSetHardwareAddr(link, hw)
	})
}

// DelLink removes a device, and with a veth end its other end.
func (ns *Namespace) DelLink(dev string) error {
	return ns.change("delete", dev, ns.link.LinkDel)
}

// ipNet keeps the host bits, which an interface address has beside its prefix.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
