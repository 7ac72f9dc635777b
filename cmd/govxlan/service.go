package main

import (
	"context"

	"github.com/govxlan/govxlan/internal/daemon"
	"github.com/govxlan/govxlan/internal/systemd"
	"go.uber.org/zap"
)

// tellService tells the service manager, if one runs this, that frames can flow,
// then that they still can, and at last that this is the end.
func tellService(ctx context.Context, d *daemon.Daemon, log *zap.Logger) error {
	fault := func(err error) { log.Warn("service manager", zap.Error(err)) }
	if err := systemd.Ready(d.Summary()); err != nil {
		fault(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = systemd.Stopping() })
	defer stop()
	if err := systemd.Watch(ctx, d.Ping, func(err error) {
		log.Error("the watchdog is not told that all is well", zap.Error(err))
	}); err != nil {
		fault(err)
	}
	return nil
}
