package ping

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/govxlan/govxlan/vtep"
	"pgregory.net/rapid"
)

// path is a Line whose way is made by the test.
type path struct {
	there, back int // longest frame that passes
	device      int // longest that this host sends; 0 = no limit
	delay       time.Duration
	lose        func(n int) bool // the n-th probe sent; nil: none
	twice       bool

	mu      sync.Mutex
	n       int
	sent    []vtep.Probe
	answers chan vtep.ProbeAnswer
}

func newPath(mtu int) *path {
	return &path{there: mtu, back: mtu, delay: time.Millisecond, answers: make(chan vtep.ProbeAnswer, 1024)}
}

func (p *path) Send(all ...vtep.Probe) (time.Time, error) {
	at := time.Now()
	for _, q := range all {
		if p.device != 0 && q.Size > p.device {
			return at, syscall.EMSGSIZE
		}
		p.mu.Lock()
		p.n++
		n := p.n
		p.sent = append(p.sent, q)
		p.mu.Unlock()
		answer := max(vtep.MinProbe, min(q.AnswerSize, q.Size))
		if q.Size > p.there || answer > p.back || p.lose != nil && p.lose(n) {
			continue
		}
		times := 1
		if p.twice {
			times = 2
		}
		for range times {
			time.AfterFunc(p.delay, func() {
				p.answers <- vtep.ProbeAnswer{Seq: q.Seq, Came: q.Size, Size: answer, At: time.Now()}
			})
		}
	}
	return at, nil
}

func (p *path) Answers() <-chan vtep.ProbeAnswer { return p.answers }
func (p *path) Close()                           {}

func TestRun(t *testing.T) {
	for name, tc := range map[string]struct {
		setup func(*path)
		plan  Plan
		want  string // sent/received/duplicates/unsent, loss
		rtt   float64
	}{
		"all answered": {func(*path) {}, Plan{Count: 10, Size: 100}, "10/10/0/0 0%", 1},
		"none":         {func(p *path) { p.there = 0 }, Plan{Count: 3, Size: 100}, "3/0/0/0 100%", 0},
		"each fourth lost": {func(p *path) { p.lose = func(n int) bool { return n%4 == 0 } },
			Plan{Count: 8, Size: 100}, "8/6/0/0 25%", 1},
		"late": {func(p *path) { p.delay = 2 * time.Second }, Plan{Count: 2, Size: 100}, "2/0/0/0 100%", 0},
		// The second answer to the last probe is not waited for.
		"twice":    {func(p *path) { p.twice = true }, Plan{Count: 3, Size: 100}, "3/3/2/0 0%", 1},
		"too long": {func(p *path) { p.device = 99 }, Plan{Count: 2, Size: 100}, "0/0/0/2 0%", 0},
		"one way":  {func(p *path) { p.back = 60 }, Plan{Count: 2, Size: 1000, AnswerSize: 60}, "2/2/0/0 0%", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPath(1464)
				tc.setup(p)
				tc.plan.Interval = 100 * time.Millisecond
				events := 0
				s := Run(t.Context(), p, tc.plan, func(Event) { events++ })
				if got := fmt.Sprintf("%d/%d/%d/%d %v%%", s.Sent, s.Received, s.Duplicates, s.Unsent, s.Loss); got != tc.want {
					t.Errorf("%s, want %s", got, tc.want)
				}
				if events != tc.plan.Count {
					t.Errorf("%d events, want one for each of %d probes", events, tc.plan.Count)
				}
				if tc.rtt == 0 && s.RTT != nil || tc.rtt != 0 && (s.RTT == nil || *s.RTT != (RTT{tc.rtt, tc.rtt, tc.rtt, tc.rtt, tc.rtt})) {
					t.Errorf("RTT %+v, want %v", s.RTT, tc.rtt)
				}
				synctest.Wait()
			})
		})
	}
}

