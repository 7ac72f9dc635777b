package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/transport/wireguard"
	"github.com/spf13/cobra"
)

func newKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make keys: for an encrypted underlay (up --wireguard), for members (up --join)",
		Long: `Make the keys of a WireGuard tunnel, as 'wg genkey', 'wg pubkey' and 'wg genpsk' do,
and the one that members have in common, for up --key-file. They are 44 characters
of base64. Keep all but the public ones to yourself, in files of mode 0600 (umask
077).`,
		Example: `  govxlan key gen
  govxlan key pub`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	print := func(use, short string, key func() string) {
		cmd.AddCommand(&cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs, Example: "  govxlan key " + use,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), key())
				return err
			},
		})
	}
	print("gen", "Print a new private key", func() string { return wireguard.NewPrivateKey().String() })
	print("psk", "Print a new preshared key, for both ends", func() string { return wireguard.NewPresharedKey().String() })
	print("join", "Print a new key for members (up --join), the same for all", membership.NewKey)
	cmd.AddCommand(&cobra.Command{
		Use: "pub", Short: "Print the public key of the private key on standard input", Args: cobra.NoArgs,
		Example: `  govxlan key gen | govxlan key pub
  govxlan key pub`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const most = 1 << 10 // white space around it, and no endless input
			text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), most))
			if err != nil {
				return fmt.Errorf("standard input: %w", err)
			}
			k, err := wireguard.ParseKey(strings.TrimSpace(string(text)))
			if err != nil {
				return fmt.Errorf("standard input: %w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), k.Public())
			return err
		},
	})
	return cmd
}
