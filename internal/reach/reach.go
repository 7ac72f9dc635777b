// Package reach finds out whether a VTEP can be reached: on every level that
// package ping has, with what a running endpoint knows.
package reach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/ping"
	"github.com/govxlan/govxlan/internal/portholder"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Report is what was found out; its JSON form is what `govxlan ping` prints.
type Report struct {
	VTEP netip.Addr `json:"vtep"`
	Port uint16     `json:"port"`
	// VNI is nil where none was given, and none could be probed.
	VNI *vxlan.VNI `json:"vni"`
	// By is who sent the probes: endpoint, socket or nobody.
	By string `json:"by"`
	// Path is the host, by ICMP.
	Path PathLevel `json:"path"`
	// UDP is its port.
	UDP ping.Knocked `json:"udp"`
	// Probe is its engine.
	Probe ProbeLevel `json:"probe"`
	// Station is one behind it.
	Station StationLevel `json:"station"`
	// LastHeard is the time since any frame of it came; nil: never, or no
	// endpoint runs.
	LastHeard *vtep.Seconds `json:"last_heard_s"`
	MTU       *MTU          `json:"mtu,omitempty"`
	Alive     bool          `json:"alive"`
	Verdict   string        `json:"verdict"`
}

// PathLevel is what the host said.
type PathLevel struct {
	State  string   `json:"state"` // answers, silent, untried
	RTT    *float64 `json:"rtt_ms,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// ProbeLevel is what the engine said.
type ProbeLevel struct {
	State string `json:"state"` // answers, silent, untried
	ping.Summary
	Reason string `json:"reason,omitempty"`
}

// StationLevel is what a station behind the VTEP said.
type StationLevel struct {
	State string `json:"state"` // answers, silent, untried
	*ping.Station
	RTT    *float64 `json:"rtt_ms,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// MTU is how long packets may be.
type MTU struct {
	ping.MTU
	By string `json:"by"` // probe or icmp
	// Needed is what frames of the overlay's MTU need; 0: not known.
	Needed int `json:"needed,omitempty"`
}

// States of a level.
const (
	Answers = "answers"
	Silent  = "silent"
	Untried = "untried"
)

// Question is what is asked of a VTEP.
type Question struct {
	// Client and Status are of the running endpoint; nil: none runs.
	Client *control.Client
	Status *control.Status
	// VNI may be nil where no endpoint runs: then its engine is not asked.
	VNI *vxlan.VNI
	// To is the VTEP. Port 0: where the endpoint sends its frames to.
	To netip.AddrPort
	// Count, Interval and Wait of probes, and Size of their frames.
	Count          int
	Interval, Wait time.Duration
	Size           int
	// MTU has the longest packets found: up to MostMTU, or 0 for what the device
	// carries that they leave by.
	MTU     bool
	MostMTU int
	// Burst has so many frames of full size sent as one.
	Burst int
	// Refusal is enough: if the port is refused, no probes are sent.
	Refusal bool
	// Each hears what becomes of the probes. Optional.
	Each func(control.PingEvent)
}

// asking is one run.
type asking struct {
	q      Question
	to     netip.AddrPort
	client *control.Client // nil: no endpoint runs
	local  netip.Addr      // to send from; may be the zero Addr
	most   int             // MTU of the underlay device, 0 = not known
	status *vtep.VNIStatus // of the VNI, in the running endpoint
	peer   *vtep.PeerStatus
	ended  bool // the endpoint, while it probed
	report Report
}

// ErrChoose: the endpoint has several VNIs, and none was chosen.
var ErrChoose = errors.New("choose one with --vni")

// Ask asks a VTEP on all levels. It returns an error only when the question has
// no sense: a VNI that is not here, or one that is missing.
func Ask(ctx context.Context, q Question) (Report, error) {
	p := asking{q: q, to: q.To, client: q.Client}
	if err := p.find(); err != nil {
		return Report{}, err
	}
	p.run(ctx)
	return p.report, nil
}

// ErrNoBurst: the endpoint sent none.
var ErrNoBurst = errors.New("no frames were sent")

// AskBurst sends only Question.Burst frames of Size bytes, as one train where the
// system takes trains, and returns how many came back as they were sent.
func AskBurst(ctx context.Context, q Question) (int, error) {
	p := asking{q: q, to: q.To, client: q.Client}
	if err := p.find(); err != nil {
		return 0, err
	}
	var answered *int
	if err := p.send(ctx, func(e control.PingEvent) {
		if e.Burst != nil {
			answered = e.Burst
		}
	}); err != nil {
		return 0, err
	}
	if answered == nil {
		return 0, ErrNoBurst
	}
	return *answered, nil
}

// find looks for what the running endpoint knows.
func (p *asking) find() error {
	port := uint16(vxlan.Port)
	v := p.q.VNI
	if s := p.q.Status; s != nil {
		port = s.Port
		if v == nil && len(s.VNIs) == 1 {
			v = &s.VNIs[0].VNI
		}
		if v == nil {
			return fmt.Errorf("the endpoint has %d VNIs: %w", len(s.VNIs), ErrChoose)
		}
		for i := range s.VNIs {
			if s.VNIs[i].VNI == *v {
				p.status = &s.VNIs[i]
			}
		}
		if p.status == nil {
			return fmt.Errorf("VNI %v: %w", *v, vtep.ErrNoVNI)
		}
		for i := range p.status.Peers {
			if q := &p.status.Peers[i]; q.VTEP == p.to.Addr() {
				p.peer, port = q, q.Port
			}
		}
		p.local = Local(s, p.to.Addr())
	}
	if p.to.Port() == 0 {
		p.to = netip.AddrPortFrom(p.to.Addr(), port)
	}
	if local, mtu, err := Route(p.to.Addr(), p.local); err == nil {
		p.most = mtu
		if !p.local.IsValid() {
			p.local = local
		}
	}
	if p.q.MostMTU != 0 {
		p.most = p.q.MostMTU
	}
	p.report = Report{
		VTEP: p.to.Addr(), Port: p.to.Port(), VNI: v, By: "nobody",
		Path: PathLevel{State: Untried}, UDP: ping.Knocked{State: ping.Untried},
		Probe: ProbeLevel{State: Untried}, Station: StationLevel{State: Untried},
	}
	return nil
}

// Local is the endpoint's own address of the family of a peer; the zero Addr
// where routing chooses it.
func Local(s *control.Status, to netip.Addr) netip.Addr {
	for text := range strings.SplitSeq(s.Local, ",") {
		if a, err := netip.ParseAddr(text); err == nil && a.Is4() == to.Is4() && !a.IsUnspecified() {
			return a
		}
	}
	return netip.Addr{}
}

// run asks on all levels.
func (p *asking) run(ctx context.Context) {
	p.askHost(ctx)
	p.askPort()
	if p.q.Refusal && p.report.UDP.State == ping.Refused {
		p.report.Probe.Reason = "its port is refused"
	} else {
		p.probe(ctx)
	}
	if p.report.Probe.State != Answers && ctx.Err() == nil {
		p.askStation()
	}
	if p.q.MTU && p.report.MTU == nil && ctx.Err() == nil {
		p.findMTUByEcho(ctx)
	}
	if p.client != nil {
		p.hear()
	}
	p.judge()
}

// askHost asks by ICMP.
func (p *asking) askHost(ctx context.Context) {
	r := &p.report.Path
	line, err := ping.NewEcho(p.local, p.to.Addr())
	if err != nil {
		r.Reason = err.Error()
		return
	}
	defer line.Close()
	s := ping.Run(ctx, line, ping.Plan{Count: 2, Interval: 20 * time.Millisecond, Wait: p.q.Wait, Size: vtep.MinProbe}, func(ping.Event) {})
	switch {
	case s.RTT != nil:
		r.State, r.RTT = Answers, &s.RTT.Min
	case s.Error != "":
		r.State, r.Reason = Untried, s.Error
	default:
		r.State = Silent
	}
}

// askPort asks whether the port is refused.
func (p *asking) askPort() {
	vni := vxlan.VNI(0)
	if p.report.VNI != nil {
		vni = *p.report.VNI
	}
	if k, err := ping.Knock(p.local, p.to, vni, min(p.q.Wait, 300*time.Millisecond)); err == nil {
		p.report.UDP = k
	}
}

// wish is what is asked of whoever sends the probes.
func (p *asking) wish() control.Ping {
	q := &p.q
	w := control.Ping{
		VNI: p.report.VNI, VTEP: p.to.Addr(), Port: p.to.Port(), Count: q.Count, Size: q.Size, Burst: q.Burst,
		Interval: ping.Milliseconds(q.Interval), Wait: ping.Milliseconds(q.Wait),
	}
	if q.MTU {
		w.MostMTU = p.mostMTU()
	}
	return w
}

// mostMTU is the longest outer packet to be tried.
func (p *asking) mostMTU() int {
	if p.most != 0 {
		return p.most
	}
	return 9000
}

// probe sends probes, by the endpoint if one runs.
func (p *asking) probe(ctx context.Context) {
	r := &p.report.Probe
	var tally ping.Tally
	done := false
	each := func(e control.PingEvent) {
		if p.q.Each != nil {
			p.q.Each(e)
		}
		switch {
		case e.Probe != nil:
			tally.Count(*e.Probe)
		case e.Summary != nil:
			r.Summary, done = *e.Summary, true
		case e.MTU != nil && e.MTU.There != 0:
			p.report.MTU = &MTU{MTU: *e.MTU, By: "probe", Needed: p.needed()}
		}
	}
	err := p.send(ctx, each)
	if !done {
		r.Summary = tally.Summary()
	}
	p.ended = errors.Is(err, control.ErrEnded) || r.Summary.Error == ping.Ended
	switch {
	case r.Received > 0:
		r.State = Answers
	case r.Sent > 0:
		r.State = Silent
	case err != nil && ctx.Err() == nil:
		r.Reason = err.Error()
	case r.Summary.Error != "":
		r.Reason = r.Summary.Error
	}
}

// send has the probes sent.
func (p *asking) send(ctx context.Context, each func(control.PingEvent)) error {
	if p.client != nil {
		if p.peer == nil {
			err := p.client.Ping(ctx, p.wish(), func(e control.PingEvent) {
				p.report.By = "endpoint"
				each(e)
			})
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("it is no peer of VNI %v here, so that answers would be dropped: 'govxlan peer add %v --vni %v' makes it one", *p.report.VNI, p.name(), *p.report.VNI)
			}
			return err
		}
		p.report.By = "endpoint"
		return p.client.Ping(ctx, p.wish(), each)
	}
	if p.report.VNI == nil {
		return errors.New("no endpoint runs here: give the VNI to probe in with --vni")
	}
	line, err := ping.Listen(p.local, p.to, *p.report.VNI)
	if err != nil {
		if errors.Is(err, transport.ErrPortInUse) {
			return fmt.Errorf("answers come to UDP port %d, which is held by %s", p.to.Port(), portholder.Of(p.to.Port()))
		}
		return err
	}
	defer line.Close()
	p.report.By = "socket"
	each(control.PingEvent{Start: &control.PingStart{VTEP: p.to.Addr(), Port: p.to.Port(), VNI: *p.report.VNI}})
	control.DoPing(ctx, p.wish(), line, each)
	return nil
}

