package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/govxlan/govxlan/internal/cni"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// aboutCNI is what the plugin says of itself where nothing is called.
func aboutCNI() string {
	return "govxlan " + version + ", a CNI plugin: a container runtime runs it, with CNI_COMMAND in the environment (see 'govxlan cni --help')"
}

func newCNICommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cni",
		Short: "Join containers to a VNI, as a CNI plugin",
		Long: `The plugin that container runtimes call: CNI specification 0.3 to 1.1. It is run as
'govxlan cni', or under the name govxlan or govxlan-cni in the directory of plugins,
with CNI_COMMAND in the environment. The endpoint that carries the frames is another
process, 'govxlan up', and has to run.

'cni conf' prints a network configuration, 'cni install' puts it and the plugin
where runtimes look for them.`,
		Example: `  govxlan cni conf --vni 4097 --subnet 10.0.1.0/24 --peer 192.168.52.204
  CNI_COMMAND=VERSION govxlan cni`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getenv("CNI_COMMAND") == "" {
				return cmd.Help()
			}
			// It has said on standard output what is wrong, as runtimes want it.
			if status := cni.Main(aboutCNI()); status != 0 {
				return exitStatus(status)
			}
			return nil
		},
	}
	cmd.AddCommand(newCNIConfCommand(), newCNIInstallCommand())
	return cmd
}

// listFlags are what a network configuration is made of.
type listFlags struct {
	list     cni.List
	vni      vniFlag
	subnets  []string
	gateways []string
	options  map[string]string
	node     string
}

func (f *listFlags) add(fs *pflag.FlagSet) {
	l := &f.list
	fs.StringVar(&f.vni.text, "vni", "", "the VNI (required)")
	fs.StringVar(&l.Name, "network", "govxlan", "name of the network")
	fs.StringVar(&l.Version, "cni-version", "1.0.0", "version of the CNI specification; 1.1.0 has GC and STATUS too, if all plugins know it")
	fs.StringSliceVar(&f.subnets, "subnet", nil, "subnet of the overlay, the same on all hosts; one of IPv4, one of IPv6, or both")
	fs.StringSliceVar(&l.Ranges, "range", nil, "what of it this host gives to its containers, LO-HI or a part such as 10.244.3.0/24")
	fs.StringSliceVar(&f.gateways, "gateway", nil, "address of this host on the overlay (default: the first of a range that is a prefix)")
	fs.StringVar(&f.node, "node", "", "take the ranges from this node of the Kubernetes cluster that this is a pod of")
	fs.BoolVar(&l.IsGateway, "is-gateway", false, "give the bridge the gateway's address")
	fs.BoolVar(&l.DefaultGateway, "default-gateway", false, "the same, and the containers' default route by it")
	fs.BoolVar(&l.Masquerade, "ip-masq", false, "masquerade what containers send beyond the subnet")
	fs.BoolVar(&l.Hairpin, "hairpin", false, "a container may reach itself by a port of the host")
	fs.StringSliceVar(&l.Routes, "route", nil, "a route of the containers, DST or DST=GATEWAY")
	fs.StringSliceVar(&l.Peers, "peer", nil, "remote VTEP of a VNI that the plugin adds; repeatable")
	fs.StringToStringVar(&f.options, "option", nil, "another option of such a VNI, NAME=VALUE, as 'govxlan vni add' has them")
	fs.BoolVar(&l.AddVNI, "add-vni", true, "the plugin adds the VNI to the endpoint where it is missing")
	fs.StringVar(&l.Bridge, "bridge", "", "bridge of the VNI's device (default: vxbr and the VNI)")
	fs.StringVar(&l.Control, "control", "", "control socket of the endpoint (default: that of the network namespace)")
	fs.IntVar(&l.MTU, "mtu", 0, "MTU of the containers, in bytes (default: that of the VNI)")
	fs.StringVar(&l.DataDir, "data-dir", "", "where host-local keeps the addresses it has given (default: /var/lib/cni/networks)")
	fs.StringArrayVar(&l.Chain, "chain", nil, "a plugin that follows, such as portmap, or its JSON object; repeatable")
}

