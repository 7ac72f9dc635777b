package main

import (
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput, packet rate, latency and the codec",
		Long: `Measure what this machine makes of govxlan: its building blocks by themselves
(bench codec), and the whole beside the kernel's vxlan device, a link without a
tunnel, and other tunnels that are installed (bench net).`,
		Example: `  govxlan bench codec
  govxlan bench report net.json --plot net.svg`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchCodecCommand(), newBenchReportCommand())
	cmd.AddCommand(benchCommands()...)
	return cmd
}

// terminalColumns is the width of a terminal, 0 for anything else.
func terminalColumns(out io.Writer) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			return columns
		}
	}
	return 0
}
