package netlab

import (
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
)

// Link is one network device of a namespace.
type Link struct {
	Index  int
	Name   string
	Kind   string // veth, bridge, vxlan, tun, device for the loopback
	MAC    string
	MTU    int
	Up     bool
	Bridge string // the bridge whose port it is, or ""
	Addrs  []string
}

// Links lists the devices of the namespace, the loopback included.
func (ns *Namespace) Links() ([]Link, error) {
	list, err := ns.link.LinkList()
	if err != nil {
		return nil, fmt.Errorf("netlab: list links of %s: %w", ns.name, err)
	}
	names := make(map[int]string)
	for _, l := range list {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	links := make([]Link, 0, len(list))
	for _, l := range list {
		a := l.Attrs()
		link := Link{
			Index: a.Index, Name: a.Name, Kind: l.Type(), MAC: a.HardwareAddr.String(),
			MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Bridge: names[a.MasterIndex],
		}
		addrs, err := ns.link.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("netlab: list addresses of %s in %s: %w", a.Name, ns.name, err)
		}
		for _, addr := range addrs {
			link.Addrs = append(link.Addrs, addr.IPNet.String())
		}
		links = append(links, link)
	}
	return links, nil
}

// Link returns one device by name.
func (ns *Namespace) Link(dev string) (Link, error) {
	links, err := ns.Links()
	if err != nil {
		return Link{}, err
	}
	for _, l := range links {
		if l.Name == dev {
			return l, nil
		}
	}
	return Link{}, fmt.Errorf("netlab: no device %s in %s", dev, ns.name)
}

// DumpLinks writes what there is in every namespace, devices with their
// addresses and forwarding tables: what one wants to see when a test failed.
func (l *Lab) DumpLinks(w io.Writer) {
	l.mu.Lock()
	namespaces := l.namespaces
	l.mu.Unlock()
	for _, ns := range namespaces {
		fmt.Fprintf(w, "%s\n", ns.name)
		links, err := ns.Links()
		if err != nil {
			fmt.Fprintf(w, "  %v\n", err)
		}
		for _, link := range links {
			state := "down"
			if link.Up {
				state = "up"
			}
			fmt.Fprintf(w, "  %d %s %s %s mtu %d %s", link.Index, link.Name, link.Kind, state, link.MTU, link.MAC)
			if link.Bridge != "" {
				fmt.Fprintf(w, " bridge %s", link.Bridge)
			}
			fmt.Fprintf(w, " %s\n", strings.Join(link.Addrs, " "))
			if link.Kind != "bridge" && link.Kind != "vxlan" {
				continue
			}
			entries, err := ns.FDB(link.Name)
			if err != nil {
				fmt.Fprintf(w, "    %v\n", err)
			}
			for _, e := range entries {
				fmt.Fprintf(w, "    %s\n", e)
			}
		}
	}
}
