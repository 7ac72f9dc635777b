package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// scrapeEvery is how often the metrics of an endpoint are scraped that serves
// some: oftener than anybody would.
const scrapeEvery = time.Second

// metricsAddress is where govxlan with these flags serves metrics; empty: nowhere.
func metricsAddress(flags []string) (addr string) {
	for i, f := range flags {
		if v, ok := strings.CutPrefix(f, "--metrics="); ok {
			addr = v
		} else if f == "--metrics" && i+1 < len(flags) {
			addr = flags[i+1]
		}
	}
	return addr
}

// scrape begins to scrape both endpoints of a pair that serves metrics, and goes
// on until stop is called, which returns what went wrong. Each is scraped once at
// least.
func (p *pair) scrape(ctx context.Context) (stop func() error) {
	if p.metrics == "" {
		return func() error { return nil }
	}
	stopped := make(chan struct{})
	ended := make(chan error, len(p.hosts))
	for _, h := range p.hosts {
		client := http.Client{Timeout: patience, Transport: &http.Transport{
			DialContext: func(_ context.Context, network, addr string) (net.Conn, error) { return h.Dial(network, addr) },
		}}
		go func() {
			defer client.CloseIdleConnections()
			for {
				if err := scrapeOnce(ctx, &client, p.metrics); err != nil {
					ended <- fmt.Errorf("scrape host %s: %w", h.letter, err)
					return
				}
				select {
				case <-stopped:
					ended <- nil
					return
				case <-time.After(scrapeEvery):
				}
			}
		}()
	}
	return func() (err error) {
		close(stopped)
		for range p.hosts {
			if e := <-ended; err == nil {
				err = e
			}
		}
		return err
	}
}

func scrapeOnce(ctx context.Context, client *http.Client, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return nil
}
