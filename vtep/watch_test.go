package vtep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vxlan"
)

// linesOf returns the events so far as lines, without their times.
func linesOf(t *testing.T, w *Watcher) (lines []string) {
	t.Helper()
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		e, err := w.Next(done)
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Next: %v", err)
			}
			return lines
		}
		if e.Time.IsZero() {
			t.Errorf("no time: %+v", e)
		}
		line := fmt.Sprintf("%s %v %v %v %s", e.What, e.VNI, e.MAC, netip.AddrPortFrom(e.VTEP, e.Port), e.Kind)
		if e.Lost > 0 {
			line = fmt.Sprintf("lost %d", e.Lost)
		}
		if e.From != nil {
			line += fmt.Sprintf(" from %v", netip.AddrPortFrom(e.From.VTEP, e.From.Port))
		}
		lines = append(lines, line)
	}
}

func watch(t *testing.T, e *Endpoint, room int, only ...vxlan.VNI) *Watcher {
	t.Helper()
	w, err := e.Watch(room, only...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func wantTold(t *testing.T, w *Watcher, want ...string) {
	t.Helper()
	if got := linesOf(t, w); !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWatch(t *testing.T) {
	r := newRig(t)
	p, q := r.add(10, peers(vtepA, vtepB)), r.add(11, peers(vtepA))
	w, only := watch(t, r.e, 0), watch(t, r.e, 0, 11)
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	p.arrive(vtepB.Addr(), raw(host, alice, 64))
	q.arrive(vtepA.Addr(), raw(host, alice, 64))
	p.set(fdb.VerbReplace, alice, to(vtepA))
	if err := errors.Join(r.e.DelEntry(10, alice), r.e.AddPeer(10, vtepC), r.e.DelPeer(10, vtepC)); err != nil {
		t.Error(err)
	}
	wantTold(t, w,
		"learned 10 02:00:00:00:02:00 192.168.52.204:4789 learned",
		"moved 10 02:00:00:00:02:00 192.168.52.205:4789 learned from 192.168.52.204:4789",
		"learned 11 02:00:00:00:02:00 192.168.52.204:4789 learned",
		"changed 10 02:00:00:00:02:00 192.168.52.204:4789 static from 192.168.52.205:4789",
		"deleted 10 02:00:00:00:02:00 192.168.52.204:4789 static",
		"added 10 00:00:00:00:00:00 192.168.52.206:4789 flood",
		"deleted 10 00:00:00:00:00:00 192.168.52.206:4789 flood")
	wantTold(t, only, "learned 11 02:00:00:00:02:00 192.168.52.204:4789 learned")

	// A VNI that comes is told with all that it has, one that goes too.
	r.add(12, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepB}
		c.Static = []StaticEntry{{bob, vtepC}}
	})
	if err := r.e.DelVNI(12); err != nil {
		t.Error(err)
	}
	wantTold(t, w,
		"added 12 00:00:00:00:00:00 192.168.52.205:4789 flood",
		"added 12 02:00:00:00:03:00 192.168.52.206:4789 static",
		"deleted 12 00:00:00:00:00:00 192.168.52.205:4789 flood",
		"deleted 12 02:00:00:00:03:00 192.168.52.206:4789 static")

	w.Close()
	w.Close()
	if _, err := w.Next(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	q.arrive(vtepA.Addr(), raw(host, bob, 64))
	wantTold(t, only, "learned 11 02:00:00:00:03:00 192.168.52.204:4789 learned")
	if err := r.e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := only.Next(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("after the endpoint's end: %v", err)
	}
	only.Close()
	if _, err := r.e.Watch(0); !errors.Is(err, ErrClosed) {
		t.Errorf("watch an endpoint that has ended: %v", err)
	}
}

// A frame that nobody gets for want of an entry is told, if it is for one
// station (l2miss).
func TestWatchMissed(t *testing.T) {
	r := newRig(t)
	p := r.add(10, nil)
	w := watch(t, r.e, 0)
	p.send(raw(alice, host, 64))
	p.send(raw(broadcast, host, 64))
	if err := r.e.AddPeer(10, vtepA); err != nil {
		t.Error(err)
	}
	p.send(raw(alice, host, 64))
	wantTold(t, w,
		"missed 10 02:00:00:00:02:00 invalid AddrPort ",
		"added 10 00:00:00:00:00:00 192.168.52.204:4789 flood")
}

// Nobody waits for a reader who is slow: what he has no room for is counted,
// at its place.
func TestWatchLosesWhatHasNoRoom(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA))
	w := watch(t, r.e, 3)
	fill := func(n int) {
		for i := range n {
			p.arrive(vtepA.Addr(), raw(host, vxlan.MAC{2, 0, 0, 1, 0, byte(i)}, 64))
		}
		if _, err := r.e.Flush(10, fdb.Filter{}); err != nil {
			t.Error(err)
		}
	}
	fill(5)
	wantTold(t, w,
		"learned 10 02:00:00:01:00:00 192.168.52.204:4789 learned",
		"learned 10 02:00:00:01:00:01 192.168.52.204:4789 learned",
		"learned 10 02:00:00:01:00:02 192.168.52.204:4789 learned",
		"lost 7")
	fill(1)
	wantTold(t, w,
		"learned 10 02:00:00:01:00:00 192.168.52.204:4789 learned",
		"deleted 10 02:00:00:01:00:00 192.168.52.204:4789 learned")
}

