package main

import "github.com/spf13/cobra"

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput, packet rate, latency and the codec",
		Long: `Measure what this machine makes of govxlan: its building blocks by themselves
(bench codec), and the whole beside the kernel's vxlan device, a link without a
tunnel, and other tunnels that are installed (bench net).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchCodecCommand())
	cmd.AddCommand(benchCommands()...)
	return cmd
}
