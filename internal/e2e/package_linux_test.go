package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// debianPackage builds the package in a directory and returns its file.
func debianPackage(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "make", "-C", "../..", "deb", "OUT="+dir, "VERSION="+version)
	// Those of the make that runs this test are about other things.
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "MAKE") && name != "MFLAGS" && name != "GOFLAGS" {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("packages: %v", found)
	}
	return found[0]
}

// machine is this system once more, with a systemd of its own and nothing that it
// could change outside.
type machine struct {
	t    *testing.T
	pid  int
	root string
}

// boot mounts a copy of the file system that is written to memory alone, and
// starts systemd as the first process there. Kept short: what is not needed to
// run a service is left out.
const boot = `set -e
base=$1
mount -t tmpfs tmpfs $base
mkdir $base/up $base/work $base/root
mount -t overlay overlay -o lowerdir=/,upperdir=$base/up,workdir=$base/work $base/root
root=$base/root
mount -t proc proc $root/proc
mount -t sysfs -o ro sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
for d in run tmp dev; do mount -t tmpfs tmpfs $root/$d; done
mkdir $root/dev/net $root/dev/shm $root/dev/pts
mknod -m 666 $root/dev/null c 1 3; mknod -m 666 $root/dev/zero c 1 5; mknod -m 666 $root/dev/full c 1 7
mknod -m 666 $root/dev/random c 1 8; mknod -m 666 $root/dev/urandom c 1 9; mknod -m 666 $root/dev/tty c 5 0
mknod -m 666 $root/dev/net/tun c 10 200
ln -s /proc/self/fd $root/dev/fd
rm -rf $root/etc/govxlan $root/etc/systemd/system/*govxlan*
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot $root /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no`

func newMachine(t *testing.T) *machine {
	t.Helper()
	netlabtest.Root(t)
	base := t.TempDir()
	cmd := exec.Command("sh", "-c", boot, "sh", base)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS | syscall.CLONE_NEWCGROUP,
		Pdeathsig:  syscall.SIGKILL,
	}
	out := newOutput()
	cmd.Stdout, cmd.Stderr = out, out
	// The signal comes when the thread ends that started it, and threads of Go come
	// and go: this one stays as long as it does.
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- cmd.Start()
		<-ended
	}()
	must(t, <-started)
	m := &machine{t: t, pid: cmd.Process.Pid, root: filepath.Join(base, "root")}
	t.Cleanup(func() {
		// With its first process all end, and the mounts go with the last.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		close(ended)
		if t.Failed() {
			t.Logf("systemd: %s", out)
		}
	})
	within(t, 3*patience, func() error {
		state, err := m.try("systemctl is-system-running")
		if state = strings.TrimSpace(state); state != "running" && state != "degraded" {
			return fmt.Errorf("systemd is %q, %v: %s", state, err, out)
		}
		return nil
	})
	return m
}

// try runs a line of shell in the machine.
func (m *machine) try(line string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(m.pid), "-m", "-p", "-n", "-u", "-i", "-C",
		"chroot", m.root, "/bin/sh", "-c", line)
	cmd.WaitDelay = time.Second
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// sh is try for what must go well.
func (m *machine) sh(line string) string {
	m.t.Helper()
	out, err := m.try(line)
	if err != nil {
		log, _ := m.try("journalctl -u govxlan --no-pager -o cat | tail -20")
		m.t.Fatalf("%s: %v\n%s\nlog: %s", line, err, out, log)
	}
	return out
}

// put writes a file in the machine.
func (m *machine) put(path string, content []byte) {
	m.t.Helper()
	must(m.t, os.WriteFile(filepath.Join(fmt.Sprintf("/proc/%d/root", m.pid), path), content, 0o644))
}

