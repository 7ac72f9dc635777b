package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/ping"
	"github.com/govxlan/govxlan/internal/reach"
	"github.com/govxlan/govxlan/vtep"
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
			peer, err := config.ParsePeer(args[0], 0)
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
			addrs, err := config.ResolvePeers(ctx, []config.PeerName{peer})
			if err != nil {
				return err
			}
			client, status, err := f.running(ctx)
			if err != nil {
				return err
			}
			p := pinging{flags: &f, out: cmd.OutOrStdout()}
			p.report, err = reach.Ask(ctx, reach.Question{
				Client: client, Status: status, VNI: v, To: addrs[0],
				Count: f.count, Interval: f.interval, Wait: f.wait, Size: f.size, MTU: f.mtu, Each: p.each,
			})
			if err != nil {
				return err
			}
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

// running is the endpoint that runs here, if one does. One that was asked for by
// name must.
func (f *controlFlags) running(ctx context.Context) (*control.Client, *control.Status, error) {
	client, err := f.client()
	if err == nil {
		var status control.Status
		if status, err = client.Status(ctx); err == nil {
			return client, &status, nil
		}
	}
	if errors.Is(err, control.ErrNotRunning) && f.path == "" {
		return nil, nil, nil
	}
	return nil, nil, err
}

// pinging is one run.
type pinging struct {
	flags  *pingFlags
	out    io.Writer
	report reach.Report
}

// each prints what becomes of the probes.
func (p *pinging) each(e control.PingEvent) {
	switch {
	case e.Start != nil:
		p.say("probing VTEP %v in VNI %v with frames of %d bytes", netip.AddrPortFrom(e.Start.VTEP, e.Start.Port), e.Start.VNI, p.flags.size)
	case e.Probe != nil:
		p.sayProbe(e.Probe)
	}
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
	if s := r.Station; s.State != reach.Untried {
		fmt.Fprintf(p.out, "station  %v (%v) %s\n", s.IP, s.MAC, withReason(s.State, s.RTT, "ARP", s.Reason))
	} else if s.Reason != "" && r.Probe.State != reach.Answers {
		fmt.Fprintf(p.out, "station  untried: %s\n", s.Reason)
	}
	if m := r.MTU; m != nil {
		fmt.Fprintf(p.out, "mtu      %s\n", mtuLine(m))
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

func probeLine(l *reach.ProbeLevel) string {
	if l.State == reach.Untried {
		return "untried: " + cmp.Or(l.Reason, "for an unknown reason")
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

func mtuLine(m *reach.MTU) string {
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
