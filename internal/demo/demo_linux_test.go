package demo_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/demo"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// These tests run the program itself, as a user does: a demo is made of
// processes, signals and what is left behind.

// buildDir holds the program, where every user may run it.
var buildDir string

func TestMain(m *testing.M) {
	code := func() int {
		var err error
		if buildDir, err = os.MkdirTemp("", "govxlan-demo-test-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(buildDir)
		return m.Run()
	}()
	os.Exit(code)
}

// programVariable names a program to test, for machines without a Go compiler.
const programVariable = "GOVXLAN_TEST_PROGRAM"

var build = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(programVariable); path != "" {
		return filepath.Abs(path)
	}
	if err := os.Chmod(buildDir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(buildDir, "govxlan")
	out, err := exec.Command("go", "build", "-o", path, "github.com/govxlan/govxlan/cmd/govxlan").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// command prepares "govxlan demo".
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	netlabtest.Root(t)
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{"demo"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "COLUMNS=80")
	return cmd
}

// run runs "govxlan demo" to its end.
func run(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// leftovers lists what is left of the demo that ran as process pid: namespaces
// (and with them all devices), files, processes.
func leftovers(t *testing.T, pid int) []string {
	t.Helper()
	name := fmt.Sprintf("gvx-demo-%d", pid)
	var left []string
	for _, pattern := range []string{"/run/netns/" + name + "-*", "/run/govxlan/labs/" + name} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	for _, p := range endpoints(t, pid) {
		left = append(left, fmt.Sprintf("process %d", p))
	}
	return left
}

// endpoints finds the VTEP processes of the demo that runs as process pid.
func endpoints(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(line), fmt.Sprintf("gvx-demo-%d-", pid)) {
			continue
		}
		var p int
		if _, err := fmt.Sscanf(file, "/proc/%d/", &p); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, p)
	}
	return pids
}

