package main

import (
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"

	"github.com/govxlan/govxlan/internal/dockeroverlay"
)

// printNetworks prints an overlay network of Docker, and a line for each container.
func printNetworks(w io.Writer, all []dockeroverlay.Network) error {
	for i := range all {
		n := &all[i]
		if i > 0 {
			fmt.Fprintln(w)
		}
		name := n.Name
		if name == "" {
			name = n.ID
		}
		local := "unknown"
		if n.Local.IsValid() {
			local = n.Local.String()
		}
		fmt.Fprintf(w, "%s  vni %v  port %d  mtu %d  local %s\n", name, n.VNI, n.Port, n.MTU, local)
		fmt.Fprintf(w, "  sandbox %s  device %s  bridge %s\n", n.Sandbox, n.Device, n.Bridge)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  IP\tMAC\tVTEP\tCONTAINER")
		for _, s := range n.Stations {
			fmt.Fprintf(t, "  %s\t%v\t%s\t%s\n", orDash(s.IP), s.MAC, where(s), remark(s))
		}
		if len(n.Stations) == 0 {
			fmt.Fprintln(t, "  none")
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func orDash(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

func where(s dockeroverlay.Station) string {
	if s.Here {
		return "here"
	}
	return orDash(s.VTEP)
}

// remark is the name of a container, or what is wrong with what is known of it.
func remark(s dockeroverlay.Station) string {
	switch {
	case s.Here && s.Name == "":
		return "-"
	case s.Here:
		return s.Name
	case !s.Entry:
		return "no FDB entry: frames for it are dropped"
	case !s.Neighbour:
		return "no neighbour: nobody here gets its MAC"
	}
	return "-"
}
