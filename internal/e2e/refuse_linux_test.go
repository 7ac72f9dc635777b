package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"golang.org/x/sys/unix"
)

// TestWrongFlags: each is wrong usage: status 2, one sentence that quotes what
// is wrong, and nothing was done.
func TestWrongFlags(t *testing.T) {
	t.Parallel()
	ns := newHosts(t, "flags", 2, wiring{})[0].Namespace
	vni := []string{"--vni", "4097"}
	peer := append(vni, "--peer", "192.168.52.204")
	for _, c := range []struct {
		args []string
		word string
	}{
		{nil, "--vni"},
		{[]string{"--peer", "192.168.52.204"}, "--vni"},
		{[]string{"--vni", "16777216"}, "16777216"},
		{[]string{"--vni", "-1"}, "-1"},
		{[]string{"--vni", "x"}, "x"},
		{[]string{"--vni", "4294967296"}, "4294967296"},
		{[]string{"--vni"}, "--vni"},
		{append(vni, "--peer", "192.168.52.256"), "192.168.52.256"},
		{append(vni, "--peer", "192.168.52.204:0"), "192.168.52.204:0"},
		{append(vni, "--peer", "192.168.52.204:65536"), "65536"},
		{append(vni, "--peer", "192.168.52.204:x"), "x"},
		{append(vni, "--peer", "239.1.1.1"), "239.1.1.1: a multicast group is no peer: give it with --group"},
		{append(vni, "--peer", "ff02::1"), "ff02::1"},
		{append(vni, "--peer", "0.0.0.0"), "0.0.0.0"},
		{append(vni, "--peer", "::"), "::"},
		{append(vni, "--peer", ""), "--peer"},
		{append(vni, "--peer", "192.168.52.204,"), "--peer"},
		{append(vni, "--peer", "a b"), "a b"},
		{append(vni, "--group", "239.1.1.1"), "--group 239.1.1.1 needs --dev"},
		{append(vni, "--group", "239.1.1.1", "--dev", underlayDevice, "--transport", "packet"), "--transport packet"},
		{append(peer, "--group", "", "--dev", underlayDevice), "--group is empty"},
		{append(peer, "--group", "192.168.52.204", "--dev", underlayDevice), "no multicast address"},
		{append(peer, "--group", "239.1.1", "--dev", underlayDevice), "239.1.1"},
		{append(peer, "--group", "239.1.1.1:0", "--dev", underlayDevice), "port 0"},
		{append(peer, "--group", "ff01::1", "--dev", underlayDevice), "never leaves the host"},
		{append(peer, "--group", "ff02::1%ens161", "--dev", underlayDevice), "another interface than --dev " + underlayDevice},
		{append(peer, "--group", "239.1.1.1", "--dev", underlayDevice, "--multicast-ttl", "0"), "--multicast-ttl 0"},
		{append(peer, "--group", "239.1.1.1", "--dev", underlayDevice, "--multicast-ttl", "256"), "--multicast-ttl 256"},
		{append(peer, "--local", "203"), "203"},
		{append(peer, "--local", "239.1.1.1"), "239.1.1.1"},
		{append(peer, "--local", "192.168.52.203,192.168.52.99"), "one address of each family"},
		{append(peer, "--port", "0"), "--port"},
		{append(peer, "--port", "65536"), "65536"},
		{append(peer, "--port", "-1"), "-1"},
		{append(peer, "--source-ports", "x"), "x"},
		{append(peer, "--transport", "tcp"), "tcp"},
		{append(peer, "--source-ports", "2-1"), "2-1"},
		{append(peer, "--source-ports", "0-65536"), "65536"},
		{append(peer, "--name", "sixteen-bytes-16"), "sixteen-bytes-16"},
		{append(peer, "--name", "a/b"), "a/b"},
		{append(peer, "--name", ".."), ".."},
		{append(peer, "--name", "vx%d"), "vx%d"},
		{append(peer, "--addr", "10.0.1.100"), "10.0.1.100"},
		{append(peer, "--addr", "10.0.1.100/33"), "10.0.1.100/33"},
		{append(peer, "--addr", "10.0.1/24"), "10.0.1/24"},
		{append(peer, "--mac", "02:42"), "02:42"},
		{append(peer, "--mac", "01:00:5e:00:00:01"), "01:00:5e:00:00:01"},
		{append(peer, "--mac", "00:00:00:00:00:00"), "00:00:00:00:00:00"},
		{append(peer, "--mtu", "67"), "67"},
		{append(peer, "--mtu", "65522"), "65522"},
		{append(peer, "--mtu", "-1"), "-1"},
		{append(peer, "--mtu", "1k"), "1k"},
		{append(peer, "--learning=perhaps"), "perhaps"},
		{append(peer, "--ageing", "300"), "300"},
		{append(peer, "--ageing", "-1s"), "-1s"},
		{append(peer, "--max-entries", "-1"), "-1"},
		{append(peer, "--offload", "on"), "on"},
		{append(peer, "--queues", "-1"), "-1"},
		{append(peer, "--queues", "65"), "65"},
		{append(peer, "--queues", "4", "--workers", "5"), "--workers 5"},
		{append(peer, "--io", "select"), "select"},
		{append(peer, "--busy-poll", "-1us"), "-1µs"},
		{append(peer, "--busy-poll", "2s"), "2s"},
		{append(peer, "--busy-poll", "50"), "50"},
		{append(peer, "--pprof", "6060"), "6060"},
		{append(peer, "--pprof", "192.168.52.203:6060"), "192.168.52.203:6060"},
		{append(peer, "--log-level", "loud"), "loud"},
		{append(peer, "--log-format", "xml"), "xml"},
		{append(peer, "--ttl", "0"), "--ttl"},
		{append(peer, "--ttl", "256"), "256"},
		{append(peer, "--ttl", "x"), "inherit"},
		{append(peer, "--tos", "1"), "ECN"},
		{append(peer, "--tos", "256"), "256"},
		{append(peer, "--tos", "x"), "inherit"},
		{append(peer, "--ecn", "rfc3168"), "rfc3168"},
		{append(peer, "--df", "yes"), "yes"},
		{append(peer, "--flow-label", "1048576"), "1048576"},
		{append(peer, "--flow-label", "-1"), "-1"},
		{append(peer, "--udp-csum=perhaps"), "perhaps"},
		{append(peer, "--vlan", "trunk"), "trunk"},
		{append(peer, "--vlan-map", "100"), "100"},
		{append(peer, "--vlan-map", "0=5"), "0=5"},
		{append(peer, "--vlan-map", "4095=5"), "4095=5"},
		{append(peer, "--vlan-map", "100=16777216"), "16777216"},
		{append(peer, "--vlan-map", "100=5,100=6"), "twice"},
		{append(peer, "--vlan-map", "100=5", "--vlan-map", "101=5"), "twice"},
		{append(peer, "--gbp", "65536"), "65536"},
		{append(peer, "--gbp", "5,learn"), "5,learn"},
		{append(peer, "--gbp-accept", "1,x"), "x"},
		{append(peer, "--reserved-bits", "loose"), "loose"},
		{append(peer, "--reserved-bits", "0x0800000000000000"), "I flag"},
		{append(peer, "--reserved-bits", "256"), "VNI"},
		{append(peer, "--no-such-flag"), "--no-such-flag"},
		{append(peer, "-x"), "x"},
		{append(peer, "stray"), "stray"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			refused(t, ns, 2, []string{c.word}, c.args...)
		})
	}
	for _, args := range [][]string{{"no-such-command"}, {"--no-such-flag"}, {"status", "stray"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			refusedCmd(t, ns, ns.Command(t.Context(), govxlan, args...), 2, []string{args[len(args)-1]})
		})
	}
}

