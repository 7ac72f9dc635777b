package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestCNIFails: an ADD that cannot be done says why, with the code of the
// specification, and leaves nothing.
func TestCNIFails(t *testing.T) {
	t.Parallel()
	c := newCNIHost(t, newHosts(t, "cnifail", 2, wiring{})[0], "fails")
	container := netlabtest.Namespace(t, c.lab, "container")
	must(t, c.Do(func() error { // a bridge of somebody else, with an address of its own
		return firstError(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br7"}}))
	}))
	must(t, c.AddAddr("br7", "10.7.0.9/16"))
	if o := run(t, c.Namespace, "vni", "add", "4099", "--control", c.p.control); o.code != 0 {
		t.Fatal(o)
	}
	c.install(t, "--subnet", "10.7.0.0/16", "--range", "10.7.3.2-10.7.3.3", "--gateway", "10.7.3.1")
	clean := c.unchanged(t)
	pool := func(conf map[string]any) map[string]any {
		return map[string]any{"ipam": map[string]any{"type": "host-local", "dataDir": c.ipam, "ranges": []any{[]any{conf}}}}
	}
	for _, tc := range []struct {
		name    string
		changes map[string]any
		netns   string
		code    uint
		words   string
	}{
		{"no VNI, and none to be added", map[string]any{"addVNI": false}, "", types.ErrTryAgainLater, "has no VNI 4097, and addVNI is false"},
		{"no endpoint", map[string]any{"control": "/run/govxlan/no.sock"}, "", types.ErrTryAgainLater, "no endpoint runs"},
		{"no bridge under the VNI", map[string]any{"vni": 4099}, "", types.ErrInvalidNetworkConfig, `on no bridge: give the endpoint's VNI "bridge: vxbr4099"`},
		{"an MTU too large", map[string]any{"mtu": 1451}, "", types.ErrInvalidNetworkConfig, "carries no more than 1450"},
		{"two gateways", map[string]any{"bridge": "br7", "isGateway": true}, "", types.ErrInvalidNetworkConfig, "br7 has 10.7.0.9/16, but its gateway is to be 10.7.3.1/16"},
		{"a bridge that is none", map[string]any{"bridge": "ens160"}, "", types.ErrInvalidNetworkConfig, "it is a veth"},
		{"an unknown key", map[string]any{"peer": "192.168.52.204"}, "", types.ErrUnsupportedField, `knows no key "peer" (its value is "192.168.52.204")`},
		{"a wrong option", map[string]any{"options": map[string]any{"ttl": 300}}, "", types.ErrInvalidNetworkConfig, "ttl"},
		{"an option that the endpoint refuses", map[string]any{"options": map[string]any{"name": "ens160"}}, "", types.ErrTryAgainLater, "ens160"},
		{"no VNI", map[string]any{"vni": 1 << 24}, "", types.ErrInvalidNetworkConfig, "from 0 to 16777215"},
		{"no namespace", nil, "/run/netns/nobody", types.ErrInvalidNetNS, "no such network namespace"},
		{"the host's namespace", nil, c.Path(), types.ErrInvalidNetNS, "of the host"},
		{"an empty pool", pool(map[string]any{"subnet": "10.7.0.0/30", "rangeStart": "10.7.0.1", "rangeEnd": "10.7.0.1", "gateway": "10.7.0.1"}), "", types.ErrInternal, "no IP addresses available"},
		{"no such IPAM plugin", map[string]any{"ipam": map[string]any{"type": "nobody"}}, "", types.ErrInternal, "nobody"},
		{"a route by nowhere", map[string]any{"ipam": map[string]any{"type": "host-local", "dataDir": c.ipam, "ranges": []any{[]any{map[string]any{"subnet": "10.7.4.0/24"}}},
			"routes": []any{map[string]any{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}}}}, "", types.ErrIOFailure, "the route"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			netns := tc.netns
			if netns == "" {
				netns = container.Path()
			}
			e := c.call(t, "ADD", "someone", netns, c.only(t, tc.changes))
			if e == nil || e.Code != tc.code || !strings.Contains(e.Error(), tc.words) {
				t.Errorf("ADD: %+v, want code %d and %q", e, tc.code, tc.words)
			}
			clean()
			if links, err := container.Links(); err != nil || len(links) != 1 {
				t.Errorf("left in the container: %+v, %v", links, err)
			}
		})
	}

	// Nor is it a reason to keep a container that the configuration has become wrong.
	for _, changes := range []map[string]any{{"peer": "x"}, {"mtu": 1}, {"options": map[string]any{"tll": 1}}} {
		if e := c.call(t, "DEL", "someone", container.Path(), c.only(t, changes)); e != nil {
			t.Errorf("DEL with %v: %v", changes, e)
		}
	}
	// What the runtime tears down was perhaps never there.
	if e := c.call(t, "DEL", "someone", "/run/netns/nobody", c.only(t, nil)); e != nil {
		t.Errorf("DEL of what never was: %v", e)
	}

	// The pool has two addresses: a second ADD takes nothing away from the first,
	// and a container too many gets none.
	c.add(t, container)
	c.wrong(t, "add", container, "has an interface eth0 already")
	c.do(t, "check", container)
	second, third := netlabtest.Namespace(t, c.lab, "second"), netlabtest.Namespace(t, c.lab, "third")
	c.add(t, second)
	c.wrong(t, "add", third, "no IP addresses available")

	// One container is gone without a word, and then the endpoint.
	must(t, firstError(unix.Unmount(second.Path(), unix.MNT_DETACH), os.Remove(second.Path())))
	c.p.signal(syscall.SIGKILL)
	<-c.p.cmd.Exited()
	c.p.ended = true
	_ = c.p.cmd.Wait()
	c.wrong(t, "check", container, "no endpoint runs")
	if e := c.call(t, "STATUS", "", "", c.only(t, map[string]any{"cniVersion": "1.1.0"})); e == nil || e.Code != types.ErrLimitedConnectivity {
		t.Errorf("STATUS without an endpoint, with containers: %+v", e)
	}
	c.do(t, "del", second)
	c.do(t, "del", container)
	if e := c.call(t, "STATUS", "", "", c.only(t, map[string]any{"cniVersion": "1.1.0"})); e == nil || e.Code != types.ErrPluginNotAvailable {
		t.Errorf("STATUS without an endpoint: %+v", e)
	}
	if left := append(c.given(t), c.cached(t)...); len(left) > 0 {
		t.Errorf("left: %q", left)
	}

	// The endpoint is back: the next container finds all that it needs, and the
	// last one leaves nothing.
	c.restart(t, "--vni", "5000", "--local", c.ip4.String())
	c.add(t, container)
	c.do(t, "check", container)
	c.do(t, "del", container)
	if link, err := c.Link("vxbr4097"); err == nil {
		t.Errorf("left: %+v", link)
	}
}

