package main

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/dockerplugin"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

type dockerPluginFlags struct {
	name, state, sandboxes, local, scope string
	port                                 uint16
	logLevel, logFormat                  string
}

func newDockerPluginCommand() *cobra.Command {
	var f dockerPluginFlags
	cmd := &cobra.Command{
		Use:   "docker-plugin",
		Short: "Serve Docker's network driver",
		Long: `Serve the network driver "govxlan" to the Docker daemon of this host, until it is
interrupted. It runs as root, in Docker's network namespace. Networks outlive it:
what Docker said is kept in --state, and a driver that starts goes on with it.

Containers of one network on several hosts are on one Ethernet. Create it on each
of them, with the same subnet and VNI and the addresses of the others.`,
		Example: `  govxlan docker-plugin

  # and then, on each host
  docker network create -d govxlan --subnet 10.0.1.0/24 \
    -o vni=4097 -o peers=192.168.52.203,192.168.52.204 my-overlay
  docker run -d --network my-overlay --ip 10.0.1.100 nginx`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			signal.Ignore(syscall.SIGPIPE)
			return f.run(ctx, cmd)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.name, "name", "govxlan", "name of the driver, or the path of its socket; a name is found at /run/docker/plugins/NAME.sock")
	fs.StringVar(&f.state, "state", "/var/lib/govxlan/docker", "directory for what is to survive a restart")
	fs.StringVar(&f.sandboxes, "sandboxes", "/run/docker/netns", "directory of the network namespaces that bridges and TAPs are in")
	fs.StringVar(&f.local, "local", "", "address of the underlay to listen on and send from (default: by the route to the first peer)")
	fs.Uint16Var(&f.port, "port", vxlan.Port, "UDP port of networks that name none with -o port=")
	fs.StringVar(&f.scope, "scope", "local", "local, or global for the networks of a swarm, which takes a managed plugin: see 'pack'")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	cmd.AddCommand(newDockerPluginPackCommand())
	return cmd
}

// run serves until ctx is done.
func (f *dockerPluginFlags) run(ctx context.Context, cmd *cobra.Command) error {
	log, err := f.logger(cmd)
	if err != nil {
		return err
	}
	if f.port == 0 {
		return usagef("--port 0: give a UDP port, such as %d", vxlan.Port)
	}
	if f.scope != "local" && f.scope != "global" {
		return usagef("--scope %q: give local or global", f.scope)
	}
	for _, text := range strings.Split(f.local, ",") {
		if _, err := netip.ParseAddr(text); f.local != "" && err != nil {
			return usagef("--local %s: give an IPv4 or IPv6 address of this host, or one of each separated by a comma", f.local)
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("the driver makes devices and network namespaces, and needs root: try 'sudo govxlan docker-plugin'")
	}
	// Workers keep their threads while they wait for what is to come at once.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	socket := f.name
	if !filepath.IsAbs(socket) {
		if strings.ContainsAny(f.name, "/ ") || f.name == "" {
			return usagef("--name %q: give a name such as govxlan, or the path of a socket", f.name)
		}
		socket = filepath.Join("/run/docker/plugins", f.name+".sock")
	}
	l, err := dockerplugin.Listen(socket)
	if err != nil {
		return err
	}
	defer l.Close()
	d, err := dockerplugin.New(dockerplugin.Config{
		StateDir: f.state, SandboxDir: f.sandboxes, Local: f.local, Port: f.port, Global: f.scope == "global", Log: log, Version: version,
	})
	if err != nil {
		return err
	}
	log.Info("the driver is ready", zap.String("socket", socket), zap.String("state", f.state), zap.String("version", version))
	return errors.Join(d.Serve(ctx, l), d.Close())
}

// logger is what the flags ask for, which mean what they mean to up.
func (f *dockerPluginFlags) logger(cmd *cobra.Command) (*zap.Logger, error) {
	c, err := config.New(config.Values{"log-level": {Texts: []string{f.logLevel}}, "log-format": {Texts: []string{f.logFormat}}}, &config.File{})
	if err != nil {
		return nil, judge(err)
	}
	return newLogger(cmd.ErrOrStderr(), c.Endpoint), nil
}

func newDockerPluginPackCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pack DIR",
		Short: "Write the directory of a managed plugin, for a swarm",
		Long: `Write DIR/config.json and DIR/rootfs with this program, of which 'docker plugin
create' makes a managed plugin: what a swarm takes for networks of all its nodes.
Do it on each node. No registry is needed.`,
		Example: `  govxlan docker-plugin pack /tmp/govxlan-plugin

  # and then, on each node
  docker plugin create govxlan /tmp/govxlan-plugin
  docker plugin enable govxlan

  # on a manager
  docker network create -d govxlan:latest --attachable --subnet 10.0.1.0/24 my-overlay`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			return dockerplugin.Pack(args[0], program)
		},
	}
}