// name is the VTEP as the user would write it.
func (p *asking) name() string {
	if p.to.Port() == vxlan.Port {
		return p.to.Addr().String()
	}
	return p.to.String()
}

// needed is the outer packet of a frame of the overlay's MTU.
func (p *asking) needed() int {
	if p.status == nil {
		return 0
	}
	return p.status.MTU + vxlan.EthernetLen + ping.Overhead(p.to.Addr())
}

// askStation asks one that this host knows behind the VTEP.
func (p *asking) askStation() {
	r := &p.report.Station
	if p.status == nil || p.peer == nil || p.status.VLAN != 0 {
		return
	}
	if p.status.ARP == vtep.ARPProxy.String() {
		r.Reason = "the endpoint itself answers ARP (--arp proxy)"
		return
	}
	entries, err := p.client.FDB(context.Background(), p.status.VNI)
	if err != nil {
		return
	}
	behind := make(map[vxlan.MAC]bool)
	for _, e := range entries {
		if e.VTEP == p.to.Addr() && !e.MAC.IsZero() {
			behind[e.MAC] = true
		}
	}
	stations := ping.Stations(p.status.Device, func(m vxlan.MAC) bool { return behind[m] })
	if len(stations) == 0 {
		r.Reason = "this host knows none behind it"
		return
	}
	for _, s := range stations[:min(len(stations), 3)] {
		r.Station = &s
		took, err := ping.AskStation(p.status.Device, s, p.q.Wait)
		if err == nil {
			ms := ping.Milliseconds(took)
			r.State, r.RTT = Answers, &ms
			return
		}
		if !errors.Is(err, ping.ErrNoAnswer) {
			r.Reason = err.Error()
			return
		}
		r.State = Silent
	}
}

