//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newOverlayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "overlay",
		Short: "Look at Docker's own overlay networks, and join them (on Linux only)",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("overlay networks of Docker are on Linux")
		},
	}
}
