package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Path is where a scraper asks.
const Path = "/metrics"

// scrapesAtOnce bounds what impatient scrapers cost: who comes too many is told
// 503.
const scrapesAtOnce = 2

// Listen opens an address for Serve. Its errors say what to do.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	var dns *net.DNSError
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: another process has this port: stop that, or choose another port", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%s: this address is not on this host: give one that 'ip address' shows, or 127.0.0.1", addr)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: a port below 1024 needs root: choose another", addr)
	case errors.As(err, &dns):
		return nil, fmt.Errorf("%s: %w: give an address of this host", addr, dns)
	}
	return nil, fmt.Errorf("%s: %w", addr, err)
}

// NewHandler answers scrapes at Path.
func NewHandler(c Config) http.Handler {
	others := prometheus.NewRegistry()
	others.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, promhttp.HandlerFor(&gatherer{c, others}, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: scrapesAtOnce,
	}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "govxlan: metrics are at "+Path+"\n") // who asked may be gone
	})
	return mux
}

// Serve answers until ctx is done, and closes the listener.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute, // scrapers come back, mostly within one
		MaxHeaderBytes:    16 << 10,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
