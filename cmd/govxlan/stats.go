package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

// shortestInterval of --watch. To ask costs the endpoint far less.
const shortestInterval = 100 * time.Millisecond

// statsFlags are the flags of stats.
type statsFlags struct {
	controlFlags
	vni      vniFlag
	all      bool
	watch    bool
	interval time.Duration
	count    int
	explain  bool
}

func newStatsCommand() *cobra.Command {
	var f statsFlags
	cmd := &cobra.Command{
		Use:   "stats [--watch] [--vni N] | --explain [COUNTER...]",
		Short: "Show the counters of the running endpoint, with a reason for every drop",
		Long: `Show the counters of the running endpoint: of each VNI, and of what belongs to
none. Each frame that is lost here is counted under one reason; what it means, and
what to do about it, is told by --explain, for which no endpoint needs to run.`,
		Example: `  govxlan stats
  govxlan stats --vni 4097 --all
  govxlan stats --watch --interval 2s
  govxlan stats --watch --json --count 10
  govxlan stats --explain rx_drop_unknown_vtep`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			only, err := f.check(cmd, args)
			if err != nil {
				return err
			}
			if f.explain {
				return f.explainCounters(cmd.OutOrStdout(), args)
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			if f.watch {
				ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
				defer stop()
				return f.follow(ctx, cmd.OutOrStdout(), client, only)
			}
			s, err := client.Stats(cmd.Context(), only...)
			switch {
			case err != nil:
				return err
			case f.json:
				return printJSON(cmd.OutOrStdout(), s)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), f.table(&sample{Stats: s}, nil)+f.hint(&s))
			return err
		},
	}
	f.controlFlags.add(cmd)
	f.vni.add(cmd, "only this VNI")
	fs := cmd.Flags()
	fs.BoolVar(&f.all, "all", false, "show counters that are 0 too")
	fs.BoolVar(&f.watch, "watch", false, "show them again and again, with rates, until interrupted; with --json one object a line")
	fs.DurationVar(&f.interval, "interval", time.Second, "time between two looks of --watch")
	fs.IntVar(&f.count, "count", 0, "end --watch after so many looks (default: never)")
	fs.BoolVar(&f.explain, "explain", false, "print what counters mean, all or those named, instead of their values")
	return cmd
}

// check returns the VNIs that are asked for. Its errors are all of wrong usage.
func (f *statsFlags) check(cmd *cobra.Command, args []string) ([]vxlan.VNI, error) {
	given := cmd.Flags().Changed
	for _, name := range []string{"interval", "count"} {
		if given(name) && !f.watch {
			return nil, usagef("--%s is for --watch", name)
		}
	}
	switch {
	case f.explain && f.watch:
		return nil, usagef("--explain and --watch: give one of them")
	case f.explain && given("vni"):
		return nil, usagef("--explain and --vni: counters mean the same in every VNI")
	case len(args) > 0 && !f.explain:
		return nil, usagef("stats: %q is one argument too many; counters are named for --explain alone", args[0])
	case f.interval < shortestInterval:
		return nil, usagef("--interval %v: give %v or more", f.interval, shortestInterval)
	case f.count < 0:
		return nil, usagef("--count %d: give a number of looks", f.count)
	}
	return f.vni.only()
}

// sample is what one look has seen.
type sample struct {
	at time.Time
	vtep.Stats
}

// vniCounters returns those of a VNI, nil if it was not there.
func (s *sample) vniCounters(v vxlan.VNI) *vtep.Counters {
	if s == nil {
		return nil
	}
	for i := range s.VNIs {
		if s.VNIs[i].VNI == v {
			return &s.VNIs[i].Counters
		}
	}
	return nil
}

// statsLine is what --watch --json prints for each look.
type statsLine struct {
	Time     time.Time             `json:"time"`
	Interval vtep.Seconds          `json:"interval_s,omitempty"` // since the last one
	VNIs     []statsLineVNI        `json:"vnis"`
	Counters vtep.EndpointCounters `json:"counters"`
	Rates    map[string]float64    `json:"rates,omitempty"` // a second
}

type statsLineVNI struct {
	vtep.VNIStats
	Rates map[string]float64 `json:"rates,omitempty"`
}

// follow looks again and again until ctx is done.
func (f *statsFlags) follow(ctx context.Context, w io.Writer, client *control.Client, only []vxlan.VNI) error {
	paper := newScreen(w)
	lines := json.NewEncoder(w)
	var last *sample
	for n := 1; ; n++ {
		stats, err := client.Stats(ctx, only...)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now := &sample{time.Now(), stats}
		if f.json {
			err = lines.Encode(line(now, last))
		} else {
			head := fmt.Sprintf("%s  every %v\n", now.at.Format("15:04:05"), f.interval)
			err = paper.show(head + f.table(now, last))
		}
		if err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
		if n == f.count {
			return nil
		}
		last = now
		select {
		case <-ctx.Done():
			return nil
		// From now on, not from the last time: a look that took long is not
		// made up for by a short interval.
		case <-time.After(f.interval):
		}
	}
}

