//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newDockerPluginCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "docker-plugin",
		Short: "Serve Docker's network driver (on Linux only)",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("the network driver is for Docker on Linux")
		},
	}
}
