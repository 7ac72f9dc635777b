package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	api "github.com/docker/go-plugins-helpers/network"
	"github.com/govxlan/govxlan/internal/dockerlab"
)

// TestDockerMembers: nodes that know one address and a key find each other and
// each other's containers: nothing is learned, and what moves is followed.
func TestDockerMembers(t *testing.T) {
	t.Parallel()
	for _, layout := range dockerLayouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "dkmem", 2, wiring{})
			a, b := newDockerHost(t, hosts[0]), newDockerHost(t, hosts[1])
			before := snapshot(t, a.Namespace)
			options := map[string]string{
				"layout": layout, "join": a.ip4.String(), "key": strings.Repeat("5e", 32), "learning": "false",
			}
			must(t, a.create(networkA, options))
			must(t, b.create(networkB, options))
			near, far := a.run("near", networkA, "10.0.1.100"), b.run("far", networkB, "10.0.1.103")
			// knows says what a host's VTEP has of a MAC.
			knows := func(d *dockerHost, mac, vtep string) {
				t.Helper()
				eventually(t, func() error {
					o := run(t, d.Namespace, "fdb", "show")
					n := run(t, d.Namespace, "neigh", "show")
					for line := range strings.Lines(o.stdout) {
						if f := strings.Fields(line); len(f) > 4 && f[1] == mac && f[2] == vtep && f[4] == "static" && strings.Contains(n.stdout, mac) {
							return nil
						}
					}
					if vtep == "" && !strings.Contains(o.stdout, mac) && !strings.Contains(n.stdout, mac) {
						return nil
					}
					return fmt.Errorf("want %s behind %q: %s%s%s%s", mac, vtep, o.stdout, o.stderr, n.stdout, n.stderr)
				})
			}
			knows(a, far.mac, b.ip4.String())
			knows(b, near.mac, a.ip4.String())
			ping(t, near.Namespace, far.addr, 3)
			must(t, transfer(far.Namespace, near.Namespace, near.addr, 1<<20))

			far.leave()
			knows(a, far.mac, "")
			moved := a.run("moved", networkA, "10.0.1.103")
			knows(b, moved.mac, a.ip4.String())
			ping(t, near.Namespace, moved.addr, 1, "-W", "1")
			moved.leave()
			back := b.run("back", networkB, "10.0.1.103")
			knows(a, back.mac, b.ip4.String())
			ping(t, near.Namespace, back.addr, 1, "-W", "1")

			// Who is killed and comes again is known again, and knows.
			b.stop(syscall.SIGKILL)
			b.start()
			knows(b, near.mac, a.ip4.String())
			knows(a, back.mac, b.ip4.String())
			ping(t, near.Namespace, back.addr, 3)

			// Who goes is forgotten.
			must(t, b.call("DeleteNetwork", api.DeleteNetworkRequest{NetworkID: networkB}, nil))
			knows(a, back.mac, "")
			if o := run(t, a.Namespace, "fdb", "show"); strings.Contains(o.stdout, b.ip4.String()) {
				t.Errorf("the peer that has gone: %s", o.stdout)
			}
			must(t, a.call("DeleteNetwork", api.DeleteNetworkRequest{NetworkID: networkA}, nil))
			if after := snapshot(t, a.Namespace); after != before {
				t.Errorf("something is left: before\n%safter\n%s", before, after)
			}
		})
	}
}

// TestDockerAllocate: a manager chooses once, for all nodes, and says the same
// after a restart.
func TestDockerAllocate(t *testing.T) {
	t.Parallel()
	d := newDockerHost(t, newHosts(t, "dkall", 2, wiring{})[0])
	allocate := func(id string, options map[string]string) (map[string]string, error) {
		var r api.AllocateNetworkResponse
		err := d.call("AllocateNetwork", api.AllocateNetworkRequest{NetworkID: id, Options: options}, &r)
		return r.Options, err
	}
	if _, err := allocate("n1", nil); err == nil || !strings.Contains(err.Error(), "--advertise-addr") {
		t.Errorf("before Docker has told an address: %v", err)
	}
	must(t, d.call("DiscoverNew", api.DiscoveryNotification{DiscoveryType: 1, DiscoveryData: map[string]any{"Address": "192.168.52.203", "Self": true}}, nil))
	first, err := allocate("n1", map[string]string{"layout": "direct"})
	must(t, err)
	if first["vni"] != "4097" || first["join"] != "192.168.52.203:7947" || len(first["key"]) != 64 || first["layout"] != "direct" {
		t.Errorf("all nodes are told %v", first)
	}
	second, err := allocate("n2", nil)
	must(t, err)
	if second["vni"] != "4098" || second["join"] != "192.168.52.203:7948" || second["key"] == first["key"] {
		t.Errorf("of the second network all nodes are told %v", second)
	}
	listed, err := allocate("n3", map[string]string{"vni": "9", "peers": "192.168.52.204"})
	if must(t, err); listed["join"] != "" || listed["vni"] != "9" {
		t.Errorf("of one with a list of peers all nodes are told %v", listed)
	}
	for _, wrong := range []map[string]string{{"vni": "9"}, {"colour": "blue"}, {"join": "192.168.52.204"}, {"key": "5e"}} {
		if got, err := allocate("n4", wrong); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v %v, want one sentence", wrong, got, err)
		}
	}
	d.stop(syscall.SIGKILL)
	d.start()
	again, err := allocate("n1", nil)
	if must(t, err); fmt.Sprint(again) != fmt.Sprint(first) {
		t.Errorf("after a restart all nodes are told %v, before %v", again, first)
	}
	// The manager's own node serves what it has chosen.
	must(t, d.create("n1", first))
	for _, id := range []string{"n1", "n2", "n3", "n4"} {
		must(t, d.call("DeleteNetwork", api.DeleteNetworkRequest{NetworkID: id}, nil))
		must(t, d.call("FreeNetwork", api.FreeNetworkRequest{NetworkID: id}, nil))
	}
	left, err := os.ReadDir(d.state())
	if must(t, err); len(left) != 1 || left[0].Name() != "node.json" {
		t.Errorf("state: %v, want this node's address alone", left)
	}
}

