package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

func parseMACArgument(s string) (vxlan.MAC, error) {
	mac, err := vxlan.ParseMAC(s)
	if err != nil {
		return mac, usagef("%q is no MAC address: give six bytes, such as 02:42:0a:00:01:67", s)
	}
	return mac, nil
}

func newFDBCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fdb",
		Short: "Show and change the forwarding table of the running endpoint",
		Long: `Show and change which MAC is behind which VTEP, as 'bridge fdb' does for a
kernel device. 00:00:00:00:00:00 stands for the flood list: the VTEPs that get a
copy of broadcast, unknown unicast and multicast frames.`,
		Example: `  govxlan fdb show
  govxlan fdb add 02:42:0a:00:01:67 192.168.52.204
  govxlan fdb flush --learned`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFDBShowCommand(), newFDBDelCommand(), newFDBFlushCommand(),
		newFDBSetCommand("add", "Add an entry; one that is there already is an error",
			"A frame from a MAC with a static or permanent entry is dropped when it comes from\nelsewhere. A dynamic entry ages and moves as a learned one."),
		newFDBSetCommand("append", "Add one more VTEP for a multicast MAC or to the flood list",
			"A unicast MAC that has an entry keeps it as it is; one that has none gets one."),
		newFDBSetCommand("replace", "Add an entry of a unicast MAC, in place of an older one", ""))
	return cmd
}

// fdbSetFlags are the flags of add, append and replace.
type fdbSetFlags struct {
	controlFlags
	vni                        vniFlag
	remoteVNI                  string
	nhid                       uint32
	static, permanent, dynamic bool
}

func newFDBSetCommand(verb, short, long string) *cobra.Command {
	var f fdbSetFlags
	cmd := &cobra.Command{
		Use:   verb + " MAC ADDR[:PORT] [flags]",
		Short: short,
		Long:  short + ".\n\n" + long,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wish, err := f.wish(verb, args)
			if err != nil {
				return err
			}
			return change(cmd, &f.controlFlags, (*control.Client).ChangeFDB, wish)
		},
	}
	switch verb {
	case "add":
		cmd.Example = `  govxlan fdb add 02:42:0a:00:01:67 192.168.52.204
  govxlan fdb add 02:42:0a:00:01:67 192.168.52.205:4790 --remote-vni 7 --dynamic
  govxlan fdb add 02:42:0a:00:01:67 --nhid 10`
	case "append":
		cmd.Example = `  govxlan fdb append 00:00:00:00:00:00 192.168.52.205
  govxlan fdb append 01:00:5e:01:01:01 192.168.52.205 --remote-vni 7`
	case "replace":
		cmd.Example = `  govxlan fdb replace 02:42:0a:00:01:67 192.168.52.205
  govxlan fdb replace 02:42:0a:00:01:67 192.168.52.205 --vni 4097 --permanent`
	}
	f.controlFlags.add(cmd)
	f.vni.add(cmd, oneVNI)
	fs := cmd.Flags()
	fs.StringVar(&f.remoteVNI, "remote-vni", "", "the VNI that the VTEP gets these frames with (default: the same)")
	fs.Uint32Var(&f.nhid, "nhid", 0, "lead to this nexthop group instead of an address (see 'govxlan nexthop')")
	fs.BoolVar(&f.static, "static", false, "the entry does not age or move (default)")
	fs.BoolVar(&f.permanent, "permanent", false, "as --static, and kept by 'fdb flush --nopermanent'")
	fs.BoolVar(&f.dynamic, "dynamic", false, "the entry ages and moves as if it was learned")
	return cmd
}

