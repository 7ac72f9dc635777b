package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/ping"
	"github.com/govxlan/govxlan/internal/reach"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sync/errgroup"
)

// burst is how many frames of full size are sent as one superframe.
const burst = 8

// atOnce bounds the peers that are asked at the same time.
const atOnce = 8

// ask asks every peer, in every VNI that has it.
func (x *examination) ask() {
	type job struct {
		v    *vtep.VNIStatus
		peer netip.AddrPort
		reach.Report
		err error
	}
	var jobs []job
	if x.Status == nil {
		for _, peer := range x.Peers {
			jobs = append(jobs, job{peer: peer})
		}
	}
	for _, v := range x.vnis() {
		for _, peer := range x.peers(v) {
			jobs = append(jobs, job{v: v, peer: peer})
		}
	}
	more := len(jobs) - mostPeers
	jobs = jobs[:min(len(jobs), mostPeers)]
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range jobs {
		j := &jobs[i]
		group.Go(func() error {
			if x.ctx.Err() == nil {
				j.Report, j.err = reach.Ask(x.ctx, x.question(j.v, j.peer))
			}
			return nil
		})
	}
	_ = group.Wait() // errors are with the jobs
	for i := range jobs {
		j := &jobs[i]
		if x.ctx.Err() != nil {
			return
		}
		if j.err != nil {
			vni := x.VNI
			if j.v != nil {
				vni = &j.v.VNI
			}
			x.report.add(Finding{Check: "peer", State: Fail, Peer: j.peer.Addr(), VNI: vni, Text: j.err.Error()})
			continue
		}
		x.reached = append(x.reached, reachedPeer{peer: netip.AddrPortFrom(j.VTEP, j.Port), vni: j.v, Report: j.Report})
	}
	for i := range x.reached {
		x.judgePeer(&x.reached[i])
	}
	for i := range x.reached {
		x.judgeMTU(&x.reached[i])
	}
	mangled := make(map[netip.AddrPort]bool) // looked at, whatever the VNI
	for i := range x.reached {
		if r := &x.reached[i]; !mangled[r.peer] {
			mangled[r.peer] = x.judgeBurst(r)
		}
	}
	if more > 0 {
		x.find("peer", Skip, "", "%d more peers were not asked: choose with --peer and --vni", more)
	}
	if x.Status != nil && len(x.peers(nil)) == 0 && len(x.vnis()) > 0 && len(x.vnis()[0].Multicast) == 0 {
		vni := x.vnis()[0].VNI
		x.find("peer", Warn, fmt.Sprintf("govxlan peer add <address> --vni %v", vni), "there is no peer: nothing is sent, and nobody is listened to")
	}
}

// answers says whether a peer's own frames arrive.
func (x *examination) answers(peer netip.Addr) bool {
	for _, r := range x.reached {
		if r.peer.Addr() == peer && (r.Probe.State == reach.Answers || r.Station.State == reach.Answers) {
			return true
		}
	}
	return false
}