// TestDockerSwarm: a swarm of two nodes, with the driver as a managed plugin: one
// command on the manager makes a network of all, and no option is needed.
func TestDockerSwarm(t *testing.T) {
	t.Parallel()
	nodes := newDockerNodes(t, "dkswarm", false)
	a, b := nodes[0], nodes[1]
	dir := filepath.Join(t.TempDir(), "plugin")
	program := filepath.Join(t.TempDir(), "govxlan")
	buildStatic(t, program)
	if o := runCmd(t, a.host.Command(t.Context(), program, "docker-plugin", "pack", dir)); o.code != 0 {
		t.Fatalf("pack: %+v", o)
	}
	refusedCmd(t, a.host.Namespace, a.host.Command(t.Context(), program, "docker-plugin", "pack", dir), 1, []string{dir, "not empty"})
	newSwarm(a, b)
	for _, n := range nodes {
		n.do("plugin", "create", "govxlan", dir)
		n.do("plugin", "enable", "govxlan")
	}
	a.do("network", "create", "-d", "govxlan:latest", "--attachable", "--subnet", "10.0.1.0/24", "my-overlay")
	for i, n := range nodes {
		// Docker looks for the image's registry first, for a while.
		a.do("service", "create", "--detach", "--no-resolve-image", "--stop-grace-period", "1s", "--name", fmt.Sprintf("task%d", i),
			"--constraint", "node.id=="+n.do("info", "--format", "{{.Swarm.NodeID}}"), "--network", "my-overlay", dockerlab.Image, "sleep", "9999")
	}
	a.run("c1", "my-overlay", "10.0.1.100")
	b.run("c3", "my-overlay", "10.0.1.103")
	a.shell("c1", "ping -c 2 -W 5 10.0.1.103")
	// By name, over nodes.
	a.shell("c1", "ping -c 1 -W 5 c3")
	b.shell("c3", "ping -c 1 -W 5 c1")
	var tasks [2]string
	for i, n := range nodes {
		eventually(t, func() error {
			id := n.do("ps", "--quiet", "--filter", fmt.Sprintf("label=com.docker.swarm.service.name=task%d", i))
			if id == "" {
				return fmt.Errorf("no task on %s: %s", n.Name(), a.do("service", "ps", "--no-trunc", fmt.Sprintf("task%d", i)))
			}
			tasks[i] = id
			return nil
		})
	}
	for i, n := range nodes {
		address := nodes[1-i].do("inspect", "--format", "{{(index .NetworkSettings.Networks \"my-overlay\").IPAddress}}", tasks[1-i])
		n.shell(tasks[i], "ping -c 2 -W 5 "+address)
	}

	a.do("service", "rm", "task0", "task1")
	for _, n := range nodes {
		n.do("rm", "--force", map[*dockerNode]string{a: "c1", b: "c3"}[n])
	}
	eventually(t, func() error {
		_, err := a.Docker(t.Context(), "network", "rm", "my-overlay")
		if err != nil && strings.Contains(err.Error(), "not found") {
			err = nil
		}
		return err
	})
	for _, n := range nodes {
		eventually(t, func() error {
			if s := snapshot(t, n.host.Namespace); strings.Contains(s, ":2118") { // 8472
				return fmt.Errorf("the VTEP is left on %s: %s", n.Name(), s)
			}
			return nil
		})
		n.do("plugin", "disable", "--force", "govxlan")
		n.do("plugin", "rm", "govxlan")
		n.do("swarm", "leave", "--force")
	}
}