// findMTUByEcho is for VTEPs that answer no probes.
func (p *asking) findMTUByEcho(ctx context.Context) {
	if p.report.Path.State != Answers {
		return
	}
	line, err := ping.NewEcho(p.local, p.to.Addr())
	if err != nil {
		return
	}
	defer line.Close()
	wait := ping.Patience(*p.report.Path.RTT, p.q.Wait)
	m := ping.FindMTU(ctx, line, ping.Overhead(p.to.Addr()), p.mostMTU(), wait, true)
	p.report.MTU = &MTU{MTU: m, By: "icmp", Needed: p.needed()}
}

// hear asks when the endpoint last heard the peer, after all that was asked.
func (p *asking) hear() {
	s, err := p.client.Status(context.Background())
	if err != nil {
		return
	}
	for _, v := range s.VNIs {
		if v.VNI != *p.report.VNI {
			continue
		}
		for _, q := range v.Peers {
			if q.VTEP == p.to.Addr() {
				p.report.LastHeard = q.LastHeard
			}
		}
	}
}

// Lately is how long ago, in seconds, a peer that is alive may have been heard.
const Lately = 30

// Ago is a time of a status for people.
func Ago(s vtep.Seconds) time.Duration {
	return time.Duration(float64(s) * float64(time.Second)).Round(100 * time.Millisecond)
}

