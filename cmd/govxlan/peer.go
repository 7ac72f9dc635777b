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
		Example: `  govxlan peer list
  govxlan peer add 192.168.52.205`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
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
		Example: "  govxlan peer " + name + " 192.168.52.204\n" +
			"  govxlan peer " + name + " vtep3.example.net:4790 '[fd00::205]:4790' --vni 4097",
		Args: cobra.MinimumNArgs(1),
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
			return change(cmd, &f, func(c *control.Client, ctx context.Context, names []config.PeerName) ([]control.FDBChanged, error) {
				peers, err := config.ResolvePeers(ctx, names)
				if err != nil {
					return nil, err
				}
				var all []control.FDBChanged
				for _, p := range peers {
					wish := control.FDBChange{Verb: verb, VNI: v, Destination: control.Destination{VTEP: p.Addr(), Port: p.Port()}}
					if own != nil {
						wish.RemoteVNI = *own
					}
					done, err := c.ChangeFDB(ctx, wish)
					if err != nil {
						return nil, err
					}
					all = append(all, done)
				}
				return all, nil
			}, names)
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
		Example: `  govxlan peer list
  govxlan peer list --vni 4097 --json`,
	}, floodList, printFDB)
}

// floodList asks for the entries that are peers.
func floodList(c *control.Client, ctx context.Context, only ...vxlan.VNI) ([]vtep.EntryStatus, error) {
	entries, err := c.FDB(ctx, only...)
	return slices.DeleteFunc(entries, func(e vtep.EntryStatus) bool { return e.Kind != "flood" }), err
}
