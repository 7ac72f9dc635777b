package vtep

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is how long the system runs, without the time that it slept.
func bootTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
