package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

// arpFlags are the flags of up about ARP and neighbour discovery.
type arpFlags struct {
	mode   string
	proxy  bool
	neighs []string
	snoop  bool
}

func (f *arpFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.mode, "arp", "", "ARP and neighbour discovery: flood; suppress: answer what is known, flood the rest; proxy: answer or drop (default flood)")
	fs.BoolVar(&f.proxy, "proxy", false, "the same as --arp proxy")
	fs.StringSliceVar(&f.neighs, "neigh", nil, "static neighbour IP=MAC, for --arp suppress and proxy; repeatable")
	fs.BoolVar(&f.snoop, "neigh-snoop", false, "learn neighbours from the ARP and neighbour discovery of both sides")
}

// arpPlan is what they mean.
type arpPlan struct {
	mode       vtep.ARPMode
	neighbours []vtep.Neighbour
	snoop      bool
}

// plan checks the flags. Its errors are all of wrong usage.
func (f *arpFlags) plan() (p arpPlan, err error) {
	if f.mode != "" {
		if p.mode, err = vtep.ParseARPMode(f.mode); err != nil {
			return p, usagef("--arp %q: give flood, suppress or proxy", f.mode)
		}
		if f.proxy && p.mode != vtep.ARPProxy {
			return p, usagef("--proxy and --arp %s: --proxy means --arp proxy, so leave one of them out", f.mode)
		}
	}
	if f.proxy {
		p.mode = vtep.ARPProxy
	}
	for _, s := range f.neighs {
		ip, mac, ok := strings.Cut(s, "=")
		if !ok {
			return p, usagef("--neigh %q: give IP=MAC, such as 10.0.1.103=02:42:0a:00:01:67", s)
		}
		n, err := parseNeighbour(ip, mac)
		if err != nil {
			return p, usagef("--neigh %q: %w", s, err)
		}
		for _, had := range p.neighbours {
			if had.IP == n.IP {
				return p, usagef("--neigh %q: %v has a MAC already", s, n.IP)
			}
		}
		p.neighbours = append(p.neighbours, n)
	}
	if p.mode == vtep.ARPFlood {
		const useless = "%s and --arp flood: where all is flooded nothing is answered; add --arp suppress or --arp proxy"
		if len(f.neighs) > 0 {
			return p, usagef(useless, "--neigh")
		}
		if f.snoop {
			return p, usagef(useless, "--neigh-snoop")
		}
	}
	p.snoop = f.snoop
	return p, nil
}

// parseNeighbour reads the addresses of a neighbour.
func parseNeighbour(ip, mac string) (n vtep.Neighbour, err error) {
	a, err := netip.ParseAddr(ip)
	if err != nil || a.Zone() != "" {
		return n, fmt.Errorf("%q is no IP address: give one such as 10.0.1.103 or fd10::103", ip)
	}
	n.IP = a.Unmap()
	if n.IP.IsMulticast() || n.IP.IsUnspecified() || n.IP.IsLoopback() {
		return n, fmt.Errorf("%v is not the address of one station of a network", n.IP)
	}
	if n.MAC, err = vxlan.ParseMAC(mac); err != nil {
		return n, fmt.Errorf("%q is no MAC address: give six bytes, such as 02:42:0a:00:01:67", mac)
	}
	if n.MAC.IsMulticast() || n.MAC.IsZero() {
		return n, fmt.Errorf("%v is not the MAC address of one station", n.MAC)
	}
	return n, nil
}

func newNeighCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "neigh",
		Short: "Show and change what --arp suppress and proxy answer",
		Long: `Show and change the neighbours of the running endpoint: which MAC address an IP
address of the overlay has. Where it was started with --arp suppress or --arp proxy
(--proxy), it answers ARP requests and IPv6 neighbour solicitations for them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNeighShowCommand(), newNeighDelCommand(),
		newNeighSetCommand("add", "Add a neighbour; a static one that is there already is an error"),
		newNeighSetCommand("replace", "Add a neighbour, in place of an older one"))
	return cmd
}

func newNeighShowCommand() *cobra.Command {
	return showVNIs(&cobra.Command{
		Use:   "show",
		Short: "Show which MAC an IP address has",
		Long: `Show which MAC an IP address has, and how that is known: static ones were entered,
snooped ones were heard of (--neigh-snoop) and age. "here" stands for a station on
the device's own side, which answers for itself.`,
	}, (*control.Client).Neighbours, printNeighbours)
}

func printNeighbours(w io.Writer, all []vtep.NeighbourStatus) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VNI\tIP\tMAC\tKIND\tFLAGS\tAGE")
	for _, n := range all {
		age, flags := "-", ""
		if n.Age != nil {
			age = duration(*n.Age).String()
		}
		if n.Router {
			flags = "router"
		}
		if n.Here {
			flags = strings.TrimPrefix(flags+",here", ",")
		}
		if flags == "" {
			flags = "-"
		}
		fmt.Fprintf(t, "%v\t%v\t%v\t%s\t%s\t%s\n", n.VNI, n.IP, n.MAC, n.Kind, flags, age)
	}
	return t.Flush()
}

func newNeighSetCommand(verb, short string) *cobra.Command {
	var f controlFlags
	var vni vniFlag
	var router bool
	cmd := &cobra.Command{
		Use:     verb + " IP MAC [flags]",
		Short:   short,
		Example: "  govxlan neigh " + verb + " 10.0.1.103 02:42:0a:00:01:67\n  govxlan neigh " + verb + " fd10::1 02:42:0a:00:01:01 --router",
		Args:    cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 3 && args[1] == "lladdr" { // as 'ip neigh' has it
				args = append(args[:1:1], args[2])
			}
			if len(args) != 2 {
				return usagef("neigh %s: %q is one argument too many; give IP MAC", verb, args[2])
			}
			n, err := parseNeighbour(args[0], args[1])
			if err != nil {
				return usagef("neigh %s: %w", verb, err)
			}
			n.Router = router
			return changeNeighbour(cmd, &f, &vni, control.NeighbourChange{Verb: verb, Neighbour: n})
		},
	}
	f.add(cmd)
	vni.add(cmd, oneVNI)
	cmd.Flags().BoolVar(&router, "router", false, "it is a router, and advertised as one (IPv6)")
	return cmd
}

func newNeighDelCommand() *cobra.Command {
	var f controlFlags
	var vni vniFlag
	cmd := &cobra.Command{
		Use:   "del IP [flags]",
		Short: "Remove a neighbour, static or snooped",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ip, err := netip.ParseAddr(args[0])
			if err != nil {
				return usagef("neigh del: %q is no IP address: give one such as 10.0.1.103 or fd10::103", args[0])
			}
			return changeNeighbour(cmd, &f, &vni, control.NeighbourChange{Verb: "del", Neighbour: vtep.Neighbour{IP: ip}})
		},
	}
	f.add(cmd)
	vni.add(cmd, oneVNI)
	return cmd
}

// changeNeighbour has the running endpoint do it. What worked needs no words, as
// with 'ip neigh'.
func changeNeighbour(cmd *cobra.Command, f *controlFlags, vni *vniFlag, wish control.NeighbourChange) (err error) {
	if wish.VNI, err = vni.parse(); err != nil {
		return err
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	done, err := client.ChangeNeighbour(cmd.Context(), wish)
	if err != nil || !f.json {
		return err
	}
	return printJSON(cmd.OutOrStdout(), done)
}
