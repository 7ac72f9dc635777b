package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/govxlan/govxlan/internal/privilege"
	"golang.org/x/sys/unix"
)

func init() {
	// The usual mode of the device, whatever this machine has.
	roles["/dev/net/tun for everybody"] = func() error {
		if err := unix.Mount("none", "/dev/net", "tmpfs", 0, "mode=755"); err != nil {
			return fmt.Errorf("mount over /dev/net: %w", err)
		}
		if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
			return fmt.Errorf("make /dev/net/tun: %w", err)
		}
		if err := unix.Chmod("/dev/net/tun", 0o666); err != nil {
			return err
		}
		return unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
}

// upAs is up, as a user, with the control socket at the usual place.
func upAs(t *testing.T, h *host, user string, uid int, args ...string) *program {
	t.Helper()
	p := prepare(t, h.Namespace, args...)
	must(t, h.Do(func() (err error) {
		p.control, err = control.PathOf(4789, uid)
		return err
	}))
	line := append(p.cmd.Args[1:], "--user", user, "--control", "")
	p.cmd = h.Command(t.Context(), "/proc/self/exe", append([]string{govxlan}, line...)...)
	p.cmd.Env = append(os.Environ(), roleVariable+"=/dev/net/tun for everybody")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.start()
	return p
}

// rights of one thread, as the kernel shows them.
func rights(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	all := make(map[string]string)
	for s := bufio.NewScanner(f); s.Scan(); {
		name, text, _ := strings.Cut(s.Text(), ":")
		all[name] = strings.Join(strings.Fields(text), " ")
	}
	return all
}

// checkRights compares what every thread of a program has with what it should,
// and with what the program says.
func checkRights(t *testing.T, p *program, uid int, capabilities ...int) {
	t.Helper()
	var set uint64
	for _, c := range capabilities {
		set |= 1 << c
	}
	id := fmt.Sprintf("%d %[1]d %[1]d %[1]d", uid)
	hex := fmt.Sprintf("%016x", set)
	want := map[string]string{
		"Uid": id, "Gid": id, "Groups": "", "CapInh": fmt.Sprintf("%016x", 0), "CapAmb": fmt.Sprintf("%016x", 0),
		"CapPrm": hex, "CapEff": hex, "CapBnd": hex, "NoNewPrivs": "1",
	}
	if uid == 0 {
		delete(want, "Groups") // those that it was started with
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	must(t, err)
	if len(threads) < 2 {
		t.Fatalf("threads: %v", threads)
	}
	for _, path := range threads {
		got := rights(t, path)
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %s is %q, want %q", path, name, got[name], value)
			}
		}
	}
	s := p.status().Privileges
	if s.UID != uid || s.GID != uid || !s.NoNewPrivileges || !s.Landlock || s.LandlockReason != "" || s.Seccomp != (rights(t, threads[0])["Seccomp"] == "2") {
		t.Errorf("it says: %+v", s)
	}
	var names []string
	for _, c := range capabilities {
		names = append(names, map[int]string{unix.CAP_NET_ADMIN: privilege.NetAdmin, unix.CAP_NET_RAW: privilege.NetRaw, unix.CAP_SYS_ADMIN: privilege.SysAdmin}[c])
	}
	if !slices.Equal(s.Capabilities, names) {
		t.Errorf("it says that it has %v, want %v", s.Capabilities, names)
	}
	if o := p.ask("status"); !strings.Contains(o.stdout, "runs as "+s.String()) && !strings.Contains(o.stdout, "runs as "+s.User) {
		t.Errorf("status: %+v", o)
	}
}

const nobody = 65534

