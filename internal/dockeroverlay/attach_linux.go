package dockeroverlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Newcomer is a host that is no node of the swarm, in a network of it.
type Newcomer struct {
	VTEP netip.Addr
	MAC  vxlan.MAC
	IP   netip.Addr
}

// ErrTaken: the address or the MAC is a container's.
var ErrTaken = errors.New("it is taken")

// ErrNotAttached: the sandbox has nothing of the newcomer.
var ErrNotAttached = errors.New("it is not attached")

// Attach has the containers of this node reach a newcomer: an FDB entry and a neighbour
// of the vxlan device, both permanent. What is there already stays; on failure nothing
// is left.
func (n *Network) Attach(c Newcomer) error {
	for _, s := range n.Stations {
		same := s.MAC == c.MAC && s.VTEP == c.VTEP && !s.Here
		if !same && (s.MAC == c.MAC || s.IP.IsValid() && s.IP == c.IP) {
			return fmt.Errorf("%v at %v in %v: %w by %v at %v, behind VTEP %v", c.IP, c.MAC, n, ErrTaken, s.IP, s.MAC, s.VTEP)
		}
	}
	return namespace.Do(n.Sandbox, func() error {
		entry, neighbour, err := n.records(c)
		if err != nil {
			return err
		}
		has, err := holds(entry)
		if err != nil {
			return err
		}
		if err := netlink.NeighSet(entry); err != nil {
			return fmt.Errorf("FDB entry of %s: %w", n.Device, err)
		}
		if err := netlink.NeighSet(neighbour); err != nil {
			err = fmt.Errorf("neighbour of %s: %w", n.Device, err)
			if !has {
				err = errors.Join(err, netlink.NeighDel(entry))
			}
			return err
		}
		return nil
	})
}

// Detach takes that away.
func (n *Network) Detach(c Newcomer) error {
	return namespace.Do(n.Sandbox, func() error {
		entry, neighbour, err := n.records(c)
		if err != nil {
			return err
		}
		removed := false
		var errs []error
		for _, record := range []*netlink.Neigh{entry, neighbour} {
			has, err := holds(record)
			if err == nil && has {
				err = netlink.NeighDel(record)
				removed = true
			}
			errs = append(errs, err)
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("%s: %w", n.Device, err)
		}
		if !removed {
			return fmt.Errorf("%v at %v behind VTEP %v in %v: %w", c.IP, c.MAC, c.VTEP, n, ErrNotAttached)
		}
		return nil
	})
}

// records are the entry and the neighbour, in the sandbox.
func (n *Network) records(c Newcomer) (entry, neighbour *netlink.Neigh, err error) {
	link, err := netlink.LinkByName(n.Device)
	if err != nil {
		return nil, nil, fmt.Errorf("%s in the sandbox of %v: %w", n.Device, n, err)
	}
	index, mac := link.Attrs().Index, net.HardwareAddr(c.MAC[:])
	family := unix.AF_INET
	if c.IP.Is6() {
		family = unix.AF_INET6
	}
	entry = &netlink.Neigh{
		LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, Flags: netlink.NTF_SELF,
		IP: c.VTEP.AsSlice(), HardwareAddr: mac,
	}
	neighbour = &netlink.Neigh{LinkIndex: index, Family: family, State: netlink.NUD_PERMANENT, IP: c.IP.AsSlice(), HardwareAddr: mac}
	return entry, neighbour, nil
}

// holds says whether a record is there, with the same MAC and address.
func holds(want *netlink.Neigh) (bool, error) {
	all, err := netlink.NeighList(want.LinkIndex, want.Family)
	for _, has := range all {
		if has.HardwareAddr.String() == want.HardwareAddr.String() && has.IP.Equal(want.IP) {
			return true, err
		}
	}
	return false, err
}
