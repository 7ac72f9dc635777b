package e2e

import (
	"testing"
	"time"
)

// patience is how long a test waits for what must happen, on a machine that is
// busy with other things too.
const patience = 30 * time.Second

// eventually calls f until it returns nil.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	within(t, patience, f)
}

// within calls f until it returns nil, for at most d.
func within(t testing.TB, d time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(d)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", d, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// deadline is when patience ends.
func deadline() time.Time { return time.Now().Add(patience) }
