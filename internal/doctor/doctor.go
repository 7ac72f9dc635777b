package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/dockeroverlay"
	"github.com/govxlan/govxlan/internal/ping"
	"github.com/govxlan/govxlan/internal/reach"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Config says what to look at.
type Config struct {
	// Client and Status are of the running endpoint; nil: none runs.
	Client *control.Client
	Status *control.Status
	// ControlError is why a running endpoint cannot be asked. Optional.
	ControlError error
	// Peers to look at; none: those of the endpoint.
	Peers []netip.AddrPort
	// VNI to look at; nil: all.
	VNI *vxlan.VNI
	// Overlays are Docker's own overlay networks, if they are to be looked at, and
	// OverlayError is why there are none.
	Overlays     []dockeroverlay.Network
	OverlayError error
	// Port, where no endpoint runs. 0 = 4789.
	Port uint16
}

// examination is one run.
type examination struct {
	Config
	ctx    context.Context
	report Report
	port   uint16
	before counts // of the kernel's UDP, when it began

	// made is what the process knows of its VNIs, where it says.
	made map[vxlan.VNI]control.VNI
	// reached is what was found of each peer in each VNI.
	reached []reachedPeer
}

type reachedPeer struct {
	peer netip.AddrPort
	vni  *vtep.VNIStatus // nil: no endpoint
	reach.Report
}

// mostPeers bounds those that are asked, each for a second at most.
const mostPeers = 64

// Examine does all checks.
func Examine(ctx context.Context, cfg Config) Report {
	x := examination{Config: cfg, ctx: ctx, port: cfg.Port}
	x.report = Report{Endpoint: cfg.Status != nil, Findings: []Finding{}, OK: true}
	if x.Status != nil {
		x.port = x.Status.Port
	}
	if x.port == 0 {
		x.port = vxlan.Port
	}
	x.before = readCounts()
	if x.Client != nil {
		// Endpoints of other programs do not say; then nothing is expected.
		all, _ := x.Client.VNIs(ctx)
		x.made = make(map[vxlan.VNI]control.VNI)
		for _, v := range all {
			x.made[v.VNI] = v
		}
	}
	x.checkTUN()
	x.checkRights()
	x.checkControl()
	x.checkPort()
	x.checkKernelDevices()
	x.checkDevices()
	x.checkRoutes()
	x.ask()
	x.checkTunnel()
	x.checkMembers()
	x.checkOverlays()
	x.checkFirewall()
	x.checkConntrack()
	x.checkChecksums()
	x.checkDrops()
	return x.report
}

// find reports a finding about the host.
func (x *examination) find(check string, s State, command, format string, args ...any) {
	x.report.add(Finding{Check: check, State: s, Text: fmt.Sprintf(format, args...), Command: command})
}

// vnis are those to look at.
func (x *examination) vnis() []*vtep.VNIStatus {
	var all []*vtep.VNIStatus
	if x.Status == nil {
		return nil
	}
	for i := range x.Status.VNIs {
		v := &x.Status.VNIs[i]
		if x.VNI == nil || *x.VNI == v.VNI {
			all = append(all, v)
		}
	}
	return all
}

// peers are those to look at in a VNI; of all VNIs for nil.
func (x *examination) peers(v *vtep.VNIStatus) []netip.AddrPort {
	if len(x.Peers) > 0 {
		return x.Peers
	}
	var all []netip.AddrPort
	for _, w := range x.vnis() {
		if v != nil && w != v {
			continue
		}
		for _, p := range w.Peers {
			if a := netip.AddrPortFrom(p.VTEP, p.Port); !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

func (x *examination) checkControl() {
	switch {
	case x.ControlError != nil:
		x.find("endpoint", Fail, "sudo govxlan doctor", "the endpoint cannot be asked: %v", x.ControlError)
	case x.Status == nil:
		x.find("endpoint", Skip, "", "no endpoint runs in this network namespace: what is checked is what 'govxlan up' would meet")
	default:
		x.find("endpoint", OK, "", "it runs for %v, on port %d, with VNIs: %d", reach.Ago(x.Status.Uptime), x.port, len(x.Status.VNIs))
	}
	if x.Status != nil && x.VNI != nil && len(x.vnis()) == 0 {
		x.report.add(Finding{Check: "vni", State: Fail, VNI: x.VNI, Text: fmt.Sprintf("the endpoint has no VNI %v", *x.VNI),
			Command: fmt.Sprintf("govxlan vni add %v --peer <address>", *x.VNI)})
	}
}

// question is what every peer is asked: in a VNI, or without an endpoint.
func (x *examination) question(v *vtep.VNIStatus, to netip.AddrPort) reach.Question {
	q := reach.Question{
		Client: x.Client, Status: x.Status, VNI: x.VNI, To: to, Refusal: true,
		Count: 5, Interval: 10 * time.Millisecond, Wait: 500 * time.Millisecond, Size: vtep.MinProbe,
	}
	if v != nil {
		q.VNI = &v.VNI
		q.MTU, q.MostMTU = true, v.MTU+vxlan.EthernetLen+ping.Overhead(to.Addr())
	}
	return q
}