// TestPrivileges: an endpoint has no more than it needs after its start, and that
// is enough for all that it is asked to do later.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		uid  int
		up   func(t *testing.T, h *host, args ...string) *program
	}{
		{"root", 0, func(t *testing.T, h *host, args ...string) *program { return up(t, h.Namespace, args...) }},
		{"nobody", nobody, func(t *testing.T, h *host, args ...string) *program { return upAs(t, h, "nobody", nobody, args...) }},
		{"number", 61234, func(t *testing.T, h *host, args ...string) *program { return upAs(t, h, "61234:61234", 61234, args...) }},
	} {
		for _, transport := range transports {
			t.Run(c.name+"/"+transport, func(t *testing.T) {
				t.Parallel()
				hosts := newHosts(t, "rights", 2, wiring{})
				a, b := hosts[0], hosts[1]
				dir, err := os.MkdirTemp("", "govxlan-e2e-")
				must(t, err)
				t.Cleanup(func() { os.RemoveAll(dir) })
				must(t, os.Chmod(dir, 0o755))
				path := filepath.Join(dir, "govxlan.yaml")
				write := func(text string) { must(t, os.WriteFile(path, []byte(text), 0o644)) }
				write(fmt.Sprintf("peers: [%v]\nvnis:\n  - {vni: 1, addr: 10.0.1.1/24}\n", b.ip4))
				p := c.up(t, a, "--config", path, "--transport", transport)
				far := up(t, b.Namespace, "--vni", "1", "--addr", "10.0.1.2/24", "--peer", a.ip4.String())
				checkRights(t, p, c.uid, unix.CAP_NET_ADMIN)
				ping(t, a.Namespace, netip.MustParseAddr("10.0.1.2"), 2)

				// VNIs come by request and by the file, and go.
				if o := p.ask("vni", "add", "2", "--addr", "10.0.2.1/24", "--peer", b.ip4.String()); o.code != 0 {
					t.Fatalf("vni add: %+v", o)
				}
				if o := far.ask("vni", "add", "2", "--addr", "10.0.2.2/24", "--peer", a.ip4.String()); o.code != 0 {
					t.Fatalf("vni add: %+v", o)
				}
				ping(t, a.Namespace, netip.MustParseAddr("10.0.2.2"), 2)
				file := filepath.Join(t.TempDir(), "a.pcapng")
				capturing := p.capture("-w", file, "-c", "2")
				ping(t, a.Namespace, netip.MustParseAddr("10.0.2.2"), 2)
				capturing.ended(0, 2)
				write(fmt.Sprintf("peers: [%v]\nvnis:\n  - {vni: 1, addr: 10.0.1.1/24, mtu: 1400}\n  - {vni: 3, addr: 10.0.3.1/24}\n", b.ip4))
				if r := p.reload(); len(r.Added) != 1 || len(r.Changed) != 1 {
					t.Errorf("reload: %+v", r)
				}
				if o := far.ask("vni", "add", "3", "--addr", "10.0.3.2/24", "--peer", a.ip4.String()); o.code != 0 {
					t.Fatalf("vni add: %+v", o)
				}
				ping(t, a.Namespace, netip.MustParseAddr("10.0.3.2"), 2)
				if link, err := a.Link("vx1"); err != nil || link.MTU != 1400 {
					t.Errorf("vx1: %+v, %v", link, err)
				}
				p.tell("fdb", "add", "02:00:00:00:00:09", b.ip4.String(), "--vni", "3")
				p.tell("vni", "del", "3")

				// The underlay changes below it.
				must(t, a.SetDown(underlayDevice))
				must(t, a.SetUp(underlayDevice))
				must(t, a.SetMTU(underlayDevice, 1450))
				eventually(t, func() error {
					link, err := a.Link("vx2")
					if err == nil && link.MTU != 1400 {
						err = fmt.Errorf("vx2: MTU %d, want that of the underlay less 50", link.MTU)
					}
					return err
				})
				ping(t, a.Namespace, netip.MustParseAddr("10.0.2.2"), 2)

				// What is not needed is out of reach: the file that its own is
				// now a link to, which all may read, and other namespaces.
				elsewhere := filepath.Join(b.LabDir(), fmt.Sprintf("%d.yaml", programs.Add(1)))
				must(t, os.WriteFile(elsewhere, []byte("vnis: []\n"), 0o644))
				t.Cleanup(func() { os.Remove(elsewhere) })
				must(t, os.Remove(path))
				must(t, os.Symlink(elsewhere, path))
				p.denied(1, "permission denied", "reload")
				p.denied(1, "--privileges netns", "vni", "add", "9", "--netns", b.Name())
				checkRights(t, p, c.uid, unix.CAP_NET_ADMIN)
				p.stop()
			})
		}
	}
}

