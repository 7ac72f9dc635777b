package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
)

// busyPair is an endpoint with a kernel peer and a stream of frames towards it
// that lasts until the test ends.
func busyPair(t *testing.T, label string, flags ...string) (a *host, p *program) {
	t.Helper()
	hosts := newHosts(t, label, 2, wiring{})
	a = hosts[0]
	hosts[1].kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	far := openPort(t, hosts[1].Namespace, "vxlan0", false)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := uint32(0); ; n++ {
			select {
			case <-stop:
				return
			default:
				_ = far.trySend(testFrame(broadcast, station(2), nil, 1000, n))
			}
			if n%64 == 63 {
				time.Sleep(time.Millisecond) // leave the CPU to the others
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return a, up(t, a.Namespace, append([]string{"--vni", "4097", "--peer", hosts[1].ip4.String()}, flags...)...)
}

// TestEndsOnSignal: one signal or many, in the middle of traffic: status 0,
// and nothing is left.
func TestEndsOnSignal(t *testing.T) {
	t.Parallel()
	for _, offload := range []string{"auto", "off"} {
		for _, c := range []struct {
			name   string
			signal syscall.Signal
			times  int
		}{{"SIGTERM", syscall.SIGTERM, 1}, {"SIGINT", syscall.SIGINT, 1}, {"SIGINT again and again", syscall.SIGINT, 30}} {
			t.Run(c.name+"/offload="+offload, func(t *testing.T) {
				t.Parallel()
				_, p := busyPair(t, "signal", "--offload", offload)
				start := time.Now()
				for range c.times {
					// It may be gone already.
					if err := p.cmd.Process.Signal(c.signal); err != nil && err != os.ErrProcessDone {
						t.Fatal(err)
					}
				}
				if code := p.exit(); code != 0 {
					t.Errorf("exit status %d", code)
				}
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("it took %v to end", took)
				}
				p.gone()
				if !strings.Contains(p.stderr.String(), "endpoint is down") {
					t.Errorf("it did not say that it ended: %s", p.stderr)
				}
			})
		}
	}
}

// TestEndsWhileStarting: a signal at any moment of the start leaves nothing.
func TestEndsWhileStarting(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "early", 2, wiring{})
	a := hosts[0]
	before := snapshot(t, a.Namespace)
	for i := range 15 {
		p := prepare(t, a.Namespace, "--vni", "4097", "--peer", hosts[1].ip4.String())
		must(t, p.cmd.Start())
		// This is not to wait for anything: each round hits another moment.
		time.Sleep(time.Duration(i) * 2 * time.Millisecond)
		p.signal(syscall.SIGTERM)
		// -1: it had not begun to listen to signals, or to make anything.
		if code := p.exit(); code != 0 && code != -1 {
			t.Errorf("round %d: exit status %d: %s", i, code, p.stderr)
		}
		if after := snapshot(t, a.Namespace); after != before {
			t.Errorf("round %d left something: before\n%safter\n%s", i, before, after)
		}
		p.gone()
	}
}

// TestStartsAgainAfterKill: what a killed one leaves, a control socket, is not
// in the way of the next.
func TestStartsAgainAfterKill(t *testing.T) {
	t.Parallel()
	a, first := busyPair(t, "kill")
	for range 3 {
		first.signal(syscall.SIGKILL)
		if code := first.exit(); code != -1 {
			t.Errorf("exit status %d", code)
		}
		next := prepare(t, a.Namespace)
		next.control = first.control
		next.cmd = a.Command(context.Background(), first.cmd.Path, first.cmd.Args[1:]...)
		next.cmd.Stdout, next.cmd.Stderr = next.stdout, next.stderr
		next.start()
		if next.upLine() != first.upLine() {
			t.Errorf("it is another one now: %q, was %q", next.upLine(), first.upLine())
		}
		near := openPort(t, a.Namespace, next.device(), false)
		if near.recvTest(deadline()) == nil {
			t.Error("no frame arrives")
		}
		first = next
	}
}

