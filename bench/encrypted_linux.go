package bench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/transport/wireguard"
	"github.com/govxlan/govxlan/vxlan"
)

// encryptedMTU is what VXLAN over IPv4 leaves in a tunnel.
const encryptedMTU = wireguardMTU - vxlan.OverheadIPv4

// tunnelled is a host's address in the tunnel.
func (h *host) tunnelled() netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(1 + h.index)}) }

// startWireGuardVXLAN puts the kernel's vxlan on wireguard-go.
func startWireGuardVXLAN(ctx context.Context, _ *runner, p *pair) error {
	p.mtu = encryptedMTU
	err := wireguardGo(ctx, p, "wv", func(h *host, dev string) error {
		if err := h.SetMTU(dev, wireguardMTU); err != nil {
			return err
		}
		if err := h.AddAddr(dev, h.tunnelled().String()+"/24"); err != nil {
			return err
		}
		if err := h.SetUp(dev); err != nil {
			return err
		}
		err := h.VXLAN(netlab.VXLANConfig{
			Name: overlayDev, VNI: benchVNI, Local: h.tunnelled(),
			Remotes: []netip.Addr{p.far(h).tunnelled()}, MTU: encryptedMTU,
		})
		if err != nil {
			return err
		}
		return h.AddAddr(overlayDev, h.overCIDR())
	})
	p.command += fmt.Sprintf("; ip link add %s type vxlan id %d local %v remote %v dstport 4789", overlayDev, benchVNI, p.hosts[0].tunnelled(), p.hosts[1].tunnelled())
	return err
}

// startGovxlanWireGuard runs govxlan with a tunnel of its own.
func startGovxlanWireGuard(ctx context.Context, r *runner, p *pair) error {
	p.mtu, p.version = encryptedMTU, r.Version
	keys := [2]wireguard.Key{wireguard.NewPrivateKey(), wireguard.NewPrivateKey()}
	for _, h := range p.hosts {
		far := p.far(h)
		file := filepath.Join(h.LabDir(), fmt.Sprintf("%s-%s-%s.conf", p.mode, p.system.name, h.letter))
		text := fmt.Sprintf("[Interface]\nPrivateKey = %v\nListenPort = %d\nAddress = %v/24\n[Peer]\nPublicKey = %v\nEndpoint = %v:%d\nAllowedIPs = %v/32\n",
			keys[h.index], wireguardPort, h.tunnelled(), keys[far.index].Public(), far.under, wireguardPort, far.tunnelled())
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		args := []string{
			"up", "--vni", fmt.Sprint(benchVNI), "--wireguard", file, "--peer", far.tunnelled().String(),
			"--addr", h.overCIDR(), "--name", overlayDev,
		}
		if h.index == 0 {
			p.command = fmt.Sprintf("%s up --vni %d --wireguard wg0.conf --peer %v --addr %s --name %s", programName, benchVNI, far.tunnelled(), h.overCIDR(), overlayDev)
		}
		up, err := p.run(ctx, h, r.Program, args...)
		if err != nil {
			return err
		}
		if err := up.await(ctx, func() bool { return up.said("up " + overlayDev + " ") }); err != nil {
			return err
		}
	}
	return nil
}
