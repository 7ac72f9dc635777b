package demo

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

// event is one packet that was captured.
type event struct {
	station   int // index of the station, 0 for number 1
	direction Direction
	time      time.Time // by the kernel, at the device
	raw       []byte    // from the first Ethernet header on
}

// follow picks the packet of one key out of what was captured: at each station
// the first that was seen, in the order of travel (from the first station to
// the last, or back). At underlay stations the key is looked for inside VXLAN
// packets of the VNI, elsewhere in the frame itself. A station that saw nothing
// is left out.
func follow(events []event, stations []Station, k key, vni vxlan.VNI, back bool) []Step {
	seen := make([]*Step, len(stations))
	for _, e := range events {
		step, got := readEvent(e, stations[e.station], vni)
		if got != k {
			continue
		}
		if before := seen[e.station]; before == nil || step.time.Before(before.time) {
			seen[e.station] = &step
		}
	}
	var steps []Step
	for i := range seen {
		if back {
			i = len(seen) - 1 - i
		}
		if seen[i] == nil {
			continue
		}
		step := *seen[i]
		if len(steps) == 0 {
			step.Same = true
		} else {
			step.Same = bytes.Equal(step.frame, steps[0].frame)
			step.At = micros(step.time.Sub(steps[0].time))
		}
		steps = append(steps, step)
	}
	return steps
}

// readEvent reads what was captured at a station. The key is zero for what is no
// packet of the overlay.
func readEvent(e event, s Station, vni vxlan.VNI) (Step, key) {
	step := Step{
		Station: s, Direction: e.direction, Bytes: len(e.raw),
		time: e.time, raw: e.raw, frame: e.raw,
	}
	if s.Underlay() {
		p, err := vxlan.ParsePacket(e.raw)
		if err != nil || p.VNI != vni {
			return step, key{}
		}
		step.frame = p.Frame
		step.Outer = &Outer{
			Src: netip.AddrPortFrom(p.Src, p.SrcPort), Dst: netip.AddrPortFrom(p.Dst, p.DstPort),
			VNI: p.VNI, ChecksumOK: p.ChecksumOK(),
		}
	}
	var k key
	step.Inner = len(step.frame)
	k, step.Summary = readFrame(step.frame)
	return step, k
}

// followExchange joins a request and its reply to one time line.
func followExchange(events []event, stations []Station, request, reply key, vni vxlan.VNI) Exchange {
	x := Exchange{
		Request: follow(events, stations, request, vni, false),
		Reply:   follow(events, stations, reply, vni, true),
	}
	if len(x.Request) > 0 && len(x.Reply) > 0 {
		later := micros(x.Reply[0].time.Sub(x.Request[0].time))
		for i := range x.Reply {
			x.Reply[i].At += later
		}
	}
	return x
}
