package main

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"text/tabwriter"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/spf13/cobra"
)

func newNexthopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nexthop",
		Short: "Show and change nexthop groups: several VTEPs that share the flows of a MAC",
		Long: `A nexthop group is a list of VTEPs. Entries point to it by its number ('govxlan
fdb add MAC --nhid ID'), and each flow to their MACs goes to one of the VTEPs
(ECMP), whose frames are accepted. A change of the group moves no more flows than
it must.`,
		Example: `  govxlan nexthop add 10 192.168.52.204 192.168.52.205
  govxlan fdb add 02:42:0a:00:01:67 --nhid 10`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newNexthopChangeCommand("add", "Make a nexthop group"),
		newNexthopChangeCommand("replace", "Give a nexthop group other VTEPs, or make it"),
		newNexthopChangeCommand("del", "Remove a nexthop group, and the entries that point to it"),
		newNexthopListCommand())
	return cmd
}

func newNexthopChangeCommand(verb, short string) *cobra.Command {
	var f controlFlags
	var vni vniFlag
	var remoteVNI string
	cmd := &cobra.Command{
		Use:   verb + " ID ADDR[:PORT]... [flags]",
		Short: short,
		Example: "  govxlan nexthop " + verb + " 10 192.168.52.204 192.168.52.205:4790\n" +
			"  govxlan nexthop " + verb + " 10 192.168.52.204 --vni 4097 --remote-vni 7",
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := control.NexthopChange{Verb: verb}
			id, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil || id == 0 {
				return usagef("%q is no ID of a nexthop group: give a number from 1 on", args[0])
			}
			c.ID = uint32(id)
			if c.VNI, err = vni.parse(); err != nil {
				return err
			}
			for _, s := range args[1:] {
				d, err := parseDestination(s, remoteVNI)
				if err != nil {
					return err
				}
				c.Remotes = append(c.Remotes, d)
			}
			return change(cmd, &f, (*control.Client).ChangeNexthops, c)
		},
	}
	f.add(cmd)
	vni.add(cmd, oneVNI)
	if verb == "del" {
		cmd.Use, cmd.Args, cmd.Example = "del ID [flags]", cobra.ExactArgs(1), "  govxlan nexthop del 10"
		return cmd
	}
	cmd.Flags().StringVar(&remoteVNI, "remote-vni", "", "the VNI that these VTEPs get frames with (default: the same)")
	return cmd
}

func newNexthopListCommand() *cobra.Command {
	return showVNIs(&cobra.Command{
		Use:     "list",
		Aliases: []string{"show"},
		Short:   "Show the nexthop groups",
		Example: `  govxlan nexthop list
  govxlan nexthop list --vni 4097 --json`,
	}, (*control.Client).Nexthops, printNexthops)
}

func printNexthops(w io.Writer, groups []vtep.NexthopStatus) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VNI\tID\tVTEP")
	for _, g := range groups {
		for _, r := range g.Remotes {
			to := netip.AddrPortFrom(r.VTEP, r.Port).String()
			if r.VNI != nil {
				to += fmt.Sprintf(" vni %v", *r.VNI)
			}
			fmt.Fprintf(t, "%v\t%d\t%s\n", g.VNI, g.ID, to)
		}
	}
	return t.Flush()
}
