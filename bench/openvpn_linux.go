package bench

import (
	"context"
	"fmt"
	"strings"
)

const openvpnPort = 1194

// startOpenVPN runs OpenVPN without encryption, Ethernet over UDP.
func startOpenVPN(ctx context.Context, _ *runner, p *pair) error {
	tool, err := findTool("openvpn")
	if err != nil {
		return err
	}
	p.version = toolVersion(ctx, tool, "--version")
	for _, h := range p.hosts {
		args := []string{
			"--dev", overlayDev, "--dev-type", "tap", "--proto", "udp",
			"--local", h.under.String(), "--remote", p.far(h).under.String(), "--port", fmt.Sprint(openvpnPort),
			"--cipher", "none", "--auth", "none", "--tun-mtu", fmt.Sprint(overlayMTU), "--mssfix", "0",
		}
		if h.index == 0 {
			p.command = "openvpn " + strings.Join(args, " ")
		}
		process, err := p.run(ctx, h, tool, args...)
		if err != nil {
			return err
		}
		if err := process.await(ctx, func() bool { return h.hasDevice(overlayDev) }); err != nil {
			return err
		}
		if err := h.setUp(overlayDev, overlayMTU); err != nil {
			return err
		}
	}
	return nil
}
