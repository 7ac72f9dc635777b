package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

func newReloadCommand() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running endpoint read its configuration file again",
		Long: `Have the running endpoint read its configuration file again, and apply what differs:
all of it, or nothing. VNIs that did not change do not notice; SIGHUP does the same.`,
		Example: "  govxlan config check /etc/govxlan/govxlan.yaml && govxlan reload",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			done, err := client.Reload(cmd.Context())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), done)
			}
			return printReloaded(cmd.OutOrStdout(), &done)
		},
	}
	f.add(cmd)
	return cmd
}

// printReloaded says what a reload did, a line for each kind of change.
func printReloaded(w io.Writer, r *control.Reloaded) error {
	var b strings.Builder
	numbers := func(what string, vnis []vxlan.VNI) {
		if len(vnis) > 0 {
			words := make([]string, len(vnis))
			for i, v := range vnis {
				words[i] = v.String()
			}
			fmt.Fprintf(&b, "%s VNI %s\n", what, some(words))
		}
	}
	differences := func(what string, list []control.VNIDifference) {
		for _, d := range list {
			fmt.Fprintf(&b, "%s VNI %v: %s\n", what, d.VNI, strings.Join(d.Options, ", "))
		}
	}
	if len(r.Endpoint) > 0 {
		fmt.Fprintf(&b, "changed endpoint: %s\n", strings.Join(r.Endpoint, ", "))
	}
	numbers("added", r.Added)
	numbers("removed", r.Removed)
	differences("changed", r.Changed)
	differences("made anew", r.Remade)
	fmt.Fprintf(&b, "unchanged VNIs: %d\n", r.Same)
	_, err := io.WriteString(w, b.String())
	return err
}

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check a configuration file; show what is in force",
		Example: `  govxlan config check /etc/govxlan/govxlan.yaml
  govxlan config show`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheckCommand(), newConfigShowCommand())
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a configuration file, with line and column",
		Long: `Say what is wrong with a configuration file, with line and column, without touching
anything. What only the running system knows (routes, names, devices) is not asked.`,
		Example: "  govxlan config check /etc/govxlan/govxlan.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			source := config.Source{Path: args[0]}
			c, _, err := source.Load()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is right: %d VNIs on port %d\n", args[0], len(c.Specs), c.Endpoint.Port)
			return err
		},
	}
}

func newConfigShowCommand() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show the configuration in force, or what a file means, with all defaults",
		Long: `Show the configuration of the running endpoint, with all defaults and with what
was changed at run time, as a file that 'govxlan up --config' takes. With FILE,
show what that file means.`,
		Example: "  govxlan config show > now.yaml\n  govxlan config show /etc/govxlan/govxlan.yaml --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				source := config.Source{Path: args[0]}
				c, _, err := source.Load()
				if err != nil {
					return err
				}
				shown := &config.Shown{Config: c}
				if f.json {
					return printJSON(cmd.OutOrStdout(), shown)
				}
				_, err = cmd.OutOrStdout().Write(shown.YAML())
				return err
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			a, err := client.Config(cmd.Context())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), a.JSON)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), a.YAML)
			return err
		},
	}
	f.add(cmd)
	return cmd
}
