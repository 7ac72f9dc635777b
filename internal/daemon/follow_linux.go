package daemon

import (
	"context"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
)

const (
	// settle is how long follow lets changes come in before it looks.
	settle = 100 * time.Millisecond
	// listenAgain is how long it waits when the kernel's messages were lost.
	listenAgain = time.Second
)

// follow looks again whenever a link or a route changes, until ctx is done.
func (d *Daemon) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		d.listenToUnderlay(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
	}
	return nil
}

// listenToUnderlay does that until messages are lost.
func (d *Daemon) listenToUnderlay(ctx context.Context) {
	done := make(chan struct{})
	defer close(done)
	links, routes := make(chan netlink.LinkUpdate, 16), make(chan netlink.RouteUpdate, 16)
	quiet := func(error) {} // the channel is closed then
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: quiet}); err != nil {
		d.log.Debug("listen for changes of links", zap.Error(err))
		return
	}
	defer drain(links)
	if err := netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ErrorCallback: quiet}); err != nil {
		d.log.Debug("listen for changes of routes", zap.Error(err))
		return
	}
	defer drain(routes)
	timer := time.NewTimer(0) // what happened before, too
	defer timer.Stop()
	waiting := true
	for {
		ok := true
		select {
		case <-ctx.Done():
			return
		case _, ok = <-links:
		case _, ok = <-routes:
		case <-timer.C:
			waiting = false
			d.look()
			continue
		}
		if !ok {
			return
		}
		if !waiting {
			waiting = true
			timer.Reset(settle)
		}
	}
}

// drain lets the goroutine end that writes to c.
func drain[T any](c <-chan T) {
	go func() {
		for range c {
		}
	}()
}
