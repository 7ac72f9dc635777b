package main

import (
	"context"
	"slices"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

func newPeerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peer",
		Short: "Show and change the peers of the running endpoint: its flood list",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newPeerChangeCommand("add", "append", "Add VTEPs to the flood list, and accept their frames"),
		newPeerChangeCommand("del", "del", "Take VTEPs off the flood list, and forget what was learned from them"),
		newPeerListCommand())
	return cmd
}

func newPeerChangeCommand(name, verb, short string) *cobra.Command {
	var f controlFlags
	var vni vniFlag
	var remoteVNI string
	cmd := &cobra.Command{
		Use:   name + " ADDR[:PORT]... [flags]",
		Short: short,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := vni.parse()
			if err != nil {
				return err
			}
			own, err := parseVNI("--remote-vni", remoteVNI)
			if err != nil {
				return err
			}
			var names []config.PeerName
			for _, s := range args {
				p, err := config.ParsePeer(s, 0)
				if err != nil {
					return usagef("peer %w", err)
				}
				names = append(names, p)
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			peers, err := config.ResolvePeers(cmd.Context(), names)
			if err != nil {
				return err
			}
			var all []control.FDBChanged
			for _, p := range peers {
				c := control.FDBChange{Verb: verb, VNI: v, Destination: control.Destination{VTEP: p.Addr(), Port: p.Port()}}
				if own != nil {
					c.RemoteVNI = *own
				}
				done, err := client.ChangeFDB(cmd.Context(), c)
				if err != nil {
					return err
				}
				all = append(all, done)
			}
			if !f.json {
				return nil
			}
			return printJSON(cmd.OutOrStdout(), all)
		},
	}
	f.add(cmd)
	vni.add(cmd, oneVNI)
	cmd.Flags().StringVar(&remoteVNI, "remote-vni", "", "the VNI that these VTEPs get frames with (default: the same)")
	return cmd
}

func newPeerListCommand() *cobra.Command {
	return showVNIs(&cobra.Command{
		Use:     "list",
		Aliases: []string{"show"},
		Short:   "Show the flood list",
	}, floodList, printFDB)
}

// floodList asks for the entries that are peers.
func floodList(c *control.Client, ctx context.Context, only ...vxlan.VNI) ([]vtep.EntryStatus, error) {
	entries, err := c.FDB(ctx, only...)
	return slices.DeleteFunc(entries, func(e vtep.EntryStatus) bool { return e.Kind != "flood" }), err
}
