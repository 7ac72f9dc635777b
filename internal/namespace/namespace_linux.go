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
	"golang.org/x/sys/unix"
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
	target, err := netns.GetFromPath(Path(name))
	if err != nil {
		if os.IsNotExist(err) {
			return fmt.Errorf("%w: %s (see 'ip netns list')", ErrNotFound, name)
		}
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			return fmt.Errorf("network namespace %s: %w (run as root; a running endpoint gets to all paths if it was started with --privileges all)", name, err)
		}
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	defer target.Close()

	// A goroutine of its own: should the thread not find its way back, it
	// ends with the goroutine, still locked, and nobody gets a stray one.
	result := make(chan error, 1)
	go func() {
		err := errExit
		defer func() { result <- err }()
		err = within(target, name, f)
	}()
	return <-result
}

// errExit is the result when f ended its goroutine.
var errExit = errors.New("the function inside the network namespace did not return")

// within calls f inside target. The goroutine keeps its thread to itself unless
// that is certainly back where it came from.
func within(target netns.NsHandle, name string, f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace of this thread: %w", err)
	}
	defer home.Close()
	if home.Equal(target) {
		// Entering where one is takes CAP_SYS_ADMIN as well.
		defer runtime.UnlockOSThread()
		return f()
	}
	if err := netns.Set(target); err != nil {
		runtime.UnlockOSThread()
		switch {
		case errors.Is(err, unix.EPERM):
			return fmt.Errorf("enter network namespace %s: %w (run as root, or with CAP_SYS_ADMIN; a running endpoint has kept that if it was started with --privileges netns)", name, err)
		case errors.Is(err, unix.EINVAL):
			return fmt.Errorf("enter network namespace %s: %w: it is none", name, err)
		}
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	err = f()
	if netns.Set(home) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// Path is where a network namespace is found: a path as it is, a name under
// /run/netns.
func Path(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return filepath.Join("/run/netns", name)
}

// ID tells network namespaces apart, whatever their names.
type ID struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// Here returns the ID of the calling thread's network namespace.
func Here() (ID, error) { return Identify("/proc/thread-self/ns/net") }

// Identify returns the ID of a network namespace, a path or a name as in Do.
func Identify(name string) (ID, error) {
	var st unix.Stat_t
	if err := unix.Stat(Path(name), &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return ID{}, fmt.Errorf("%w: %s (see 'ip netns list')", ErrNotFound, name)
		}
		return ID{}, fmt.Errorf("network namespace %s: %w", name, err)
	}
	return ID{uint64(st.Dev), st.Ino}, nil
}