func mustBeGone(t *testing.T, pid int) {
	t.Helper()
	if left := leftovers(t, pid); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

// eventually waits for something that happens outside of this process.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !happened() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestDemoText(t *testing.T) {
	cmd := command(t)
	start := time.Now()
	out, errOut, code := run(t, cmd)
	if code != 0 || errOut != "" {
		t.Fatalf("exit %d, %s\n%s", code, errOut, out)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	mustBeGone(t, cmd.Process.Pid)

	// The stations in the order of travel, the way there and the way back.
	row := regexp.MustCompile(`(?m)^  (\d)  (\w+ [AB])\s+(?:> )?(\w+)(?: >)?\s+([0-9.]+)\s+(\d+)  (.*)$`)
	var way []string
	for _, m := range row.FindAllStringSubmatch(out, -1) {
		way = append(way, fmt.Sprintf("%s %s %s %s", m[1], m[2], m[3], m[5]))
	}
	there := []string{
		"1 container A eth0 98", "2 sandbox A br0 98", "3 sandbox A vxlan0 98", "4 host A ens160 148",
		"5 host B ens160 148", "6 sandbox B vxlan0 98", "7 sandbox B br0 98", "8 container B eth0 98",
	}
	want := slices.Clone(there)
	for _, s := range slices.Backward(there) {
		want = append(want, s)
	}
	if !slices.Equal(way, want) {
		t.Errorf("the walk was\n%s\nwant\n%s\nin\n%s", strings.Join(way, "\n"), strings.Join(want, "\n"), out)
	}
	for _, text := range []string{
		"who has 10.0.1.103? Tell 10.0.1.100", "10.0.1.103 is at 02:42:0a:00:01:67",
		"On the wire: 148 bytes for a frame of 98", "checksum right", "VNI 4097",
		`"govxlan demo: from one container to the other and back.."`,
		"host A  br0     02:42:0a:00:01:64  port veth0", "02:42:0a:00:01:67  192.168.52.204  learned",
		"02:42:0a:00:01:64  192.168.52.203  learned", "everybody else     192.168.52.204  flood list",
		"20 of 20 answered", " Gb/s", "Removed again",
	} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in\n%s", text, out)
		}
	}
	if n := strings.Count(out, "the same frame ok"); n != 2 {
		t.Errorf("%d of 2 frames arrived as they were sent:\n%s", n, out)
	}
	if strings.ContainsAny(out, "\x1b") || strings.ContainsFunc(out, func(r rune) bool { return r > 126 }) {
		t.Error("escapes or more than ASCII in a file, in the C locale")
	}
	for line := range strings.Lines(out) {
		if len(line) > 81 {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
}

func TestDemoJSON(t *testing.T) {
	for _, ends := range [][2]demo.EndKind{
		{demo.EndGovxlan, demo.EndGovxlan}, {demo.EndGovxlan, demo.EndKernel},
		{demo.EndKernel, demo.EndGovxlan}, {demo.EndKernel, demo.EndKernel},
	} {
		t.Run(fmt.Sprintf("%s to %s", ends[0], ends[1]), func(t *testing.T) {
			cmd := command(t, "--json", "--duration", "300ms", "--vni", "70000", "--near-end", string(ends[0]), "--far-end", string(ends[1]))
			out, errOut, code := run(t, cmd)
			if code != 0 || errOut != "" {
				t.Fatalf("exit %d, %s", code, errOut)
			}
			mustBeGone(t, cmd.Process.Pid)
			var r demo.Report
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			checkReport(t, &r, ends)
		})
	}
}

func checkReport(t *testing.T, r *demo.Report, ends [2]demo.EndKind) {
	t.Helper()
	const vni = 70000
	if r.VNI != vni || r.MTU != 1450 || r.Kept != "" {
		t.Errorf("VNI %v, MTU %d, kept %q", r.VNI, r.MTU, r.Kept)
	}
	for i, h := range r.Hosts {
		if h.End != ends[i] || (h.PID != 0) != (h.End == demo.EndGovxlan) {
			t.Errorf("host %s: %+v", h.Letter, h)
		}
	}
	a, b := netip.MustParseAddr("192.168.52.203"), netip.MustParseAddr("192.168.52.204")
	for _, leg := range []struct {
		name     string
		steps    []demo.Step
		src, dst netip.Addr
		sender   demo.EndKind
		inner    int
		back     bool
	}{
		{"ARP request", r.FirstContact.Request, a, b, ends[0], 42, false},
		{"ARP reply", r.FirstContact.Reply, b, a, ends[1], 42, true},
		{"echo request", r.Walk.Request, a, b, ends[0], 98, false},
		{"echo reply", r.Walk.Reply, b, a, ends[1], 98, true},
	} {
		if len(leg.steps) != 8 {
			t.Errorf("%s: %d steps", leg.name, len(leg.steps))
			continue
		}
		for i, s := range leg.steps {
			number, bytes := i+1, leg.inner
			if leg.back {
				number = 8 - i
			}
			if number == 4 || number == 5 {
				bytes += 50
				o := s.Outer
				if o == nil || o.Src.Addr() != leg.src || o.Dst != netip.AddrPortFrom(leg.dst, vxlan.Port) || o.VNI != vni || !o.ChecksumOK {
					t.Errorf("%s, station %d: outer %+v", leg.name, number, o)
				} else if leg.sender == demo.EndGovxlan && o.Src.Port() < vxlan.SourcePortLo {
					t.Errorf("%s, station %d: source port %d", leg.name, number, o.Src.Port())
				}
			} else if s.Outer != nil {
				t.Errorf("%s, station %d: outer headers inside", leg.name, number)
			}
			if s.Number != number || s.Bytes != bytes || s.Inner != leg.inner || !s.Same {
				t.Errorf("%s, step %d: %+v", leg.name, i, s)
			}
			if i > 0 && s.At < leg.steps[i-1].At {
				t.Errorf("%s: at station %d before it was at the one before: %v, %v", leg.name, number, leg.steps[i-1].At, s.At)
			}
		}
	}
	var sizes []int
	for _, l := range r.Packet.Layers {
		sizes = append(sizes, l.Bytes)
	}
	if want := []int{14, 20, 8, 8, 14, 20, 8, 56}; !slices.Equal(sizes, want) || r.Packet.Bytes != 148 || r.Packet.Inner != 98 || r.Packet.Overhead != 50 || len(r.Packet.Hex) != 296 {
		t.Errorf("packet %+v, layers want %v", r.Packet, want)
	}
	macs := []vxlan.MAC{{2, 0x42, 10, 0, 1, 100}, {2, 0x42, 10, 0, 1, 103}}
	for i, f := range r.FDB {
		far := []netip.Addr{b, a}[i]
		wantBridge := []demo.BridgeEntry{{MAC: macs[i], Port: "veth0"}, {MAC: macs[1-i], Port: "vxlan0"}}
		slices.SortFunc(wantBridge, func(a, b demo.BridgeEntry) int { return strings.Compare(a.MAC.String(), b.MAC.String()) })
		if !slices.Equal(f.Bridge, wantBridge) {
			t.Errorf("host %s: bridge %v, want %v", f.Host, f.Bridge, wantBridge)
		}
		kinds := make(map[string]vxlan.MAC)
		for _, e := range f.VTEP {
			kinds[e.Kind] = e.MAC
			if e.VTEP != far || e.Port != vxlan.Port || e.VNI != vni || e.Age < 0 || e.Age > 15 {
				t.Errorf("host %s: entry %+v", f.Host, e)
			}
		}
		if len(f.VTEP) != 2 || kinds["learned"] != macs[1-i] || !kinds["flood"].IsZero() {
			t.Errorf("host %s: VTEP %+v", f.Host, f.VTEP)
		}
	}
	if q := r.RTT; q.Sent != 20 || q.Received != 20 || q.Min <= 0 || q.Min > q.Avg || q.Avg > q.Max {
		t.Errorf("round trips: %+v", q)
	}
	if x := r.Transfer; x.Bytes == 0 || x.Sent != x.Received || len(x.Sent) != 8 || x.Seconds < 0.3 || x.BitsPerSecond <= 0 {
		t.Errorf("transfer: %+v", x)
	}
}

// until reads what a demo prints up to a line with the text.
func until(t *testing.T, out io.Reader, text string) {
	t.Helper()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("it never said %q", text)
}

func TestDemoSignals(t *testing.T) {
	for _, c := range []struct {
		at     string // what it has just printed
		signal syscall.Signal
		args   []string
		code   int
	}{
		{"host A", syscall.SIGINT, nil, 130},
		{"First contact", syscall.SIGINT, nil, 130},
		{"On the wire", syscall.SIGTERM, nil, 1},
		{"How fast", syscall.SIGINT, nil, 130}, // in the transfer
		{"How fast", syscall.SIGTERM, []string{"--far-end", "kernel"}, 1},
		{"How fast", syscall.SIGINT, []string{"--keep"}, 130},
		{"Who is where", syscall.SIGHUP, nil, 1},
	} {
		t.Run(fmt.Sprintf("%v at %s %v", c.signal, c.at, c.args), func(t *testing.T) {
			cmd := command(t, append(c.args, "--duration", "60s")...)
			var errOut bytes.Buffer
			cmd.Stderr = &errOut
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			until(t, out, c.at)
			// What follows must be read: a full pipe would stop the demo.
			go func() { _, _ = io.Copy(io.Discard, out) }()
			start := time.Now()
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			// A second one, from an impatient user, changes nothing.
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %v to end", took)
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			if !strings.Contains(errOut.String(), "the demo was ended and removed") {
				t.Errorf("it said %q", errOut.String())
			}
			mustBeGone(t, cmd.Process.Pid)
		})
	}
}

// TestDemoSignalWhileBuilding interrupts at whatever point the stage has reached.
func TestDemoSignalWhileBuilding(t *testing.T) {
	for _, label := range []string{"hostA", "sandboxA", "containerB"} {
		cmd := command(t)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "namespace of "+label, func() bool {
			_, err := os.Stat(fmt.Sprintf("/run/netns/gvx-demo-%d-%s", cmd.Process.Pid, label))
			return err == nil
		})
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("exit %d", code)
		}
		mustBeGone(t, cmd.Process.Pid)
	}
}