// judge draws the conclusion.
func (p *asking) judge() {
	r := &p.report
	who := p.name()
	switch {
	case p.ended:
		r.Verdict = "the endpoint here has ended while it probed " + who
		return
	case r.Probe.State == Answers:
		r.Alive, r.Verdict = true, fmt.Sprintf("%s answers in VNI %v", who, *r.VNI)
		return
	case r.Station.State == Answers:
		r.Alive, r.Verdict = true, fmt.Sprintf("%s answers no probes, but station %v behind it answers", who, r.Station.IP)
		return
	case r.LastHeard != nil && *r.LastHeard <= Lately && (r.UDP.State == ping.NotRefused || r.UDP.State == ping.Untried):
		r.Alive, r.Verdict = true, fmt.Sprintf("%s answered no probe, but a frame of it came %v ago", who, Ago(*r.LastHeard))
		return
	}
	switch {
	case r.UDP.State == ping.Refused && r.UDP.By.IsValid() && r.UDP.By != r.VTEP:
		r.Verdict = fmt.Sprintf("%s: a firewall at %v refuses UDP port %d", who, r.UDP.By, r.Port)
	case r.UDP.State == ping.Refused:
		r.Verdict = fmt.Sprintf("%s: nobody listens on UDP port %d there, or its firewall refuses it", who, r.Port)
	case r.UDP.State == ping.Prohibited && r.UDP.By.IsValid():
		r.Verdict = fmt.Sprintf("%s: a firewall at %v prohibits UDP port %d", who, r.UDP.By, r.Port)
	case r.UDP.State == ping.Prohibited:
		r.Verdict = fmt.Sprintf("%s: the firewall of this host does not let UDP to port %d out", who, r.Port)
	case r.UDP.State == ping.Unreachable && r.UDP.By.IsValid():
		r.Verdict = fmt.Sprintf("%s: %v says that it cannot be reached", who, r.UDP.By)
	case r.UDP.State == ping.Unreachable:
		r.Verdict = fmt.Sprintf("%s: there is no way to it from this host: see 'ip route get %v'", who, r.VTEP)
	case r.Probe.State == Untried && r.Path.State == Answers:
		r.Verdict = fmt.Sprintf("%s: the host answers, but its VTEP was not asked: %s", who, cmp.Or(r.Probe.Reason, "for an unknown reason"))
	case r.Path.State == Answers:
		r.Verdict = fmt.Sprintf("%s: the host answers, its VTEP does not: it has no VNI %v, or does not know %v as a peer, or a firewall drops UDP port %d, or it is of another kind", who, *r.VNI, p.us(), r.Port)
	case r.Probe.State == Untried:
		r.Verdict = fmt.Sprintf("%s: nothing answers, and its VTEP was not asked: %s", who, cmp.Or(r.Probe.Reason, "for an unknown reason"))
	default:
		r.Verdict = fmt.Sprintf("%s: nothing answers", who)
	}
}

func (p *asking) us() string {
	if p.local.IsValid() {
		return p.local.String()
	}
	return "this host"
}