// Each probe is a flow of its own: a way of the underlay that is dead shows.
func TestRunTriesAllFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPath(1464)
		Run(t.Context(), p, Plan{Count: 20, Size: 60, Interval: time.Millisecond}, func(Event) {})
		seen := make(map[uint32]bool)
		for _, q := range p.sent {
			seen[q.Flow] = true
		}
		if len(seen) != 20 {
			t.Errorf("%d flows, want 20", len(seen))
		}
	})
}

func TestRunIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPath(1464)
		p.delay = 300 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), 1050*time.Millisecond)
		defer cancel()
		s := Run(ctx, p, Plan{Size: 60, Interval: 100 * time.Millisecond}, func(Event) {})
		// Sent at 0, 100, ... 1000 ms; those from 800 ms on are not lost yet.
		if s.Sent != 8 || s.Received != 8 {
			t.Errorf("%+v, want 8 of 8", s)
		}
		time.Sleep(time.Second)
	})
}

func TestPercentiles(t *testing.T) {
	var tally Tally
	for i := range 100 {
		ms := float64(i + 1)
		tally.Count(Event{RTT: &ms})
	}
	s := tally.Summary()
	if *s.RTT != (RTT{Min: 1, Avg: 50.5, Max: 100, P50: 50, P99: 99}) {
		t.Errorf("%+v", *s.RTT)
	}
}

func TestFindMTU(t *testing.T) {
	overhead := Overhead(netip.MustParseAddr("192.168.52.204"))
	if overhead != 36 {
		t.Fatalf("overhead %d, want 36", overhead)
	}
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(200, 9000).Draw(rt, "most")
		there := rapid.IntRange(100, 9100).Draw(rt, "there")
		back := rapid.IntRange(100, 9100).Draw(rt, "back")
		device := rapid.SampledFrom([]int{0, 1500}).Draw(rt, "device")
		lossy := rapid.Bool().Draw(rt, "lossy")
		synctest.Test(t, func(t *testing.T) {
			p := newPath(0)
			p.there, p.back = there-overhead, back-overhead
			if device != 0 {
				p.device = device - overhead
			}
			if lossy {
				p.lose = func(n int) bool { return n%29 == 0 }
			}
			m := FindMTU(t.Context(), p, overhead, most, 50*time.Millisecond, false)
			want := MTU{Tried: most, There: min(most, there)}
			if device != 0 {
				want.There = min(want.There, device)
			}
			want.Back = min(want.There, back)
			if m != want && !lossy {
				rt.Errorf("found %+v, want %+v", m, want)
			}
			// A loss may hide a size, but never invent one.
			if m.There > want.There || m.Back > want.Back {
				rt.Errorf("found %+v, more than %+v", m, want)
			}
			if n := len(p.sent); n > 400 {
				rt.Errorf("%d probes", n)
			}
			synctest.Wait()
			time.Sleep(time.Second)
		})
	})
}

func TestFindMTUWhereNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if m := FindMTU(t.Context(), newPath(0), 36, 1500, 50*time.Millisecond, false); m != (MTU{Tried: 1500}) {
			t.Errorf("found %+v", m)
		}
		if m := FindMTU(t.Context(), newPath(1000), 36, 1500, 50*time.Millisecond, true); m != (MTU{Tried: 1500, There: 1036}) {
			t.Errorf("one way: found %+v", m)
		}
		time.Sleep(time.Second)
	})
}

func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPath(1464)
		if n, err := Burst(t.Context(), p, 8, 1464, 50*time.Millisecond); n != 8 || err != nil {
			t.Errorf("%d answered, %v; want 8", n, err)
		}
		p.lose = func(n int) bool { return n == 11 }
		if n, _ := Burst(t.Context(), p, 8, 1464, 50*time.Millisecond); n != 7 {
			t.Errorf("%d answered, want 7", n)
		}
		p.device = 100
		if _, err := Burst(t.Context(), p, 8, 1464, 50*time.Millisecond); err == nil {
			t.Error("no error for what is too long")
		}
	})
}
