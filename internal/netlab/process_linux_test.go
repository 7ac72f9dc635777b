package netlab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// gone waits until a process that is not a child of ours has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for alive(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// alive reports whether the process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestCommand(t *testing.T) {
	lab := netlabtest.New(t, "command")
	ns := netlabtest.Namespace(t, lab, "a")
	if err := lab.Veth(ns, "one", "", ns, "two", "", 0); err != nil {
		t.Fatal(err)
	}
	out, err := role(t, ns, "devices").Output()
	if err != nil {
		t.Fatal(err)
	}
	devices := strings.Fields(string(out))
	slices.Sort(devices)
	if !slices.Equal(devices, []string{"lo", "one", "two"}) {
		t.Errorf("the process saw %v", devices)
	}

	_, err = ns.Command(t.Context(), "/no/such/program").Output()
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	var exit *exec.ExitError
	if _, err := ns.Command(t.Context(), "sh", "-c", "echo why >&2; exit 3").Output(); !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(err.Error(), "why") {
		t.Errorf("exit 3: %v", err)
	}
}

func TestCommandPipesAndGroup(t *testing.T) {
	lab := netlabtest.New(t, "pipes")
	ns := netlabtest.Namespace(t, lab, "a")
	cmd := role(t, ns, "stdin")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "hello\n" {
		t.Fatalf("%q, %v", line, err)
	}
	group, err := syscall.Getpgid(cmd.Process.Pid)
	if err != nil || group != cmd.Process.Pid {
		t.Errorf("process group %d of process %d, %v", group, cmd.Process.Pid, err)
	}
	select {
	case <-cmd.Exited():
		t.Error("it has ended")
	default:
	}
	in.Close()
	<-cmd.Exited()
	for range 2 {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestCommandContext(t *testing.T) {
	lab := netlabtest.New(t, "context")
	ns := netlabtest.Namespace(t, lab, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := ns.Command(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=sleep")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a process that was told to end ended well")
	}
}

// TestCloseEndsGroup has a process whose child ignores SIGTERM: both are gone
// after Close.
func TestCloseEndsGroup(t *testing.T) {
	lab := netlabtest.New(t, "group")
	ns := netlabtest.Namespace(t, lab, "a")
	cmd := role(t, ns, "parent")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if !alive(child) || !alive(cmd.Process.Pid) {
		t.Fatal("they do not run")
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	gone(t, cmd.Process.Pid)
	gone(t, child)
	if err := cmd.Wait(); err == nil {
		t.Error("a process that was killed ended well")
	}
	if err := role(t, ns, "sleep").Start(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Start after Close: %v", err)
	}
}

// TestCloseKills has a process that does not end when asked.
func TestCloseKills(t *testing.T) {
	lab := netlabtest.New(t, "stubborn")
	ns := netlabtest.Namespace(t, lab, "a")
	var pids []int
	for range 2 {
		cmd := role(t, ns, "stubborn")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, cmd.Process.Pid)
	}
	start := time.Now()
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("Close took %v", took)
	}
	for _, pid := range pids {
		gone(t, pid)
	}
}

// startOwner runs a process that owns a lab and returns the names it tells.
func startOwner(t *testing.T, env ...string) (owner *exec.Cmd, lab, namespace string, child int) {
	t.Helper()
	owner = exec.Command("/proc/self/exe")
	owner.Env = append(os.Environ(), append(env, roleVariable+"=owner")...)
	in, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = owner.Process.Kill()
		_ = owner.Wait()
		_, _ = netlab.Clean("owned")
	})
	if _, err := fmt.Fscan(out, &lab, &namespace, &child); err != nil {
		t.Fatal(err)
	}
	return owner, lab, namespace, child
}

func TestSweepAfterKill(t *testing.T) {
	netlabtest.Root(t)
	owner, lab, namespace, child := startOwner(t)
	if removed, err := netlab.Sweep(); err != nil || slices.Contains(removed, lab) {
		t.Fatalf("swept a lab in use: %v, %v", removed, err)
	}
	if _, err := os.Stat("/run/netns/" + namespace); err != nil {
		t.Fatal(err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	gone(t, child) // the kernel saw to it
	if len(leftovers(t, lab)) == 0 {
		t.Fatal("nothing was left to sweep")
	}
	removed, err := netlab.Sweep()
	if err != nil {
		t.Fatal(err)
	}
	// Another process may have swept in between; what counts is that it is gone.
	if left := leftovers(t, lab); left != nil {
		t.Errorf("left after Sweep, which removed %v: %v", removed, left)
	}
}

func TestKeepAndClean(t *testing.T) {
	netlabtest.Root(t)
	owner, lab, namespace, child := startOwner(t, "NETLAB_TEST_KEEP=1")
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	if _, err := netlab.Sweep(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/run/netns/" + namespace); err != nil {
		t.Fatalf("Sweep removed a lab that was to be kept: %v", err)
	}
	if !alive(child) {
		t.Fatal("the process of the kept lab has ended")
	}
	if removed, err := netlab.Clean("other"); err != nil || removed != nil {
		t.Errorf("Clean of another label: %v, %v", removed, err)
	}
	if _, err := netlab.Clean("owned"); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, lab); left != nil {
		t.Errorf("left after Clean: %v", left)
	}
	gone(t, child)
}
