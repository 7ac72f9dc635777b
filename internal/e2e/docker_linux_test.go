package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/dockerlab"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
)

// dockerNode is a host with a real Docker daemon and the driver.
type dockerNode struct {
	*host
	*dockerlab.Daemon
	t      *testing.T
	driver *netlab.Cmd
	log    *output
	state  string
}

// newDockerNodes makes hosts with default routes and starts daemons and drivers on
// them.
func newDockerNodes(t *testing.T, label string, drivers bool) []*dockerNode {
	t.Helper()
	return dockerNodesOn(t, newHosts(t, label, 2, wiring{}), drivers)
}

func dockerNodesOn(t *testing.T, hosts []*host, drivers bool) []*dockerNode {
	t.Helper()
	var nodes []*dockerNode
	var starts errgroup.Group
	for i, h := range hosts {
		must(t, h.AddRoute("0.0.0.0/0", "", "ens160"))
		dir, err := os.MkdirTemp("", "gvxdk")
		must(t, err)
		n := &dockerNode{host: h, t: t, state: filepath.Join(t.TempDir(), "state")}
		nodes = append(nodes, n)
		starts.Go(func() (err error) {
			n.Daemon, err = dockerlab.Start(t.Context(), h.Namespace, dir, fmt.Sprintf("node%c", 'A'+i))
			return err
		})
		t.Cleanup(func() {
			if n.Daemon == nil {
				return
			}
			if t.Failed() {
				t.Logf("%s: the driver: %s\nDocker: %s", h.Name(), n.log, n.Log())
			}
			// Docker first: it asks the driver to remove what containers have.
			if err := n.Stop(); err != nil {
				t.Error(err)
			}
			if n.driver != nil {
				n.stopDriver(syscall.SIGTERM)
			}
		})
	}
	must(t, starts.Wait())
	for _, n := range nodes {
		if n.log = newOutput(); drivers {
			n.startDriver()
		}
	}
	return nodes
}

// newSwarm makes a swarm of two nodes, of which the first is the manager.
func newSwarm(a, b *dockerNode) {
	a.t.Helper()
	a.do("swarm", "init", "--advertise-addr", a.ip4.String(), "--listen-addr", a.ip4.String()+":2377")
	b.do("swarm", "join", "--advertise-addr", b.ip4.String(), "--listen-addr", b.ip4.String()+":2377",
		"--token", a.do("swarm", "join-token", "--quiet", "worker"), a.ip4.String()+":2377")
}

func (n *dockerNode) startDriver() {
	n.t.Helper()
	n.log = newOutput()
	n.driver = n.Daemon.Command(context.Background(), govxlan, "docker-plugin", "--state", n.state)
	n.driver.Stdout, n.driver.Stderr = n.log, n.log
	must(n.t, n.driver.Start())
	eventually(n.t, func() error {
		if !strings.Contains(n.log.String(), "the driver is ready") {
			return fmt.Errorf("the driver is not ready: %s", n.log)
		}
		return nil
	})
}

// stopDriver ends the driver. nsenter has become the driver: its PID is the
// driver's.
func (n *dockerNode) stopDriver(s syscall.Signal) {
	n.t.Helper()
	must(n.t, n.driver.Process.Signal(s))
	<-n.driver.Exited()
	_ = n.driver.Wait()
	n.driver = nil
}

// with is the node for a subtest.
func (n *dockerNode) with(t *testing.T) *dockerNode {
	m := *n
	m.t = t
	return &m
}

// do runs docker, which must succeed.
func (n *dockerNode) do(args ...string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 2*patience)
	defer cancel()
	out, err := n.Docker(ctx, args...)
	must(n.t, err)
	return out
}

// run starts a container that does nothing. It ends soon when Docker does: sleep
// does not by itself.
func (n *dockerNode) run(name, network, ip string) {
	n.t.Helper()
	n.do("run", "-d", "--stop-timeout", "1", "--name", name, "--network", network, "--ip", ip, dockerlab.Image, "sleep", "9999")
}

// shell runs a line in a container.
func (n *dockerNode) shell(container, line string) string {
	n.t.Helper()
	return n.do("exec", container, "sh", "-c", line)
}

// links names what there is on the host but Docker's own bridges and their ports.
func (n *dockerNode) links() (names []string) {
	n.t.Helper()
	must(n.t, n.host.Do(func() error {
		all, err := netlink.LinkList()
		for _, l := range all {
			own := l.Attrs().MasterIndex != 0 || strings.HasPrefix(l.Attrs().Name, "docker")
			if !own {
				names = append(names, l.Attrs().Name)
			}
		}
		return err
	}))
	return names
}

