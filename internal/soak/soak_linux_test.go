package soak

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// program is the program under test.
func program(t *testing.T) string {
	t.Helper()
	if b := os.Getenv("GOVXLAN_BINARY"); b != "" {
		return b
	}
	path := filepath.Join(t.TempDir(), "govxlan")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/govxlan/govxlan/cmd/govxlan").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// TestSoak is a short soak with each data path.
func TestSoak(t *testing.T) {
	netlabtest.Root(t)
	binary := program(t)
	for _, datapath := range []string{"auto", "user"} {
		t.Run(datapath, func(t *testing.T) {
			t.Parallel()
			r, err := Run(t.Context(), Config{Binary: binary, Time: 14 * time.Second, Every: 700 * time.Millisecond, Seed: 1, Datapath: datapath})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.WriteMarkdown(testWriter{t}, ""); err != nil {
				t.Error(err)
			}
			for _, f := range r.Failures {
				t.Error(f)
			}
			if len(r.Streams) != 18 || len(r.Faults) < 5 || len(r.Processes) != 2 {
				t.Errorf("%d streams, %d faults, %d endpoints", len(r.Streams), len(r.Faults), len(r.Processes))
			}
			var picture strings.Builder
			if err := r.WriteSVG(&picture); err != nil || !strings.Contains(picture.String(), "Open descriptors") {
				t.Errorf("%d bytes of a picture, %v", picture.Len(), err)
			}
		})
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// A soak that is interrupted ends at once, with its report, and leaves nothing: Run says
// so when an endpoint does.
func TestSoakInterrupted(t *testing.T) {
	netlabtest.Root(t)
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan struct{}, 100)
	go func() { <-told; cancel() }()
	begin := time.Now()
	r, err := Run(ctx, Config{Binary: program(t), Time: time.Hour, Every: time.Millisecond, Log: signal(told)})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Faults) == 0 || time.Since(begin) > 2*patience {
		t.Errorf("%d faults, ended after %v", len(r.Faults), time.Since(begin))
	}
	for _, f := range r.Failures {
		if strings.Contains(f, "endpoint of host") {
			t.Error(f)
		}
	}
}

// A soak that ends before traffic flows everywhere says so in its report.
func TestSoakUnsettled(t *testing.T) {
	netlabtest.Root(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := Run(ctx, Config{Binary: program(t), Time: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Errors) != 1 || !strings.Contains(r.Errors[0], context.Canceled.Error()) {
		t.Errorf("errors %q", r.Errors)
	}
}

// signal tells that something was written.
type signal chan struct{}

func (s signal) Write(b []byte) (int, error) {
	select {
	case s <- struct{}{}:
	default:
	}
	return len(b), nil
}
