package main

import (
	"context"
	"net"
	"time"

	"github.com/govxlan/govxlan/internal/daemon"
	"github.com/govxlan/govxlan/internal/systemd"
	"go.uber.org/zap"
)

// tellService tells the service manager, if one runs this, that frames can flow,
// then that they still can, and at last that this is the end.
func tellService(ctx context.Context, d *daemon.Daemon, log *zap.Logger) error {
	select {
	case <-d.Ready():
	case <-ctx.Done():
		return nil
	}
	fault := func(err error) { log.Warn("service manager", zap.Error(err)) }
	if err := systemd.Ready(d.Summary()); err != nil {
		fault(err)
	}
	defer func() { _ = systemd.Stopping() }()
	if err := systemd.Watch(ctx, d.Ping, func(err error) {
		log.Error("the watchdog is not told that all is well", zap.Error(err))
	}); err != nil {
		fault(err)
	}
	<-ctx.Done()
	return nil
}

// late serves at an address that the process which was taken over has until it
// ends. Where it stays taken, that is no reason to end.
func late(ctx context.Context, log *zap.Logger, listen func() (net.Listener, error), serve func(net.Listener) error) error {
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		l, err := listen()
		if err == nil {
			return serve(l)
		}
		if wait > 5*time.Second {
			log.Warn("not served", zap.Error(err))
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