// TestCNIAtOnce: twenty containers at once get twenty addresses, GC takes away
// those that the runtime does not know, and all go at once.
func TestCNIAtOnce(t *testing.T) {
	t.Parallel()
	c := newCNIHost(t, newHosts(t, "cnimany", 2, wiring{})[0], "atonce")
	clean := c.unchanged(t)
	c.install(t, "--subnet", "10.244.0.0/16", "--range", "10.244.1.0/24", "--default-gateway", "--ip-masq", "--cni-version", "1.1.0")
	const many = 20
	var containers [many]*netlab.Namespace
	for i := range containers {
		containers[i] = netlabtest.Namespace(t, c.lab, fmt.Sprintf("c%d", i))
	}
	id := func(i int) string { return fmt.Sprintf("container%d", i) }
	conf := c.only(t, nil)
	each := func(command string, f func(i int, result string)) {
		t.Helper()
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				result, e := c.ask(t, command, id(i), containers[i].Path(), conf)
				if e != nil {
					t.Errorf("%s %d: %v", command, i, e)
				} else if f != nil {
					f(i, result)
				}
			})
		}
		wg.Wait()
	}
	if e := c.call(t, "STATUS", "", "", conf); e != nil {
		t.Errorf("STATUS before the first: %v", e)
	}
	var results [many]string
	each("ADD", func(i int, result string) { results[i] = result })
	addresses := make(map[netip.Addr]bool)
	for i, text := range results {
		r := cniResult(t, text)
		if r.CNIVersion != "1.1.0" || len(r.IPs) != 1 || len(r.Interfaces) != 3 || r.Interfaces[2].Mtu != 1450 {
			t.Fatalf("result %d: %s", i, text)
		}
		ip, _ := netip.AddrFromSlice(r.IPs[0].Address.IP.To4())
		addresses[ip] = true
		if i < 3 {
			ping(t, containers[many-1], ip, 1)
			var previous map[string]any
			must(t, json.Unmarshal([]byte(text), &previous))
			if e := c.call(t, "CHECK", id(i), containers[i].Path(), c.only(t, map[string]any{"prevResult": previous})); e != nil {
				t.Errorf("CHECK %d: %v", i, e)
			}
		}
	}
	if len(addresses) != many || len(c.given(t)) != many {
		t.Errorf("%d addresses, and %d kept, of %d containers: %v", len(addresses), len(c.given(t)), many, addresses)
	}

	// The first half are known, the others not.
	valid := []types.GCAttachment{}
	for i := range many / 2 {
		valid = append(valid, types.GCAttachment{ContainerID: id(i), IfName: "eth0"})
	}
	if e := c.call(t, "GC", "", "", c.only(t, map[string]any{"cni.dev/valid-attachments": valid})); e != nil {
		t.Fatalf("GC: %v", e)
	}
	for i, container := range containers {
		if _, err := container.Link("eth0"); (err == nil) != (i < many/2) {
			t.Errorf("after GC container %d has eth0: %v", i, err)
		}
	}
	if e := c.call(t, "STATUS", "", "", conf); e != nil {
		t.Errorf("STATUS: %v", e)
	}
	each("DEL", nil)
	clean()

	// One comes while the other, the last, takes bridge and VNI with it.
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for range 4 {
				for _, command := range []string{"ADD", "DEL"} {
					if e := c.call(t, command, id(i), containers[i].Path(), conf); e != nil {
						t.Errorf("%s %d: %v", command, i, e)
					}
				}
			}
		})
	}
	wg.Wait()
	clean()

	// And with none that is valid GC leaves as little as DEL.
	c.add(t, containers[0])
	c.do(t, "gc", containers[0])
	clean()
}