// judgePeer says whether it is alive.
func (x *examination) judgePeer(r *reachedPeer) {
	say := func(s State, on netip.Addr, command, format string, args ...any) {
		x.report.add(Finding{Check: "peer", State: s, Peer: r.peer.Addr(), VNI: r.Report.VNI, Command: command, On: on, Text: fmt.Sprintf(format, args...)})
	}
	here := netip.Addr{}
	there := r.peer.Addr()
	us := "<address of this host>"
	if a := x.us(there); a.IsValid() {
		us = a.String()
	}
	vni := ""
	if r.Report.VNI != nil {
		vni = r.Report.VNI.String()
	}
	p := &r.Probe
	switch {
	case p.State == reach.Answers && p.Received < p.Sent:
		say(Warn, here, fmt.Sprintf("govxlan ping %v --vni %s -c 200 -i 20ms", there, vni), "%v answers, but %d of %d probes were lost", there, p.Sent-p.Received, p.Sent)
	case p.State == reach.Answers && p.Duplicates > 0:
		say(Warn, here, "govxlan peer list", "%v answers each probe more than once: packets are doubled on the way", there)
	case p.State == reach.Answers:
		say(OK, here, "", "%v answers in %.3g ms", there, p.RTT.P50)
	case r.Alive && r.Station.State == reach.Answers:
		say(OK, here, "", "%s", r.Verdict)
	case r.Alive && x.kin(r):
		say(Fail, there, fmt.Sprintf("govxlan doctor --peer %s --vni %s", us, vni), "frames of %v arrive, but it answers no probe as it did before: ours do not get there", there)
	case r.Alive:
		say(Skip, there, fmt.Sprintf("govxlan doctor --peer %s --vni %s", us, vni), "frames of %v arrive; whether ours get there is not known, since it answers no probes and no station behind it is known here", there)
	case r.UDP.State == ping.Refused && x.mixed(r):
	case r.UDP.State == ping.Refused:
		say(Fail, there, fmt.Sprintf("govxlan up --vni %s --peer %s", orWord(vni, "<vni>"), us), "%s", r.Verdict)
	case r.vni != nil && !x.isPeer(r.vni, there):
		say(Fail, here, fmt.Sprintf("govxlan peer add %v --vni %s", there, vni), "%v is no peer of VNI %s here: what it sends is dropped", there, vni)
	case r.UDP.State == ping.Prohibited, r.UDP.State == ping.Unreachable:
		say(Fail, here, fmt.Sprintf("ip route get %v", there), "%s", r.Verdict)
	case p.State == reach.Untried && r.Path.State == reach.Answers:
		say(Skip, here, "", "the host %v answers, its VTEP was not asked: %s", there, orWord(p.Reason, "there is no way to"))
	case r.Path.State == reach.Answers && r.LastHeard != nil:
		say(Warn, there, fmt.Sprintf("govxlan doctor --peer %s --vni %s", us, vni), "%v is silent: the last frame of it came %v ago, and it answers no probe", there, reach.Ago(*r.LastHeard))
	case r.Path.State == reach.Answers:
		say(Fail, there, fmt.Sprintf("govxlan peer add %s --vni %s", us, vni), "%s", r.Verdict)
	case r.LastHeard != nil:
		say(Fail, here, fmt.Sprintf("ping %v", there), "%v is silent, and so is its host: the last frame of it came %v ago", there, reach.Ago(*r.LastHeard))
	default:
		say(Fail, here, fmt.Sprintf("ping %v", there), "nothing answers at %v", there)
	}
}

// us is how peers see this host.
func (x *examination) us(peer netip.Addr) netip.Addr {
	if x.Status != nil {
		if a := reach.Local(x.Status, peer); a.IsValid() {
			return a
		}
	}
	a, _, _ := reach.Route(peer, netip.Addr{})
	return a
}

func (x *examination) isPeer(v *vtep.VNIStatus, a netip.Addr) bool {
	for _, p := range v.Peers {
		if p.VTEP == a {
			return true
		}
	}
	return false
}

// kin says whether a peer has ever sent a probe, or an answer.
func (x *examination) kin(r *reachedPeer) bool {
	if r.vni != nil {
		for _, p := range r.vni.Peers {
			if p.VTEP == r.peer.Addr() {
				return p.Probes
			}
		}
	}
	return false
}

// mixed looks whether a peer that refuses its port listens on the other usual
// one: 4789 is IANA's, 8472 Linux's.
func (x *examination) mixed(r *reachedPeer) bool {
	other := uint16(vxlan.LinuxPort)
	if r.peer.Port() == other {
		other = vxlan.Port
	}
	if r.Report.VNI == nil {
		return false
	}
	at := netip.AddrPortFrom(r.peer.Addr(), other)
	if !x.refused(r.peer, *r.Report.VNI) || x.refused(at, *r.Report.VNI) {
		return false
	}
	// Hosts limit how often they refuse (net.ipv4.icmp_ratelimit): silence means
	// something only while the other port is refused still.
	if !x.refused(r.peer, *r.Report.VNI) {
		return false
	}
	f := Finding{
		Check: "port-mix", State: Fail, Peer: at.Addr(), VNI: r.Report.VNI,
		Text: fmt.Sprintf("%v refuses UDP port %d, but not %d: %d is Linux's default for vxlan, and %d the standard", at.Addr(), r.peer.Port(), other, vxlan.LinuxPort, vxlan.Port),
	}
	if r.vni != nil {
		f.Command = fmt.Sprintf("govxlan peer del %v --vni %v && govxlan peer add %v --vni %v", r.peer, r.vni.VNI, at, r.vni.VNI)
	} else {
		f.Command = fmt.Sprintf("govxlan up --vni %v --peer %v", *r.Report.VNI, at)
	}
	x.report.add(f)
	return true
}

// refused says whether a port is, trying for long enough to outlast a limit.
func (x *examination) refused(at netip.AddrPort, vni vxlan.VNI) bool {
	for range 4 {
		k, err := ping.Knock(x.us(at.Addr()), at, vni, 350*time.Millisecond)
		if err != nil || k.State == ping.Refused {
			return err == nil
		}
	}
	return false
}

