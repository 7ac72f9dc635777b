package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// interruption is why a context ended when a signal ended it.
type interruption struct {
	signal os.Signal
	what   string // "the demo"
}

func (i interruption) Error() string {
	return fmt.Sprintf("%v: %s was ended and removed", i.signal, i.what)
}

// untilSignal returns a context that ends at the first signal. Further ones do
// nothing: the removal that the first one starts is short, and must come to its
// end.
func untilSignal(parent context.Context, what string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	// A write to a pipe that nobody reads is to fail, not to kill a program
	// with so much to remove.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		select {
		case s := <-signals:
			cancel(interruption{s, what})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}
