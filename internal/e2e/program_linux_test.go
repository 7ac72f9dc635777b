package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
)

// output is what a process writes, readable while it runs.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lined bool
	line  chan struct{} // closed when the first line is complete
}

func newOutput() *output { return &output{line: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	if !o.lined && bytes.IndexByte(b, '\n') >= 0 {
		o.lined = true
		close(o.line)
	}
	return len(b), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// program is one run of the program under test.
type program struct {
	t              *testing.T
	ns             *netlab.Namespace
	cmd            *netlab.Cmd
	stdout, stderr *output
	control        string // path of the control socket
	ended          bool   // the test has seen it end, and judged how
	started        func() // called when the process is there; may be nil
}

var programs atomic.Uint32

// transports are the values of --transport.
var transports = []string{"udp", "packet"}

// flagsName names a subtest after flags: "offload=off,transport=packet".
func flagsName(flags []string) string {
	return strings.ReplaceAll(strings.TrimPrefix(strings.Join(flags, "="), "--"), "=--", ",")
}

// prepare makes a program ready to be started with "up" and args.
func prepare(t *testing.T, ns *netlab.Namespace, args ...string) *program {
	t.Helper()
	p := &program{t: t, ns: ns, stdout: newOutput(), stderr: newOutput()}
	p.control = filepath.Join(ns.LabDir(), fmt.Sprintf("%d.sock", programs.Add(1)))
	if transport := os.Getenv("GOVXLAN_E2E_TRANSPORT"); transport != "" {
		args = append([]string{"--transport", transport}, args...) // unless the test says another
	}
	if datapath := os.Getenv("GOVXLAN_E2E_DATAPATH"); datapath != "" {
		args = append([]string{"--datapath", datapath}, args...)
	}
	if !strings.Contains(t.Name(), "Privileg") && !strings.Contains(t.Name(), "User") && !strings.Contains(t.Name(), "Rootless") {
		// Giving privileges up takes its time, and has tests of its own.
		args = append([]string{"--privileges", "all"}, args...)
	}
	args = append([]string{"up", "--control", p.control}, args...)
	// Not the context of the test: it ends before the cleanup, which wants to
	// see the program end in its own way.
	p.cmd = ns.Command(context.Background(), govxlan, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	return p
}

// up runs an endpoint, waits until it says that frames can flow, and stops it
// when the test ends: whatever it went through, it must then end with status 0
// and leave nothing behind.
func up(t *testing.T, ns *netlab.Namespace, args ...string) *program {
	t.Helper()
	p := prepare(t, ns, args...)
	p.start()
	return p
}

// start starts a prepared program as up does.
func (p *program) start() {
	p.t.Helper()
	must(p.t, p.cmd.Start())
	if p.started != nil {
		p.started()
	}
	p.t.Cleanup(func() {
		if !p.ended {
			if p.t.Failed() {
				s, err := control.NewClient(p.control).Status(context.Background())
				p.t.Logf("its status: %+v %v", s, err)
			}
			p.stop()
		}
		if p.t.Failed() {
			p.t.Logf("%s\nstdout: %sstderr: %s", p.cmd, p.stdout, p.stderr)
		}
	})
	select {
	case <-p.stdout.line:
	case <-p.cmd.Exited():
		p.ended = true
		p.t.Fatalf("%s ended at once: %v\n%s", p.cmd, p.cmd.Wait(), p.stderr)
	case <-time.After(patience):
		p.t.Fatalf("%s is not up after %v", p.cmd, patience)
	}
}

// upLine is the line that it printed.
func (p *program) upLine() string {
	p.t.Helper()
	line, rest, _ := strings.Cut(p.stdout.String(), "\n")
	if rest != "" {
		p.t.Errorf("more than one line on standard output: %q", p.stdout)
	}
	return line
}

// device is the name of its TAP.
func (p *program) device() string { return strings.Fields(p.upLine() + " - -")[1] }

// signal sends a signal.
func (p *program) signal(s os.Signal) {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(s))
}

// halt stops the program until SIGCONT: when it returns, each thread stands.
func (p *program) halt() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	eventually(p.t, func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		must(p.t, err)
		for _, name := range threads {
			b, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
				continue
			}
			must(p.t, err)
			// "PID (NAME) STATE ...": a name may have anything in it.
			if _, state, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')'):]), " "); !strings.HasPrefix(state, "T") {
				return fmt.Errorf("%s: %s", name, b)
			}
		}
		return nil
	})
}

// exit waits for the end of the program and returns its exit status, -1 if a
// signal ended it.
func (p *program) exit() int {
	p.t.Helper()
	select {
	case <-p.cmd.Exited():
	case <-time.After(patience):
		// What it hangs in is in the goroutines' stacks.
		p.signal(syscall.SIGQUIT)
		<-p.cmd.Exited()
		p.ended = true
		_ = p.cmd.Wait()
		p.t.Fatalf("%s does not end", p.cmd)
	}
	p.ended = true
	return exitCode(p.t, p.cmd.Wait())
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

// stop ends the program with SIGTERM and checks that it ends well.
func (p *program) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		p.t.Errorf("%s: exit status %d after SIGTERM", p.cmd, code)
	}
	p.gone()
}

