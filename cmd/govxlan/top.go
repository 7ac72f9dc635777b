package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/top"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newTopCommand() *cobra.Command {
	var f controlFlags
	var vni vniFlag
	var cfg top.Config
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch VNIs, peers, rates and drops of the running endpoint",
		Long: `Show the running endpoint on the terminal, as it changes: frames and bits a second
of each VNI both ways, its peers, what is dropped and why, how full the
forwarding table is, and what the endpoint's process costs. An endpoint that goes
away is waited for.

Keys:

  q, Ctrl-C            quit
  up, down, page keys  choose a VNI: its peers and drops are shown below
  enter                this VNI alone; enter or esc: all of them
  s                    sort by another column
  p, space             pause
  +, -                 shorter, longer interval`,
		Example: `  govxlan top
  govxlan top --vni 4097 --interval 200ms
  govxlan top --once --sort in   # as a text, for a script or a report`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.VNI, err = vni.parse(); err != nil {
				return err
			}
			if !slices.Contains(top.Sorts, cfg.Sort) {
				return usagef("--sort %q: give one of %s", cfg.Sort, strings.Join(top.Sorts, ", "))
			}
			if cfg.Interval < top.MinInterval || cfg.Interval > top.MaxInterval {
				return usagef("--interval %v: give %v to %v", cfg.Interval, top.MinInterval, top.MaxInterval)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			// The socket is looked for each time: an endpoint that comes back
			// may have another.
			ask := func(ctx context.Context, only ...vxlan.VNI) (s control.Status, err error) {
				client, err := f.client()
				if err != nil {
					return s, err
				}
				return client.Status(ctx, only...)
			}
			out := cmd.OutOrStdout()
			if once {
				err := top.Once(ctx, cfg, ask, out, cmp.Or(terminalColumns(out), 80))
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			in, inFile := cmd.InOrStdin().(*os.File)
			to, outFile := out.(*os.File)
			if !inFile || !outFile || !term.IsTerminal(int(in.Fd())) || !term.IsTerminal(int(to.Fd())) {
				return errors.New("top needs a terminal: use 'govxlan top --once' where there is none")
			}
			return top.Run(ctx, cfg, ask, in, to)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.path, "control", "", "control socket (default: that of this network namespace)")
	vni.add(cmd, "only this VNI")
	fs.DurationVar(&cfg.Interval, "interval", time.Second, "time between two looks")
	fs.StringVar(&cfg.Sort, "sort", top.Sorts[0], "order of the VNIs: "+strings.Join(top.Sorts, ", "))
	fs.BoolVar(&once, "once", false, "print one look as a text, after one interval, and end")
	return cmd
}
