package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strings"

	"github.com/govxlan/govxlan/internal/netlab"
)

// system is a kind of tunnel.
type system struct {
	name, title string
	with        string // report.System.With
	// tools must be there; install says how to get them.
	tools   []string
	install string
	// start joins the hosts of a pair, so that they reach each other under their
	// overlay addresses before long. It may lower p.mtu, and describes itself in
	// p.version and p.command.
	start func(ctx context.Context, r *runner, p *pair) error
	// own processes are govxlan's.
	own bool
	// bare leaves the underlay devices without an address.
	bare bool
}

// missing names the tools that are not installed.
func (s *system) missing() string {
	var names []string
	for _, t := range s.tools {
		if _, err := findTool(t); err != nil {
			names = append(names, t)
		}
	}
	if names == nil {
		return ""
	}
	return "no " + strings.Join(names, ", ")
}

// findTool looks where daemons live too, which a user's path may leave out.
func findTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range toolDirs() {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path, nil
		}
	}
	return "", err
}

// toolVersion asks a tool for its version and takes the first word of the answer
// that begins with a digit.
func toolVersion(ctx context.Context, tool, flag string) string {
	out, err := exec.CommandContext(ctx, tool, flag).CombinedOutput()
	if len(out) == 0 && err != nil {
		return ""
	}
	return versionWord.FindString(string(out))
}

var versionWord = regexp.MustCompile(`\bv?\d[\w.+~-]*`)

// systems are all that there are, govxlan's variants aside.
func systems() []*system {
	return []*system{
		{name: Veth, title: "the veth pair itself, no tunnel", start: startVeth},
		{name: Kernel, title: "the kernel's vxlan device", start: startKernel},
		{name: GovxlanEBPF, title: "govxlan, programs in the kernel", own: true, start: govxlan(Variant{Flags: []string{"--datapath", "ebpf"}})},
		{name: Govxlan, title: "govxlan in user space", own: true, start: govxlan(Variant{Flags: []string{"--datapath", "user"}})},
		{name: GovxlanPlain, title: "govxlan in user space, without offloads", own: true, start: govxlan(Variant{Flags: []string{"--datapath", "user", "--offload", "off"}})},
		{
			name: WireGuardGo, title: "wireguard-go: IP, encrypted", start: startWireGuard,
			tools: []string{"wireguard-go"}, install: "apt install wireguard-go",
		},
		{
			name: Fastd, title: "fastd: Ethernet, no encryption", start: startFastd,
			tools: []string{"fastd"}, install: "apt install fastd",
		},
		{
			name: Tinc, title: "tinc as a switch, no encryption", start: startTinc,
			tools: []string{"tincd"}, install: "apt install tinc",
		},
		{
			name: OpenVPN, title: "OpenVPN: Ethernet, no encryption", start: startOpenVPN,
			tools: []string{"openvpn"}, install: "apt install openvpn",
		},
		{
			name: OpenVSwitch, title: "Open vSwitch in user space, VXLAN", start: startOpenVSwitch,
			tools: openVSwitchTools, install: "apt install openvswitch-switch", bare: true,
		},
		{name: GovxlanWireGuard, title: "govxlan --wireguard: Ethernet, encrypted", own: true, start: startGovxlanWireGuard},
		{
			name: WireGuardVXLAN, title: "the kernel's vxlan over wireguard-go", start: startWireGuardVXLAN,
			tools: []string{"wireguard-go"}, install: "apt install wireguard-go",
		},
	}
}

// startVeth puts the overlay's addresses on the veth pair.
func startVeth(_ context.Context, r *runner, p *pair) error {
	p.version, p.mtu = r.kernelRelease, 1500
	for _, h := range p.hosts {
		if err := h.AddAddr(underlayDev, h.overCIDR()); err != nil {
			return err
		}
	}
	return nil
}

func startKernel(_ context.Context, r *runner, p *pair) error {
	p.version = r.kernelRelease
	p.command = fmt.Sprintf("ip link add %s type vxlan id %d local %v remote %v dstport 4789", overlayDev, benchVNI, p.hosts[0].under, p.hosts[1].under)
	for _, h := range p.hosts {
		err := h.VXLAN(netlab.VXLANConfig{
			Name: overlayDev, VNI: benchVNI, Local: h.under,
			Remotes: []netip.Addr{p.far(h).under}, MTU: overlayMTU,
		})
		if err != nil {
			return err
		}
		if err := h.AddAddr(overlayDev, h.overCIDR()); err != nil {
			return err
		}
	}
	return nil
}

const benchVNI = 4097

// govxlan starts "govxlan up" on both hosts.
func govxlan(v Variant) func(context.Context, *runner, *pair) error {
	return func(ctx context.Context, r *runner, p *pair) error {
		program := r.Program
		p.version = r.Version
		if v.Program != "" {
			program, p.version = v.Program, toolVersion(ctx, v.Program, "version")
		}
		for _, h := range p.hosts {
			args := []string{
				"up", "--vni", fmt.Sprint(benchVNI), "--local", h.under.String(), "--peer", p.far(h).under.String(),
				"--addr", h.overCIDR(), "--name", overlayDev,
			}
			args = append(args, v.Flags...)
			p.metrics = metricsAddress(v.Flags)
			if h.index == 0 {
				p.command = programName + " " + strings.Join(args, " ")
			}
			up, err := p.run(ctx, h, program, args...)
			if err != nil {
				return err
			}
			if err := up.await(ctx, func() bool { return up.said("up " + overlayDev + " ") }); err != nil {
				return err
			}
		}
		return nil
	}
}