// wish is what the command line asks for. Its errors are all of wrong usage.
func (f *fdbSetFlags) wish(verb string, args []string) (c control.FDBChange, err error) {
	c.Verb = verb
	if c.MAC, err = parseMACArgument(args[0]); err != nil {
		return c, err
	}
	if c.VNI, err = f.vni.parse(); err != nil {
		return c, err
	}
	kinds := 0
	for name, on := range map[string]bool{"static": f.static, "permanent": f.permanent, "dynamic": f.dynamic} {
		if on {
			c.Kind = name
			kinds++
		}
	}
	if kinds > 1 {
		return c, usagef("--static, --permanent and --dynamic: give one of them")
	}
	args = args[1:]
	if len(args) == 2 && args[0] == "dst" { // as 'bridge fdb' has it
		args = args[1:]
	}
	switch {
	case f.nhid != 0 && len(args) > 0:
		return c, usagef("--nhid %d and the address %q: an entry leads to one or the other", f.nhid, args[0])
	case f.nhid != 0 && f.remoteVNI != "":
		return c, usagef("--nhid and --remote-vni: the VNI is given to the remotes of the nexthop group")
	case f.nhid != 0 && f.dynamic:
		return c, usagef("--nhid and --dynamic: an entry that leads to a nexthop group does not age")
	case f.nhid != 0:
		c.Nexthops = f.nhid
		return c, nil
	case len(args) == 0:
		return c, usagef("fdb %s %v needs the address of a VTEP, or --nhid", verb, c.MAC)
	case len(args) > 1:
		return c, usagef("fdb %s: %q is one argument too many; give MAC ADDR[:PORT]", verb, args[1])
	}
	c.Destination, err = parseDestination(args[0], f.remoteVNI)
	return c, err
}

// parseDestination reads ADDR, ADDR:PORT or [ADDR6]:PORT, and --remote-vni.
func parseDestination(s, remoteVNI string) (d control.Destination, err error) {
	to, err := config.ParseVTEP(s)
	if err != nil {
		return d, usageError{err}
	}
	d.VTEP, d.Port = to.Addr(), to.Port()
	v, err := parseVNI("--remote-vni", remoteVNI)
	if v != nil {
		d.RemoteVNI = *v
	}
	return d, err
}

func newFDBDelCommand() *cobra.Command {
	var f controlFlags
	var vni vniFlag
	var remoteVNI string
	cmd := &cobra.Command{
		Use:   "del MAC [ADDR[:PORT]] [flags]",
		Short: "Remove an entry, or one of its VTEPs",
		Long: `Remove the entry of a MAC, or with an address that one of its VTEPs, and with the
last one the entry.`,
		Example: `  govxlan fdb del 02:42:0a:00:01:67
  govxlan fdb del 00:00:00:00:00:00 192.168.52.205`,
		Args: cobra.RangeArgs(1, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := control.FDBChange{Verb: "del"}
			var err error
			if c.MAC, err = parseMACArgument(args[0]); err != nil {
				return err
			}
			if c.VNI, err = vni.parse(); err != nil {
				return err
			}
			args = args[1:]
			if len(args) == 2 && args[0] == "dst" {
				args = args[1:]
			}
			switch {
			case len(args) == 1:
				if c.Destination, err = parseDestination(args[0], remoteVNI); err != nil {
					return err
				}
			case len(args) > 1:
				return usagef("fdb del: %q is one argument too many; give MAC, or MAC ADDR[:PORT]", args[1])
			case remoteVNI != "":
				return usagef("--remote-vni %s needs the address of the VTEP too", remoteVNI)
			}
			return change(cmd, &f, (*control.Client).ChangeFDB, c)
		},
	}
	f.add(cmd)
	vni.add(cmd, oneVNI)
	cmd.Flags().StringVar(&remoteVNI, "remote-vni", "", "the VNI of the VTEP to remove")
	return cmd
}

