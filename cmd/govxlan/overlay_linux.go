package main

import (
	"fmt"
	"net/netip"

	"github.com/govxlan/govxlan/internal/dockeroverlay"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

// overlayFlags say which overlay networks.
type overlayFlags struct {
	sandboxes, docker, local string
}

func (f *overlayFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.sandboxes, "sandboxes", dockeroverlay.DefaultSandboxes, "where Docker keeps its network namespaces")
	cmd.Flags().StringVar(&f.docker, "docker", dockeroverlay.DefaultDocker, "socket of Docker, which is asked for names")
	cmd.Flags().StringVar(&f.local, "local", "", "VTEP of this node (default: its address in the swarm)")
}

// inspect looks, and says on the error output why there are no names.
func (f *overlayFlags) inspect(cmd *cobra.Command) ([]dockeroverlay.Network, error) {
	o := dockeroverlay.Options{Sandboxes: f.sandboxes, Docker: f.docker}
	if f.local != "" {
		a, err := netip.ParseAddr(f.local)
		if err != nil {
			return nil, usagef("--local %q: give an IPv4 or IPv6 address", f.local)
		}
		o.Local = a.Unmap()
	}
	all, unnamed, err := dockeroverlay.Inspect(cmd.Context(), o)
	if err == nil && unnamed != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "govxlan: names are missing, Docker does not tell them: %v\n", unnamed)
	}
	return all, err
}

func (f *overlayFlags) find(cmd *cobra.Command, which string) (*dockeroverlay.Network, error) {
	all, err := f.inspect(cmd)
	if err != nil {
		return nil, err
	}
	return dockeroverlay.Find(all, which)
}

func newOverlayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "overlay",
		Short: "Look at Docker's own overlay networks, and join them",
		Long: `Look at the overlay networks that Docker makes with the kernel's vxlan ('docker
network create -d overlay'), and have a host join that is no node of the swarm:
'export' on a node makes the file for 'govxlan up --config' on that host, and
'attach' on each node has the containers there reach it. NETWORK is a name, the
beginning of an ID, or a VNI. See docs/overlay.md.`,
		Example: `  govxlan overlay inspect
  govxlan overlay export my-overlay --addr 10.0.1.200/24 > my-overlay.yaml
  govxlan overlay attach my-overlay --vtep 192.168.52.210 --mac 02:00:00:00:01:c8 --ip 10.0.1.200`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newOverlayInspectCommand(), newOverlayExportCommand(),
		newOverlayChangeCommand("attach", "Have the containers of this node reach a host that is no node", (*dockeroverlay.Network).Attach),
		newOverlayChangeCommand("detach", "Undo attach", (*dockeroverlay.Network).Detach))
	return cmd
}

func newOverlayInspectCommand() *cobra.Command {
	var f overlayFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [NETWORK]",
		Short: "Show which container is behind which VTEP, as this node knows it",
		Example: `  govxlan overlay inspect
  govxlan overlay inspect my-overlay --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := f.inspect(cmd)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				n, err := dockeroverlay.Find(all, args[0])
				if err != nil {
					return err
				}
				all = []dockeroverlay.Network{*n}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			return printNetworks(cmd.OutOrStdout(), all)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newOverlayExportCommand() *cobra.Command {
	var f overlayFlags
	var addr, vtep string
	cmd := &cobra.Command{
		Use:   "export NETWORK",
		Short: "Print the configuration with which another host joins",
		Long: `Print the configuration file with which another host joins an overlay network of
Docker by 'govxlan up --config': an FDB entry and a neighbour for each container
that this node knows of, those on this node included.`,
		Example: `  govxlan overlay export my-overlay --addr 10.0.1.200/24 > my-overlay.yaml`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var own netip.Prefix
			var at netip.Addr
			var err error
			if addr != "" {
				if own, err = netip.ParsePrefix(addr); err != nil {
					return usagef("--addr %q: give ADDR/BITS, such as 10.0.1.200/24", addr)
				}
			}
			if vtep != "" {
				if at, err = netip.ParseAddr(vtep); err != nil {
					return usagef("--vtep %q: give the address of the host that joins", vtep)
				}
			}
			n, err := f.find(cmd, args[0])
			if err != nil {
				return err
			}
			text, err := n.Config(own, at)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&addr, "addr", "", "address of the other host in the network, ADDR/BITS")
	cmd.Flags().StringVar(&vtep, "vtep", "", "VTEP of the other host: what was attached of it is left out")
	return cmd
}

func newOverlayChangeCommand(name, short string, change func(*dockeroverlay.Network, dockeroverlay.Newcomer) error) *cobra.Command {
	var f overlayFlags
	var vtep, mac, ip string
	cmd := &cobra.Command{
		Use:     name + " NETWORK --vtep ADDR --mac MAC --ip ADDR",
		Short:   short,
		Example: "  govxlan overlay " + name + ` my-overlay --vtep 192.168.52.210 --mac 02:00:00:00:01:c8 --ip 10.0.1.200`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var c dockeroverlay.Newcomer
			var err error
			if c.VTEP, err = netip.ParseAddr(vtep); err != nil {
				return usagef("--vtep %q: give the address of the host on the underlay", vtep)
			}
			if c.MAC, err = vxlan.ParseMAC(mac); err != nil || c.MAC.IsZero() || c.MAC.IsMulticast() {
				return usagef("--mac %q: give the MAC address of the host's device, such as 02:00:00:00:01:c8", mac)
			}
			if c.IP, err = netip.ParseAddr(ip); err != nil {
				return usagef("--ip %q: give the address of the host in the network", ip)
			}
			c.VTEP, c.IP = c.VTEP.Unmap(), c.IP.Unmap()
			n, err := f.find(cmd, args[0])
			if err != nil {
				return err
			}
			return change(n, c)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&vtep, "vtep", "", "address of the host on the underlay")
	cmd.Flags().StringVar(&mac, "mac", "", "MAC address of its device")
	cmd.Flags().StringVar(&ip, "ip", "", "its address in the network")
	return cmd
}
