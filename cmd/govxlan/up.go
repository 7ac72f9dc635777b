package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/daemon"
	"github.com/govxlan/govxlan/transport"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func newUpCommand() *cobra.Command {
	var typed config.Values
	cmd := &cobra.Command{
		Use:   "up --vni N --peer ADDR [flags]",
		Short: "Run a VXLAN endpoint until it is interrupted",
		Long: `Run one VTEP in the foreground: create a TAP device, join it to the peers, print
one line when frames can flow, and remove everything on SIGINT or SIGTERM.`,
		Example: `  # two hosts, one Ethernet
  govxlan up --vni 4097 --peer 192.168.52.204 --addr 10.0.1.100/24   # on .203
  govxlan up --vni 4097 --peer 192.168.52.203 --addr 10.0.1.103/24   # on .204

  # containers: the TAP is a port of their bridge, in their namespace
  govxlan up --vni 4097 --peer 192.168.52.204 --netns sandbox --bridge br0

  # all hosts of one link, by multicast
  govxlan up --vni 7 --group 239.1.1.1 --dev ens160

  # three hosts, IPv4 and IPv6 mixed, one with a port of its own
  govxlan up --vni 7 --peer 192.168.52.204 --peer '[fd00::205]:4790'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, vni := typed["vni"]; !vni {
				if _, trunk := typed["vlan-map"]; !trunk {
					return usagef("up needs --vni N (0 to 16777215), for example: govxlan up --vni 4097 --peer 192.168.52.204")
				}
			}
			c, err := config.New(typed, nil)
			if err != nil {
				return judge(err)
			}
			// SIGHUP: the terminal was closed.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			// The overlay shall outlive whoever reads the log, and an output
			// that is closed be an error like any other.
			signal.Ignore(syscall.SIGPIPE)
			return judge(up(ctx, c, cmd.OutOrStdout(), cmd.ErrOrStderr()))
		},
	}
	typed = config.AddFlags(cmd.Flags(), false)
	return cmd
}

// judge makes an error about a flag one of wrong usage.
func judge(err error) error {
	if config.IsUsage(err) {
		return usageError{err}
	}
	return err
}

// up brings the endpoint up and carries frames until ctx is done.
func up(ctx context.Context, c *config.Config, stdout, stderr io.Writer) (err error) {
	e := c.Endpoint
	log := newLogger(stderr, e)
	// Workers keep their threads while they wait for what is to come at once:
	// leave one to everything else.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), e.Workers+1))
	var profiles net.Listener
	if e.Pprof != "" && !e.Takeover {
		if profiles, err = listenPprof(e.Pprof); err != nil {
			return err
		}
		defer profiles.Close()
	}
	d, err := daemon.Start(ctx, daemon.Options{Config: c, Log: log, Version: version})
	var listen *daemon.ListenError
	switch {
	case errors.As(err, &listen):
		return explainListen(e, listen.Err, listen.Local)
	case err != nil:
		return err
	case d == nil:
		return nil // interrupted before anything was made
	}
	for _, line := range d.Lines() {
		if _, err := fmt.Fprintln(stdout, line); err != nil {
			return errors.Join(fmt.Errorf("standard output: %w", err), d.Close())
		}
	}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return d.Run(ctx) })
	tasks.Go(func() error { return tellService(ctx, d, log) })
	if e.Pprof != "" && e.Takeover {
		tasks.Go(func() error { return servePprofLate(ctx, e.Pprof, log) })
	}
	if profiles != nil {
		tasks.Go(func() error { return servePprof(ctx, profiles) })
	}
	return tasks.Wait()
}

// explainListen says who holds the port, and what to do.
func explainListen(e *config.Endpoint, err error, local []netip.Addr) error {
	switch {
	case errors.Is(err, transport.ErrPortInUse):
		return fmt.Errorf("UDP port %d is held by %s: stop that, or choose another with --port (the peers must use the same)", e.Port, portHolder(e.Port))
	case errors.Is(err, transport.ErrNoAddress):
		return fmt.Errorf("local address %v is not on this host: give one that 'ip address' shows with --local", local[0])
	case errors.Is(err, transport.ErrSharedSourcePort):
		return fmt.Errorf("--df inherit sends from two sockets a port, which --source-ports %v does not allow where --port %d receives: give another or a wider range", e.SourcePorts, e.Port)
	case errors.Is(err, transport.ErrNoSourcePort):
		return fmt.Errorf("no port of --source-ports %v is free: give a wider range", e.SourcePorts)
	case e.Packet && errors.Is(err, syscall.EPERM):
		return errors.New("--transport packet needs the capability CAP_NET_RAW: run this as root, or use --transport udp")
	case e.Packet && errors.Is(err, syscall.EAFNOSUPPORT):
		return fmt.Errorf("--transport packet: this kernel has no packet sockets (%w): load the module af_packet, or use --transport udp", err)
	case e.Dev != "" && errors.Is(err, syscall.ENODEV):
		return fmt.Errorf("underlay interface %s does not exist: give one that 'ip link' shows with --dev", e.Dev)
	}
	return err
}