func newFDBFlushCommand() *cobra.Command {
	var f controlFlags
	var vni vniFlag
	var learned, nopermanent bool
	var to, remoteVNI string
	var nhid uint32
	cmd := &cobra.Command{
		Use:   "flush [flags]",
		Short: "Remove all entries, or those that flags choose; the flood list stays",
		Example: `  govxlan fdb flush --learned
  govxlan fdb flush --vni 4097 --vtep 192.168.52.204`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := control.FDBChange{Verb: "flush"}
			var err error
			if c.VNI, err = vni.parse(); err != nil {
				return err
			}
			switch {
			case learned && nopermanent:
				return usagef("--learned and --nopermanent: give one of them")
			case learned:
				c.Kinds = []string{"learned"}
			case nopermanent:
				c.Kinds = []string{"learned", "dynamic", "static"}
			}
			if nhid != 0 && (to != "" || remoteVNI != "") {
				return usagef("--nhid and --vtep or --remote-vni: an entry leads to one or the other")
			}
			if to != "" {
				if c.Destination, err = parseDestination(to, ""); err != nil {
					return err
				}
			}
			v, err := parseVNI("--remote-vni", remoteVNI)
			if err != nil {
				return err
			}
			if v != nil {
				c.RemoteVNI = *v
			}
			c.Nexthops = nhid
			client, err := f.client()
			if err != nil {
				return err
			}
			done, err := client.ChangeFDB(cmd.Context(), c)
			switch {
			case err != nil:
				return err
			case f.json:
				return printJSON(cmd.OutOrStdout(), done)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d removed\n", done.Removed)
			return err
		},
	}
	f.add(cmd)
	vni.add(cmd, oneVNI)
	fs := cmd.Flags()
	fs.BoolVar(&learned, "learned", false, "only learned entries")
	fs.BoolVar(&nopermanent, "nopermanent", false, "only entries that are not permanent")
	fs.StringVar(&to, "vtep", "", "only entries that lead to this VTEP, ADDR[:PORT]")
	fs.StringVar(&remoteVNI, "remote-vni", "", "only entries with this VNI of the remote")
	fs.Uint32Var(&nhid, "nhid", 0, "only entries that lead to this nexthop group")
	return cmd
}

func newFDBShowCommand() *cobra.Command {
	var f controlFlags
	var vni vniFlag
	var mac string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show which MAC is behind which VTEP; 00:00:00:00:00:00 is the flood list",
		Example: `  govxlan fdb show
  govxlan fdb show --vni 4097 --mac 02:42:0a:00:01:67 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			only, err := vni.only()
			if err != nil {
				return err
			}
			var want vxlan.MAC
			if mac != "" {
				if want, err = vxlan.ParseMAC(mac); err != nil {
					return usagef("--mac %q: give six bytes, such as 02:42:0a:00:01:64", mac)
				}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			entries, err := client.FDB(cmd.Context(), only...)
			if err != nil {
				return err
			}
			shown := []vtep.EntryStatus{}
			for _, e := range entries {
				if mac == "" || e.MAC == want {
					shown = append(shown, e)
				}
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), shown)
			}
			return printFDB(cmd.OutOrStdout(), shown)
		},
	}
	f.add(cmd)
	vni.add(cmd, "only this VNI")
	cmd.Flags().StringVar(&mac, "mac", "", "only this MAC")
	return cmd
}

// printFDB prints entries as a table, with a column for the VNIs of remotes if
// one has its own.
func printFDB(w io.Writer, entries []vtep.EntryStatus) error {
	translated := slices.ContainsFunc(entries, func(e vtep.EntryStatus) bool { return e.RemoteVNI != nil })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(vni, mac, to, port, remote, kind, age string) {
		if translated {
			port += "\t" + remote
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", vni, mac, to, port, kind, age)
	}
	row("VNI", "MAC", "VTEP", "PORT", "REMOTE VNI", "KIND", "AGE")
	for _, e := range entries {
		to, port, remote, age := e.VTEP.String(), strconv.Itoa(int(e.Port)), "-", "-"
		if e.Nexthops != 0 {
			to, port = fmt.Sprintf("nhid %d", e.Nexthops), "-"
		}
		if e.RemoteVNI != nil {
			remote = e.RemoteVNI.String()
		}
		if e.Age != nil {
			age = duration(*e.Age).String()
		}
		kind := e.Kind
		if e.Held {
			kind += ", held"
		}
		row(e.VNI.String(), e.MAC.String(), to, port, remote, kind, age)
	}
	return t.Flush()
}
