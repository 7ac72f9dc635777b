// Package dockerlab runs real Docker daemons in the network namespaces of a lab,
// several on one machine, for tests and demonstrations. It needs Debian's docker.io and
// busybox-static, and root.
//
// Each daemon has a mount namespace of its own, with a /run/docker of its own, where
// plugins are found, and a host name of its own. What it mounts goes with it.
package dockerlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"golang.org/x/sys/unix"
)

// Image is the name of the image that each daemon has: busybox with its commands.
const Image = "bb"

const (
	// startPatience is how long a daemon may take to answer.
	startPatience = time.Minute
	// stopPatience is how long it may take to end.
	stopPatience = 30 * time.Second
	tick         = 50 * time.Millisecond
)

// Daemon is a Docker daemon whose host is a namespace.
type Daemon struct {
	ns   *netlab.Namespace
	name string // of the host
	dir  string // of all that it has
	cmd  *netlab.Cmd
	log  *tail
}

// Start runs a daemon, whose host is called name, and gives it the Image. The
// namespace needs a default route if it is to be in a swarm. dir is to be short, for
// the sake of socket paths, and is made; Stop removes it.
func Start(ctx context.Context, ns *netlab.Namespace, dir, name string) (*Daemon, error) {
	d := &Daemon{ns: ns, name: name, dir: dir, log: new(tail)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	err := d.run(ctx)
	if err == nil {
		err = d.load(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("docker daemon %s: %w\n%s", name, err, d.log), d.Stop())
	}
	return d, nil
}

// run starts the process and waits until it answers.
func (d *Daemon) run(ctx context.Context) error {
	script := `hostname "$1" && mkdir -p /run/docker && mount -t tmpfs docker /run/docker && shift && exec "$@"`
	// Not the context: the daemon ends by Stop.
	d.cmd = d.ns.Command(context.WithoutCancel(ctx), "unshare", append([]string{"--mount", "--uts", "--propagation", "private", "sh", "-c", script, "sh", d.name}, d.dockerd()...)...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(startPatience); ; time.Sleep(tick) {
		_, err := d.Docker(ctx, "version")
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(deadline):
			return fmt.Errorf("does not answer: %w", err)
		}
		select {
		case <-d.cmd.Exited():
			return fmt.Errorf("ended: %w", d.cmd.Wait())
		default:
		}
	}
}

// dockerd is its command line. The storage driver vfs copies, but does so on every file
// system, where overlay2 wants to be on one that is no overlay itself.
func (d *Daemon) dockerd() []string {
	return []string{
		"dockerd", "--data-root", d.Data(), "--exec-root", filepath.Join(d.dir, "exec"), "--host", d.Host(),
		"--pidfile", filepath.Join(d.dir, "pid"), "--log-level", "warn", "--iptables=false", "--storage-driver", "vfs", "--shutdown-timeout", "1",
	}
}

// Host is where it answers.
func (d *Daemon) Host() string { return "unix://" + filepath.Join(d.dir, "docker.sock") }

// Data is what /var/lib/docker is elsewhere.
func (d *Daemon) Data() string { return filepath.Join(d.dir, "data") }

// Sandboxes is where it keeps network namespaces, in its own view of the files.
func (d *Daemon) Sandboxes() string { return filepath.Join(d.dir, "exec", "netns") }

// Namespace is its host's.
func (d *Daemon) Namespace() *netlab.Namespace { return d.ns }

// Docker runs the docker command against the daemon and returns what it prints,
// without the last line's end.
func (d *Daemon) Docker(ctx context.Context, args ...string) (string, error) {
	return d.docker(ctx, nil, args...)
}

func (d *Daemon) docker(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"--host", d.Host()}, args...)...)
	cmd.Stdin = in
	var out, failure bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failure
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(failure.String()))
	}
	return strings.TrimRight(out.String(), "\n"), err
}

// Command prepares a program that sees the files and the network that the daemon
// sees: a driver, or a look into a sandbox.
func (d *Daemon) Command(ctx context.Context, name string, args ...string) *netlab.Cmd {
	pid := fmt.Sprint(d.cmd.Process.Pid)
	return d.ns.Command(ctx, "nsenter", append([]string{"--target", pid, "--mount", "--uts", "--", name}, args...)...)
}

// Kill ends the daemon without a word. Containers are left to the next Restart.
func (d *Daemon) Kill() error {
	if err := d.cmd.Process.Kill(); err != nil {
		return err
	}
	<-d.cmd.Exited()
	_ = d.cmd.Wait()
	return nil
}

// Restart ends the daemon, with its containers, and starts it again in the same
// mount namespace, so that plugins are still found.
func (d *Daemon) Restart(ctx context.Context) error {
	mounts, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", d.cmd.Process.Pid))
	if err != nil {
		return err
	}
	defer mounts.Close()
	if err := d.end(); err != nil {
		return err
	}
	d.cmd = d.ns.Command(context.WithoutCancel(ctx), "nsenter", append([]string{fmt.Sprintf("--mount=/proc/%d/fd/%d", os.Getpid(), mounts.Fd()), "--"}, d.dockerd()...)...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(startPatience); ; time.Sleep(tick) {
		_, err := d.Docker(ctx, "version")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("docker daemon %s does not answer after a restart: %w\n%s", d.name, err, d.log)
		}
	}
}

// end has the daemon end its containers and itself.
func (d *Daemon) end() error {
	if d.cmd == nil {
		return nil
	}
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.cmd.Exited():
		_ = d.cmd.Wait()
		return nil
	case <-time.After(stopPatience):
		return errors.Join(fmt.Errorf("docker daemon %s does not end", d.name), d.Kill())
	}
}

// Stop removes the containers, ends the daemon and removes its directory. It goes
// on past errors.
func (d *Daemon) Stop() error {
	var errs []error
	if d.cmd != nil && d.cmd.Process != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		if ids, err := d.Docker(ctx, "ps", "--all", "--quiet"); err == nil && ids != "" {
			_, err := d.Docker(ctx, append([]string{"rm", "--force"}, strings.Fields(ids)...)...)
			errs = append(errs, err)
		}
		errs = append(errs, d.end())
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

// Log is the end of what the daemon said.
func (d *Daemon) Log() string { return d.log.String() }

// tail keeps the end of what is written.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