// TestImpossibleCombinations: flags that contradict each other, or the addresses
// of the underlay, are refused in a sentence that names both.
func TestImpossibleCombinations(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "combine", 2, wiring{})
	a, b := hosts[0], hosts[1]
	v4 := []string{"--vni", "4097", "--peer", b.ip4.String()}
	v6 := []string{"--vni", "4097", "--peer", b.ip6.String()}
	for _, c := range []struct {
		code  int
		args  []string
		words []string
	}{
		{2, append(v4, "--flow-label", "5"), []string{"--flow-label", "--peer", "IPv6"}},
		{2, append(v4, "--flow-label", "inherit"), []string{"--flow-label", "--peer", "IPv6"}},
		{2, append(v4, "--udp-zero-csum6-tx"), []string{"--udp-zero-csum6-tx", "--peer", "--udp-csum"}},
		{2, append(v4, "--udp-zero-csum6-rx"), []string{"--udp-zero-csum6-rx", "--peer"}},
		{2, append(v4, "--gbp", "5", "--reserved-bits", "0x8000000000000000"), []string{"--gbp", "--reserved-bits"}},
		{2, append(v4, "--gbp-accept", "5", "--reserved-bits", "0xffff00000000"), []string{"--gbp-accept", "--reserved-bits"}},
		{2, append(v4, "--vlan-map", "100=4097"), []string{"--vlan-map", "--vni", "4097"}},
		{2, []string{"--peer", b.ip4.String(), "--vlan-map", "100=5", "--addr", "10.0.1.1/24"}, []string{"--vlan-map", "--addr", "--vni"}},
		{2, append(v6, "--udp-csum=false"), []string{"--udp-csum", "--peer", "--udp-zero-csum6-tx"}},
		{2, append(v6, "--df", "set"), []string{"--df", "--peer", "IPv6"}},
		{2, append(v6, "--df", "inherit"), []string{"--df", "--peer", "IPv6"}},
		{1, append(v4, "--df", "inherit", "--source-ports", "4789"), []string{"--df inherit", "--source-ports", "--port"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) { refused(t, a.Namespace, c.code, c.words, c.args...) })
	}
}

