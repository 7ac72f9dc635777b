package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Cmd is an exec.Cmd that runs inside a namespace. Set its fields before Start.
//
// The process gets a process group of its own, so that Ctrl-C on the terminal
// reaches the owner of the lab alone, who then ends the others in order. When
// the leader of the group has ended, what is left of the group is killed. When
// the owner of the lab dies, the process is killed by the kernel.
type Cmd struct {
	*exec.Cmd

	// Outlive lets the process go on when the owner of the lab ends, for a lab
	// that is to be kept. Such a process must not write into pipes of its owner.
	Outlive bool

	ns     *Namespace
	exited chan struct{}

	mu      sync.Mutex
	started bool
	reaped  bool
	waitErr error
}

// Command prepares a process inside the namespace. When ctx ends before the
// process does, the process gets SIGTERM and, 0.7 s later, SIGKILL.
func (ns *Namespace) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := &Cmd{Cmd: exec.CommandContext(ctx, name, args...), ns: ns, exited: make(chan struct{})}
	c.Cancel = func() error {
		c.signalGroup(unix.SIGTERM)
		return nil
	}
	c.WaitDelay = grace
	return c
}

// Start starts the process. The lab ends it in Close.
func (c *Cmd) Start() error {
	l := c.ns.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("netlab: start %s in %s: %w", c.Path, c.ns.name, os.ErrClosed)
	}
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	if c.Outlive {
		// A session of its own as well, so that the end of the terminal is not
		// its end.
		c.SysProcAttr.Setsid = true
	} else {
		c.SysProcAttr.Setpgid = true
		c.SysProcAttr.Pdeathsig = unix.SIGKILL
	}
	if c.Err == nil && len(c.Env) == 0 {
		c.Env = os.Environ()
	}
	result := make(chan error)
	go func() {
		// The thread is never given back: it stays in the other namespace, and
		// it must live as long as the child, whose death signal (Pdeathsig)
		// fires when the thread that forked it ends, not the process.
		runtime.LockOSThread()
		err := c.ns.enter()
		if err == nil {
			err = c.Cmd.Start()
		}
		result <- err
		if err != nil {
			return
		}
		// The leader stays a zombie until Wait, so that its number still means
		// this process group when the rest of the group is killed.
		waitZombie(c.Process.Pid)
		_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
		close(c.exited)
	}()
	if err := <-result; err != nil {
		return fmt.Errorf("netlab: start %s in %s: %w", c.Path, c.ns.name, err)
	}
	c.mu.Lock()
	c.started = true
	c.mu.Unlock()
	l.processes = append(l.processes, c)
	if err := l.state.addProcess(c.Process.Pid); err != nil && c.Outlive {
		// Only a process that survives its owner must be found again.
		c.signalGroup(unix.SIGKILL)
		return fmt.Errorf("netlab: start %s in %s: %w", c.Path, c.ns.name, err)
	}
	return nil
}

// Exited is closed when the process has ended, whether or not Wait was called.
func (c *Cmd) Exited() <-chan struct{} { return c.exited }

// Wait waits for the end of the process and of the copying of its output, and
// reports how it ended as exec.Cmd.Wait does. It may be called more than once.
func (c *Cmd) Wait() error {
	c.mu.Lock()
	started := c.started
	c.mu.Unlock()
	if !started {
		return errors.New("netlab: Wait before Start")
	}
	<-c.exited
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		c.waitErr = c.Cmd.Wait()
		c.reaped = true
	}
	return c.waitErr
}

// Run starts the process and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the process and returns its standard output. When it fails, the
// error carries what it wrote to standard error.
func (c *Cmd) Output() ([]byte, error) {
	var out, errOut bytes.Buffer
	c.Stdout = &out
	if c.Stderr == nil {
		c.Stderr = &errOut
	}
	err := c.Run()
	if err != nil && errOut.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(errOut.String()))
	}
	return out.Bytes(), err
}

// CombinedOutput runs the process and returns both of its outputs together.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Stop ends the process as Close does and waits for it.
func (c *Cmd) Stop() {
	c.signalGroup(unix.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(grace):
		c.signalGroup(unix.SIGKILL)
	}
	_ = c.Wait()
}

// signalGroup reaches the process and its children, as long as the process
// group is certainly theirs.
func (c *Cmd) signalGroup(sig syscall.Signal) {
	select {
	case <-c.exited:
		return
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Process != nil && !c.reaped {
		_ = unix.Kill(-c.Process.Pid, sig)
	}
}

// waitZombie waits for the end of a child without reaping it.
func waitZombie(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// processStart reads the time of birth of a process, in clock ticks since boot.
func processStart(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the command in parentheses, may hold spaces and
	// parentheses of its own: count from the last one.
	i := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: %q has too few fields", pid, stat)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// end ends a process that is not a child of ours, if it is still the one that
// was recorded.
func (p process) end() {
	same := func() bool {
		start, err := processStart(p.PID)
		return err == nil && start == p.Start
	}
	if !same() {
		return
	}
	_ = unix.Kill(-p.PID, unix.SIGTERM)
	for range int(grace / (10 * time.Millisecond)) {
		time.Sleep(10 * time.Millisecond)
		if !same() {
			return
		}
	}
	_ = unix.Kill(-p.PID, unix.SIGKILL)
}
