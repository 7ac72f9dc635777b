package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/internal/control"
	"golang.org/x/sys/unix"
)

// rootlessPage is where users are told how.
const rootlessPage = "../../docs/rootless.md"

// asOrdinary begins a command line that an ordinary user runs.
var asOrdinary = []string{"setpriv", fmt.Sprintf("--reuid=%d", nobody), fmt.Sprintf("--regid=%d", nobody), "--clear-groups"}

// rootlessLines are the lines that the page tells a user to type, of the block that
// begins with a word.
func rootlessLines(t *testing.T, word string) []string {
	t.Helper()
	page, err := os.ReadFile(rootlessPage)
	must(t, err)
	_, rest, ok := strings.Cut(string(page), "```sh\n"+word)
	block, _, closed := strings.Cut(rest, "\n```")
	if !ok || !closed {
		t.Fatalf("%s has no block that begins with %q", rootlessPage, word)
	}
	return strings.Split(word+block, "\n")
}

// upRootless types what the page says, as an ordinary user, with these addresses.
func upRootless(t *testing.T, h *host, peer, addr string) *program {
	t.Helper()
	lines := rootlessLines(t, "unshare --user")
	last := len(lines) - 1
	if !strings.HasPrefix(lines[last], "govxlan up ") || !strings.HasSuffix(lines[last], " &") {
		t.Fatalf("the last line is %q", lines[last])
	}
	shell := strings.Fields(lines[0])
	script := strings.Join(lines[1:last], "\n") + "\nexec " + strings.TrimSuffix(lines[last], " &")
	script = strings.NewReplacer("192.0.2.2", peer, "10.0.1.1/24", addr+"/24", "exec govxlan", "exec "+govxlan).Replace(script)
	args := slices.Concat([]string{"setpriv"}, asOrdinary[1:], shell, []string{"-e", "-c", script})
	p := &program{t: t, ns: h.Namespace, stdout: newOutput(), stderr: newOutput()}
	// The context of the test ends before its cleanup.
	p.cmd = h.Command(context.Background(), "/proc/self/exe", append([]string{"/usr/bin/env"}, args...)...)
	p.cmd.Env = append(os.Environ(), roleVariable+"=/dev/net/tun for everybody")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.start()
	p.control = fmt.Sprintf("/proc/%d/root/run/govxlan", p.cmd.Process.Pid) // for gone
	return p
}

// inside asks a program of upRootless as its user: root of the host is nobody there.
func (p *program) inside(args ...string) outcome {
	p.t.Helper()
	enter := []string{"nsenter", "--target", fmt.Sprint(p.cmd.Process.Pid), "--user", "--preserve-credentials", "--mount", govxlan}
	return runCmd(p.t, p.ns.Command(p.t.Context(), "setpriv", slices.Concat(asOrdinary[1:], enter, args)...))
}

// TestRootless: two ordinary users on two hosts reach each other through TAPs in
// namespaces of their own, by what the page says, with no right over the host.
func TestRootless(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "rootless", 2, wiring{})
	a, b := hosts[0], hosts[1]
	pa := upRootless(t, a, b.ip4.String(), "10.0.1.1")
	pb := upRootless(t, b, a.ip4.String(), "10.0.1.2")

	var s control.Status
	o := pa.inside("status", "--json")
	if err := json.Unmarshal([]byte(o.stdout), &s); err != nil || o.code != 0 {
		t.Fatalf("status: %v, %+v", err, o)
	}
	if s.Datapath != "user" || !s.Privileges.NoNewPrivileges {
		t.Errorf("status: datapath %s, %+v", s.Datapath, s.Privileges)
	}
	host := rights(t, fmt.Sprintf("/proc/%d/status", pa.cmd.Process.Pid))
	if want := fmt.Sprintf("%d %[1]d %[1]d %[1]d", nobody); host["Uid"] != want {
		t.Errorf("on the host it is uid %s, want %s", host["Uid"], want)
	}
	if own, err := os.Stat("/proc/self/ns/user"); err != nil {
		t.Error(err)
	} else if its, err := os.Stat(fmt.Sprintf("/proc/%d/ns/user", pa.cmd.Process.Pid)); err != nil || os.SameFile(own, its) {
		t.Errorf("it is in the user namespace of the host (%v)", err)
	}

	// As the page has it: by the same user, in the namespace of the TAP.
	for _, c := range []struct {
		p  *program
		to string
	}{{pa, "10.0.1.2"}, {pb, "10.0.1.1"}} {
		pid := fmt.Sprint(c.p.cmd.Process.Pid)
		line := rootlessLines(t, "nsenter --target")[0]
		line = strings.NewReplacer("$(pgrep -u $USER -n govxlan)", pid, "10.0.1.2", c.to).Replace(line)
		cmd := c.p.ns.Command(t.Context(), "setpriv", append(asOrdinary[1:len(asOrdinary):len(asOrdinary)], strings.Fields(line)...)...)
		if o := runCmd(t, cmd); o.code != 0 || !strings.Contains(o.stdout, "3 received") {
			t.Errorf("%s: %+v", line, o)
		}
	}
	if _, err := a.Link("vx4097"); err == nil {
		t.Error("there is a TAP in the namespace of the host")
	}
	// Later VNIs too.
	if o := pa.inside("vni", "add", "2", "--peer", b.ip4.String(), "--netns", "blue", "--name", "second", "--addr", "10.0.2.1/24"); o.code != 0 {
		t.Errorf("vni add: %+v", o)
	}
	if o := pa.inside("vni", "add", "3", "--peer", b.ip4.String()); o.code != 1 || !strings.Contains(o.stderr, "not permitted") {
		t.Errorf("vni add on the host: %+v", o)
	}
	if _, err := control.NewClient(pa.socket(t)).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "is refused") {
		t.Errorf("somebody else, who is root on the host: %v", err)
	}
	for _, p := range []*program{pa, pb} {
		p.stop()
	}
}

// socket is its control socket, as the host sees it.
func (p *program) socket(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.control, "*.sock"))
	if err != nil || len(found) != 1 {
		t.Fatalf("control sockets: %v, %v", found, err)
	}
	return found[0]
}

// TestRootlessInTheHost: without --netns the user is told what is missing.
func TestRootlessInTheHost(t *testing.T) {
	t.Parallel()
	a := newHosts(t, "rootlesshost", 2, wiring{})[0]
	args := append(asOrdinary[1:len(asOrdinary):len(asOrdinary)], "unshare", "--user", "--map-root-user", "--mount",
		"sh", "-e", "-c", `mount -t tmpfs none /run; exec "$0" "$@"`, govxlan, "up", "--vni", "1", "--local", a.ip4.String())
	cmd := a.Command(t.Context(), "/proc/self/exe", append([]string{"/usr/bin/env", "setpriv"}, args...)...)
	cmd.Env = append(os.Environ(), roleVariable+"=/dev/net/tun for everybody")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	refusedCmd(t, a.Namespace, cmd, 1, []string{"not permitted", "CAP_NET_ADMIN"})
}