// line is a sample as --watch --json prints it.
func line(now, last *sample) statsLine {
	l := statsLine{Time: now.at, Counters: now.Counters, VNIs: []statsLineVNI{}}
	var elapsed time.Duration
	if last != nil {
		elapsed = now.at.Sub(last.at)
		l.Interval = vtep.Seconds(elapsed.Round(time.Millisecond).Seconds())
		l.Rates = rates(now.Counters.All(), last.Counters.All(), elapsed)
	}
	for i := range now.VNIs {
		v := statsLineVNI{VNIStats: now.VNIs[i]}
		if was := last.vniCounters(v.VNI); was != nil {
			v.Rates = rates(v.Counters.All(), was.All(), elapsed)
		}
		l.VNIs = append(l.VNIs, v)
	}
	return l
}

// rates are how much more a second there is of each counter.
func rates(now, was iter.Seq2[string, uint64], elapsed time.Duration) map[string]float64 {
	m := make(map[string]float64)
	before := maps.Collect(was)
	for name, n := range now {
		m[name] = rate(n, before[name], elapsed)
	}
	return m
}

// rate is 0 for a counter that began anew.
func rate(now, was uint64, elapsed time.Duration) float64 {
	if now < was || elapsed <= 0 {
		return 0
	}
	return float64(now-was) / elapsed.Seconds()
}

// table is a sample in at most 80 columns, with rates if there is one to compare
// with.
func (f *statsFlags) table(now, last *sample) string {
	var b strings.Builder
	var elapsed time.Duration
	if last != nil {
		elapsed = now.at.Sub(last.at)
	}
	block := func(title string, counters iter.Seq2[string, uint64], before map[string]uint64) {
		head := fmt.Sprintf("%-30s%20s", title, "total")
		if last != nil {
			head += fmt.Sprintf("%16s", "a second")
		}
		fmt.Fprintln(&b, head)
		// Drops last, where the eye ends.
		for _, drops := range []bool{false, true} {
			for name, n := range counters {
				if strings.Contains(name, "_drop_") != drops || !f.all && n == 0 && !always[name] {
					continue
				}
				fmt.Fprintf(&b, "  %-28s%20s", name, amount(name, float64(n)))
				if before != nil {
					fmt.Fprintf(&b, "%16s", amount(name, rate(n, before[name], elapsed)))
				}
				fmt.Fprintln(&b)
			}
		}
	}
	for i := range now.VNIs {
		v := &now.VNIs[i]
		var before map[string]uint64
		if was := last.vniCounters(v.VNI); was != nil {
			before = maps.Collect(was.All())
		}
		block(fmt.Sprintf("vni %v", v.VNI), v.Counters.All(), before)
		fmt.Fprintln(&b)
	}
	var before map[string]uint64
	if last != nil {
		before = maps.Collect(last.Counters.All())
	}
	if now.Counters != (vtep.EndpointCounters{}) || f.all {
		block("of no vni", now.Counters.All(), before)
		return b.String()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// always are shown, be they 0.
var always = map[string]bool{"rx_frames": true, "rx_bytes": true, "tx_frames": true, "tx_bytes": true}

// amount is a count or a rate: whole where it is one, bytes with three figures.
func amount(name string, n float64) string {
	switch {
	case strings.HasSuffix(name, "_bytes"):
		return size(uint64(n))
	case n == float64(uint64(n)) || n >= 100:
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.1f", n)
}

// hint says where to read on, if anything was lost.
func (f *statsFlags) hint(s *vtep.Stats) string {
	lost := drops(s.Counters.Drops()) != ""
	for i := range s.VNIs {
		lost = lost || drops(s.VNIs[i].Counters.Drops()) != ""
	}
	if !lost {
		return ""
	}
	return "\nWhat a drop means, and what to do: govxlan stats --explain [COUNTER...]\n"
}

// explainCounters prints what counters mean.
func (f *statsFlags) explainCounters(w io.Writer, names []string) error {
	all := vtep.Explanations()
	chosen := all
	if len(names) > 0 {
		chosen = nil
		var known []string
		for _, e := range all {
			known = append(known, e.Counter)
		}
		for _, name := range names {
			found := false
			for _, e := range all {
				// A reason, as Prometheus has it, is as good as its counter.
				if e.Counter == name || e.Drop() && e.Reason() == name {
					chosen, found = append(chosen, e), true
				}
			}
			if !found {
				return usagef("--explain: there is no counter %q%s", name, didYouMean(name, known))
			}
		}
	}
	if f.json {
		return printJSON(w, chosen)
	}
	var b strings.Builder
	for i, e := range chosen {
		if i > 0 {
			fmt.Fprintln(&b)
		}
		fmt.Fprintf(&b, "%s\n%s", e.Counter, wrap(e.Means, "  "))
		if e.Do != "" {
			fmt.Fprint(&b, wrap(e.Do, "  -> "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