// TestPackage: the Debian package is the same whenever it is built; a systemd runs
// its service, restarts it and brings it to a new version without losing a frame,
// and nothing is left when it is purged.
func TestPackage(t *testing.T) {
	t.Parallel()
	first := debianPackage(t, "1.0.0")
	content, err := os.ReadFile(first)
	must(t, err)
	again, err := os.ReadFile(debianPackage(t, "1.0.0"))
	must(t, err)
	if !bytes.Equal(content, again) {
		t.Errorf("two builds of the package differ: %d and %d bytes", len(content), len(again))
	}
	next, err := os.ReadFile(debianPackage(t, "1.1.0"))
	must(t, err)

	m := newMachine(t)
	m.put("/tmp/first.deb", content)
	m.put("/tmp/next.deb", next)
	m.sh("dpkg -i /tmp/first.deb")
	if out, _ := m.try("systemctl is-active govxlan; systemctl is-enabled govxlan"); out != "inactive\ndisabled\n" {
		t.Errorf("after the installation the service is %q", out)
	}
	for _, file := range []string{
		"/usr/share/man/man8/govxlan-up.8.gz", "/usr/share/bash-completion/completions/govxlan", "/usr/share/doc/govxlan/copyright",
	} {
		m.sh("test -s " + file)
	}
	if out := m.sh("systemd-analyze verify --man=no govxlan.service govxlan@x.service 2>&1"); strings.Contains(out, "govxlan") {
		t.Errorf("systemd says of the units: %s", out)
	}

	// A far host, with the kernel's device.
	m.sh(`ip link set lo up; ip netns add far; ip link add ens160 type veth peer name ens160 netns far
ip addr add 192.168.52.203/24 dev ens160; ip link set ens160 up
ip -n far addr add 192.168.52.204/24 dev ens160; ip -n far link set ens160 up
ip -n far link add vxlan0 type vxlan id 4097 remote 192.168.52.203 dstport 4789 dev ens160
ip -n far addr add 10.0.1.2/24 dev vxlan0; ip -n far link set vxlan0 mtu 1450 up`)
	config := "vnis:\n  - vni: 4097\n    peers: [192.168.52.204]\n    addr: [10.0.1.1/24]\n"
	m.put("/etc/govxlan/govxlan.yaml", []byte(config))
	m.sh("systemctl start govxlan && ping -c 1 -W 5 10.0.1.2")
	if out := m.sh("govxlan status"); strings.Contains(out, "CAP_") {
		t.Errorf("the unit forbids what it should not: %s", out)
	} else if !strings.Contains(out, "datapath ebpf\n") || !strings.Contains(out, "decapsulate") || !strings.Contains(out, "cap_net_admin, no new privileges, landlock, seccomp\n") {
		t.Errorf("the unit leaves less, or more, than it should: %s", out)
	}
	m.sh("govxlan vni add 7 --peer 192.168.52.204")
	index := m.sh("cat /sys/class/net/vx4097/ifindex")

	pings := make(chan string, 1)
	go func() {
		out, _ := m.try("ping -n -q -i 0.002 -w 8 10.0.1.2")
		pings <- out
	}()
	m.sh("systemctl restart govxlan")
	m.sh("dpkg -i /tmp/next.deb")
	if out := m.sh("govxlan status"); !strings.HasPrefix(out, "govxlan 1.1.0 ") {
		t.Errorf("after the upgrade: %s", out)
	}
	m.put("/etc/govxlan/govxlan.yaml", []byte(config+"  - vni: 8\n    peers: [192.168.52.204]\n"))
	m.sh("systemctl reload govxlan")
	eventually(t, func() error {
		if out := m.sh("govxlan vni list"); !strings.Contains(out, "vx7 ") || !strings.Contains(out, "vx8 ") {
			return fmt.Errorf("after the reload: %s", out)
		}
		return nil
	})
	m.put("/etc/govxlan/govxlan.yaml", []byte(config+"nonsense: [\n"))
	if out, err := m.try("systemctl reload govxlan"); err == nil {
		t.Errorf("a file with nonsense is taken: %s", out)
	}
	m.sh("systemctl is-active govxlan")
	if sent, got := pingCounts(t, <-pings); sent-got > 1 || sent < 200 {
		t.Errorf("%d of %d pings are lost", sent-got, sent)
	}
	if now := m.sh("cat /sys/class/net/vx4097/ifindex"); now != index {
		t.Errorf("the device has index %s, had %s", now, index)
	}
	log := m.sh("journalctl -u govxlan --no-pager -o short-unix -p info")
	if !strings.Contains(log, "going on in place of another process") || strings.Contains(log, "<6>") {
		t.Errorf("log: %s", log)
	}

	m.sh("systemctl stop govxlan")
	if out, err := m.try("ip link show vx4097"); err == nil {
		t.Errorf("after a stop: %s", out)
	}
	m.sh("dpkg --purge govxlan")
	for _, left := range []string{"/usr/bin/govxlan", "/etc/govxlan", "/lib/systemd/system/govxlan.service"} {
		if out, err := m.try("ls -d " + left); err == nil {
			t.Errorf("after purging: %s", out)
		}
	}
}