// TestRefused: what cannot be done is said in one sentence that tells what to
// do about it, with status 1, and nothing is left behind.
func TestRefused(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "refused", 2, wiring{})
	a := hosts[0]
	peer := []string{"--vni", "4097", "--peer", hosts[1].ip4.String()}
	must(t, a.Bridge("br0"))
	for _, c := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"TAP name exists", append(peer, "--name", underlayDevice), []string{underlayDevice, "exists", "--name"}},
		{"bridge missing", append(peer, "--bridge", "br9"), []string{"br9", "ip link add br9 type bridge"}},
		{"bridge is none", append(peer, "--bridge", underlayDevice), []string{underlayDevice, "veth"}},
		{"namespace missing", append(peer, "--netns", "no-such-ns"), []string{"no-such-ns", "ip netns list"}},
		{"namespace path missing", append(peer, "--netns", "/run/no-such-ns"), []string{"/run/no-such-ns"}},
		{"namespace is none", append(peer, "--netns", "/etc/hostname"), []string{"/etc/hostname"}},
		{"no route", []string{"--vni", "4097", "--peer", "203.0.113.1"}, []string{"203.0.113.1", "ip route get 203.0.113.1"}},
		{"no route IPv6", []string{"--vni", "4097", "--peer", "2001:db8::1"}, []string{"2001:db8::1", "ip route get 2001:db8::1"}},
		{"no route, no peer", []string{"--vni", "4097"}, []string{"--peer", "--local"}},
		{"local address not here", append(peer, "--local", "192.168.52.77"), []string{"192.168.52.77", "not on this host", "--local"}},
		{"local address not here, no peer", []string{"--vni", "4097", "--local", "192.168.52.77"}, []string{"192.168.52.77", "not on this host", "--local"}},
		{"local IPv6 address not here", []string{"--vni", "4097", "--peer", hosts[1].ip6.String(), "--local", "fd52::77"}, []string{"fd52::77", "not on this host", "--local"}},
		{"peer is ourselves", []string{"--vni", "4097", "--peer", a.ip4.String()}, []string{a.ip4.String(), "itself"}},
		{"peer is loopback", []string{"--vni", "4097", "--peer", "127.0.0.1"}, []string{"127.0.0.1", "itself"}},
		{"group on a device without address", []string{"--vni", "4097", "--group", "239.1.1.1", "--dev", "br0", "--local", "fd52::203"}, []string{"br0", "239.1.1.1", "ip address add"}},
		{"device missing", append(peer, "--dev", "ens999"), []string{"ens999", "ip link", "--dev"}},
		{"peer does not resolve", []string{"--vni", "4097", "--peer", "no-such-host.invalid"}, []string{"no-such-host.invalid", "resolve"}},
		{"no socket directory", append(peer, "--control", "/proc/no/such/place"), []string{"/proc/no", "--control"}},
		{"MTU too small for IPv6", append(peer, "--addr", "fd10::1/64", "--mtu", "1279"), []string{"fd10::1/64", "MTU of 1280"}},
		{"address twice", append(peer, "--addr", "10.0.1.1/24", "--addr", "10.0.1.1/24"), []string{"10.0.1.1/24"}},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, a.Namespace, 1, c.words, c.args...) })
	}
}