// TestStatusBesideTheDead: the socket that a killed endpoint left does not keep
// the commands from finding the one that lives.
func TestStatusBesideTheDead(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "dead", 2, wiring{})
	a := hosts[0]
	var path string
	must(t, a.Do(func() (err error) {
		path, err = control.DefaultPath(5000)
		return err
	}))
	t.Cleanup(func() { os.Remove(path) })
	for _, c := range []struct {
		port string
		end  syscall.Signal
	}{{"5000", syscall.SIGKILL}, {"5001", syscall.SIGTERM}} {
		cmd := a.Command(context.Background(), govxlan, "up", "--vni", c.port, "--port", c.port, "--peer", hosts[1].ip4.String())
		out := newOutput()
		cmd.Stdout = out
		must(t, cmd.Start())
		select {
		case <-out.line:
		case <-cmd.Exited():
			t.Fatal(cmd.Wait())
		}
		if o := run(t, a.Namespace, "status", "--json"); o.code != 0 || !strings.Contains(o.stdout, fmt.Sprintf(`"vni": %s`, c.port)) {
			t.Errorf("status of %s: %+v", c.port, o)
		}
		must(t, cmd.Process.Signal(c.end))
		<-cmd.Exited()
		if o := run(t, a.Namespace, "status"); o.code != 1 || !strings.Contains(o.stderr, "govxlan up") {
			t.Errorf("status after the end of %s: %+v", c.port, o)
		}
	}
}

// TestDeviceDeleted: when somebody deletes the TAP the program ends, with
// status 1 and the reason.
func TestDeviceDeleted(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{{"--offload", "auto"}, {"--offload", "off"}, {"--offload", "auto", "--queues", "3"}, {"--busy-poll", "100us"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			t.Parallel()
			a, p := busyPair(t, "deleted", flags...)
			must(t, a.DelLink(p.device()))
			if code := p.exit(); code != 1 {
				t.Errorf("exit status %d, want 1", code)
			}
			p.gone()
			lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "govxlan: ") || !strings.Contains(last, p.device()) || !strings.Contains(last, "gone") {
				t.Errorf("its last words: %q", last)
			}
		})
	}
}

// TestStandardOutputClosed: nobody reads the line: without a file it goes on,
// with a broken pipe it ends with status 1 and a sentence.
func TestStandardOutputClosed(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "stdout", 2, wiring{})
	a := hosts[0]
	flags := []string{"--vni", "4097", "--peer", hosts[1].ip4.String()}

	t.Run("broken pipe", func(t *testing.T) {
		before := snapshot(t, a.Namespace)
		p := prepare(t, a.Namespace, flags...)
		r, w, err := os.Pipe()
		must(t, err)
		must(t, r.Close())
		p.cmd.Stdout = w
		must(t, p.cmd.Start())
		must(t, w.Close())
		if code := p.exit(); code != 1 {
			t.Errorf("exit status %d, want 1", code)
		}
		if !strings.Contains(p.stderr.String(), "govxlan: standard output: ") {
			t.Errorf("standard error: %q", p.stderr)
		}
		if after := snapshot(t, a.Namespace); after != before {
			t.Errorf("it left something: before\n%safter\n%s", before, after)
		}
		p.gone()
	})

	t.Run("no file", func(t *testing.T) {
		p := prepare(t, a.Namespace, flags...)
		p.cmd.Path = "/bin/sh"
		p.cmd.Args = append([]string{"sh", "-c", `exec "$0" "$@" >&-`}, p.cmd.Args...)
		must(t, p.cmd.Start())
		eventually(t, func() error {
			_, err := control.NewClient(p.control).Status(t.Context())
			return err
		})
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("exit status %d, want 0: %s", code, p.stderr)
		}
		p.gone()
	})
}

// TestStandardErrorBroken: an endpoint outlives whoever read its log.
func TestStandardErrorBroken(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "stderr", 2, wiring{})
	a := hosts[0]
	p := prepare(t, a.Namespace, "--vni", "4097", "--peer", hosts[1].ip4.String())
	r, w, err := os.Pipe()
	must(t, err)
	must(t, r.Close())
	p.cmd.Stderr = w
	p.start()
	must(t, w.Close())
	p.stop() // logs a line, too
}