// TestDocker: two real Docker daemons, with networks of both layouts.
func TestDocker(t *testing.T) {
	t.Parallel()
	nodes := newDockerNodes(t, "docker2", true)
	a, b := nodes[0], nodes[1]
	before := a.links()
	peers := "peers=" + a.ip4.String() + "," + b.ip4.String()
	layouts := []struct{ name, layout, vni, net string }{{"ovb", "bridge", "4097", "10.0.1"}, {"ovd", "direct", "4098", "10.0.2"}}
	for _, l := range layouts {
		for _, n := range nodes {
			n.do("network", "create", "-d", "govxlan", "--subnet", l.net+".0/24", "-o", "vni="+l.vni, "-o", peers, "-o", "layout="+l.layout, l.name)
		}
		a.run(l.name+"1", l.name, l.net+".100")
		b.run(l.name+"2", l.name, l.net+".103")
	}
	// One clear sentence, and nothing half-made.
	for _, wrong := range []struct{ words, options []string }{
		{[]string{"VNI 4097", "already"}, []string{"--subnet", "10.0.9.0/24", "-o", "vni=4097"}},
		{[]string{"overlap"}, []string{"--subnet", "10.0.1.0/25", "-o", "vni=9"}},
		{[]string{"no-such.invalid"}, []string{"--subnet", "10.0.9.0/24", "-o", "peers=no-such.invalid"}},
	} {
		_, err := a.Docker(t.Context(), append(append([]string{"network", "create", "-d", "govxlan"}, wrong.options...), "wrong")...)
		for _, w := range wrong.words {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("network create %v: %v, want %q", wrong.options, err, w)
			}
		}
	}
	if names := a.do("network", "ls", "--format", "{{.Name}}"); strings.Contains(names, "wrong") {
		t.Errorf("networks: %s", names)
	}

	t.Run("layouts", func(t *testing.T) {
		for _, l := range layouts {
			t.Run(l.layout, func(t *testing.T) {
				t.Parallel()
				dockerWalk(t, a.with(t), b.with(t), l.name, l.net)
			})
		}
	})

	// The driver is killed while packets flow, and goes on.
	for _, l := range layouts {
		a.shell(l.name+"1", "ping -i 0.1 "+l.net+".103 < /dev/null > /tmp/pings 2>&1 &")
	}
	a.stopDriver(syscall.SIGKILL)
	a.startDriver()
	for _, l := range layouts {
		a.shell(l.name+"1", "n=$(wc -l < /tmp/pings); until [ $(wc -l < /tmp/pings) -gt $((n+5)) ]; do sleep 0.1; done")
		a.shell(l.name+"1", "ping -c 1 -W 5 "+l.net+".103")
	}

	// Docker is restarted: containers that are started again have their networks.
	must(t, a.Restart(t.Context()))
	for _, l := range layouts {
		a.do("start", l.name+"1")
		a.shell(l.name+"1", "ping -c 1 -W 5 "+l.net+".103")
	}

	for _, n := range nodes {
		n.do(append([]string{"rm", "--force"}, strings.Fields(n.do("ps", "--all", "--quiet"))...)...)
		for _, l := range layouts {
			n.do("network", "rm", l.name)
		}
		if left, err := os.ReadDir(n.state); err != nil || len(left) > 0 {
			t.Errorf("%s: state is left: %v %v", n.Name(), left, err)
		}
		if s := snapshot(t, n.host.Namespace); strings.Contains(s, strconv.FormatInt(4789, 16)) {
			t.Errorf("%s: the socket is left: %s", n.Name(), s)
		}
	}
	if after := a.links(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("links %v before, %v after", before, after)
	}
	sandboxes, err := a.Daemon.Command(t.Context(), "ls", "/run/docker/netns").Output()
	if err != nil || strings.Contains(string(sandboxes), "gvx") {
		t.Errorf("sandboxes are left: %s %v", sandboxes, err)
	}
}

// dockerWalk: containers reach each other, restart, and move.
func dockerWalk(t *testing.T, a, b *dockerNode, name, net string) {
	near, far := name+"1", name+"2"
	a.shell(near, "ping -c 2 -W 5 "+net+".103")
	// By name, among those of one daemon.
	a.do("run", "--rm", "--network", name, dockerlab.Image, "ping", "-c", "1", "-W", "5", near)
	sum := b.shell(far, "dd if=/dev/urandom of=/www/file bs=1M count=100 2>/dev/null; httpd -h /www < /dev/null > /dev/null 2>&1; md5sum < /www/file")
	if got := a.shell(near, "wget -q -O - http://"+net+".103/file | md5sum"); got != sum {
		t.Errorf("%s: 100 MB by HTTP have the checksum %s, want %s", name, got, sum)
	}
	a.do("restart", "--time", "0", near)
	a.shell(near, "ping -c 1 -W 5 "+net+".103")

	// It moves: the far one goes, and comes on this node with its address.
	b.do("rm", "--force", far)
	a.run(far, name, net+".103")
	a.shell(near, "ping -c 1 -W 1 "+net+".103")
	third := name + "3"
	b.run(third, name, net+".104")
	b.shell(third, "ping -c 1 -W 1 "+net+".103")
	a.do("rm", "--force", far)
	b.run(far, name, net+".103")
	began := time.Now()
	a.shell(near, "until ping -c 1 -W 1 "+net+".103; do :; done")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%s: traffic follows a container that has moved after %v", name, took)
	}
}
