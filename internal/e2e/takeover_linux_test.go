package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
)

// successor prepares a program that takes over from p, with other flags for up.
func (p *program) successor(path string, args ...string) *program {
	p.t.Helper()
	next := prepare(p.t, p.ns)
	next.control = p.control
	next.cmd = p.ns.Command(context.Background(), path, append([]string{"up", "--control", p.control, "--takeover"}, args...)...)
	next.cmd.Stdout, next.cmd.Stderr = next.stdout, next.stderr
	return next
}

// takeover starts a successor and sees the one before it end well.
func (p *program) takeover(path string, args ...string) *program {
	p.t.Helper()
	next := p.successor(path, args...)
	next.start()
	if code := p.exit(); code != 0 {
		p.t.Errorf("the one that was taken over: exit status %d: %s", code, p.stderr)
	}
	if !strings.Contains(p.stderr.String(), "taken over") {
		p.t.Errorf("it does not say that it was taken over: %s", p.stderr)
	}
	return next
}

// linkIndex is the index of a device.
func linkIndex(t *testing.T, ns *netlab.Namespace, name string) (index int) {
	t.Helper()
	must(t, ns.Do(func() error {
		l, err := net.InterfaceByName(name)
		if err == nil {
			index = l.Index
		}
		return err
	}))
	return index
}

// TestTakeover: a ping every millisecond and a TCP transfer go on through three
// takeovers, the last one by a program of another version.
func TestTakeover(t *testing.T) {
	t.Parallel()
	other := buildVersion(t, "9.9.9-test")
	for _, flags := range [][]string{nil, {"--datapath", "user"}, {"--datapath", "user", "--io", "epoll"}, {"--offload", "off", "--queues", "2", "--df", "inherit"}} {
		t.Run(flagsName(flags), func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "takeover", 2, wiring{})
			a, b := hosts[0], hosts[1]
			b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
			must(t, b.AddAddr("vxlan0", "10.0.1.2/24"))
			args := append([]string{"--vni", "4097", "--peer", b.ip4.String(), "--addr", "10.0.1.1/24"}, flags...)
			p := up(t, a.Namespace, args...)
			index := linkIndex(t, a.Namespace, p.device())
			far := netip.MustParseAddr("10.0.1.2")
			ping(t, a.Namespace, far, 3)

			// through takes over three times, each time after so many more frames.
			through := func(frames uint64) {
				t.Helper()
				before := p.status()
				for _, path := range []string{govxlan, govxlan, other} {
					eventually(t, func() error { // in the middle of traffic
						if c := p.counters(); c.TxFrames < before.VNIs[0].Counters.TxFrames+frames {
							return fmt.Errorf("%d frames sent, there were %d", c.TxFrames, before.VNIs[0].Counters.TxFrames)
						}
						return nil
					})
					before = p.status()
					p = p.takeover(path, args...)
					after := p.status()
					if after.Uptime < before.Uptime || after.VNIs[0].Counters.TxFrames < before.VNIs[0].Counters.TxFrames ||
						after.VNIs[0].Peers[0].RxFrames < before.VNIs[0].Peers[0].RxFrames || after.VNIs[0].Entries != before.VNIs[0].Entries {
						t.Errorf("before %+v\nafter %+v", before, after)
					}
				}
			}
			var out bytes.Buffer
			pings := a.Command(t.Context(), "ping", "-n", "-q", "-i", "0.001", far.String())
			pings.Stdout = &out
			must(t, pings.Start())
			through(100)
			must(t, pings.Process.Signal(os.Interrupt)) // it then says what came of it
			_ = pings.Wait()                            // status 1 when one is lost
			if sent, got := pingCounts(t, out.String()); sent-got > 3 || sent < 300 {
				t.Errorf("%d of %d pings are lost", sent-got, sent)
			}
			moved := make(chan error, 1)
			done := make(chan struct{})
			go func() {
				for {
					select {
					case <-done:
						moved <- nil
						return
					default:
					}
					// One after the other: a takeover lasts as long as it takes a
					// process to start.
					if err := transfer(a.Namespace, b.Namespace, far, 50<<20); err != nil {
						moved <- err
						return
					}
				}
			}()
			through(1000)
			close(done)
			if err := <-moved; err != nil {
				t.Errorf("TCP: %v", err)
			}
			if v := p.status().Version; v != "9.9.9-test" {
				t.Errorf("version %q", v)
			}
			if now := linkIndex(t, a.Namespace, p.device()); now != index {
				t.Errorf("the device has index %d, had %d", now, index)
			}
		})
	}
}

