package systemd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Running says whether a service manager wants to hear of this process.
func Running() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// Ready tells that the service has started, or has reloaded.
func Ready(status string) error { return notify(daemon.SdNotifyReady, "STATUS="+oneLine(status)) }

// Status tells how it is.
func Status(status string) error { return notify("STATUS=" + oneLine(status)) }

// Reloading tells that the configuration is read again. Ready follows.
func Reloading() error {
	return notify(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
}

// Stopping tells that the service is about to end.
func Stopping() error { return notify(daemon.SdNotifyStopping) }

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

func notify(lines ...string) error {
	_, err := daemon.SdNotify(false, strings.Join(lines, "\n"))
	return err
}

// Watch tells the service manager that this process is well, as often as that
// wants to hear it, whenever check says so, until ctx is done. It returns at once
// where nobody wants to hear it (WatchdogSec= of the unit). What check returns is
// passed to fault.
//
// check has to prove that work is done: a process of which nothing but this
// goroutine is alive is none to be left alone.
func Watch(ctx context.Context, check func(context.Context) error, fault func(error)) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if limit <= 0 {
		return nil
	}
	ticker := time.NewTicker(limit / 3)
	defer ticker.Stop()
	for {
		within, cancel := context.WithTimeout(ctx, limit/3)
		err := check(within)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			fault(err)
		default:
			if err := notify(daemon.SdNotifyWatchdog); err != nil {
				fault(err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