// TestRefusedPortHeld: whoever has the port is named.
func TestRefusedPortHeld(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "held", 2, wiring{})
	a := hosts[0]
	peer := []string{"--vni", "4098", "--peer", hosts[1].ip4.String()}
	held := func(t *testing.T, holder string) {
		t.Helper()
		for _, more := range [][]string{nil, {"--queues", "2"}, {"--local", "0.0.0.0"}, {"--transport", "packet"}} {
			refused(t, a.Namespace, 1, []string{"4789", holder, "--port"}, append(peer, more...)...)
		}
	}
	t.Run("by a process", func(t *testing.T) {
		socket, err := a.ListenPacket("udp", addrPort(a.ip4, 4789).String())
		must(t, err)
		defer socket.Close()
		comm, err := os.ReadFile("/proc/self/comm")
		must(t, err)
		held(t, fmt.Sprintf("process %d (%s)", os.Getpid(), strings.TrimSpace(string(comm))))
	})
	t.Run("by a process, on all addresses, shared", func(t *testing.T) {
		var fd int
		must(t, a.Do(func() (err error) {
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			return firstError(err,
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
				unix.Bind(fd, &unix.SockaddrInet4{Port: 4789}))
		}))
		defer unix.Close(fd)
		held(t, fmt.Sprintf("process %d", os.Getpid()))
	})
	// A child that another test starts has our sockets too, until it executes
	// its program: the port may be held a little longer than we hold it.
	eventually(t, func() error {
		c, err := a.ListenPacket("udp", "0.0.0.0:4789")
		if err != nil {
			return err
		}
		return c.Close()
	})
	t.Run("by the kernel", func(t *testing.T) {
		a.kernelVTEP(t, netlab.VXLANConfig{VNI: 1}, false)
		held(t, "the kernel")
		must(t, a.DelLink("vxlan0"))
	})
	t.Run("by another endpoint", func(t *testing.T) {
		p := up(t, a.Namespace, "--vni", "1", "--peer", hosts[1].ip4.String())
		name := filepath.Base(govxlan)
		held(t, fmt.Sprintf("process %d (%s)", p.cmd.Process.Pid, name[:min(len(name), 15)]))
	})
	t.Run("by another endpoint over packet sockets", func(t *testing.T) {
		p := up(t, a.Namespace, "--vni", "1", "--peer", hosts[1].ip4.String(), "--transport", "packet")
		held(t, fmt.Sprintf("process %d ", p.cmd.Process.Pid))
	})
	t.Run("by nobody any more", func(t *testing.T) {
		up(t, a.Namespace, peer...).stop()
	})
}

// TestRefusedControlSocketHeld: two endpoints cannot share a control socket.
func TestRefusedControlSocketHeld(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "sock", 2, wiring{})
	a := hosts[0]
	p := up(t, a.Namespace, "--vni", "1", "--peer", hosts[1].ip4.String())
	refusedCmd(t, a.Namespace, a.Command(t.Context(), govxlan, "up", "--vni", "2", "--port", "5000",
		"--peer", hosts[1].ip4.String(), "--control", p.control), 1, []string{p.control, "--control"})
	if _, err := control.NewClient(p.control).Status(t.Context()); err != nil {
		t.Errorf("the first endpoint does not answer any more: %v", err)
	}
}

// TestRefusedNotRoot: an ordinary user is told what is missing.
func TestRefusedNotRoot(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "nobody", 2, wiring{})
	for _, offload := range []string{"auto", "off"} {
		cmd := hosts[0].Command(t.Context(), govxlan, "up", "--vni", "4097", "--peer", hosts[1].ip4.String(), "--offload", offload)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		refusedCmd(t, hosts[0].Namespace, cmd, 1, []string{"not permitted", "root", "CAP_NET_ADMIN"})
	}
	cmd := hosts[0].Command(t.Context(), govxlan, "up", "--vni", "4097", "--peer", hosts[1].ip4.String(), "--transport", "packet")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	refusedCmd(t, hosts[0].Namespace, cmd, 1, []string{"--transport packet", "root", "CAP_NET_RAW"})
}

