package main

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/govxlan/govxlan/vtep"
)

// planGroups checks --group and what belongs to it.
func (f *upFlags) planGroups(p *upPlan) error {
	if len(f.groups) > 0 && f.dev == "" {
		return usagef("--group %s needs --dev IF: the underlay interface to join it on", f.groups[0])
	}
	if len(f.groups) > 0 && f.transport == "packet" {
		return usagef("--group %s with --transport packet: groups are joined by --transport udp alone", f.groups[0])
	}
	if f.multicastTTL < 1 || f.multicastTTL > 255 {
		return usagef("--multicast-ttl %d: give 1 to 255", f.multicastTTL)
	}
	p.multicastTTL = f.multicastTTL
	for _, s := range f.groups {
		g, err := parseGroup(s, f.port)
		if err != nil {
			return err
		}
		if z := g.Addr().Zone(); z != "" && z != f.dev {
			return usagef("--group %s names another interface than --dev %s", s, f.dev)
		}
		group := vtep.Group{Addr: netip.AddrPortFrom(g.Addr().WithZone(""), g.Port()), Device: f.dev}
		if !slices.Contains(p.groups, group) {
			p.groups = append(p.groups, group)
		}
	}
	return nil
}

// parseGroup reads ADDR, ADDR:PORT or [ADDR6]:PORT.
func parseGroup(s string, port uint16) (netip.AddrPort, error) {
	g, err := netip.ParseAddrPort(s)
	if err != nil {
		a, err := netip.ParseAddr(strings.Trim(s, "[]"))
		if err != nil {
			return g, usagef("--group %q: give a multicast address such as 239.1.1.1 or ff05::100", s)
		}
		g = netip.AddrPortFrom(a, port)
	}
	g = netip.AddrPortFrom(g.Addr().Unmap(), g.Port())
	switch {
	case !g.Addr().IsMulticast():
		return g, usagef("--group %s: that is no multicast address (224.0.0.0/4, ff00::/8); for one VTEP give --peer", s)
	case g.Addr().IsInterfaceLocalMulticast():
		return g, usagef("--group %s: what is sent to it never leaves the host; ff02:: to ff0e:: do", s)
	case g.Port() == 0:
		return g, usagef("--group %s: port 0 cannot be sent to", s)
	}
	return g, nil
}

// groupWords names the groups in the line that says that frames can flow.
func groupWords(p *upPlan) string {
	var names []string
	for _, g := range p.groups {
		if g.Addr.Port() == p.port {
			names = append(names, g.Addr.Addr().String())
		} else {
			names = append(names, g.Addr.String())
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " groups " + strings.Join(names, ",") + " dev " + p.dev
}
