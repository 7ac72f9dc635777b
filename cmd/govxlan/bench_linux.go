package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/bench"
	"github.com/govxlan/govxlan/bench/report"
	"github.com/govxlan/govxlan/bench/traffic"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/spf13/cobra"
)

func benchCommands() []*cobra.Command {
	return []*cobra.Command{newBenchNetCommand(), newBenchTrafficCommand()}
}

// newBenchTrafficCommand is how bench net starts its load. It is not for users.
func newBenchTrafficCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "traffic JOB",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if status := traffic.Main(args[0], cmd.InOrStdin(), cmd.OutOrStdout()); status != 0 {
				os.Exit(status)
			}
			return nil
		},
	}
}

type benchNetFlags struct {
	systems, modes, tests []string
	peers                 bool
	variants              []string
	rounds                int
	seconds               float64
	generator, base       string
	json                  bool
	files                 benchFiles
}

func newBenchNetCommand() *cobra.Command {
	var f benchNetFlags
	cmd := &cobra.Command{
		Use:   "net",
		Short: "Measure tunnels side by side between two network namespaces",
		Long: `Measure govxlan beside the kernel's vxlan device, the link itself and, with
--peers, every other tunnel that is installed. Each gets two hosts of its own,
network namespaces joined by a veth pair with an MTU of 1500. Nothing outside
them is touched, and everything is removed at the end. It needs root.

Every test goes round all systems before the next one begins, and everything is
repeated in rounds. The table shows medians, their spread, and the ratio to the
kernel's vxlan device, taken within each round.

Modes:
` + benchModes() + `
Tests:
` + benchTests(),
		Example: `  govxlan bench net
  govxlan bench net --peers --rounds 10 --json >figures.json
  govxlan bench net --markdown docs/benchmarks.md --plot docs/benchmarks.svg
  govxlan bench net --systems kernel,govxlan --modes wire --tests tcp1,tcp4 --seconds 1
  govxlan bench net --with queues2=--queues=2 --with 'old=/tmp/govxlan-old --offload auto'
  govxlan bench net --with 'scraped=--metrics 127.0.0.1:9789'   # and scraped every second`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&f.systems, "systems", bench.DefaultSystems, "what to measure, of "+strings.Join(slices.Concat(bench.DefaultSystems, bench.PeerSystems, bench.EncryptedSystems), ", "))
	fs.BoolVar(&f.peers, "peers", false, "add the other tunnels that are installed, and say how to get the rest")
	fs.StringArrayVar(&f.variants, "with", nil, "add govxlan with other flags of up, or another build: NAME=[PROGRAM] [FLAG...]; repeatable")
	fs.StringSliceVar(&f.modes, "modes", bench.Modes, "kinds of underlay")
	fs.StringSliceVar(&f.tests, "tests", bench.TestNames(), "what to do with them")
	fs.IntVar(&f.rounds, "rounds", 5, "how often to measure everything")
	fs.Float64Var(&f.seconds, "seconds", 2, "how long one measurement lasts")
	fs.StringVar(&f.generator, "generator", bench.Builtin, "load of the throughput tests: builtin, or iperf3")
	fs.StringVar(&f.base, "base", "", "the system that ratios refer to (default kernel)")
	fs.BoolVar(&f.json, "json", false, "write all figures of all rounds as JSON")
	f.files.flags(cmd)
	return cmd
}

func benchModes() string {
	return "  offload      the veth pair as it is: superframes and unfinished checksums cross it\n" +
		"  wire         every packet 1514 bytes at most, no receive offload, as on a wire\n" +
		"  gro          as wire, but the receiver puts packets together, as most drivers do\n"
}

func benchTests() string {
	var b strings.Builder
	for _, name := range bench.TestNames() {
		fmt.Fprintf(&b, "  %-12s %s\n", name, bench.Describe(name))
	}
	return strings.TrimRight(b.String(), "\n")
}

// variant reads NAME=[PROGRAM] [FLAG...].
func benchVariant(s string) (bench.Variant, error) {
	name, rest, ok := strings.Cut(s, "=")
	words := strings.Fields(rest)
	if !ok || name == "" || len(words) == 0 {
		return bench.Variant{}, fmt.Errorf("--with %q: give NAME=PROGRAM or NAME=FLAG, such as queues2=--queues=2", s)
	}
	v := bench.Variant{Name: name, Flags: words}
	if !strings.HasPrefix(words[0], "-") {
		v.Program, v.Flags = words[0], words[1:]
		if _, err := os.Stat(v.Program); err != nil {
			return v, fmt.Errorf("--with %q: %w", s, err)
		}
	}
	return v, nil
}