// pingCounts reads how many ping sent and got back.
func pingCounts(t *testing.T, out string) (sent, got int) {
	t.Helper()
	for _, line := range strings.Split(out, "\n") {
		if _, err := fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &got); err == nil {
			return sent, got
		}
	}
	t.Fatalf("ping says %q", out)
	return 0, 0
}

// buildVersion builds the program with another version.
func buildVersion(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "govxlan-"+version)
	buildTo(t, path, "-X main.version="+version)
	return path
}

// buildTo builds the program, with more in the environment.
func buildTo(t *testing.T, path, ldflags string, env ...string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", ldflags, "-o", path, "github.com/govxlan/govxlan/cmd/govxlan")
	build.Env = append(os.Environ(), env...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
}

// buildStatic builds the program such that it needs no library, as a container without
// one does.
func buildStatic(t *testing.T, path string) {
	t.Helper()
	buildTo(t, path, "-s -w", "CGO_ENABLED=0", "GOFLAGS=")
}

// TestTakeoverKnows: what the user entered and what was learned is there in the
// next process; what its own flags leave out is not.
func TestTakeoverKnows(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "knows", 3, wiring{})
	a, b, c := hosts[0], hosts[1], hosts[2]
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	must(t, b.AddAddr("vxlan0", "10.0.1.2/24"))
	flags := func(more ...string) []string {
		return append([]string{"--vni", "4097", "--peer", b.ip4.String(), "--arp", "suppress", "--neigh-snoop",
			"--group", "239.1.1.1", "--dev", underlayDevice, "--addr", "10.0.1.1/24"}, more...)
	}
	p := up(t, a.Namespace, flags("--peer", "192.168.52.99", "--fdb", "02:00:00:00:09:01=192.168.52.99")...)
	ping(t, a.Namespace, netip.MustParseAddr("10.0.1.2"), 3)
	for _, args := range [][]string{
		{"peer", "add", c.ip4.String()}, {"fdb", "add", "02:00:00:00:00:77", c.ip4.String()}, {"neigh", "add", "10.0.1.77", "02:00:00:00:00:77"},
	} {
		if o := run(t, a.Namespace, append(args, "--control", p.control)...); o.code != 0 {
			t.Fatalf("%v: %+v", args, o)
		}
	}
	list := func(p *program, what ...string) string {
		o := run(t, a.Namespace, append(what, "--json", "--control", p.control)...)
		if o.code != 0 {
			t.Fatalf("%v: %+v", what, o)
		}
		return o.stdout
	}
	p = p.takeover(govxlan, flags()...)
	table, neighbours := list(p, "fdb", "show"), list(p, "neigh", "show")
	for _, want := range []string{"02:00:00:00:00:77", `"learned"`, c.ip4.String(), b.ip4.String()} {
		if !strings.Contains(table, want) {
			t.Errorf("the FDB has no %s: %s", want, table)
		}
	}
	for _, gone := range []string{"192.168.52.99", "02:00:00:00:09:01"} {
		if strings.Contains(table, gone) {
			t.Errorf("the FDB still has %s: %s", gone, table)
		}
	}
	for _, want := range []string{"10.0.1.77", "10.0.1.2"} {
		if !strings.Contains(neighbours, want) {
			t.Errorf("no neighbour %s: %s", want, neighbours)
		}
	}
	if m := p.status().VNIs[0].Multicast; len(m) != 1 || !m[0].Joined || m[0].Joins != 1 {
		t.Errorf("the multicast group: %+v", m)
	}
	ping(t, a.Namespace, netip.MustParseAddr("10.0.1.2"), 3)
}