// While nobody listens nothing is told, and learning allocates nothing more.
func TestWatchOffCostsNothing(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA, vtepB))
	p.card.quiet = true
	w := watch(t, r.e, 0)
	w.Close()
	if r.e.watchers.Load() != nil {
		t.Error("somebody is thought to listen")
	}
	calls := 0
	p.o.table.Notify(func(fdb.Event) { calls++ })
	w = watch(t, r.e, 0)
	w.Close() // takes the table's notifications back
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	if calls != 0 {
		t.Error("the table still tells")
	}
	p.rig.e.DelPeer(10, vtepA)
	p.rig.e.DelPeer(10, vtepB)
	p.rig.wire.quiet = true
	frame := raw(alice, host, 64)
	if n := testing.AllocsPerRun(100, func() { p.rig.e.missed(10, fdb.MAC(frame[:6])) }); n != 0 {
		t.Errorf("%v allocations for a miss that nobody hears of", n)
	}
}

func TestEventJSON(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA, vtepB))
	w := watch(t, r.e, 0)
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	p.arrive(vtepB.Addr(), raw(host, alice, 64))
	var got []string
	for range 2 {
		e, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), `,`) // the time comes first
		got = append(got, rest)
	}
	want := []string{
		`"event":"learned","vni":10,"mac":"02:00:00:00:02:00","vtep":"192.168.52.204","port":4789,"kind":"learned"}`,
		`"event":"moved","vni":10,"mac":"02:00:00:00:02:00","vtep":"192.168.52.205","port":4789,"kind":"learned","from":{"vtep":"192.168.52.204","port":4789}}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("as JSON:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Subscriptions come and go while frames are learned, and the user changes
// things; worth most with -race.
func TestWatchConcurrently(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA, vtepB))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				w, err := r.e.Watch(8)
				if err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					if e, err := w.Next(t.Context()); err != nil || e.VNI != 10 && e.Lost == 0 {
						t.Errorf("event %+v, %v", e, err)
					}
				}
				w.Close()
			}
		})
	}
	for i := range 2000 {
		from := []netip.AddrPort{vtepA, vtepB}[i%2]
		p.arrive(from.Addr(), raw(host, vxlan.MAC{2, 0, 0, 1, 0, byte(i % 7)}, 64))
		if i%50 == 0 {
			if _, err := r.e.Flush(10, fdb.Filter{}); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	// Those that wait get what they wait for.
	for i := range 20 {
		p.arrive(vtepA.Addr(), raw(host, vxlan.MAC{2, 0, 0, 2, 0, byte(i)}, 64))
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
			p.arrive(vtepA.Addr(), raw(host, vxlan.MAC{2, 0, 0, 3, byte(i >> 8), byte(i)}, 64))
		}
	}
}
