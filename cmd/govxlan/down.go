package main

import (
	"fmt"

	"github.com/govxlan/govxlan/tap"
	"github.com/spf13/cobra"
)

func newDownCommand() *cobra.Command {
	var netns string
	cmd := &cobra.Command{
		Use:   "down DEVICE...",
		Short: "Remove TAP devices that --persist left behind",
		Long: `Remove TAP devices that outlived the endpoint that made them (up --persist). One
that an endpoint has open is refused: stop that first. Other devices are too.`,
		Example: `  # stop the endpoint with Ctrl-C, then
  govxlan down vx4097`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var errs []error
			for _, name := range args {
				if err := tap.Remove(name, netns); err != nil {
					errs = append(errs, err)
					continue
				}
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), "removed", name); err != nil {
					return err
				}
			}
			return oneSentence(errs)
		},
	}
	cmd.Flags().StringVar(&netns, "netns", "", "network namespace of the devices, a name or a path")
	return cmd
}

// oneSentence joins errors in one line.
func oneSentence(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	err := errs[0]
	for _, next := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, next)
	}
	return err
}
