package doctor

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/govxlan/govxlan/vtep"
)

// checkDrops: what the endpoint dropped, and what that points to. Its counters go
// back to its start: what happened then and not now is told, but is no warning.
func (x *examination) checkDrops() {
	if x.Status == nil {
		return
	}
	now, err := x.Client.Status(x.ctx)
	if err != nil {
		x.find("drops", Skip, "", "the endpoint does not say: %v", err)
		return
	}
	quiet := true
	if u := now.Unknown; u != nil && !slices.ContainsFunc(now.VNIs, func(v vtep.VNIStatus) bool { return v.VNI == u.VNI }) {
		quiet = false
		x.report.add(Finding{Check: "drops", State: Warn, Peer: u.VTEP, VNI: &u.VNI,
			Command: fmt.Sprintf("govxlan vni add %v --peer %v", u.VNI, u.VTEP),
			Text:    fmt.Sprintf("%d packets of VNIs that are not here were dropped, the last of VNI %v from %v", now.Counters.RxDropUnknownVNI, u.VNI, u.VTEP)})
	}
	for i := range now.VNIs {
		v := &now.VNIs[i]
		if x.VNI != nil && *x.VNI != v.VNI {
			continue
		}
		if s := v.Stranger; s != nil && !x.isPeer(v, s.VTEP) {
			quiet = false
			x.report.add(Finding{Check: "drops", State: Warn, Peer: s.VTEP, VNI: &v.VNI,
				Command: fmt.Sprintf("govxlan peer add %v --vni %v", s.VTEP, v.VNI),
				Text:    fmt.Sprintf("%d frames of VTEPs that are no peers were dropped, the last from %v", v.Counters.RxDropUnknownVTEP, s.VTEP)})
		}
	}
	// The rest by what was added since the examination began.
	before := grown(x.Status.Counters.Drops(), now.Counters.Drops())
	past := sum(now.Counters.Drops())
	tell := func(v *vtep.VNIStatus, grown map[string]uint64) {
		var f Finding
		if v != nil {
			f.VNI = &v.VNI
		}
		for _, reason := range slices.Sorted(maps.Keys(grown)) {
			if told[reason] {
				continue
			}
			quiet = false
			f.Check, f.State = "drops", Warn
			f.Text, f.Command = explain(reason, grown[reason], v)
			x.report.add(f)
		}
	}
	tell(nil, before)
	for i := range now.VNIs {
		v := &now.VNIs[i]
		past += sum(v.Counters.Drops())
		for j := range x.Status.VNIs {
			if was := &x.Status.VNIs[j]; was.VNI == v.VNI && (x.VNI == nil || *x.VNI == v.VNI) {
				tell(v, grown(was.Counters.Drops(), v.Counters.Drops()))
			}
		}
	}
	switch {
	case !quiet:
	case past == 0:
		x.find("drops", OK, "", "the endpoint dropped nothing since it started")
	default:
		x.find("drops", OK, "", "the endpoint drops nothing just now; %d frames since it started (see 'govxlan stats')", past)
	}
}

// explain is what a counter that grew says, and what mends it.
func explain(reason string, n uint64, v *vtep.VNIStatus) (text, command string) {
	text = fmt.Sprintf("%d frames were dropped just now, counted as %s", n, reason)
	for _, e := range vtep.Explanations() {
		if e.Counter == reason {
			text += ": " + e.Means + " " + e.Do
		}
	}
	command = "govxlan stats --watch"
	if v == nil {
		return text, command
	}
	switch reason {
	case "tx_drop_no_destination":
		command = fmt.Sprintf("govxlan peer add <address> --vni %v", v.VNI)
	case "rx_drop_device":
		command = fmt.Sprintf("ip link set dev %s up", v.Device)
	}
	return text, command
}

// told are reasons that are told of otherwise, or that asking causes.
var told = map[string]bool{
	"rx_drop_unknown_vtep": true,
	"rx_drop_unknown_vni":  true,
	"rx_drop_probe":        true,
}

// grown are the counters that went up, and by how much.
func grown(before, now iter.Seq2[string, uint64]) map[string]uint64 {
	was, up := maps.Collect(before), make(map[string]uint64)
	for name, n := range now {
		if n > was[name] {
			up[name] = n - was[name]
		}
	}
	return up
}

func sum(drops iter.Seq2[string, uint64]) (n uint64) {
	for reason, v := range drops {
		if reason != "rx_drop_probe" { // no frames
			n += v
		}
	}
	return n
}
