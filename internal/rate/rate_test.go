package rate

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTake(t *testing.T) {
	l := New(10, 3)
	var b Bucket
	for i, step := range []struct {
		now  time.Duration
		n    int
		want bool
	}{
		{0, 1, true}, {0, 1, true}, {0, 1, true}, {0, 1, false},
		{99 * time.Millisecond, 1, false}, {100 * time.Millisecond, 1, true}, {100 * time.Millisecond, 1, false},
		{time.Hour, 100, true},                       // more than the burst
		{time.Hour + 9*time.Second, 1, false},        // and paid for
		{time.Hour + 9800*time.Millisecond, 1, true}, // all but three of the hundred
		{time.Second, 1, false},                      // time goes back: nothing is gained
	} {
		if got := b.Take(l, step.now, step.n); got != step.want {
			t.Errorf("step %d, %d at %v: %v", i, step.n, step.now, got)
		}
	}
	if (&Bucket{}).Take(Limit{}, time.Hour, 1) {
		t.Error("the zero Limit lets something through")
	}
}

// In no stretch of time does more get through than the burst and what the rate gives
// in it; and whoever stays below the rate is never refused.
func TestRateHolds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		perSecond := rapid.IntRange(1, 100_000).Draw(rt, "per second")
		burst := rapid.IntRange(1, 100).Draw(rt, "burst")
		l := New(perSecond, burst)
		every := time.Second / time.Duration(perSecond)
		var b Bucket
		now := rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "start")
		var taken []time.Duration
		for range rapid.IntRange(1, 300).Draw(rt, "steps") {
			now += time.Duration(rapid.Int64Range(0, int64(2*every)).Draw(rt, "pause"))
			if b.Take(l, now, 1) {
				taken = append(taken, now)
			}
		}
		for i := range taken {
			for j := i; j < len(taken); j++ {
				if most := burst + int((taken[j]-taken[i])/every); j-i+1 > most {
					rt.Fatalf("%d from %v to %v, at most %d", j-i+1, taken[i], taken[j], most)
				}
			}
		}
		for range 200 {
			if now += every; !b.Take(l, now, 1) {
				rt.Fatal("refused at the rate itself")
			}
		}
	})
}

func TestTakeConcurrently(t *testing.T) {
	l := New(1, 1000)
	var b Bucket
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.Take(l, 0, 1) {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1000 {
		t.Errorf("%d of 1000 taken", taken.Load())
	}
}
