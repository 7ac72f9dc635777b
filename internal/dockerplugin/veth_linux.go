package dockerplugin

import (
	"errors"
	"fmt"
	"net"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// makeVeth makes the pair of an endpoint: one end in this namespace, for Docker
// to take, the other a port of the sandbox's bridge. A pair that is there stays.
func makeVeth(sandbox string, e *endpoint, mtu int) (err error) {
	if _, err := netlink.LinkByName(e.link()); err == nil {
		return connectVeth(sandbox, e, mtu)
	}
	// Of a container that is gone.
	if err := removeVeth(sandbox, e); err != nil {
		return err
	}
	target, err := netns.GetFromPath(sandbox)
	if err != nil {
		return fmt.Errorf("sandbox %s: %w", sandbox, err)
	}
	defer target.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = e.link(), mtu, net.HardwareAddr(e.MAC[:])
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: e.far(), PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(target)}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("veth pair %s: %w", e.link(), err)
	}
	if err := connectVeth(sandbox, e, mtu); err != nil {
		return errors.Join(err, removeVeth(sandbox, e))
	}
	return nil
}

// connectVeth makes the far end a port of the bridge.
func connectVeth(sandbox string, e *endpoint, mtu int) error {
	return namespace.Do(sandbox, func() error {
		far, err := netlink.LinkByName(e.far())
		if err != nil {
			return fmt.Errorf("veth %s in the sandbox: %w", e.far(), err)
		}
		bridge, err := netlink.LinkByName(bridgeName)
		if err == nil {
			err = netlink.LinkSetMaster(far, bridge)
		}
		if err == nil {
			err = netlink.LinkSetMTU(far, mtu)
		}
		if err == nil {
			err = netlink.LinkSetUp(far)
		}
		if err == nil {
			// The bridge may have learned that the MAC is far away, where the
			// container was before.
			err = netlink.NeighSet(&netlink.Neigh{
				LinkIndex: far.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER,
				State: netlink.NUD_NOARP, HardwareAddr: net.HardwareAddr(e.MAC[:]),
			})
		}
		if err != nil {
			return fmt.Errorf("veth %s, port of %s: %w", e.far(), bridgeName, err)
		}
		return nil
	})
}

// removeVeth removes the pair of an endpoint, wherever its container's end is.
func removeVeth(sandbox string, e *endpoint) error {
	err := namespace.Do(sandbox, func() error { return removeLink(e.far()) })
	if errors.Is(err, namespace.ErrNotFound) {
		err = nil
	}
	return errors.Join(err, removeLink(e.link()))
}

// removeLink removes a link of the calling thread's namespace. One that is not
// there is no error.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove link %s: %w", name, err)
	}
	return nil
}