func (f *benchNetFlags) run(cmd *cobra.Command) error {
	cfg := bench.Config{
		Version: version, Systems: f.systems, Peers: f.peers, Modes: f.modes, Tests: f.tests,
		Rounds: f.rounds, Generator: f.generator, Base: f.base,
		Window: time.Duration(f.seconds * float64(time.Second)),
	}
	if f.rounds < 1 || f.seconds <= 0 {
		return usagef("--rounds %d --seconds %v: give numbers above 0", f.rounds, f.seconds)
	}
	if err := f.files.check(); err != nil {
		return err
	}
	for _, s := range f.variants {
		v, err := benchVariant(s)
		if err != nil {
			return usageError{err}
		}
		cfg.Variants = append(cfg.Variants, v)
	}
	progress := &benchNetProgress{benchBar: newBenchBar(cmd.ErrOrStderr())}
	cfg.Progress = progress.step

	ctx, stop := untilSignal(cmd.Context(), "the benchmark")
	defer stop()
	r, err := bench.Run(ctx, cfg)
	progress.clear()
	switch {
	case errors.Is(err, bench.ErrConfig):
		return usageError{err}
	case errors.Is(err, netlab.ErrNotRoot):
		return errors.New("making network namespaces needs root: try 'sudo govxlan bench net'")
	case r == nil:
		return err
	}
	r.Command = append([]string{"govxlan"}, os.Args[1:]...)
	if len(r.Samples) > 0 || err == nil {
		if showErr := f.show(r, cmd.OutOrStdout()); showErr != nil {
			return showErr
		}
	}
	if ended := new(interruption); errors.As(err, ended) {
		fmt.Fprintln(cmd.ErrOrStderr(), "govxlan:", err)
		if ended.signal == syscall.SIGINT {
			os.Exit(exitInterrupted) // everything is removed
		}
		os.Exit(exitFailure)
	}
	if err == nil && len(r.Failures) > 0 {
		first := r.Failures[0]
		return fmt.Errorf("%d of the measurements failed, the first: %s, %s mode, %s: %s", len(r.Failures), first.System, first.Mode, first.Test, first.Error)
	}
	return err
}

func (f *benchNetFlags) show(r *report.Report, out io.Writer) error {
	show := func() error { return r.WriteTable(out, terminalColumns(out)) }
	if f.json {
		show = func() error { return writeBenchJSON(out, r) }
	}
	if err := show(); err != nil || len(r.Samples) == 0 {
		return err
	}
	return f.files.write(&report.Page{Net: r})
}

// benchNetProgress shows what has been done: a bar on a terminal; elsewhere a line
// for each test with the first figure of every system.
type benchNetProgress struct {
	*benchBar
	last bench.Step
	line bool // one is begun
}

func (p *benchNetProgress) step(s bench.Step) {
	what := fmt.Sprintf("%s, round %d, %s", s.Mode, s.Round, s.Test)
	if s.Round == 0 {
		what = s.Mode + ", start"
	}
	if p.terminal {
		p.benchBar.step(s.Done, s.Total, fmt.Sprintf("%-32s", what))
		return
	}
	if !p.line || s.Round != p.last.Round || s.Mode != p.last.Mode || s.Test != p.last.Test {
		p.clear()
		fmt.Fprintf(p.w, "%3d%% %5.0fs  %s:", 100*(s.Done-1)/s.Total, time.Since(p.began).Seconds(), what)
	}
	p.last, p.line = s, true
	switch {
	case s.Err != nil:
		fmt.Fprintf(p.w, " %s FAILED (%v)", s.System, s.Err)
	case s.Value == "":
		fmt.Fprintf(p.w, " %s", s.System)
	default:
		fmt.Fprintf(p.w, " %s %s", s.System, s.Value)
	}
}

// clear ends what is on the terminal, or the line that is begun.
func (p *benchNetProgress) clear() {
	p.benchBar.clear()
	if p.line {
		fmt.Fprintln(p.w)
		p.line = false
	}
}
