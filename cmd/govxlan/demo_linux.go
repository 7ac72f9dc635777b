package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/demo"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// exitInterrupted is what shells expect of a program that Ctrl-C ended.
const exitInterrupted = 128 + int(syscall.SIGINT)

type demoFlags struct {
	vni         uint32
	near, far   string
	keep, clean bool
	json        bool
	duration    time.Duration
}

func newDemoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show an overlay at work: two hosts, two containers, every packet on the way",
		Long: `Make two "hosts" and a container on each out of network namespaces, join the
containers by VXLAN with a real endpoint on each host, and show what happens to
a ping: what is captured at each device on the way, what one packet consists of,
what everybody learns from it, how long it takes, and how fast TCP is.

Nothing outside these namespaces is touched, and everything is removed at the
end. It takes a few seconds and needs root.`,
		Example: `  govxlan demo
  govxlan demo --far-end kernel   # host B has the kernel's vxlan device instead
  govxlan demo --keep             # leave it standing, to look around in it
  govxlan demo --clean            # and remove that`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fs := cmd.Flags()
	fs.Uint32Var(&f.vni, "vni", 4097, "VXLAN network identifier, 1 to 16777215")
	fs.StringVar(&f.near, "near-end", "govxlan", "endpoint of host A: govxlan, or the kernel's vxlan device")
	fs.StringVar(&f.far, "far-end", "govxlan", "endpoint of host B: govxlan or kernel")
	fs.DurationVar(&f.duration, "duration", 2*time.Second, "how long the TCP transfer lasts")
	fs.BoolVar(&f.keep, "keep", false, "leave everything standing")
	fs.BoolVar(&f.clean, "clean", false, "remove what demos with --keep left standing")
	fs.BoolVar(&f.json, "json", false, "write the findings as JSON, at the end")
	return cmd
}

func (f *demoFlags) run(cmd *cobra.Command) error {
	if f.clean {
		if cmd.Flags().NFlag() > 1 {
			return usagef("--clean removes what earlier demos left and goes with no other flag")
		}
		return cleanDemos(cmd.OutOrStdout())
	}
	cfg := demo.Config{VNI: vxlan.VNI(f.vni), Keep: f.keep, Transfer: f.duration, Version: version}
	if f.duration <= 0 || f.duration > time.Hour {
		return usagef("--duration %v: give a time such as 2s", f.duration)
	}
	if !cfg.VNI.Valid() || cfg.VNI == 0 {
		return usagef("--vni %d: give a number from 1 to %d", f.vni, vxlan.MaxVNI)
	}
	for _, end := range []struct {
		flag, value string
		to          *demo.EndKind
	}{{"--near-end", f.near, &cfg.Near}, {"--far-end", f.far, &cfg.Far}} {
		switch kind := demo.EndKind(end.value); kind {
		case demo.EndGovxlan, demo.EndKernel:
			*end.to = kind
		default:
			return usagef("%s %q: give govxlan or kernel", end.flag, end.value)
		}
	}

	ctx, stop := untilSignal(cmd.Context(), "the demo")
	defer stop()
	out := cmd.OutOrStdout()
	show := func(demo.Part, *demo.Report) error { return nil }
	if !f.json {
		show = demo.NewPrinter(out, demoStyle(out)).Show
	}
	report, err := demo.Run(ctx, cfg, show)
	if ended := new(interruption); errors.As(err, ended) {
		fmt.Fprintln(cmd.ErrOrStderr(), "\ngovxlan:", err)
		if ended.signal == syscall.SIGINT {
			// Everything is removed: nothing deferred is left to do.
			os.Exit(exitInterrupted)
		}
		os.Exit(exitFailure)
	}
	if errors.Is(err, syscall.EPIPE) {
		return errors.New("nobody reads the output any more; what the demo made is removed")
	}
	if err != nil || !f.json {
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

func cleanDemos(out io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("removing network namespaces needs root: try 'sudo govxlan demo --clean'")
	}
	removed, err := demo.Clean()
	for _, name := range removed {
		fmt.Fprintln(out, "removed", name)
	}
	if err == nil && removed == nil {
		fmt.Fprintln(out, "nothing to remove")
	}
	return err
}

// demoStyle finds out what the reader of the output can take.
func demoStyle(out io.Writer) demo.Style {
	style := demo.Style{Unicode: utf8Locale()}
	style.Columns, _ = strconv.Atoi(os.Getenv("COLUMNS"))
	style.Color = hasColor(out)
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			style.Columns = columns
		}
	}
	return style
}
