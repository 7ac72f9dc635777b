package demo

import (
	"testing"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

// testStations are the eight of the demo.
func testStations() []Station {
	var list []Station
	for i, at := range []struct{ host, place, device string }{
		{"A", "container", containerDev}, {"A", "sandbox", bridgeDev}, {"A", "sandbox", vtepDev}, {"A", "host", underlayDev},
		{"B", "host", underlayDev}, {"B", "sandbox", vtepDev}, {"B", "sandbox", bridgeDev}, {"B", "container", containerDev},
	} {
		list = append(list, Station{Number: i + 1, Host: at.host, Place: at.place, Namespace: "gvx-demo-1-" + at.place + at.host, Device: at.device})
	}
	return list
}

var noon = time.Date(2024, 5, 6, 12, 0, 0, 0, time.UTC)

// passage is what is captured of a frame that goes all the way, from A to B or
// back, 10 us from device to device.
func passage(t *testing.T, frame []byte, start time.Duration, back bool, vni vxlan.VNI) []event {
	t.Helper()
	wire := wrapped(t, frame, hostA, hostB, 55096, vni)
	if back {
		wire = wrapped(t, frame, hostB, hostA, 65203, vni)
	}
	var events []event
	for i := range 8 {
		e := event{station: i, direction: Out, time: noon.Add(start + time.Duration(i)*10*time.Microsecond), raw: frame}
		if back {
			e.station = 7 - i
		}
		if i == 1 || i > 3 {
			e.direction = In
		}
		if i == 3 || i == 4 {
			e.raw = wire
		}
		events = append(events, e)
	}
	return events
}

func TestFollow(t *testing.T) {
	const vni = 4097
	ping := echoFrame(macB, macA, 8, ipA, ipB, 77, 2)
	k := key{kind: echoRequest, id: 77, seq: 2}
	all := passage(t, ping, 0, false, vni)

	t.Run("whole way", func(t *testing.T) {
		// Out of order, as eight readers deliver, among other things.
		events := append(passage(t, echoFrame(macB, macA, 8, ipA, ipB, 77, 1), -time.Second, false, vni),
			all[7], all[3], all[0], all[5], all[4], all[1], all[6], all[2])
		// The same ping in another overlay is another ping.
		events = append(events, event{station: 3, time: noon.Add(-time.Hour), raw: wrapped(t, ping, hostA, hostB, 1, vni+1)})
		// A second copy does not count.
		late := all[7]
		late.time = late.time.Add(time.Second)
		steps := follow(append(events, late), testStations(), k, vni, false)
		if len(steps) != 8 {
			t.Fatalf("%d steps", len(steps))
		}
		for i, s := range steps {
			wantBytes := 98
			if i == 3 || i == 4 {
				wantBytes = 148
				if s.Outer == nil || s.Outer.Src.Port() != 55096 || s.Outer.VNI != vni || !s.Outer.ChecksumOK {
					t.Errorf("step %d: outer %+v", i, s.Outer)
				}
			} else if s.Outer != nil {
				t.Errorf("step %d has outer headers", i)
			}
			if s.Number != i+1 || s.Bytes != wantBytes || s.Inner != 98 || !s.Same || s.At != Micros(10*i) {
				t.Errorf("step %d: %+v", i, s)
			}
		}
	})
	t.Run("lost on the way", func(t *testing.T) {
		steps := follow(all[:4], testStations(), k, vni, false)
		if len(steps) != 4 || steps[3].Device != underlayDev || steps[3].Host != "A" {
			t.Errorf("%+v", steps)
		}
	})
	t.Run("changed on the way", func(t *testing.T) {
		events := append([]event(nil), all...)
		broken := append([]byte(nil), ping...)
		broken[len(broken)-1] ^= 1
		events[6].raw = broken
		for i, s := range follow(events, testStations(), k, vni, false) {
			if s.Same != (i != 6) {
				t.Errorf("step %d: same is %v", i, s.Same)
			}
		}
	})
	t.Run("nothing", func(t *testing.T) {
		if steps := follow(nil, testStations(), k, vni, false); len(steps) != 0 {
			t.Errorf("%+v", steps)
		}
	})
}

func TestFollowExchange(t *testing.T) {
	const vni = 4097
	events := passage(t, echoFrame(macB, macA, 8, ipA, ipB, 77, 2), 0, false, vni)
	events = append(events, passage(t, echoFrame(macA, macB, 0, ipB, ipA, 77, 2), 100*time.Microsecond, true, vni)...)
	x := followExchange(events, testStations(), key{kind: echoRequest, id: 77, seq: 2}, key{kind: echoReply, id: 77, seq: 2}, vni)
	if len(x.Request) != 8 || len(x.Reply) != 8 {
		t.Fatalf("%d and %d steps", len(x.Request), len(x.Reply))
	}
	for i, s := range x.Reply {
		if s.Number != 8-i || s.At != Micros(100+10*i) || !s.Same {
			t.Errorf("step %d of the reply: %+v", i, s)
		}
	}
	// A reply without its request keeps its own time.
	x = followExchange(events[8:], testStations(), key{kind: echoRequest, id: 77, seq: 2}, key{kind: echoReply, id: 77, seq: 2}, vni)
	if len(x.Request) != 0 || x.Reply[0].At != 0 {
		t.Errorf("%+v", x)
	}
}
