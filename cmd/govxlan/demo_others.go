//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newDemoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show an overlay at work (Linux)",
		RunE: func(*cobra.Command, []string) error {
			return errors.New("the demo is made of network namespaces and so runs on Linux only; a virtual machine or a privileged container will do")
		},
	}
}
