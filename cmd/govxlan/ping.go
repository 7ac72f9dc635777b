package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/ping"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

// pingFlags are the flags of ping as typed.
type pingFlags struct {
	controlFlags
	vni      vniFlag
	count    int
	interval time.Duration
	wait     time.Duration
	size     int
	mtu      bool
	quiet    bool
}

func newPingCommand() *cobra.Command {
	var f pingFlags
	cmd := &cobra.Command{
		Use:   "ping ADDR[:PORT] [flags]",
		Short: "Ask whether a far VTEP is there, how far, and how long packets may be",
		Long: `Probe a VTEP on several levels: whether its host answers, whether its UDP port is
refused, and whether its engine answers a probe in the VNI, as every govxlan
does that has this one as a peer. Other VTEPs drop a probe unseen; of those a
station behind them is asked, where this host knows one.

The running endpoint sends the probes. Where none runs, ping does, with --vni.
It ends with status 0 if the VTEP is alive, with 1 if nothing says so.`,
		Example: `  govxlan ping 192.168.52.204
  govxlan ping 192.168.52.204 --vni 4097 -c 0 -i 1s     # until Ctrl-C
  govxlan ping 192.168.52.204 --mtu                     # how long packets may be
  govxlan ping 192.168.52.204 -s 1464                   # frames of an MTU of 1450`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			peer, err := parsePeer(args[0], 0)
			if err != nil {
				return usagef("ping %w", err)
			}
			if err := f.check(); err != nil {
				return err
			}
			v, err := f.vni.parse()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			addrs, err := resolvePeers(ctx, []peerName{peer})
			if err != nil {
				return err
			}
			p := pinging{flags: &f, to: addrs[0], out: cmd.OutOrStdout()}
			if err := p.find(ctx, v); err != nil {
				return err
			}
			p.run(ctx)
			if f.json {
				if err := printJSON(cmd.OutOrStdout(), p.report); err != nil {
					return err
				}
			} else if err := p.print(); err != nil {
				return err
			}
			if !p.report.Alive {
				return errors.New(p.report.Verdict)
			}
			return nil
		},
	}
	f.add(cmd)
	fs := cmd.Flags()
	f.vni.add(cmd, "VNI to probe in; may be left out where the endpoint has one")
	fs.IntVarP(&f.count, "count", "c", 5, "probes to send; 0 for no end")
	fs.DurationVarP(&f.interval, "interval", "i", 200*time.Millisecond, "time from one to the next, at least 5ms")
	fs.DurationVarP(&f.wait, "wait", "W", time.Second, "how long to wait for an answer")
	fs.IntVarP(&f.size, "size", "s", 100, "bytes of a probe's Ethernet frame, 60 to 65499")
	fs.BoolVar(&f.mtu, "mtu", false, "find the longest packets that pass, there and back")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "only the summary, not each answer")
	return cmd
}

func (f *pingFlags) check() error {
	switch {
	case f.count < 0:
		return usagef("-c %d: give how many probes, or 0 for no end", f.count)
	case f.interval < 5*time.Millisecond || f.interval > time.Hour:
		return usagef("-i %v: give at least 5ms, such as 200ms", f.interval)
	case f.wait < time.Millisecond || f.wait > 10*time.Second:
		return usagef("-W %v: give 1ms to 10s", f.wait)
	case f.size < vtep.MinProbe || f.size > vtep.MaxProbe:
		return usagef("-s %d: a probe's frame has %d to %d bytes", f.size, vtep.MinProbe, vtep.MaxProbe)
	}
	return nil
}

// pingReport is what ping found out; its JSON form is public.
type pingReport struct {
	VTEP netip.Addr `json:"vtep"`
	Port uint16     `json:"port"`
	// VNI is nil where none was given, and none could be probed.
	VNI *vxlan.VNI `json:"vni"`
	// By is who sent the probes: endpoint, socket or nobody.
	By string `json:"by"`
	// Path is the host, by ICMP.
	Path pathLevel `json:"path"`
	// UDP is its port.
	UDP ping.Knocked `json:"udp"`
	// Probe is its engine.
	Probe probeLevel `json:"probe"`
	// Station is one behind it.
	Station stationLevel `json:"station"`
	// LastHeard is the time since any frame of it came; nil: never, or no
	// endpoint runs.
	LastHeard *vtep.Seconds `json:"last_heard_s"`
	MTU       *pingMTU      `json:"mtu,omitempty"`
	Alive     bool          `json:"alive"`
	Verdict   string        `json:"verdict"`
}

