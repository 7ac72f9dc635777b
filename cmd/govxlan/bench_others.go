//go:build !linux

package main

import "github.com/spf13/cobra"

// benchCommands: what measures tunnels is made of network namespaces, which
// Linux alone has.
func benchCommands() []*cobra.Command { return nil }