func TestDemoClosedOutput(t *testing.T) {
	cmd := command(t, "--duration", "60s")
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, out, "govxlan demo")
	out.Close()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(errOut.String(), "nobody reads the output") {
		t.Errorf("exit %d, %q", code, errOut.String())
	}
	mustBeGone(t, cmd.Process.Pid)
}

func TestDemoKilledIsSwept(t *testing.T) {
	killed := command(t, "--duration", "60s")
	out, err := killed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, out, "How fast")
	if n := len(endpoints(t, killed.Process.Pid)); n != 2 {
		t.Errorf("%d endpoints run", n)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait()
	// The endpoints die with the demo.
	eventually(t, "the end of the endpoints", func() bool { return endpoints(t, killed.Process.Pid) == nil })

	if out, errOut, code := run(t, command(t, "--duration", "50ms", "--near-end", "kernel", "--far-end", "kernel")); code != 0 {
		t.Fatalf("the next demo: exit %d, %s\n%s", code, errOut, out)
	}
	mustBeGone(t, killed.Process.Pid)
}

func TestTwoDemosAtOnce(t *testing.T) {
	var demos []*exec.Cmd
	for range 2 {
		cmd := command(t, "--json", "--duration", "500ms")
		cmd.Stdout, cmd.Stderr = new(bytes.Buffer), new(bytes.Buffer)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		demos = append(demos, cmd)
	}
	for _, cmd := range demos {
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, cmd.Stderr)
		}
		mustBeGone(t, cmd.Process.Pid)
	}
}

