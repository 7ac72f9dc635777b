package main

import (
	"context"
	"fmt"
	"net"

	"github.com/govxlan/govxlan/internal/metrics"
	"github.com/govxlan/govxlan/vtep"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
)

// metricsFlags are where Prometheus may scrape, and what.
type metricsFlags struct {
	addr  string
	limit int
}

func (f *metricsFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.addr, "metrics", "", "serve metrics to Prometheus on this address, such as 127.0.0.1:9789 (default: not at all)")
	fs.IntVar(&f.limit, "metrics-limit", metrics.DefaultLimit, "peers with metrics of their own at most; the other metrics are not touched")
}

// check finds wrong usage.
func (f *metricsFlags) check() error {
	if f.addr != "" {
		if err := metrics.ParseAddress(f.addr); err != nil {
			return usagef("--metrics %w", err)
		}
	}
	if f.limit < 0 {
		return usagef("--metrics-limit %d: give how many peers may have metrics of their own, 0 for none", f.limit)
	}
	return nil
}

// listen opens the address; nil when none was given.
func (f *metricsFlags) listen() (net.Listener, error) {
	if f.addr == "" {
		return nil, nil
	}
	l, err := metrics.Listen(f.addr)
	if err != nil {
		return nil, fmt.Errorf("--metrics %w", err)
	}
	return l, nil
}

// serve answers scrapes of an endpoint until ctx is done.
func (f *metricsFlags) serve(ctx context.Context, l net.Listener, endpoint *vtep.Endpoint, log *zap.Logger) error {
	log.Info("metrics are served", zap.String("url", "http://"+l.Addr().String()+metrics.Path))
	return metrics.Serve(ctx, l, metrics.NewHandler(metrics.Config{Source: endpoint, Version: version, Limit: f.limit}))
}