// gone checks that the program, which has ended, left nothing: no device, no
// control socket, no UDP socket.
func (p *program) gone() {
	p.t.Helper()
	links, err := p.ns.Links()
	must(p.t, err)
	for line := range strings.Lines(p.stdout.String()) {
		device := strings.Fields(line + " - -")[1]
		if slices.ContainsFunc(links, func(l netlab.Link) bool { return l.Name == device }) {
			p.t.Errorf("device %s is left", device)
		}
	}
	if _, err := os.Lstat(p.control); !errors.Is(err, fs.ErrNotExist) {
		p.t.Errorf("control socket %s is left (%v)", p.control, err)
	}
}

// status asks the program how it is.
func (p *program) status() control.Status {
	p.t.Helper()
	s, err := control.NewClient(p.control).Status(p.t.Context())
	must(p.t, err)
	return s
}

// counters are those of its only VNI.
func (p *program) counters() vtep.Counters {
	p.t.Helper()
	s := p.status()
	if len(s.VNIs) != 1 {
		p.t.Fatalf("%d VNIs, want 1", len(s.VNIs))
	}
	return s.VNIs[0].Counters
}

// awaitCounters waits until the counters are what ok wants: they are written
// a moment after the frame that they count.
func (p *program) awaitCounters(what string, ok func(vtep.Counters) bool) {
	p.t.Helper()
	eventually(p.t, func() error {
		if c := p.counters(); !ok(c) {
			return fmt.Errorf("counters, want %s: %+v", what, c)
		}
		return nil
	})
}

// entry returns the FDB's entry of a MAC, or nil.
func (p *program) entry(mac string) *vtep.EntryStatus {
	p.t.Helper()
	entries, err := control.NewClient(p.control).FDB(p.t.Context())
	must(p.t, err)
	for _, e := range entries {
		if e.MAC.String() == mac {
			return &e
		}
	}
	return nil
}

// outcome is how a run of the program ended that was not to go on.
type outcome struct {
	code           int
	stdout, stderr string
}

// run runs the program to its end.
func run(t *testing.T, ns *netlab.Namespace, args ...string) outcome {
	t.Helper()
	return runCmd(t, ns.Command(t.Context(), govxlan, args...))
}

// refused runs "up" with args, which must fail with the status and with one
// sentence that has all of the words in it, and leave nothing behind.
func refused(t *testing.T, ns *netlab.Namespace, code int, words []string, args ...string) {
	t.Helper()
	sock := filepath.Join(ns.LabDir(), fmt.Sprintf("%d.sock", programs.Add(1)))
	cmd := ns.Command(t.Context(), govxlan, append([]string{"up", "--control", sock}, args...)...)
	refusedCmd(t, ns, cmd, code, words)
	if _, err := os.Lstat(sock); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("control socket %s is left (%v)", sock, err)
	}
}

// refusedCmd is refused for a process of any kind.
func refusedCmd(t *testing.T, ns *netlab.Namespace, cmd *netlab.Cmd, code int, words []string) {
	t.Helper()
	before := snapshot(t, ns)
	o := runCmd(t, cmd)
	if o.code != code {
		t.Errorf("%s: exit status %d, want %d", cmd, o.code, code)
	}
	if o.stdout != "" {
		t.Errorf("%s: standard output is %q, want none", cmd, o.stdout)
	}
	if lines := strings.Count(o.stderr, "\n"); lines != 1 || !strings.HasPrefix(o.stderr, "govxlan: ") {
		t.Errorf("%s: want one line \"govxlan: ...\" on standard error, got %q", cmd, o.stderr)
	}
	for _, w := range words {
		if !strings.Contains(o.stderr, w) {
			t.Errorf("%s: no %q in %q", cmd, w, o.stderr)
		}
	}
	if after := snapshot(t, ns); after != before {
		t.Errorf("%s left something: before\n%safter\n%s", cmd, before, after)
	}
}

func runCmd(t *testing.T, cmd *netlab.Cmd) outcome {
	t.Helper()
	stdout, stderr := newOutput(), newOutput()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	must(t, cmd.Start())
	select {
	case <-cmd.Exited():
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("%s did not end by itself\n%s%s", cmd, stdout, stderr)
	}
	code := exitCode(t, cmd.Wait())
	return outcome{code, stdout.String(), stderr.String()}
}

// snapshot lists the devices and UDP sockets of a namespace.
func snapshot(t *testing.T, ns *netlab.Namespace) string {
	t.Helper()
	var s strings.Builder
	links, err := ns.Links()
	must(t, err)
	for _, l := range links {
		fmt.Fprintf(&s, "device %s %v %v\n", l.Name, l.Up, l.Addrs)
	}
	must(t, ns.Do(func() error {
		for _, table := range []string{"udp", "udp6"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + table)
			if err != nil {
				return err
			}
			for _, line := range strings.Split(string(text), "\n")[1:] {
				if f := strings.Fields(line); len(f) > 1 {
					fmt.Fprintf(&s, "%s socket %s\n", table, f[1])
				}
			}
		}
		return nil
	}))
	return s.String()
}
