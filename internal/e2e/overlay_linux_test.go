package e2e

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/dockeroverlay"
)

// overlay runs `govxlan overlay` where a node's Docker sees files.
func (n *dockerNode) overlay(args ...string) outcome {
	n.t.Helper()
	args = append([]string{"overlay"}, append(args, "--sandboxes", n.Sandboxes(), "--docker", n.Host())...)
	return runCmd(n.t, n.Daemon.Command(n.t.Context(), govxlan, args...))
}

// TestDockerOverlay: a host that is no node of a swarm joins an overlay network that
// Docker made with the kernel's vxlan, and leaves it.
func TestDockerOverlay(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "dkover", 3, wiring{})
	nodes := dockerNodesOn(t, hosts[:2], false)
	a, b, third := nodes[0], nodes[1], hosts[2]
	newSwarm(a, b)
	for _, args := range [][]string{{"inspect"}, {"inspect", "my-overlay"}, {"export", "4097"}} {
		if o := a.overlay(args...); o.code != 1 || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, "no") {
			t.Errorf("overlay %v before there is one: %+v", args, o)
		}
	}
	a.do("network", "create", "-d", "overlay", "--attachable", "--subnet", "10.0.1.0/24", "my-overlay")
	a.run("c1", "my-overlay", "10.0.1.100")
	b.run("c3", "my-overlay", "10.0.1.103")
	a.shell("c1", "ping -c 2 -W 5 10.0.1.103")

	o := a.overlay("inspect", "my-overlay", "--json")
	var all []dockeroverlay.Network
	if o.code != 0 || o.stderr != "" || json.Unmarshal([]byte(o.stdout), &all) != nil || len(all) != 1 {
		t.Fatalf("inspect: %+v", o)
	}
	n := all[0]
	if n.Name != "my-overlay" || n.VNI != 4097 || n.Port != 4789 || n.MTU != 1450 || n.Local != a.ip4 ||
		len(n.Subnets) != 1 || n.Subnets[0] != netip.MustParsePrefix("10.0.1.0/24") {
		t.Errorf("the network: %+v", n)
	}
	station := func(ip string) (found dockeroverlay.Station) {
		t.Helper()
		for _, s := range n.Stations {
			if s.IP.String() == ip {
				found = s
			}
		}
		return found
	}
	if c1 := station("10.0.1.100"); !c1.Here || c1.Name != "c1" || c1.VTEP != a.ip4 || c1.MAC.String() != "02:42:0a:00:01:64" {
		t.Errorf("c1 is %+v", c1)
	}
	if c3 := station("10.0.1.103"); c3.Here || c3.VTEP != b.ip4 || !c3.Entry || !c3.Neighbour || c3.MAC.String() != "02:42:0a:00:01:67" {
		t.Errorf("c3 is %+v", c3)
	}
	if o := a.overlay("inspect"); o.code != 0 || !strings.Contains(o.stdout, "my-overlay  vni 4097  port 4789  mtu 1450  local 192.168.52.203\n") ||
		!strings.Contains(o.stdout, "c1\n") {
		t.Errorf("inspect: %+v", o)
	}
	if o := a.overlay("inspect", "other"); o.code != 1 || !strings.Contains(o.stderr, "my-overlay (VNI 4097)") {
		t.Errorf("a network that is not there: %+v", o)
	}

	doctor := runCmd(t, a.Daemon.Command(t.Context(), govxlan, "doctor", "--docker="+a.Host(), "--sandboxes", a.Sandboxes()))
	if !strings.Contains(doctor.stdout, "Docker's overlay network my-overlay (VNI 4097):") || strings.Contains(doctor.stdout, "FAIL  docker-overlay") {
		t.Errorf("doctor: %+v", doctor)
	}
	names := filepath.Join(t.TempDir(), "names.json")
	must(t, os.WriteFile(names, []byte(o.stdout), 0o644))
	const packet = "02420a0000670242c0a834cb08004500002c00010000401100000a0001640a000167" // not of a tunnel: its addresses are enough
	if o := run(t, third.Namespace, "decode", "--names", names, packet); !strings.Contains(o.stdout, "c1 behind 192.168.52.203") {
		t.Errorf("decode: %+v", o)
	}

	o = a.overlay("export", "my-overlay", "--addr", "10.0.1.200/24")
	if o.code != 0 {
		t.Fatalf("export: %+v", o)
	}
	file := filepath.Join(t.TempDir(), "my-overlay.yaml")
	must(t, os.WriteFile(file, []byte(o.stdout), 0o644))
	const mac = "02:00:00:00:01:c8"
	p := up(t, third.Namespace, "--config", file, "--mac", mac)
	// What Docker's device learns of the guest comes and goes by itself.
	sandbox := func(n *dockerNode) string {
		t.Helper()
		path := filepath.Join(n.Sandboxes(), "1-"+all[0].ID[:10])
		out, err := n.Daemon.Command(t.Context(), "nsenter", "--net="+path, "sh", "-c",
			"(bridge fdb show dev vxlan0; ip neigh show dev vxlan0) | grep -i permanent | sort").CombinedOutput()
		if err != nil {
			t.Fatalf("the sandbox of %s: %v: %s", n.Name(), err, out)
		}
		return string(out)
	}
	var before []string
	newcomer := []string{"my-overlay", "--vtep", third.ip4.String(), "--mac", mac, "--ip", "10.0.1.200"}
	for _, n := range nodes {
		before = append(before, sandbox(n))
		taken := []string{"attach", "my-overlay", "--vtep", third.ip4.String(), "--mac", mac, "--ip", "10.0.1.100"}
		if o := n.overlay(taken...); o.code != 1 || !strings.Contains(o.stderr, "taken") {
			t.Errorf("the address of a container: %+v", o)
		}
		for range 2 { // it may be said twice
			if o := n.overlay(append([]string{"attach"}, newcomer...)...); o.code != 0 || o.stdout+o.stderr != "" {
				t.Fatalf("attach: %+v", o)
			}
		}
	}
	for _, ip := range []string{"10.0.1.100", "10.0.1.103"} {
		ping(t, third.Namespace, netip.MustParseAddr(ip), 3)
	}
	a.shell("c1", "ping -c 2 -W 5 10.0.1.200")
	b.shell("c3", "ping -c 2 -W 5 10.0.1.200")
	// What it exports of a network with a guest is for others than the guest.
	if o := a.overlay("export", "my-overlay", "--vtep", third.ip4.String()); o.code != 0 || strings.Contains(o.stdout, third.ip4.String()) {
		t.Errorf("export for the guest: %+v", o)
	}
	for i, n := range nodes {
		if o := n.overlay(append([]string{"detach"}, newcomer...)...); o.code != 0 || o.stdout+o.stderr != "" {
			t.Errorf("detach: %+v", o)
		}
		if after := sandbox(n); after != before[i] {
			t.Errorf("something is left in the sandbox: before\n%safter\n%s", before[i], after)
		}
		if o := n.overlay(append([]string{"detach"}, newcomer...)...); o.code != 1 || !strings.Contains(o.stderr, "not attached") {
			t.Errorf("detach again: %+v", o)
		}
	}
	p.stop()
	a.do("rm", "--force", "c1")
	b.do("rm", "--force", "c3")
	for _, n := range nodes {
		n.do("swarm", "leave", "--force")
	}
}
