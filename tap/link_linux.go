package tap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var _ Link = (*linuxDevice)(nil)

// change calls f with the interface, in its namespace.
func (d *linuxDevice) change(what string, f func(netlink.Link) error) error {
	err := namespace.Do(d.netns, func() error {
		link, err := netlink.LinkByIndex(d.index)
		if err != nil {
			return err
		}
		return f(link)
	})
	if err != nil {
		return fmt.Errorf("tap %s: %s: %w", d.name, what, err)
	}
	return nil
}

func (d *linuxDevice) AddAddr(a netip.Prefix) error {
	return d.change(fmt.Sprintf("add address %v", a), func(link netlink.Link) error {
		if err := netlink.AddrAdd(link, ipAddr(a)); !errors.Is(err, unix.EEXIST) {
			return err
		}
		return nil
	})
}

func (d *linuxDevice) DelAddr(a netip.Prefix) error {
	return d.change(fmt.Sprintf("delete address %v", a), func(link netlink.Link) error {
		if err := netlink.AddrDel(link, ipAddr(a)); !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
		return nil
	})
}

// ipAddr is an address as netlink has it.
func ipAddr(a netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}}
}

func (d *linuxDevice) SetBridge(name string, superframeBytes int) error {
	what := "leave the bridge"
	if name != "" {
		what = "join bridge " + name
	}
	return d.change(what, func(link netlink.Link) error {
		if d.features.load()&(TSO4|TSO6|USO) != 0 {
			bytes := maxGSOBytes
			if superframeBytes > 0 {
				bytes = min(bytes, superframeBytes)
			}
			if err := netlink.LinkSetGSOMaxSize(link, bytes); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("set gso_max_size: %w", err)
			}
		}
		if name == "" {
			return netlink.LinkSetNoMaster(link)
		}
		bridge, err := bridgeByName(netlink.LinkByName, name)
		if err != nil {
			return err
		}
		return netlink.LinkSetMaster(link, bridge)
	})
}

// bridgeByName finds a bridge by its name.
func bridgeByName(find func(string) (netlink.Link, error), name string) (netlink.Link, error) {
	bridge, err := find(name)
	if err != nil {
		return nil, fmt.Errorf("bridge %s: %w (make it with 'ip link add %s type bridge')", name, ErrNoBridge, name)
	}
	if bridge.Type() != "bridge" {
		return nil, fmt.Errorf("bridge %s: %w: it is a %s device", name, ErrNoBridge, bridge.Type())
	}
	return bridge, nil
}
