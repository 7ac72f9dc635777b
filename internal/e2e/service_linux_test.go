package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"golang.org/x/sys/unix"
)

// serviceManager is as much of systemd as a service sees of it: what it is told,
// and the descriptors that it keeps.
type serviceManager struct {
	t    *testing.T
	path string
	conn *net.UnixConn

	mu   sync.Mutex
	told []string
	kept map[string]*os.File
}

func newServiceManager(t *testing.T, dir string) *serviceManager {
	t.Helper()
	m := &serviceManager{t: t, path: filepath.Join(dir, "notify"), kept: make(map[string]*os.File)}
	var err error
	m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.serve()
	}()
	t.Cleanup(func() {
		m.conn.Close()
		<-done
		for _, f := range m.kept {
			f.Close()
		}
	})
	return m
}

func (m *serviceManager) serve() {
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*16))
	for {
		n, k, _, _, err := m.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		var files []*os.File
		messages, _ := unix.ParseSocketControlMessage(oob[:k])
		for i := range messages {
			fds, _ := unix.ParseUnixRights(&messages[i])
			for _, fd := range fds {
				files = append(files, os.NewFile(uintptr(fd), "kept"))
			}
		}
		m.take(string(buf[:n]), files)
	}
}

func (m *serviceManager) take(text string, files []*os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, text)
	name := ""
	for _, line := range strings.Split(text, "\n") {
		if n, ok := strings.CutPrefix(line, "FDNAME="); ok {
			name = n
		}
	}
	for _, line := range strings.Split(text, "\n") {
		switch {
		case line == "FDSTORE=1" && len(files) == 1 && strings.Contains(text, "FDPOLL=0"):
			m.kept[name] = files[0]
			files = nil
		case line == "FDSTOREREMOVE=1" && m.kept[name] != nil:
			m.kept[name].Close()
			delete(m.kept, name)
		}
	}
	for _, f := range files { // BARRIER=1
		f.Close()
	}
}

// says waits until the service has told something that begins so, n times.
func (m *serviceManager) says(what string, n int) {
	m.t.Helper()
	eventually(m.t, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		count := 0
		for _, text := range m.told {
			if strings.HasPrefix(text, what) {
				count++
			}
		}
		if count < n {
			return fmt.Errorf("%s: %d times, want %d: %q", what, count, n, m.told)
		}
		return nil
	})
}

func (m *serviceManager) forgets() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = nil
}

// service prepares a program as the manager would start it: with what it keeps.
func (m *serviceManager) service(ns *netlab.Namespace, args ...string) *program {
	m.t.Helper()
	p := prepare(m.t, ns, args...)
	up := p.cmd.Args[1:]
	p.cmd = ns.Command(context.Background(), "sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, govxlan}, up...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name, f := range m.kept {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		must(m.t, err)
		own := os.NewFile(uintptr(fd), name)
		names = append(names, name)
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, own)
	}
	p.started = func() {
		for _, f := range p.cmd.ExtraFiles {
			f.Close()
		}
	}
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=90000",
		fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	return p
}

// TestService: a restart by the service manager loses no frame, and one with
// other flags is an ordinary restart.
func TestService(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "service", 2, wiring{})
	a, b := hosts[0], hosts[1]
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, NoUDPChecksum: true}, false, a)
	must(t, b.AddAddr("vxlan0", "10.0.1.2/24"))
	far := netip.MustParseAddr("10.0.1.2")
	m := newServiceManager(t, a.LabDir())
	args := []string{"--vni", "4097", "--peer", b.ip4.String(), "--addr", "10.0.1.1/24"}

	p := m.service(a.Namespace, args...)
	p.start()
	m.says("READY=1\nSTATUS=version", 1)
	m.says("WATCHDOG=1", 3)
	ping(t, a.Namespace, far, 3)
	index := linkIndex(t, a.Namespace, p.device())
	entry := p.entry("02:00:00:00:00:01")
	if entry != nil {
		t.Fatal(entry)
	}
	if o := run(t, a.Namespace, "fdb", "add", "02:00:00:00:00:01", b.ip4.String(), "--control", p.control); o.code != 0 {
		t.Fatal(o)
	}

	pinged := make(chan string, 1)
	pings := a.Command(t.Context(), "ping", "-n", "-q", "-i", "0.002", "-w", "4", far.String())
	go func() {
		out, _ := pings.CombinedOutput()
		pinged <- string(out)
	}()
	frames := uint64(0)
	for range 2 {
		p.awaitCounters("frames", func(c vtep.Counters) bool { return c.TxFrames > frames+200 })
		frames = p.counters().TxFrames
		m.forgets()
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("exit status %d: %s", code, p.stderr)
		}
		m.says("STOPPING=1", 1)
		m.says("BARRIER=1", 1)
		if os.Getenv("GOVXLAN_E2E_DATAPATH") != "user" {
			// Programs in the kernel carry what is known meanwhile.
			must(t, firstGood(3, func() error { return pingOnce(a.Namespace, far, 56) }))
		}
		m.forgets()
		p = m.service(a.Namespace, args...)
		p.start()
		m.says("READY=1", 1)
		if now := linkIndex(t, a.Namespace, p.device()); now != index {
			t.Errorf("the device has index %d, had %d: %s", now, index, p.stderr)
		}
		if c := p.counters(); c.TxFrames < frames {
			t.Errorf("%d frames are counted, %d were", c.TxFrames, frames)
		}
		if p.entry("02:00:00:00:00:01") == nil {
			t.Error("an entry is gone")
		}
		m.mu.Lock()
		if len(m.kept) > 0 {
			t.Errorf("%d descriptors are kept on", len(m.kept))
		}
		m.mu.Unlock()
	}
	if sent, got := pingCounts(t, <-pinged); sent-got > 1 || sent < 100 {
		t.Errorf("%d of %d pings are lost", sent-got, sent)
	}

	p.signal(syscall.SIGTERM)
	p.exit()
	p = m.service(a.Namespace, append(args, "--queues", "3")...)
	p.start()
	if !strings.Contains(p.stderr.String(), "starting anew") || p.status().VNIs[0].Queues != 3 {
		t.Errorf("with other flags: %+v %s", p.status(), p.stderr)
	}
	ping(t, a.Namespace, far, 3)
	// A stop for good: the manager gives up what it keeps.
	p.signal(syscall.SIGTERM)
	p.exit()
	m.mu.Lock()
	for name, f := range m.kept {
		f.Close()
		delete(m.kept, name)
	}
	m.mu.Unlock()
	eventually(t, func() error {
		if _, err := a.Link("vx4097"); err == nil {
			return fmt.Errorf("the device is left")
		}
		return nil
	})
}
