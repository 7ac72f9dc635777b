package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/spf13/cobra"
)

func newNeighCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "neigh",
		Short: "Show and change what --arp suppress and proxy answer",
		Long: `Show and change the neighbours of the running endpoint: which MAC address an IP
address of the overlay has. Where it was started with --arp suppress or --arp proxy
(--proxy), it answers ARP requests and IPv6 neighbour solicitations for them.`,
		Example: `  govxlan neigh show
  govxlan neigh add 10.0.1.103 02:42:0a:00:01:67`,
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
		Example: `  govxlan neigh show
  govxlan neigh show --vni 4097 --json`,
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
			n, err := config.ParseNeighbour(args[0], args[1])
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
		Example: `  govxlan neigh del 10.0.1.103
  govxlan neigh del fd10::103 --vni 4097`,
		Args: cobra.ExactArgs(1),
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

// changeNeighbour has the running endpoint do it.
func changeNeighbour(cmd *cobra.Command, f *controlFlags, vni *vniFlag, wish control.NeighbourChange) (err error) {
	if wish.VNI, err = vni.parse(); err != nil {
		return err
	}
	return change(cmd, f, (*control.Client).ChangeNeighbour, wish)
}