// json is the list as a file has it.
func (f *listFlags) json(ctx context.Context) ([]byte, error) {
	l := f.list
	v, err := f.vni.parse()
	switch {
	case err != nil:
		return nil, err
	case v == nil:
		return nil, usagef("--vni is missing: which VNI are the containers on?")
	}
	l.VNI = *v
	for _, text := range f.subnets {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usagef("--subnet %s: give a subnet, such as 10.0.1.0/24", text)
		}
		l.Subnets = append(l.Subnets, p)
	}
	for _, text := range f.gateways {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, usagef("--gateway %s: give an IP address", text)
		}
		l.Gateways = append(l.Gateways, a)
	}
	if len(f.options) > 0 {
		l.Options = make(map[string]any)
	}
	for _, name := range slices.Sorted(maps.Keys(f.options)) {
		l.Options[name] = f.options[name]
	}
	if f.node != "" {
		if len(l.Ranges) > 0 {
			return nil, usagef("--node %s has ranges of its own: leave --range out", f.node)
		}
		cluster, err := cni.InCluster()
		if err != nil {
			return nil, fmt.Errorf("--node %s: %w", f.node, err)
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		cidrs, err := cluster.PodCIDRs(ctx, f.node)
		if err != nil {
			return nil, err
		}
		for _, c := range cidrs {
			l.Ranges = append(l.Ranges, c.String())
		}
	}
	text, err := l.JSON()
	if err != nil {
		return nil, usageError{err}
	}
	return text, nil
}

func newCNIConfCommand() *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:   "conf",
		Short: "Print a network configuration list for container runtimes",
		Long: `Print a network configuration list (a .conflist file), with addresses from the
plugin host-local. Each host hands out addresses by itself: give each a --range of
its own, in a --subnet that is the same on all, and a --gateway of its own if it is
to be one.`,
		Example: `  govxlan cni conf --vni 4097 --subnet 10.0.1.0/24 --range 10.0.1.100-10.0.1.149 --peer 192.168.52.204
  govxlan cni conf --vni 4097 --subnet 10.244.0.0/16 --range 10.244.3.0/24 --default-gateway --ip-masq --chain portmap
  govxlan cni conf --vni 4097 --subnet 10.0.1.0/24 --option arp=suppress --option ttl=32`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := f.json(cmd.Context())
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func newCNIInstallCommand() *cobra.Command {
	var f listFlags
	var binDir, confDir, file string
	var bridge bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install the plugin and a network configuration on this host",
		Long: `Copy this program into the directory of plugins, as govxlan, and write the network
configuration that 'govxlan cni conf' prints into that of configurations. What is
there already is replaced at once: a runtime never finds half of a file.`,
		Example: `  govxlan cni install --vni 4097 --subnet 10.0.1.0/24 --range 10.0.1.100-10.0.1.149 --peer 192.168.52.204
  govxlan cni install --vni 4097 --subnet 10.244.0.0/16 --node worker1 --default-gateway --ip-masq --make-bridge`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" || strings.Contains(file, "/") || !strings.HasSuffix(file, ".conflist") {
				return usagef("--conf-name %q: give the name of a file that ends with .conflist", file)
			}
			text, err := f.json(cmd.Context())
			if err != nil {
				return err
			}
			program, err := os.Executable()
			if err != nil {
				return err
			}
			if bridge {
				name := f.list.Bridge
				if name == "" {
					v, _ := f.vni.parse() // json has judged it
					name = cni.BridgeOf(vxlan.VNI(*v))
				}
				if _, err := cni.MakeBridge(name); err != nil {
					return err
				}
			}
			if err := cni.Install(program, binDir, text, confDir, file); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "installed %s/%s and %s/%s\n", binDir, cni.PluginType, confDir, file)
			return err
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&binDir, "bin-dir", "/opt/cni/bin", "directory of plugins")
	cmd.Flags().StringVar(&confDir, "conf-dir", "/etc/cni/net.d", "directory of network configurations")
	cmd.Flags().StringVar(&file, "conf-name", "10-govxlan.conflist", "name of the configuration's file; runtimes take the first in order")
	cmd.Flags().BoolVar(&bridge, "make-bridge", false, "make the bridge too, for an endpoint that has the VNI from the start")
	return cmd
}