// judgeMTU says whether frames of full size get there and back.
func (x *examination) judgeMTU(r *reachedPeer) {
	if r.vni == nil {
		return
	}
	say := func(s State, on netip.Addr, command, format string, args ...any) {
		x.report.add(Finding{Check: "mtu", State: s, Peer: r.peer.Addr(), VNI: &r.vni.VNI, Command: command, On: on, Text: fmt.Sprintf(format, args...)})
	}
	overhead := ping.Overhead(r.peer.Addr()) + vxlan.EthernetLen
	needed := r.vni.MTU + overhead
	lower := func(mtu int) string {
		return fmt.Sprintf("%s link set dev %s mtu %d", x.ip(r.vni.VNI), r.vni.Device, mtu-overhead)
	}
	_, device, err := reach.Route(r.peer.Addr(), x.us(r.peer.Addr()))
	if err == nil && device < needed {
		say(Warn, netip.Addr{}, lower(device), "frames of full size need packets of %d bytes, and the underlay device carries %d: longer ones are refused, their senders told", needed, device)
		return
	}
	m := r.MTU
	switch {
	case m == nil || m.There == 0:
		say(Skip, netip.Addr{}, "", "nobody answers what would tell how long packets to %v may be", r.peer.Addr())
	case m.There < needed && x.told(r):
		say(Warn, netip.Addr{}, lower(m.There), "frames of full size need packets of %d bytes, and %d fit the way to %v: senders are told, but it costs", needed, m.There, r.peer.Addr())
	case m.There < needed:
		say(Fail, netip.Addr{}, lower(m.There), "frames of full size need packets of %d bytes, and %d fit the way to %v: small ones pass, large ones vanish", needed, m.There, r.peer.Addr())
	case m.By == "probe" && m.Back < needed:
		say(Fail, r.peer.Addr(), fmt.Sprintf("ip link set dev <its device> mtu %d", m.Back-overhead), "packets of %d bytes get to %v, but only %d come back: large ones of the peer vanish", m.There, r.peer.Addr(), m.Back)
	default:
		say(OK, netip.Addr{}, "", "packets of %d bytes, which frames of full size need, pass to %v", needed, r.peer.Addr())
	}
}

// told says whether routers tell of a path that narrow. What they said of frames
// the endpoint knows; of probes that are too long it counts that something came,
// which waits at the socket of the probe for the next one.
func (x *examination) told(r *reachedPeer) bool {
	for _, p := range r.vni.Peers {
		if p.VTEP == r.peer.Addr() && p.PathMTU != 0 && p.PathMTU <= r.MTU.There {
			return true
		}
	}
	heard := func() (uint64, bool) {
		err := x.Client.Ping(x.ctx, control.Ping{
			VNI: &r.vni.VNI, VTEP: r.peer.Addr(), Port: r.peer.Port(),
			Count: 3, Interval: 10, Wait: 100, Size: r.vni.MTU + vxlan.EthernetLen,
		}, func(control.PingEvent) {})
		if err != nil {
			return 0, false
		}
		now, err := x.Client.Status(x.ctx)
		return now.Counters.PathMTUIgnored, err == nil
	}
	before, ok := heard()
	if !ok {
		return false
	}
	after, ok := heard()
	return ok && after > before
}

// judgeBurst sends frames that the kernel may carry as one, and looks whether all
// arrive as they were sent: what mangles them shows in their checksums. It reports
// whether it could.
func (x *examination) judgeBurst(r *reachedPeer) bool {
	if r.vni == nil || r.Probe.State != reach.Answers || r.MTU == nil {
		return false
	}
	frame := min(r.vni.MTU+vxlan.EthernetLen, r.MTU.There-ping.Overhead(r.peer.Addr()))
	if frame < vtep.MinProbe {
		return false
	}
	got := 0
	for range 3 { // a packet may be lost for once
		q := x.question(r.vni, r.peer)
		q.Count, q.MTU, q.Size, q.Burst = -1, false, frame, burst
		again, err := reach.AskBurst(x.ctx, q)
		if err != nil {
			if !errors.Is(err, reach.ErrNoBurst) {
				x.report.add(Finding{Check: "checksum", State: Skip, Peer: r.peer.Addr(), VNI: &r.vni.VNI, Text: err.Error()})
			}
			return false
		}
		if got = max(got, again); got == burst {
			x.report.add(Finding{Check: "checksum", State: OK, Peer: r.peer.Addr(), VNI: &r.vni.VNI,
				Text: fmt.Sprintf("%d frames of %d bytes in one train came back from %v as they were sent", burst, frame, r.peer.Addr())})
			return true
		}
	}
	x.report.add(Finding{Check: "checksum", State: Fail, Peer: r.peer.Addr(), VNI: &r.vni.VNI,
		Command: "govxlan up <flags> --offload off",
		Text:    fmt.Sprintf("single probes are answered, but of %d frames in one train only %d: an offload on the way mangles them", burst, got)})
	return true
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}