func TestDemoKeepAndClean(t *testing.T) {
	cmd := command(t, "--keep", "--duration", "50ms")
	t.Cleanup(func() { _, _ = demo.Clean() })
	out, errOut, code := run(t, cmd)
	if code != 0 || errOut != "" {
		t.Fatalf("exit %d, %s\n%s", code, errOut, out)
	}
	pid := cmd.Process.Pid
	if n := len(endpoints(t, pid)); n != 2 {
		t.Fatalf("%d endpoints still run", n)
	}
	// Another demo must not sweep it.
	if _, errOut, code := run(t, command(t, "--json", "--duration", "50ms", "--near-end", "kernel", "--far-end", "kernel")); code != 0 {
		t.Fatalf("exit %d, %s", code, errOut)
	}

	// The hints do what they say.
	_, hints, _ := strings.Cut(out, "Look around:")
	try := func(with, add, want string) {
		t.Helper()
		for line := range strings.Lines(hints) {
			words := strings.Fields(line)
			if !strings.Contains(line, with) || words[0] == "#" {
				continue
			}
			if words[0] == "govxlan" {
				words[0] = cmd.Path
			}
			words = append(words, strings.Fields(add)...)
			got, err := exec.Command(words[0], words[1:]...).CombinedOutput()
			if err != nil || !strings.Contains(string(got), want) {
				t.Errorf("%s: %v\n%s\nhas no %q", words, err, got, want)
			}
			return
		}
		t.Errorf("no hint with %q in\n%s", with, hints)
	}
	try(" ping 10.0.1.103", "-c 1 -W 2", "1 received")
	try(" bridge fdb ", "", "02:42:0a:00:01:67 dev vxlan0")
	try("fdb show --control", "", "02:42:0a:00:01:67")
	try("demo --clean", "", fmt.Sprintf("removed gvx-demo-%d\n", pid))
	mustBeGone(t, pid)
	try("demo --clean", "", "nothing to remove")
}

func TestDemoFailsInOneSentence(t *testing.T) {
	check := func(name string, cmd *exec.Cmd, want string, start func() error) {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errOut
			if start == nil {
				start = cmd.Start
			}
			if err := start(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			said := errOut.String()
			if code := cmd.ProcessState.ExitCode(); code != 1 || out.Len() != 0 || strings.Count(said, "\n") != 1 || !strings.Contains(said, want) {
				t.Errorf("exit %d, %q on standard output, %q on standard error, want 1, nothing, and a line with %q", code, out.String(), said, want)
			}
			mustBeGone(t, cmd.Process.Pid)
		})
	}
	nobody := command(t)
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	check("not root", nobody, "sudo govxlan demo", nil)

	program := command(t).Path
	bare := exec.Command("sh", "-c", `mount -t tmpfs none /dev/net && exec "$0" demo`, program)
	bare.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	check("no tun", bare, "/dev/net/tun: no such file or directory", nil)

	weak := command(t)
	check("no rights", weak, "--privileged", func() error {
		started := make(chan error)
		go func() {
			// This thread, and what it forks, can never be granted the
			// capability again: it ends with the goroutine.
			runtime.LockOSThread()
			err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0)
			if err == nil {
				err = weak.Start()
			}
			started <- err
		}()
		return <-started
	})
}

func TestDemoUsage(t *testing.T) {
	for _, args := range [][]string{
		{"--far-end", "cisco"}, {"--near-end", ""}, {"--vni", "0"}, {"--vni", "16777216"}, {"--duration", "0s"},
		{"--duration", "soon"}, {"--clean", "--keep"}, {"surplus"}, {"--no-such-flag"},
	} {
		cmd := command(t, args...)
		out, errOut, code := run(t, cmd)
		if code != 2 || out != "" || !strings.HasPrefix(errOut, "govxlan: ") {
			t.Errorf("%v: exit %d, %q, %q", args, code, out, errOut)
		}
	}
}
