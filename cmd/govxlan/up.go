package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/daemon"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/transport/wireguard"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

func newUpCommand() *cobra.Command {
	var source config.Source
	cmd := &cobra.Command{
		Use:   "up {--vni N --peer ADDR | --config FILE} [flags]",
		Short: "Run a VXLAN endpoint until it is interrupted",
		Long: `Run one VTEP in the foreground: create a TAP device, join it to the peers, print
one line when frames can flow, and remove everything on SIGINT or SIGTERM. One
process owns one UDP port and carries many VNIs: those of --config, and those that
'govxlan vni add' gives it. SIGHUP has it read the configuration file again.`,
		Example: `  # two hosts, one Ethernet
  govxlan up --vni 4097 --peer 192.168.52.204 --addr 10.0.1.100/24   # on .203
  govxlan up --vni 4097 --peer 192.168.52.203 --addr 10.0.1.103/24   # on .204

  # containers: the TAP is a port of their bridge, in their namespace
  govxlan up --vni 4097 --peer 192.168.52.204 --netns sandbox --bridge br0

  # any number of hosts that find each other: the same line on each, and one key
  govxlan key join > /etc/govxlan/key   # once, with umask 077; copy it to each host
  govxlan up --vni 4097 --join 192.168.52.203 --key-file /etc/govxlan/key

  # all hosts of one link, by multicast
  govxlan up --vni 7 --group 239.1.1.1 --dev ens160

  # many VNIs, from a file, which SIGHUP and 'govxlan reload' read again
  govxlan up --config /etc/govxlan/govxlan.yaml

  # three hosts, IPv4 and IPv6 mixed, one with a port of its own
  govxlan up --vni 7 --peer 192.168.52.204 --peer '[fd00::205]:4790'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, vni := source.Typed["vni"]; !vni && source.Path == "" {
				if _, trunk := source.Typed["vlan-map"]; !trunk {
					return usagef("up needs --vni N (0 to 16777215) or --config FILE, for example: govxlan up --vni 4097 --peer 192.168.52.204")
				}
			}
			if source.Path != "" {
				// Whoever asks for a reload later need not be where this began.
				var err error
				if source.Path, err = filepath.Abs(source.Path); err != nil {
					return err
				}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			// The overlay shall outlive whoever reads the log, and an output
			// that is closed be an error like any other.
			signal.Ignore(syscall.SIGPIPE)
			return judge(up(ctx, source, cmd.OutOrStdout(), cmd.ErrOrStderr()))
		},
	}
	source.Typed = config.AddFlags(cmd.Flags(), false)
	cmd.Flags().StringVar(&source.Path, "config", "", "configuration file, for many VNIs (see docs/config.md); flags win")
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
func up(ctx context.Context, source config.Source, stdout, stderr io.Writer) (err error) {
	hangups, stop := hangups()
	defer stop()
	c, file, err := source.Load()
	if err != nil {
		return err
	}
	e := c.Endpoint
	if err := e.LookupUser(); err != nil {
		return err
	}
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
	var scrapes net.Listener
	if e.Metrics != "" && !e.Takeover {
		if scrapes, err = listenMetrics(e); err != nil {
			return err
		}
		defer scrapes.Close()
	}
	d, err := daemon.Start(ctx, daemon.Options{Config: c, File: file, Source: source, Log: log, Version: version})
	var listen *daemon.ListenError
	var member *daemon.MemberError
	switch {
	case errors.As(err, &listen):
		return explainListen(ctx, e, source.Typed, listen)
	case errors.As(err, &member) && errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("UDP or TCP port %d at %v, by which members talk, is held by %s: stop that, or choose another with --join-port, the same on all hosts",
			member.Bind.Port(), member.Bind.Addr(), portHolder(member.Bind.Port()))
	case err != nil:
		return err
	case d == nil:
		return nil // interrupted before everything was made
	}
	if err := d.Confine(); err != nil {
		return errors.Join(err, d.Close())
	}
	lines := d.Lines()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error {
		defer cancel() // another process may have taken over
		return d.Run(ctx)
	})
	tasks.Go(func() error { return tellService(ctx, d, log) })
	if e.Pprof != "" && e.Takeover {
		tasks.Go(func() error {
			return late(ctx, log, func() (net.Listener, error) { return listenPprof(e.Pprof) }, func(l net.Listener) error { return servePprof(ctx, l) })
		})
	}
	if e.Metrics != "" && e.Takeover {
		tasks.Go(func() error {
			return late(ctx, log, func() (net.Listener, error) { return listenMetrics(e) }, func(l net.Listener) error { return serveMetrics(ctx, l, e, d, log) })
		})
	}
	tasks.Go(func() error {
		select {
		case <-d.Ready():
			return tell(stdout, lines)
		case <-ctx.Done():
			return nil
		}
	})
	tasks.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hangups:
				// What is wrong is logged; all goes on as before.
				_, _ = d.Reload(ctx)
			}
		}
	})
	if profiles != nil {
		tasks.Go(func() error { return servePprof(ctx, profiles) })
	}
	if scrapes != nil {
		tasks.Go(func() error { return serveMetrics(ctx, scrapes, e, d, log) })
	}
	return tasks.Wait()
}

// tell prints that frames can flow.
func tell(stdout io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(stdout, line); err != nil {
			return fmt.Errorf("standard output: %w", err)
		}
	}
	return nil
}

// explainListen says who holds the port, and what to do.
func explainListen(ctx context.Context, e *config.Endpoint, typed config.Values, listen *daemon.ListenError) error {
	err, local := listen.Err, listen.Local
	switch {
	case errors.Is(err, wireguard.ErrPortInUse):
		port := e.WireGuard.ListenPort
		return fmt.Errorf("UDP port %d is held by %s: stop that, or give another ListenPort in %s (and in the Endpoint of the peers)", port, portHolder(port), e.WireGuard.File)
	case errors.Is(err, transport.ErrPortInUse):
		if line := addLine(ctx, e, typed); line != "" {
			return fmt.Errorf("UDP port %d is held by %s, which carries any number of VNIs: add this one to it with '%s', or choose another port with --port (the peers must use the same)", e.Port, portHolder(e.Port), line)
		}
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
