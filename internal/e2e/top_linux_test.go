package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
)

// terminal is a real one, by tmux: 80 columns, 24 lines.
type terminal struct {
	t      *testing.T
	socket string
	dir    string
}

// onTerminal runs a command line of sh on a terminal of its own. Afterwards that
// stays, with "ended with N" on it.
func onTerminal(t *testing.T, ns *netlab.Namespace, command string) *terminal {
	t.Helper()
	dir, err := os.MkdirTemp("", "gvx-tmux-") // short, as paths of sockets must be
	must(t, err)
	tm := &terminal{t: t, socket: filepath.Join(dir, "sock"), dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the terminal:\n%s", tm.shows())
		}
		tm.tmux("kill-server")
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	script := fmt.Sprintf("stty -g >%s/before; %s; echo ended with $?; stty -g >%[1]s/after; exec cat", dir, command)
	// tmux ends by itself, leaving its server in the namespace.
	cmd := ns.Command(t.Context(), "tmux", "-S", tm.socket, "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "COLUMNS=", "LINES=", "LANG=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v\n%s", err, out)
	}
	return tm
}

func (tm *terminal) tmux(args ...string) string {
	tm.t.Helper()
	// Not the context of the test: the server has to be ended after it.
	out, err := exec.CommandContext(context.Background(), "tmux", append([]string{"-S", tm.socket}, args...)...).CombinedOutput()
	if err != nil {
		tm.t.Errorf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// shows is what is on the terminal.
func (tm *terminal) shows() string { return tm.tmux("capture-pane", "-p") }

func (tm *terminal) press(key string) { tm.tmux("send-keys", key) }

// await waits until ok is true of the lines on the terminal.
func (tm *terminal) await(what string, ok func(lines []string) bool) {
	tm.t.Helper()
	eventually(tm.t, func() error {
		if text := tm.shows(); !ok(strings.Split(strings.TrimSuffix(text, "\n"), "\n")) {
			return errors.New("the terminal does not show " + what)
		}
		return nil
	})
}

// awaitText waits until a text is on the terminal.
func (tm *terminal) awaitText(text string) {
	tm.t.Helper()
	tm.await(fmt.Sprintf("%q", text), func(lines []string) bool { return strings.Contains(strings.Join(lines, "\n"), text) })
}

// restored checks that the terminal is as it was before the command.
func (tm *terminal) restored() {
	tm.t.Helper()
	tm.awaitText("ended with 0")
	if text := tm.shows(); strings.Contains(text, "q quit") {
		tm.t.Errorf("the picture is left:\n%s", text)
	}
	var before, after []byte
	eventually(tm.t, func() (err error) {
		if before, err = os.ReadFile(tm.dir + "/before"); err == nil {
			after, err = os.ReadFile(tm.dir + "/after")
		}
		if err == nil && len(after) < len(before) {
			err = errors.New("stty is not ready")
		}
		return err
	})
	if string(before) != string(after) {
		tm.t.Errorf("the terminal was\n%sand is\n%s", before, after)
	}
	if got := tm.tmux("display-message", "-p", "#{cursor_flag} #{alternate_on}"); got != "1 0\n" {
		tm.t.Errorf("cursor visible, alternate screen: %q, want 1 0", got)
	}
}

// vniRow is the line of a VNI in the table, as words.
func vniRow(lines []string, vni string) []string {
	for _, l := range lines {
		if f := strings.Fields(l); len(f) > 9 && f[0] == vni {
			return f
		}
	}
	return nil
}

// TestTop: on a real terminal, with traffic, through the end of the endpoint and
// its return.
func TestTop(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "top", 2, wiring{})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	flags := []string{"--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String() + "/24"}
	p := up(t, a.Namespace, flags...)
	up(t, b.Namespace, "--vni", "4097", "--peer", a.ip4.String(), "--addr", inner4B.String()+"/24")

	tm := onTerminal(t, a.Namespace, fmt.Sprintf("%s top --control %s --interval 100ms", govxlan, p.control))
	tm.await("the VNI and the peer at rest", func(lines []string) bool {
		row := vniRow(lines, "4097")
		return row != nil && row[2] == "0" && strings.Contains(strings.Join(lines, "\n"), "  "+b.ip4.String()) &&
			len(lines) == 24 && strings.HasPrefix(lines[23], "q quit")
	})
	busy, cancel := context.WithCancel(t.Context())
	defer cancel()
	traffic := a.Command(busy, "ping", "-q", "-i", "0.01", inner4B.String())
	must(t, traffic.Start())
	tm.await("frames both ways", func(lines []string) bool {
		row := vniRow(lines, "4097")
		return row != nil && row[2] != "0" && row[2] != "-" && row[4] != "0" && row[4] != "-"
	})

	tm.tmux("resize-window", "-x", "100", "-y", "30")
	tm.await("30 lines", func(lines []string) bool { return len(lines) == 30 && strings.HasPrefix(lines[29], "q quit") })
	tm.press("p")
	tm.awaitText("PAUSED")
	tm.press("p")
	tm.press("s")
	tm.awaitText("sort in  every 100ms")
	tm.press("Enter")
	tm.awaitText("esc all VNIs")
	tm.press("Escape")
	tm.awaitText("enter this VNI alone")

	p.stop()
	tm.awaitText("AWAY for ")
	tm.awaitText("waiting for it to come back")
	again := prepare(t, a.Namespace, append(flags, "--control", p.control)...)
	again.control = p.control
	again.start()
	tm.await("the new endpoint", func(lines []string) bool {
		row := vniRow(lines, "4097")
		return !strings.Contains(strings.Join(lines, "\n"), "AWAY") && row != nil && row[2] != "-"
	})
	cancel()
	_ = traffic.Wait() // it was killed
	tm.press("q")
	tm.restored()

	for _, end := range []string{"C-c", "SIGTERM"} {
		tm := onTerminal(t, a.Namespace, fmt.Sprintf("sh -c 'echo $$ >%s.pid; exec %s top --control %[1]s'", again.control, govxlan))
		tm.await("the VNI", func(lines []string) bool { return vniRow(lines, "4097") != nil })
		if end == "C-c" {
			tm.press(end)
		} else {
			pid, err := os.ReadFile(again.control + ".pid")
			must(t, err)
			must(t, exec.Command("kill", "-TERM", strings.TrimSpace(string(pid))).Run())
		}
		tm.restored()
	}
}
