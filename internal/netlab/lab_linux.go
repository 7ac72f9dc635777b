package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotRoot says that a lab was asked for without the rights to make one.
var ErrNotRoot = errors.New("making network namespaces needs root")

// grace is how long a process may take to end by itself after SIGTERM before
// Close kills it.
const grace = 700 * time.Millisecond

// labelPattern keeps names safe as file names and readable in a list: the dash
// separates the parts of a name.
var labelPattern = regexp.MustCompile(`^[A-Za-z0-9_]{1,32}$`)

// Lab owns namespaces and processes. Its methods may be called from several
// goroutines.
type Lab struct {
	label string
	state *state

	mu         sync.Mutex
	namespaces []*Namespace
	processes  []*Cmd
	closed     bool
}

// New makes an empty lab. The label, letters and digits, is part of every name.
// What dead processes left of their labs is swept first.
func New(label string) (*Lab, error) {
	if !labelPattern.MatchString(label) {
		return nil, fmt.Errorf("netlab: label %q: want 1 to 32 letters and digits", label)
	}
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	// What cannot be swept now must not keep a new lab from being made.
	_, _ = Sweep()
	s, err := newState(label)
	if err != nil {
		return nil, fmt.Errorf("netlab: make lab %s: %w", label, err)
	}
	return &Lab{label: label, state: s}, nil
}

// Name is what the names of all namespaces of this lab begin with, without the
// last dash: gvx-LABEL-PID.
func (l *Lab) Name() string { return l.state.name }

// Dir is a directory of the lab's own, for logs and sockets. Close removes it.
func (l *Lab) Dir() string { return l.state.dir }

// Namespace makes a network namespace. It is reachable by name for others (ip
// netns exec NAME ...), its loopback device is up, and IPv6 addresses given in
// it can be used at once, without duplicate address detection.
func (l *Lab) Namespace(label string) (*Namespace, error) {
	if !labelPattern.MatchString(label) {
		return nil, fmt.Errorf("netlab: namespace label %q: want 1 to 32 letters and digits", label)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("netlab: namespace %s: %w", label, os.ErrClosed)
	}
	ns := &Namespace{lab: l, label: label, name: l.state.name + "-" + label}
	if err := ns.create(); err != nil {
		return nil, fmt.Errorf("netlab: namespace %s: %w", ns.name, err)
	}
	l.namespaces = append(l.namespaces, ns)
	return ns, nil
}

// Close ends every process that the lab started (SIGTERM, and SIGKILL for those
// that have not ended 0.7 s later), then removes the namespaces with all that
// is in them and the lab's directory. It goes on past errors and returns them
// joined; a second Close does nothing and returns nil.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	processes, namespaces := l.processes, l.namespaces
	l.mu.Unlock()

	var errs []error
	for _, c := range processes {
		c.signalGroup(unix.SIGTERM)
	}
	deadline := time.After(grace)
	for _, c := range processes {
		select {
		case <-c.Exited():
		case <-deadline:
			// The timer fires once: from here on all that still run are killed.
			deadline = closedTimer
			c.signalGroup(unix.SIGKILL)
			<-c.Exited()
		}
		_ = c.Wait() // how it ended is not news: it was told to
	}
	for i := len(namespaces) - 1; i >= 0; i-- {
		errs = append(errs, namespaces[i].remove())
	}
	errs = append(errs, l.state.remove())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("netlab: remove lab %s: %w", l.state.name, err)
	}
	return nil
}

// closedTimer stands in for a timer that has fired.
var closedTimer = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()

// Keep leaves the lab standing when this process ends: the namespaces, and the
// processes that were started with Outlive. Neither Close nor Sweep touches it
// any more; Clean with the lab's label removes it.
func (l *Lab) Keep() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("netlab: keep lab %s: %w", l.state.name, os.ErrClosed)
	}
	if err := l.state.keep(); err != nil {
		return fmt.Errorf("netlab: keep lab %s: %w", l.state.name, err)
	}
	for _, ns := range l.namespaces {
		ns.release()
	}
	l.closed = true
	return nil
}

// runNetns is where iproute2 looks for named namespaces.
const runNetns = "/run/netns"

// removeNamespace takes a name off a namespace. The kernel removes the
// namespace itself, and its devices, when the last process and socket in it
// has gone.
func removeNamespace(name string) error {
	path := filepath.Join(runNetns, name)
	err := os.Remove(path)
	if errors.Is(err, unix.EBUSY) { // the namespace is mounted there
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return os.NewSyscallError("umount "+path, err)
		}
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
