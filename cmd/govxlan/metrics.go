package main

import (
	"context"
	"fmt"
	"net"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/metrics"
	"go.uber.org/zap"
)

// listenMetrics opens the address where Prometheus may scrape; nil when there is
// none.
func listenMetrics(e *config.Endpoint) (net.Listener, error) {
	if e.Metrics == "" {
		return nil, nil
	}
	l, err := metrics.Listen(e.Metrics)
	if err != nil {
		return nil, fmt.Errorf("--metrics %w", err)
	}
	return l, nil
}

// serveMetrics answers scrapes until ctx is done.
func serveMetrics(ctx context.Context, l net.Listener, e *config.Endpoint, source metrics.Source, log *zap.Logger) error {
	log.Info("metrics are served", zap.String("url", "http://"+l.Addr().String()+metrics.Path))
	return metrics.Serve(ctx, l, metrics.NewHandler(metrics.Config{Source: source, Version: version, Limit: e.MetricsLimit}))
}
