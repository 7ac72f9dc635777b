package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

func newVNICommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vni",
		Short: "Show and change the VNIs of the running endpoint",
		Long: `Show and change the VNIs of the running endpoint. One process owns one UDP port and
carries any number of VNIs; each has a device, peers and a table of its own.`,
		Example: `  govxlan vni list
  govxlan vni add 4098 --peer 192.168.52.204`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newVNIAddCommand(), newVNIDelCommand(), newVNIListCommand())
	return cmd
}

// vniArgument reads the VNI that a command names.
func vniArgument(cmd *cobra.Command, text string) (vxlan.VNI, error) {
	v, err := vxlan.ParseVNI(text)
	if err != nil {
		return 0, usagef("%s: %q is no VNI: give a number from 0 to %d", strings.TrimPrefix(cmd.CommandPath(), "govxlan "), text, vxlan.MaxVNI)
	}
	return v, nil
}

func newVNIAddCommand() *cobra.Command {
	var f controlFlags
	var typed config.Values
	cmd := &cobra.Command{
		Use:   "add N [flags]",
		Short: "Add a VNI: its device is made in the running process",
		Long: `Add a VNI to the running endpoint: its device is made in the running process, and
removed by 'govxlan vni del', or with the process. The flags are those of
'govxlan up', as far as they concern one VNI; what the top of the configuration file
says for every VNI holds for this one too. It prints the line that 'govxlan up'
prints when frames can flow.`,
		Example: `  govxlan vni add 4098 --peer 192.168.52.204 --addr 10.0.2.100/24
  govxlan vni add 4099 --peer 192.168.52.204,192.168.52.205 --netns sandbox --bridge br0`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := vniArgument(cmd, args[0])
			if err != nil {
				return err
			}
			if _, ok := typed["vni"]; ok {
				return usagef("vni add: the VNI is the argument, %s: leave --vni out", args[0])
			}
			typed["vni"] = config.Value{Texts: []string{v.String()}}
			if err := typed.Check(); err != nil {
				return judge(err)
			}
			wish := control.VNIWish{Verb: "add", Options: typed.ToWords()}
			if netns, ok := typed["netns"]; ok {
				var path string
				if path, wish.Namespace, err = namespaceOf(netns.Texts[0]); err != nil {
					return err
				}
				wish.Options["netns"] = []string{path}
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			done, err := client.ChangeVNI(cmd.Context(), wish)
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), done)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), done.Line)
			return err
		},
	}
	f.add(cmd)
	typed = config.AddFlags(cmd.Flags(), true)
	// It is the argument here.
	if err := cmd.Flags().MarkHidden("vni"); err != nil {
		panic(err)
	}
	return cmd
}

func newVNIDelCommand() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:     "del N",
		Short:   "Remove a VNI with its device; the others do not notice",
		Example: "  govxlan vni del 4098",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := vniArgument(cmd, args[0])
			if err != nil {
				return err
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			done, err := client.ChangeVNI(cmd.Context(), control.VNIWish{Verb: "del", VNI: &v})
			if err != nil || !f.json {
				return err
			}
			return printJSON(cmd.OutOrStdout(), done.Changed)
		},
	}
	f.add(cmd)
	return cmd
}

func newVNIListCommand() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"show"},
		Short:   "List the VNIs",
		Example: "  govxlan vni list\n  govxlan vni list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			all, err := client.VNIs(cmd.Context())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), all)
			}
			return printVNIs(cmd.OutOrStdout(), all)
		},
	}
	f.add(cmd)
	return cmd
}

func printVNIs(w io.Writer, all []control.VNI) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VNI\tDEVICE\tMTU\tFROM\tPEERS AND GROUPS")
	for _, v := range all {
		device := v.Device
		if v.VLAN != 0 {
			device = fmt.Sprintf("%s.%d", device, v.VLAN)
		}
		fmt.Fprintf(t, "%v\t%s\t%d\t%s\t%s\n", v.VNI, device, v.MTU, v.Origin, some(append(v.Peers, v.Groups...)))
	}
	return t.Flush()
}

// some are the first of a list, as many as a line of a table has room for.
func some(list []string) string {
	const room = 34
	line := ""
	for i, s := range list {
		if i > 0 && len(line)+len(s) > room {
			return fmt.Sprintf("%s and %d more", line, len(list)-i)
		}
		line = strings.TrimPrefix(line+","+s, ",")
	}
	return cmp.Or(line, "none")
}

// addLine is the command that adds to the endpoint which has the port what was
// typed for one of its own, or "" when no endpoint answers there that could take
// it.
func addLine(ctx context.Context, e *config.Endpoint, typed config.Values) string {
	number, ok := typed["vni"]
	if !ok {
		return ""
	}
	path, err := control.FindPort(e.Port)
	if err != nil {
		return ""
	}
	status, err := control.NewClient(path).Status(ctx)
	if err != nil || status.Port != e.Port {
		return ""
	}
	words := append([]string{"govxlan vni add", number.Texts[0]}, typed.Words()...)
	if found, err := control.Find(); err != nil || found != path {
		words = append(words, "--control", path)
	}
	return strings.Join(words, " ")
}