// TestTakeoverFails: a successor that cannot, or that dies half-way, changes
// nothing: the one that runs goes on.
func TestTakeoverFails(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "takefail", 2, wiring{})
	a, b := hosts[0], hosts[1]
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	must(t, b.AddAddr("vxlan0", "10.0.1.2/24"))
	far := netip.MustParseAddr("10.0.1.2")
	args := []string{"--vni", "4097", "--peer", b.ip4.String(), "--addr", "10.0.1.1/24"}
	idle := snapshot(t, a.Namespace)
	p := up(t, a.Namespace, args...)
	before := snapshot(t, a.Namespace)
	for _, c := range []struct {
		flags []string
		words []string
	}{
		{[]string{"--queues", "3"}, []string{"--queues", "3", "8"}},
		{[]string{"--ttl", "7"}, []string{"--ttl", "7", "64"}},
		{[]string{"--source-ports", "50000-50010"}, []string{"--source-ports"}},
		{[]string{"--name", "other"}, []string{"other", "vx4097"}},
		{[]string{"--offload", "off"}, []string{"offload"}},
		{[]string{"--transport", "packet"}, []string{"--transport packet"}},
		{[]string{"--netns", b.Path()}, []string{"--netns", "vx4097"}},
	} {
		next := p.successor(govxlan, append(slices.Clone(args), c.flags...)...)
		refusedCmd(t, a.Namespace, next.cmd, 1, c.words)
		ping(t, a.Namespace, far, 1)
	}
	// Killed at any moment of it.
	for i := range 12 {
		next := p.successor(govxlan, args...)
		must(t, next.cmd.Start())
		time.Sleep(time.Duration(i) * 3 * time.Millisecond) // another moment each
		if err := next.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			must(t, next.cmd.Process.Signal(syscall.SIGKILL))
		} else {
			must(t, next.cmd.Process.Signal(syscall.SIGCONT))
			must(t, next.cmd.Process.Signal(syscall.SIGTERM))
		}
		code := next.exit()
		select {
		case <-p.cmd.Exited():
			// It was past the point of no return.
			p.ended = true
			if err := p.cmd.Wait(); err != nil {
				t.Fatalf("round %d: the first: %v", i, err)
			}
			// A ring of the dead holds descriptors for a moment yet.
			eventually(t, func() error {
				if now := snapshot(t, a.Namespace); now != idle {
					return fmt.Errorf("round %d: it was\n%sand is\n%s", i, idle, now)
				}
				return nil
			})
			p = up(t, a.Namespace, args...)
		case <-time.After(50 * time.Millisecond):
			t.Logf("round %d: status %d, the first goes on", i, code)
		}
		ping(t, a.Namespace, far, 1)
	}
	if after := snapshot(t, a.Namespace); len(after) != len(before) {
		t.Errorf("before\n%safter\n%s", before, after)
	}
}

// TestTakeoverOfNothing: it is a start like any other then.
func TestTakeoverOfNothing(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "nothing", 2, wiring{})
	p := up(t, hosts[0].Namespace, "--vni", "4097", "--peer", hosts[1].ip4.String(), "--takeover")
	if !strings.Contains(p.stderr.String(), "starting anew") {
		t.Errorf("it does not say so: %s", p.stderr)
	}
	_, err := control.NewClient(p.control).TakeOver(t.Context(), control.Takeover{Door: "@govxlan-nobody"})
	if err == nil {
		t.Error("it hands over to nobody")
	}
}

// TestTakeoverOfFile: of a file that changed meanwhile the difference is applied;
// VNIs that came by request stay, and are still no matter of the file's.
func TestTakeoverOfFile(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "takefile", 2, wiring{})
	a, b := hosts[0], hosts[1]
	file := filepath.Join(a.LabDir(), "govxlan.yaml")
	write := func(text string) { must(t, os.WriteFile(file, []byte(text), 0o600)) }
	peer := b.ip4.String()
	write("vnis:\n  - {vni: 1, peers: [" + peer + "], addr: [10.1.0.1/24]}\n  - {vni: 2, peers: [" + peer + "]}\n")
	p := up(t, a.Namespace, "--config", file)
	for _, args := range [][]string{
		{"vni", "add", "3", "--peer", peer, "--name", "third"}, {"peer", "add", "192.168.52.77", "--vni", "3"},
	} {
		if o := run(t, a.Namespace, append(args, "--control", p.control)...); o.code != 0 {
			t.Fatalf("%v: %+v", args, o)
		}
	}
	one, three := linkIndex(t, a.Namespace, "vx1"), linkIndex(t, a.Namespace, "third")

	write("vnis:\n  - {vni: 1, peers: [" + peer + "], addr: [10.1.0.1/24], mtu: 1300}\n  - {vni: 4, peers: [" + peer + "]}\n")
	p = p.takeover(govxlan, "--config", file)
	check := func() {
		t.Helper()
		var devices []string
		for _, v := range p.status().VNIs {
			devices = append(devices, v.Device)
		}
		if want := []string{"vx1", "third", "vx4"}; !slices.Equal(devices, want) {
			t.Errorf("devices %v, want %v", devices, want)
		}
		if linkIndex(t, a.Namespace, "vx1") != one || linkIndex(t, a.Namespace, "third") != three {
			t.Error("a device was made anew")
		}
	}
	check()
	if l, err := a.Link("vx1"); err != nil || l.MTU != 1300 {
		t.Errorf("%+v %v", l, err)
	}
	eventually(t, func() error {
		if _, err := a.Link("vx2"); err == nil {
			return fmt.Errorf("vx2 is left")
		}
		return nil
	})
	if peers := p.status().VNIs[1].Peers; len(peers) != 2 {
		t.Errorf("peers of the VNI by request: %+v", peers)
	}
	if o := run(t, a.Namespace, "reload", "--control", p.control); o.code != 0 {
		t.Errorf("reload: %+v", o)
	}
	check()
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