// TestCNIBehindBridge: behind the plugin bridge, whose interface, address and
// result stay as they are, the overlay joins its bridge.
func TestCNIBehindBridge(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "cnichain", 2, wiring{})
	c := newCNIHost(t, hosts[0], "behind")
	far := hosts[1]
	far.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, hosts[0])
	must(t, far.AddAddr("vxlan0", "10.0.1.103/24"))
	must(t, os.MkdirAll(c.conf, 0o755))
	must(t, os.MkdirAll(c.plugins, 0o755))
	must(t, os.Symlink(govxlan, filepath.Join(c.plugins, "govxlan-cni")))
	must(t, os.WriteFile(filepath.Join(c.conf, "10.conflist"), fmt.Appendf(nil, `{"cniVersion": "1.0.0", "name": %q, "plugins": [
		{"type": "bridge", "bridge": "cni0", "mtu": 1450, "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.0.1.0/24", "rangeStart": "10.0.1.100"}]]}},
		{"type": "govxlan-cni", "vni": 4097, "peers": [%q], "options": {"arp": "suppress", "neigh-snoop": true}, "control": %q}]}`, c.network, c.ipam, far.ip4, c.p.control), 0o644))
	container := netlabtest.Namespace(t, c.lab, "container")
	r := c.add(t, container)
	if len(r.Interfaces) != 3 || r.Interfaces[0].Name != "cni0" || r.IPs[0].Address.IP.String() != "10.0.1.100" {
		t.Errorf("the result: %+v", r)
	}
	ping(t, container, inner4B, 2)
	ping(t, far.Namespace, inner4A, 2)
	// The MAC address of a bridge of that plugin changes with its ports, and its own
	// CHECK does not forgive that.
	must(t, c.SetMAC("cni0", r.Interfaces[0].Mac))
	c.do(t, "check", container)
	must(t, c.Do(func() error { return master("vx4097", "") }))
	c.wrong(t, "check", container, "device vx4097 is no port of bridge cni0")
	must(t, c.AttachToBridge("vx4097", "cni0"))
	c.do(t, "del", container)
	if left := append(c.given(t), c.cached(t)...); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