// TestPrivilegesNetns: entering network namespaces is kept where it is used, or
// asked for.
func TestPrivilegesNetns(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "rightsns", 2, wiring{})
	a, b := hosts[0], hosts[1]
	one, two := netlabtest.Namespace(t, a.lab, "one"), netlabtest.Namespace(t, a.lab, "two")
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 1}, false, a)
	must(t, b.AddAddr("vxlan0", "10.0.1.2/24"))
	for _, c := range []struct {
		name  string
		flags []string
	}{
		{"used", []string{"--netns", one.Name()}},
		{"asked for", []string{"--privileges", "netns"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := upAs(t, a, "nobody", nobody, append(c.flags, "--vni", "2", "--local", a.ip4.String())...)
			checkRights(t, p, nobody, unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN)
			if o := p.ask("vni", "add", "1", "--netns", two.Name(), "--addr", "10.0.1.1/24", "--peer", b.ip4.String()); o.code != 0 {
				t.Fatalf("vni add: %+v", o)
			}
			ping(t, two, netip.MustParseAddr("10.0.1.2"), 2)
			p.tell("vni", "del", "1")
			p.stop()
		})
	}
}

// TestPrivilegesDevice: sockets can be bound again to the device that is named.
func TestPrivilegesDevice(t *testing.T) {
	t.Parallel()
	a := newHosts(t, "rightsdev", 2, wiring{})[0]
	p := up(t, a.Namespace, "--vni", "1", "--dev", underlayDevice)
	checkRights(t, p, 0, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)
}

// TestPrivilegesAll: nothing is given up where that is wanted.
func TestPrivilegesAll(t *testing.T) {
	t.Parallel()
	a := newHosts(t, "rightsall", 2, wiring{})[0]
	p := up(t, a.Namespace, "--vni", "1", "--local", a.ip4.String(), "--privileges", "all")
	got, own := rights(t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)), rights(t, "/proc/self/status")
	for _, name := range []string{"Uid", "CapEff", "CapBnd", "NoNewPrivs"} {
		if got[name] != own[name] {
			t.Errorf("%s is %q, want %q", name, got[name], own[name])
		}
	}
	if s := p.status().Privileges; s.Landlock || s.NoNewPrivileges != (own["NoNewPrivs"] == "1") {
		t.Errorf("it says: %+v", s)
	}
}

