package codec

import (
	"context"
	"errors"
	"regexp"
	"testing"
	"time"
)

// Every case prepares itself, takes some time, and allocates nothing: what grows
// a table aside.
func TestRun(t *testing.T) {
	steps := 0
	results, err := Run(t.Context(), Config{
		Only: regexp.MustCompile(`^[^,]*(, [^,]*)?$|100,000`), Rounds: 2, Window: time.Millisecond,
		Progress: func(done, total int, name string) {
			steps++
			if done != steps || done > total || name == "" {
				t.Errorf("step %d: %d of %d, %q", steps, done, total, name)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(results) < 25 {
		t.Errorf("%d cases", len(results))
	}
	for _, r := range results {
		if r.Median <= 0 || r.Median > 1e9 || len(r.Rounds) != 2 || r.Min > r.Median || r.Median > r.Max {
			t.Errorf("%s/%s: %+v", r.Group, r.Name, r)
		}
		if r.Allocations > 0.1 && r.Name != "new, up to 100,000 entries" {
			t.Errorf("%s/%s: %v allocations", r.Group, r.Name, r.Allocations)
		}
		if (r.Bytes > 0) != (r.Rate > 0) {
			t.Errorf("%s/%s: %d bytes, %v GB/s", r.Group, r.Name, r.Bytes, r.Rate)
		}
	}
}

func TestRunNothingMatches(t *testing.T) {
	if _, err := Run(t.Context(), Config{Only: regexp.MustCompile("^teapot$")}); err == nil {
		t.Error("no error")
	}
}

func TestRunInterrupted(t *testing.T) {
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	if _, err := Run(ctx, Config{Only: regexp.MustCompile("^checksum/"), Window: time.Millisecond}); !errors.Is(err, reason) {
		t.Errorf("error %v, want the cause", err)
	}
}

func TestEntries(t *testing.T) {
	for n, want := range map[int]string{1: "1 entry", 999: "999 entries", 1000: "1,000 entries", 1_002_003: "1,002,003 entries"} {
		if got := entries(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