type pathLevel struct {
	State  string   `json:"state"` // answers, silent, untried
	RTT    *float64 `json:"rtt_ms,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

type probeLevel struct {
	State string `json:"state"` // answers, silent, untried
	ping.Summary
	Reason string `json:"reason,omitempty"`
}

type stationLevel struct {
	State string `json:"state"` // answers, silent, untried
	*ping.Station
	RTT    *float64 `json:"rtt_ms,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

type pingMTU struct {
	ping.MTU
	By string `json:"by"` // probe or icmp
	// Needed is what frames of the overlay's MTU need; 0: not known.
	Needed int `json:"needed,omitempty"`
}

const (
	answers = "answers"
	silent  = "silent"
	untried = "untried"
)

// pinging is one run.
type pinging struct {
	flags  *pingFlags
	to     netip.AddrPort
	out    io.Writer
	client *control.Client // nil: no endpoint runs
	local  netip.Addr      // to send from; may be the zero Addr
	most   int             // MTU of the underlay device, 0 = not known
	status *vtep.VNIStatus // of the VNI, in the running endpoint
	peer   *vtep.PeerStatus
	report pingReport
}

// find looks for the running endpoint and what it knows.
func (p *pinging) find(ctx context.Context, v *vxlan.VNI) error {
	client, err := p.flags.client()
	port := uint16(vxlan.Port)
	var status control.Status
	if err == nil {
		status, err = client.Status(ctx)
	}
	switch {
	case err == nil:
		p.client, port = client, status.Port
		if v == nil && len(status.VNIs) == 1 {
			v = &status.VNIs[0].VNI
		}
		if v == nil {
			return fmt.Errorf("the endpoint has %d VNIs: choose one with --vni", len(status.VNIs))
		}
		for i := range status.VNIs {
			if status.VNIs[i].VNI == *v {
				p.status = &status.VNIs[i]
			}
		}
		if p.status == nil {
			return fmt.Errorf("VNI %v: no such VNI here", *v)
		}
		for i := range p.status.Peers {
			if q := &p.status.Peers[i]; q.VTEP == p.to.Addr() {
				p.peer, port = q, q.Port
			}
		}
		for _, s := range strings.Split(status.Local, ",") {
			if a, err := netip.ParseAddr(s); err == nil && a.Is4() == p.to.Addr().Is4() && !a.IsUnspecified() {
				p.local = a
			}
		}
	case !errors.Is(err, control.ErrNotRunning) || p.flags.path != "":
		return err
	}
	if p.to.Port() == 0 {
		p.to = netip.AddrPortFrom(p.to.Addr(), port)
	}
	local, mtu, err := routeTo(p.to.Addr(), p.local)
	if err == nil {
		p.most = mtu
		if !p.local.IsValid() {
			p.local = local
		}
	}
	p.report = pingReport{
		VTEP: p.to.Addr(), Port: p.to.Port(), VNI: v, By: "nobody",
		Path: pathLevel{State: untried}, UDP: ping.Knocked{State: ping.Untried},
		Probe: probeLevel{State: untried}, Station: stationLevel{State: untried},
	}
	return nil
}

// run asks on all levels.
func (p *pinging) run(ctx context.Context) {
	p.askHost(ctx)
	p.askPort()
	p.probe(ctx)
	if p.report.Probe.State != answers && ctx.Err() == nil {
		p.askStation()
	}
	if p.flags.mtu && p.report.MTU == nil && ctx.Err() == nil {
		p.findMTUByEcho(ctx)
	}
	if p.client != nil {
		p.hear()
	}
	p.judge()
}

// askHost asks by ICMP.
func (p *pinging) askHost(ctx context.Context) {
	r := &p.report.Path
	line, err := ping.NewEcho(p.local, p.to.Addr())
	if err != nil {
		r.Reason = err.Error()
		return
	}
	defer line.Close()
	s := ping.Run(ctx, line, ping.Plan{Count: 2, Interval: 20 * time.Millisecond, Wait: p.flags.wait, Size: vtep.MinProbe}, func(ping.Event) {})
	switch {
	case s.RTT != nil:
		r.State, r.RTT = answers, &s.RTT.Min
	case s.Error != "":
		r.State, r.Reason = untried, s.Error
	default:
		r.State = silent
	}
}

// askPort asks whether the port is refused.
func (p *pinging) askPort() {
	vni := vxlan.VNI(0)
	if p.report.VNI != nil {
		vni = *p.report.VNI
	}
	if k, err := ping.Knock(p.local, p.to, vni, min(p.flags.wait, 300*time.Millisecond)); err == nil {
		p.report.UDP = k
	}
}

// wish is what is asked of whoever sends the probes.
func (p *pinging) wish() control.Ping {
	f := p.flags
	w := control.Ping{
		VNI: p.report.VNI, VTEP: p.to.Addr(), Port: p.to.Port(), Count: f.count, Size: f.size,
		Interval: float64(f.interval) / 1e6, Wait: float64(f.wait) / 1e6,
	}
	if f.mtu {
		w.MostMTU = p.mostMTU()
	}
	return w
}

// mostMTU is the longest outer packet to be tried.
func (p *pinging) mostMTU() int {
	if p.most != 0 {
		return p.most
	}
	return 9000
}

// probe sends probes, by the endpoint if one runs.
func (p *pinging) probe(ctx context.Context) {
	r := &p.report.Probe
	var tally ping.Tally
	done := false
	each := func(e control.PingEvent) {
		switch {
		case e.Start != nil:
			p.say("probing VTEP %v in VNI %v with frames of %d bytes", netip.AddrPortFrom(e.Start.VTEP, e.Start.Port), e.Start.VNI, p.flags.size)
		case e.Probe != nil:
			tally.Count(*e.Probe)
			p.sayProbe(e.Probe)
		case e.Summary != nil:
			r.Summary, done = *e.Summary, true
		case e.MTU != nil && e.MTU.There != 0:
			p.report.MTU = &pingMTU{MTU: *e.MTU, By: "probe", Needed: p.needed()}
		}
	}
	err := p.send(ctx, each)
	if !done {
		r.Summary = tally.Summary()
	}
	switch {
	case r.Received > 0:
		r.State = answers
	case r.Sent > 0:
		r.State = silent
	case err != nil && ctx.Err() == nil:
		r.Reason = err.Error()
	case r.Summary.Error != "":
		r.Reason = r.Summary.Error
	}
}

// send has the probes sent.
func (p *pinging) send(ctx context.Context, each func(control.PingEvent)) error {
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
			return fmt.Errorf("answers come to UDP port %d, which is held by %s", p.to.Port(), portHolder(p.to.Port()))
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
func (p *pinging) name() string {
	if p.to.Port() == vxlan.Port {
		return p.to.Addr().String()
	}
	return p.to.String()
}

// needed is the outer packet of a frame of the overlay's MTU.
func (p *pinging) needed() int {
	if p.status == nil {
		return 0
	}
	return p.status.MTU + vxlan.EthernetLen + ping.Overhead(p.to.Addr())
}

// askStation asks one that this host knows behind the VTEP.
func (p *pinging) askStation() {
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
		took, err := ping.AskStation(p.status.Device, s, p.flags.wait)
		if err == nil {
			ms := ping.Milliseconds(took)
			r.State, r.RTT = answers, &ms
			return
		}
		if !errors.Is(err, ping.ErrNoAnswer) {
			r.Reason = err.Error()
			return
		}
		r.State = silent
	}
}

// findMTUByEcho is for VTEPs that answer no probes.
func (p *pinging) findMTUByEcho(ctx context.Context) {
	if p.report.Path.State != answers {
		return
	}
	line, err := ping.NewEcho(p.local, p.to.Addr())
	if err != nil {
		return
	}
	defer line.Close()
	wait := ping.Patience(*p.report.Path.RTT, p.flags.wait)
	m := ping.FindMTU(ctx, line, ping.Overhead(p.to.Addr()), p.mostMTU(), wait, true)
	p.report.MTU = &pingMTU{MTU: m, By: "icmp", Needed: p.needed()}
}

// hear asks when the endpoint last heard the peer, after all that was asked.
func (p *pinging) hear() {
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

// lately is how long ago a peer that is alive may have been heard.
const lately = 30

// judge draws the conclusion.
func (p *pinging) judge() {
	r := &p.report
	who := p.name()
	switch {
	case r.Probe.State == answers:
		r.Alive, r.Verdict = true, fmt.Sprintf("%s answers in VNI %v", who, *r.VNI)
		return
	case r.Station.State == answers:
		r.Alive, r.Verdict = true, fmt.Sprintf("%s answers no probes, but station %v behind it answers", who, r.Station.IP)
		return
	case r.LastHeard != nil && *r.LastHeard <= lately && (r.UDP.State == ping.NotRefused || r.UDP.State == ping.Untried):
		r.Alive, r.Verdict = true, fmt.Sprintf("%s answered no probe, but a frame of it came %v ago", who, duration(*r.LastHeard))
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
	case r.Probe.State == untried && r.Path.State == answers:
		r.Verdict = fmt.Sprintf("%s: the host answers, but its VTEP was not asked: %s", who, orUnknown(r.Probe.Reason))
	case r.Path.State == answers:
		r.Verdict = fmt.Sprintf("%s: the host answers, its VTEP does not: it has no VNI %v, or does not know %v as a peer, or a firewall drops UDP port %d, or it is of another kind", who, *r.VNI, p.us(), r.Port)
	case r.Probe.State == untried:
		r.Verdict = fmt.Sprintf("%s: nothing answers, and its VTEP was not asked: %s", who, orUnknown(r.Probe.Reason))
	default:
		r.Verdict = fmt.Sprintf("%s: nothing answers", who)
	}
}

func (p *pinging) us() string {
	if p.local.IsValid() {
		return p.local.String()
	}
	return "this host"
}

func orUnknown(s string) string {
	if s == "" {
		return "for an unknown reason"
	}
	return s
}

// say prints a line for people.
func (p *pinging) say(format string, args ...any) {
	if !p.flags.json {
		fmt.Fprintf(p.out, format+"\n", args...)
	}
}

func (p *pinging) sayProbe(e *ping.Event) {
	switch {
	case p.flags.quiet:
	case e.Error != "":
		p.say("probe %d was not sent: %s", e.Seq, e.Error)
	case e.RTT == nil:
		p.say("probe %d was not answered", e.Seq)
	default:
		p.say("answer %d: %d bytes there, %d back, %.3f ms", e.Seq, e.Came, e.Size, *e.RTT)
	}
}

// print prints the levels.
func (p *pinging) print() error {
	r := &p.report
	fmt.Fprintf(p.out, "host     %s\n", withReason(r.Path.State, r.Path.RTT, "ICMP echo", r.Path.Reason))
	udp := map[string]string{
		ping.NotRefused: "is not refused", ping.Refused: "is refused", ping.Prohibited: "is prohibited",
		ping.Unreachable: "cannot be reached", ping.Untried: "was not tried",
	}[r.UDP.State]
	if r.UDP.By.IsValid() {
		udp += fmt.Sprintf(" by %v", r.UDP.By)
	}
	fmt.Fprintf(p.out, "udp      port %d %s\n", r.Port, udp)
	fmt.Fprintf(p.out, "vtep     %s\n", probeLine(&r.Probe))
	if s := r.Station; s.State != untried {
		fmt.Fprintf(p.out, "station  %v (%v) %s\n", s.IP, s.MAC, withReason(s.State, s.RTT, "ARP", s.Reason))
	} else if s.Reason != "" && r.Probe.State != answers {
		fmt.Fprintf(p.out, "station  untried: %s\n", s.Reason)
	}
	if m := r.MTU; m != nil {
		fmt.Fprintf(p.out, "mtu      %s\n", m.line())
	}
	if !r.Alive {
		return nil // the error says it
	}
	_, err := fmt.Fprintln(p.out, r.Verdict)
	return err
}

func withReason(state string, rtt *float64, by, reason string) string {
	switch {
	case rtt != nil:
		return fmt.Sprintf("%s %s, %.3f ms", state, by, *rtt)
	case reason != "":
		return state + ": " + reason
	}
	return fmt.Sprintf("%s (%s)", state, by)
}

func probeLine(l *probeLevel) string {
	if l.State == untried {
		return "untried: " + orUnknown(l.Reason)
	}
	text := fmt.Sprintf("%s: %d of %d probes answered, %.3g %% lost", l.State, l.Received, l.Sent, l.Loss)
	if l.Unsent > 0 {
		text += fmt.Sprintf(", %d not sent", l.Unsent)
	}
	if l.Duplicates > 0 {
		text += fmt.Sprintf(", %d twice or late", l.Duplicates)
	}
	if r := l.RTT; r != nil {
		text += fmt.Sprintf("\n         min %.3f avg %.3f max %.3f p50 %.3f p99 %.3f ms", r.Min, r.Avg, r.Max, r.P50, r.P99)
	}
	return text
}

func (m *pingMTU) line() string {
	text := fmt.Sprintf("packets of %d bytes pass there", m.There)
	switch {
	case m.There == 0:
		text = "no packets pass"
	case m.By == "icmp":
		text += " (by ICMP; the way back is not known)"
	default:
		text += fmt.Sprintf(", of %d back", m.Back)
	}
	if m.Needed == 0 {
		return text
	}
	least := m.There
	if m.By != "icmp" {
		least = min(least, m.Back)
	}
	if least >= m.Needed {
		return text + fmt.Sprintf(";\n         frames of full size need %d and fit", m.Needed)
	}
	return text + fmt.Sprintf(";\n         frames of full size need %d and do not fit", m.Needed)
}
