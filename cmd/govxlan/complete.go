package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/spf13/cobra"
)

// completing is how long a shell waits for what the running endpoint has.
const completing = time.Second

// completeFrom has shells complete what the running endpoint knows, for a command
// and those below it: VNIs, and what is to be changed or removed.
func completeFrom(root *cobra.Command) {
	for _, c := range root.Commands() {
		completeFrom(c)
	}
	if f := root.Flags(); f.Lookup("control") != nil && f.Lookup("vni") != nil && root.Name() != "up" {
		// An error is of a flag that is none.
		_ = root.RegisterFlagCompletionFunc("vni", ask(vniWords))
	}
	words, ok := map[string]func(context.Context, *control.Client) ([]string, error){
		"govxlan vni del": vniWords, "govxlan peer del": peerWords,
		"govxlan fdb del": macWords, "govxlan fdb replace": macWords,
		"govxlan neigh del": neighbourWords, "govxlan neigh replace": neighbourWords,
	}[root.CommandPath()]
	if ok {
		root.ValidArgsFunction = first(ask(words))
	}
}

// ask completes from an answer of the endpoint that the command would speak to.
func ask(words func(context.Context, *control.Client) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		f := controlFlags{path: cmd.Flag("control").Value.String()}
		client, err := f.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completing)
		defer cancel()
		list, err := words(ctx, client)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list = slices.DeleteFunc(list, func(w string) bool { return !strings.HasPrefix(w, typed) })
		slices.Sort(list)
		return slices.Compact(list), cobra.ShellCompDirectiveNoFileComp
	}
}

// first completes the first argument alone.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(cmd, args, typed)
	}
}

func vniWords(ctx context.Context, c *control.Client) (list []string, err error) {
	s, err := c.Status(ctx)
	for _, v := range s.VNIs {
		list = append(list, v.VNI.String())
	}
	return list, err
}

func peerWords(ctx context.Context, c *control.Client) (list []string, err error) {
	s, err := c.Status(ctx)
	for _, v := range s.VNIs {
		for _, p := range v.Peers {
			list = append(list, p.VTEP.String())
		}
	}
	return list, err
}

func macWords(ctx context.Context, c *control.Client) (list []string, err error) {
	entries, err := c.FDB(ctx)
	for _, e := range entries {
		list = append(list, e.MAC.String())
	}
	return list, err
}

func neighbourWords(ctx context.Context, c *control.Client) (list []string, err error) {
	all, err := c.Neighbours(ctx)
	for _, n := range all {
		list = append(list, n.IP.String())
	}
	return list, err
}
