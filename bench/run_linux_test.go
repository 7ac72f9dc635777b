package bench

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/bench/report"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// leftovers are what runs of this process left on the machine.
func leftovers(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/run/netns/gvx-bench-", "/run/govxlan/labs/gvx-bench-"} {
		paths, err := filepath.Glob(pattern + strconv.Itoa(os.Getpid()) + "*")
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	return found
}

// TestRun measures the link and the kernel's vxlan with every test.
func TestRun(t *testing.T) {
	r := measure(t, Config{Modes: []string{ModeOffload}})
	for _, s := range r.Systems {
		if n := s.LargestPacket[ModeOffload]; n < 10*wireBytes {
			t.Errorf("%s: largest frame %d in offload mode: no superframe", s.Name, n)
		}
	}
	for _, s := range r.Summary {
		if s.System == Kernel && s.Median != 0 && (s.Ratio == nil || *s.Ratio != 1) {
			t.Errorf("ratio of the kernel to itself: %+v", s)
		}
	}
}

// In wire mode no frame on the underlay is longer than a wire's.
func TestRunWire(t *testing.T) {
	r := measure(t, Config{Modes: []string{ModeWire}, Tests: []string{"tcp1", "rr"}})
	for _, s := range r.Systems {
		if n := s.LargestPacket[ModeWire]; n != wireBytes {
			t.Errorf("%s: largest frame %d in wire mode, want %d", s.Name, n, wireBytes)
		}
	}
	if on := r.Modes[0].OffloadsOn; slices.Contains(on, "tx-tcp-segmentation") || slices.Contains(on, "rx-gro") {
		t.Errorf("wire mode with %v", on)
	}
}

// measure runs one short round with the link and the kernel, and sees that every
// figure is there and can be true, and that nothing else is left.
func measure(t *testing.T, cfg Config) *report.Report {
	t.Helper()
	netlabtest.Root(t)
	steps, total := 0, 0
	cfg.Systems, cfg.Rounds, cfg.Window = []string{Veth, Kernel}, 1, 100*time.Millisecond
	cfg.Progress = func(s Step) {
		steps++
		total = s.Total
		if s.Done != steps {
			t.Errorf("step %d says that it is step %d", steps, s.Done)
		}
		if s.Err != nil {
			t.Errorf("%s, %s, %s: %v", s.Mode, s.System, s.Test, s.Err)
		}
	}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if steps != total {
		t.Errorf("%d steps of %d", steps, total)
	}
	if found := leftovers(t); found != nil {
		t.Errorf("left behind: %v", found)
	}
	if len(r.Failures) > 0 {
		t.Errorf("failures: %+v", r.Failures)
	}
	// Nobody's processes have processor time, wake-ups or memory; the rest is
	// above zero whatever the machine, but loss.
	zero := []string{"cpu-endpoints", "idle", "idle.cpu", "memory"}
	for _, mode := range cfg.Modes {
		for _, system := range cfg.Systems {
			for _, m := range r.Measures {
				v, ok := sample(r, mode, system, m.ID)
				_, part, _ := strings.Cut(m.ID, ".")
				switch {
				case !ok:
					t.Errorf("%s, %s: no figure for %s", mode, system, m.ID)
				case slices.Contains(zero, m.ID) || slices.Contains(zero, part):
					if v != 0 {
						t.Errorf("%s, %s: %s is %v of no process", mode, system, m.ID, v)
					}
				case part == "loss" || part == "lost":
					if v < 0 || v > 100 {
						t.Errorf("%s, %s: %s is %v %%", mode, system, m.ID, v)
					}
				case v <= 0:
					t.Errorf("%s, %s: %s is %v", mode, system, m.ID, v)
				}
			}
			// What no machine of today can be, either way.
			if v, _ := sample(r, mode, system, "tcp1"); v < 0.01 || v > 1000 {
				t.Errorf("%s, %s: TCP at %v Gb/s", mode, system, v)
			}
			if p50, _ := sample(r, mode, system, "rr.p50"); p50 < 1 || p50 > 1e5 {
				t.Errorf("%s, %s: a round trip in %v us", mode, system, p50)
			}
		}
	}
	if text, err := json.Marshal(r); err != nil || len(text) == 0 {
		t.Error(err)
	}
	return r
}

func sample(r *report.Report, mode, system, measure string) (float64, bool) {
	for _, s := range r.Samples {
		if s.Mode == mode && s.System == system && s.Measure == measure {
			return s.Value, true
		}
	}
	return 0, false
}

// TestRunInterrupted ends a run in the middle: what was measured is reported, and
// everything is gone.
func TestRunInterrupted(t *testing.T) {
	netlabtest.Root(t)
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r, err := Run(ctx, Config{
		Systems: []string{Veth, Kernel}, Modes: []string{ModeOffload}, Tests: []string{"rr", "tcp1"},
		Rounds: 1000, Window: 100 * time.Millisecond,
		Progress: func(s Step) {
			if s.Round == 2 {
				cancel(reason)
			}
		},
	})
	if !errors.Is(err, reason) {
		t.Errorf("error %v, want the cause", err)
	}
	if r == nil || !r.Partial || len(r.Samples) == 0 || len(r.Summary) == 0 {
		t.Errorf("report %+v, want one with the figures of the first round", r)
	}
	if found := leftovers(t); found != nil {
		t.Errorf("left behind: %v", found)
	}
}

// TestRunSystemThatFails has a system that does not come up: the others are
// measured all the same, and the report says why.
func TestRunSystemThatFails(t *testing.T) {
	netlabtest.Root(t)
	r, err := Run(t.Context(), Config{
		Systems: []string{Veth, "broken"}, Modes: []string{ModeOffload}, Tests: []string{"ping"},
		Rounds: 1, Window: 50 * time.Millisecond,
		Variants: []Variant{{Name: "broken", Program: "/bin/false"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Failures) != 1 || r.Failures[0].System != "broken" || r.Failures[0].Error != "govxlan ended" {
		t.Errorf("failures %+v", r.Failures)
	}
	if v, ok := sample(r, ModeOffload, Veth, "ping.p50"); !ok || v <= 0 {
		t.Errorf("ping over the link: %v", v)
	}
	if found := leftovers(t); found != nil {
		t.Errorf("left behind: %v", found)
	}
}
