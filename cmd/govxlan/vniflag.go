package main

import (
	"context"
	"io"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

// vniFlag chooses the VNI that a command is about.
type vniFlag struct{ text string }

func (f *vniFlag) add(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&f.text, "vni", "", usage)
}

// parse returns nil when none was given.
func (f *vniFlag) parse() (*vxlan.VNI, error) { return parseVNI("--vni", f.text) }

func parseVNI(flag, text string) (*vxlan.VNI, error) {
	if text == "" {
		return nil, nil
	}
	v, err := vxlan.ParseVNI(text)
	if err != nil {
		return nil, usagef("%s %q: give a number from 0 to %d", flag, text, vxlan.MaxVNI)
	}
	return &v, nil
}

// only is the same for what is asked of all VNIs by default.
func (f *vniFlag) only() ([]vxlan.VNI, error) {
	v, err := f.parse()
	if v == nil {
		return nil, err
	}
	return []vxlan.VNI{*v}, nil
}

// change has the running endpoint do what is wished, and says what came of it
// with --json. What worked needs no words, as with 'bridge' and 'ip'.
func change[Wish, Done any](cmd *cobra.Command, f *controlFlags, do func(*control.Client, context.Context, Wish) (Done, error), wish Wish) error {
	client, err := f.client()
	if err != nil {
		return err
	}
	done, err := do(client, cmd.Context(), wish)
	if err != nil || !f.json {
		return err
	}
	return printJSON(cmd.OutOrStdout(), done)
}

const oneVNI = "the VNI; may be left out where the endpoint has one"

// showVNIs has cmd ask the running endpoint for something of all VNIs, or of one
// with --vni, and print it.
func showVNIs[T any](cmd *cobra.Command, ask func(*control.Client, context.Context, ...vxlan.VNI) ([]T, error), print func(io.Writer, []T) error) *cobra.Command {
	var f controlFlags
	var vni vniFlag
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		only, err := vni.only()
		if err != nil {
			return err
		}
		client, err := f.client()
		if err != nil {
			return err
		}
		all, err := ask(client, cmd.Context(), only...)
		if err != nil {
			return err
		}
		if f.json {
			return printJSON(cmd.OutOrStdout(), all)
		}
		return print(cmd.OutOrStdout(), all)
	}
	f.add(cmd)
	vni.add(cmd, "only this VNI")
	return cmd
}