// TestPrivilegesOrdinary: whoever has a capability or two to begin with, and is not
// root, has the one that is needed afterwards.
func TestPrivilegesOrdinary(t *testing.T) {
	t.Parallel()
	a := newHosts(t, "rightsfew", 2, wiring{})[0]
	p := prepare(t, a.Namespace, "--vni", "1", "--local", a.ip4.String())
	dir, err := os.MkdirTemp("", "govxlan-e2e-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chown(dir, nobody, nobody))
	p.control = filepath.Join(dir, "sock")
	few := append(asOrdinary[:len(asOrdinary):len(asOrdinary)], "--inh-caps=-all,+net_admin,+net_raw", "--ambient-caps=+net_admin,+net_raw")
	p.cmd = a.Command(t.Context(), "/proc/self/exe", slices.Concat([]string{"/usr/bin/env"}, few, p.cmd.Args, []string{"--control", p.control})...)
	p.cmd.Env = append(os.Environ(), roleVariable+"=/dev/net/tun for everybody")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.start()
	s := p.status().Privileges
	if s.User != "nobody" || !slices.Equal(s.Capabilities, []string{privilege.NetAdmin}) || !s.NoNewPrivileges || !s.Landlock {
		t.Errorf("it says: %+v", s)
	}
	got := rights(t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	set := fmt.Sprintf("%016x", 1<<unix.CAP_NET_ADMIN)
	for name, want := range map[string]string{"CapEff": set, "CapPrm": set, "CapAmb": fmt.Sprintf("%016x", 0), "CapInh": fmt.Sprintf("%016x", 0), "NoNewPrivs": "1"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if o := p.ask("vni", "add", "2"); o.code != 0 {
		t.Errorf("vni add: %+v", o)
	}
	p.stop()
}

// TestPrivilegesKilled: the socket that a killed one leaves behind is replaced,
// and the next removes its own.
func TestPrivilegesKilled(t *testing.T) {
	t.Parallel()
	a := newHosts(t, "rightskill", 2, wiring{})[0]
	flags := []string{"--vni", "1", "--local", a.ip4.String()}
	p := upAs(t, a, "nobody", nobody, flags...)
	p.signal(syscall.SIGKILL)
	p.exit()
	p = upAs(t, a, "nobody", nobody, flags...)
	// Found without being named, by root and by its user.
	for _, uid := range []uint32{0, nobody} {
		cmd := a.Command(t.Context(), govxlan, "status")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		if o := runCmd(t, cmd); o.code != 0 || !strings.Contains(o.stdout, "runs as nobody") {
			t.Errorf("status as uid %d: %+v", uid, o)
		}
	}
	// A second one is told how to add to it.
	if o := run(t, a.Namespace, "up", "--vni", "2", "--local", a.ip4.String(), "--control", filepath.Join(a.LabDir(), "second.sock")); o.code != 1 || !strings.Contains(o.stderr, "govxlan vni add 2") {
		t.Errorf("a second one: %+v", o)
	}
	p.stop()
	if _, err := os.Lstat(p.control); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", p.control, err)
	}
}

// TestRefusedUser: what is wrong with --user is told in one sentence.
func TestRefusedUser(t *testing.T) {
	t.Parallel()
	a := newHosts(t, "rightsbad", 2, wiring{})[0]
	flags := []string{"--vni", "1", "--local", a.ip4.String()}
	refused(t, a.Namespace, 2, []string{"--user", "no-such-user", "NAME or UID"}, append(flags, "--user", "no-such-user")...)
	refused(t, a.Namespace, 2, []string{"--user", "no-such-group"}, append(flags, "--user", "nobody:no-such-group")...)
	refused(t, a.Namespace, 2, []string{"--privileges", "auto, netns or all"}, append(flags, "--privileges", "few")...)
	refused(t, a.Namespace, 2, []string{"--privileges"}, append(flags, "--privileges", "all", "--user", "nobody")...)
	cmd := a.Command(t.Context(), govxlan, append([]string{"up", "--user", "root"}, flags...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	refusedCmd(t, a.Namespace, cmd, 1, []string{"--user root", "CAP_SETUID", "root"})
	// Its socket could not be removed at the end.
	refused(t, a.Namespace, 1, []string{"--user nobody", strconv.Itoa(nobody), "--control"}, append(flags, "--user", "nobody")...)
}

// TestPrivilegesTakeover: an endpoint that has become another user hands over to
// one that is going to.
func TestPrivilegesTakeover(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "rightstake", 2, wiring{})
	a, b := hosts[0], hosts[1]
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 1}, false, a)
	must(t, b.AddAddr("vxlan0", "10.0.1.2/24"))
	flags := []string{"--vni", "1", "--peer", b.ip4.String(), "--addr", "10.0.1.1/24"}
	old := upAs(t, a, "nobody", nobody, flags...)
	ping(t, a.Namespace, netip.MustParseAddr("10.0.1.2"), 1)
	was := index(t, a.Namespace, "vx1")
	p := upAs(t, a, "nobody", nobody, append(flags, "--takeover")...)
	if code := old.exit(); code != 0 {
		t.Errorf("the one before ended with status %d: %s", code, old.stderr)
	}
	if now := index(t, a.Namespace, "vx1"); now != was {
		t.Errorf("vx1 has index %d, had %d", now, was)
	}
	checkRights(t, p, nobody, unix.CAP_NET_ADMIN)
	ping(t, a.Namespace, netip.MustParseAddr("10.0.1.2"), 1)
	p.stop()
}
