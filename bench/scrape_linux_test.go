package bench

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

func TestMetricsAddress(t *testing.T) {
	for flags, want := range map[string]string{
		"":                            "",
		"--queues 2":                  "",
		"--metrics 127.0.0.1:9789":    "127.0.0.1:9789",
		"--metrics=:1 --queues 2":     ":1",
		"--metrics=:1 --metrics :2":   ":2", // as pflag has it
		"--metrics-limit 7":           "",
		"--offload off --metrics":     "",
		"--queues 2 --metrics [::]:3": "[::]:3",
	} {
		if got := metricsAddress(strings.Fields(flags)); got != want {
			t.Errorf("%q: %q, want %q", flags, got, want)
		}
	}
}

// TestScrape: both hosts are scraped until it is stopped, and what goes wrong is
// told.
func TestScrape(t *testing.T) {
	netlabtest.Root(t)
	lab := netlabtest.New(t, "scrape")
	p, err := newPair(lab, &system{}, 0, ModeOffload)
	if err != nil {
		t.Fatal(err)
	}
	p.metrics = "127.0.0.1:9789"
	var scraped [2]atomic.Int32
	var status atomic.Int32
	for i, h := range p.hosts {
		l, err := h.Listen("tcp", p.metrics)
		if err != nil {
			t.Fatal(err)
		}
		server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/metrics" {
				scraped[i].Add(1)
			}
			w.WriteHeader(int(status.Load()))
		})}
		go func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}()
		t.Cleanup(func() { server.Close() })
	}
	status.Store(http.StatusOK)
	stop := p.scrape(t.Context())
	for scraped[0].Load() == 0 || scraped[1].Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}

	status.Store(http.StatusServiceUnavailable)
	was := scraped[0].Load()
	stop = p.scrape(t.Context())
	for scraped[0].Load() == was {
		time.Sleep(time.Millisecond)
	}
	if err := stop(); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("of a server that has no time: %v", err)
	}

	p.metrics = ""
	if err := p.scrape(t.Context())(); err != nil {
		t.Errorf("without metrics: %v", err)
	}
}
