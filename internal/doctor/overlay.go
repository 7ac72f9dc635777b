package doctor

import (
	"fmt"
	"net/netip"

	"github.com/govxlan/govxlan/internal/dockeroverlay"
)

// checkOverlays: does this node know what it has to know of Docker's own overlay
// networks. Their devices flood nothing: what they do not know is not reached.
func (x *examination) checkOverlays() {
	if x.OverlayError != nil {
		x.find("docker-overlay", Skip, "", "%v", x.OverlayError)
	}
	for i := range x.Overlays {
		x.judgeOverlay(&x.Overlays[i])
	}
}

func (x *examination) judgeOverlay(n *dockeroverlay.Network) {
	add := func(s State, peer netip.Addr, command, text string) {
		x.report.add(Finding{Check: "docker-overlay", State: s, Peer: peer, VNI: &n.VNI, Text: text, Command: command})
	}
	here, far := 0, 0
	vteps := make(map[netip.Addr]bool)
	inspect := "govxlan overlay inspect " + n.VNI.String()
	for _, s := range n.Stations {
		switch {
		case s.Here:
			here++
		case !s.Entry:
			add(Fail, netip.Addr{}, inspect, fmt.Sprintf("%v at %v has a neighbour and no FDB entry: containers here cannot reach it, since Docker's device floods nothing; Docker enters it when its container starts again", s.IP, s.MAC))
		case !s.Neighbour:
			add(Warn, s.VTEP, inspect, fmt.Sprintf("%v behind %v has an FDB entry and no neighbour: containers here cannot ask for its address, since Docker's device answers ARP itself", s.MAC, s.VTEP))
		default:
			far++
			vteps[s.VTEP] = true
		}
	}
	for _, v := range x.vnis() {
		if v.VNI == n.VNI && x.port == n.Port {
			add(Warn, netip.Addr{}, "", fmt.Sprintf("Docker's %v and the endpoint's %s have the same VNI and port: only one of them hears what comes", n, v.Device))
		}
	}
	add(OK, netip.Addr{}, "", fmt.Sprintf("Docker's overlay network %s: known here %d, behind %d other VTEPs %d; port %d, MTU %d", n, here, len(vteps), far, n.Port, n.MTU))
}
