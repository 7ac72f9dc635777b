// Package namespace runs code inside another network namespace.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netns"
)

// ErrNotFound: there is no network namespace of that name or path.
var ErrNotFound = errors.New("no such network namespace")

// Do calls f on a thread inside the network namespace: a path, or a name under
// /run/netns. Empty is the caller's own. What f opens there (a TAP, a socket)
// stays there; the goroutines that f starts do not.
func Do(name string, f func() error) error {
	if name == "" {
		return f()
	}
	path := name
	if !strings.Contains(name, "/") {
		path = filepath.Join("/run/netns", name)
	}
	target, err := netns.GetFromPath(path)
	if err != nil {
		if os.IsNotExist(err) {
			return fmt.Errorf("%w: %s (see 'ip netns list')", ErrNotFound, name)
		}
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	defer target.Close()

	// A goroutine of its own: should the thread not find its way back, it
	// ends with the goroutine, still locked, and nobody gets a stray one.
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("network namespace of this thread: %w", err)
			return
		}
		defer home.Close()
		if err := netns.Set(target); err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter network namespace %s: %w (wants CAP_SYS_ADMIN)", name, err)
			return
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}
