package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"time"

	"github.com/govxlan/govxlan/bench"
	"github.com/govxlan/govxlan/bench/codec"
	"github.com/govxlan/govxlan/bench/report"
	"github.com/spf13/cobra"
)

type benchCodecFlags struct {
	rounds  int
	seconds float64
	only    string
	json    bool
}

func newBenchCodecCommand() *cobra.Command {
	var f benchCodecFlags
	cmd := &cobra.Command{
		Use:   "codec",
		Short: "Measure the building blocks of the packet path, without the network",
		Long: `Measure headers written and read, inner frames parsed, the forwarding table with 1
to 1,000,000 entries, superframes taken apart and put together, and checksums: the
time, the allocations and the throughput of one operation on one core.`,
		Example: `  govxlan bench codec
  govxlan bench codec --only 'fdb|encapsulate' --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fs := cmd.Flags()
	fs.IntVar(&f.rounds, "rounds", 5, "how often to measure everything")
	fs.Float64Var(&f.seconds, "seconds", 0.1, "how long one measurement lasts")
	fs.StringVar(&f.only, "only", "", "measure the cases that match this regular expression alone")
	fs.BoolVar(&f.json, "json", false, "write all figures of all rounds as JSON")
	return cmd
}

func (f *benchCodecFlags) run(cmd *cobra.Command) error {
	if f.rounds < 1 || f.seconds <= 0 || f.seconds > 600 {
		return usagef("--rounds %d --seconds %v: give numbers above 0", f.rounds, f.seconds)
	}
	cfg := codec.Config{Rounds: f.rounds, Window: time.Duration(f.seconds * float64(time.Second))}
	if f.only != "" {
		var err error
		if cfg.Only, err = regexp.Compile(f.only); err != nil {
			return usagef("--only: %w", err)
		}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
	defer stop()
	bar := newBenchBar(cmd.ErrOrStderr())
	cfg.Progress = bar.step
	began := time.Now()
	results, err := codec.Run(ctx, cfg)
	bar.clear()
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	if err != nil {
		return err
	}
	c := &report.Codec{
		Kind: "codec", Version: version, Began: began.Truncate(time.Second), Took: time.Since(began).Seconds(),
		Command: append([]string{"govxlan"}, os.Args[1:]...), Machine: bench.Machine(), Rounds: f.rounds, Results: results,
	}
	if f.json {
		return writeBenchJSON(cmd.OutOrStdout(), c)
	}
	return c.WriteTable(cmd.OutOrStdout())
}

func writeBenchJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
