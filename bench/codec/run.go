package codec

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"time"

	"github.com/govxlan/govxlan/bench/report"
)

// Config says how to measure. The zero value gives the defaults.
type Config struct {
	// Only measures the cases whose "group/name" matches. Optional.
	Only *regexp.Regexp
	// Rounds of all cases. 0 = 5.
	Rounds int
	// Window is how long a case runs in each round. 0 = 100 ms.
	Window time.Duration
	// Progress hears of every case done. Optional.
	Progress func(done, total int, name string)
}

// benchmark is a case that is ready to run.
type benchmark struct {
	Case
	run    func(n int)
	n      int // operations a round
	ns     []float64
	allocs []float64
}

// Run measures the cases and returns their figures. When ctx ends, so does it,
// with the cause.
func Run(ctx context.Context, cfg Config) ([]report.CodecResult, error) {
	if cfg.Rounds == 0 {
		cfg.Rounds = 5
	}
	if cfg.Window == 0 {
		cfg.Window = 100 * time.Millisecond
	}
	if cfg.Progress == nil {
		cfg.Progress = func(int, int, string) {}
	}
	var list []*benchmark
	for _, c := range Cases() {
		if cfg.Only == nil || cfg.Only.MatchString(c.Group+"/"+c.Name) {
			list = append(list, &benchmark{Case: c})
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no case of the codec benchmarks matches %v", cfg.Only)
	}
	total := len(list) * (cfg.Rounds + 1)
	done := 0
	step := func(b *benchmark) error {
		done++
		cfg.Progress(done, total, b.Group+"/"+b.Name)
		return context.Cause(ctx)
	}
	for _, b := range list {
		var err error
		if b.run, err = b.prepare(); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", b.Group, b.Name, err)
		}
		b.calibrate(cfg.Window)
		if err := step(b); err != nil {
			return nil, err
		}
	}
	for range cfg.Rounds {
		for _, b := range list {
			ns, allocs := b.measure(b.n)
			b.ns = append(b.ns, ns)
			b.allocs = append(b.allocs, allocs)
			if err := step(b); err != nil {
				return nil, err
			}
		}
	}
	results := make([]report.CodecResult, len(list))
	for i, b := range list {
		results[i] = report.NewCodecResult(b.Group, b.Name, b.Bytes, b.ns, b.allocs)
	}
	return results, nil
}

// calibrate finds how many operations fill a window.
func (b *benchmark) calibrate(window time.Duration) {
	for n := 1; ; {
		ns, _ := b.measure(n)
		spent := time.Duration(ns * float64(n))
		if spent >= window/5 || n >= 1<<30 {
			b.n = max(int(float64(window)/max(ns, 0.1)), 1)
			return
		}
		// Towards the window by guess, but never by more than a hundredfold: the
		// first few operations are slow.
		n = max(n+1, min(int(float64(window/4)/max(ns, 0.1)), 100*n))
	}
}

// measure runs n operations and returns the time and allocations of each.
func (b *benchmark) measure(n int) (ns, allocs float64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	b.run(n)
	spent := time.Since(began)
	runtime.ReadMemStats(&after)
	return float64(spent.Nanoseconds()) / float64(n), float64(after.Mallocs-before.Mallocs) / float64(n)
}