// TestRefusedNotRootNetns: and so when it cannot enter a namespace.
func TestRefusedNotRootNetns(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "nobodyns", 2, wiring{})
	cmd := hosts[0].Command(t.Context(), govxlan, "up", "--vni", "4097", "--peer", hosts[1].ip4.String(), "--netns", hosts[1].Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	refusedCmd(t, hosts[0].Namespace, cmd, 1, []string{hosts[1].Name(), "CAP_SYS_ADMIN"})
}

func init() {
	// withoutTUN runs the command line behind it where /dev/net is empty, or
	// where /dev/net/tun is not what it should be.
	roles["no /dev/net/tun"] = func() error {
		if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount over /dev/net: %w", err)
		}
		return unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
	roles["/dev/net/tun is another device"] = func() error {
		if err := unix.Mount("/dev/null", "/dev/net/tun", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount over /dev/net/tun: %w", err)
		}
		return unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	}
}

// TestRefusedNoTUN: a container without /dev/net/tun is told how to get it.
func TestRefusedNoTUN(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "notun", 2, wiring{})
	for _, role := range []string{"no /dev/net/tun", "/dev/net/tun is another device"} {
		for _, offload := range []string{"auto", "off"} {
			t.Run(role+"/offload="+offload, func(t *testing.T) {
				cmd := hosts[0].Command(t.Context(), "/proc/self/exe", govxlan, "up", "--vni", "4097", "--peer", hosts[1].ip4.String(), "--offload", offload)
				cmd.Env = append(os.Environ(), roleVariable+"="+role)
				cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
				refusedCmd(t, hosts[0].Namespace, cmd, 1, []string{"TUN/TAP", "modprobe tun", "--device /dev/net/tun"})
			})
		}
	}
}

// TestDefaultControlSocket: without --control the socket is where the commands
// look for it in the same network namespace, and for its owner only.
func TestDefaultControlSocket(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "ctl", 2, wiring{})
	a := hosts[0]
	ask := func(args ...string) outcome { return run(t, a.Namespace, args...) }
	if o := ask("status"); o.code != 1 || !strings.Contains(o.stderr, "govxlan up") {
		t.Errorf("status without an endpoint: %+v", o)
	}
	start := func(port string) *netlab.Cmd {
		t.Helper()
		cmd := a.Command(context.Background(), govxlan, "up", "--vni", port, "--port", port, "--peer", hosts[1].ip4.String())
		out := newOutput()
		cmd.Stdout = out
		must(t, cmd.Start())
		select {
		case <-out.line:
		case <-cmd.Exited():
			t.Fatal(cmd.Wait())
		}
		return cmd
	}
	first := start("4789")
	info, err := os.Stat(a.Path())
	must(t, err)
	path := filepath.Join(control.Directory, fmt.Sprintf("4789-%d.sock", info.Sys().(*syscall.Stat_t).Ino))
	if s, err := os.Stat(path); err != nil || s.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("control socket %s: %v, %v", path, s, err)
	}
	if o := ask("status", "--json"); o.code != 0 || !strings.Contains(o.stdout, `"vni": 4789`) || o.stderr != "" {
		t.Errorf("status: %+v", o)
	}
	if o := ask("status"); o.code != 0 || !strings.Contains(o.stdout, "vni 4789") || !strings.Contains(o.stdout, hosts[1].ip4.String()) {
		t.Errorf("status in words: %+v", o)
	}
	if o := ask("fdb", "show"); o.code != 0 || !strings.Contains(o.stdout, hosts[1].ip4.String()) {
		t.Errorf("fdb show: %+v", o)
	}
	second := start("4790")
	if o := ask("status"); o.code != 1 || !strings.Contains(o.stderr, "--control") || !strings.Contains(o.stderr, path) {
		t.Errorf("status with two endpoints: %+v", o)
	}
	if o := ask("status", "--json", "--control", path); o.code != 0 || !strings.Contains(o.stdout, `"vni": 4789`) {
		t.Errorf("status of the first: %+v", o)
	}
	for _, cmd := range []*netlab.Cmd{first, second} {
		must(t, cmd.Process.Signal(syscall.SIGTERM))
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("control socket %s is left: %v", path, err)
	}
	if o := ask("status"); o.code != 1 {
		t.Errorf("status after the end: %+v", o)
	}
}
