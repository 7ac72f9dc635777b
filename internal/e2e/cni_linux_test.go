package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/nftables"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
)

// debianPlugins is where Debian's containernetworking-plugins are.
const debianPlugins = "/usr/lib/cni"

// cnitool is the reference runtime of the CNI project, a tool of this module.
var cnitool = sync.OnceValues(func() (string, error) {
	var err error
	if cnitoolDir, err = os.MkdirTemp("", "govxlan-cnitool-"); err != nil {
		return "", err
	}
	path := filepath.Join(cnitoolDir, "cnitool")
	out, err := exec.Command("go", "build", "-o", path, "github.com/containernetworking/cni/cnitool").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build cnitool: %w\n%s", err, out)
	}
	return path, nil
})

// cnitoolDir is where it is built; removed at the end of the tests.
var cnitoolDir string

// cniHost is a host with an endpoint and the plugin.
type cniHost struct {
	*host
	network             string // its name, of this test alone: cnitool has one cache for all
	plugins, conf, ipam string
	p                   *program
}

// newCNIHost starts an endpoint that has another VNI than the containers will.
func newCNIHost(t *testing.T, h *host, network string) *cniHost {
	t.Helper()
	if _, err := os.Stat(filepath.Join(debianPlugins, "host-local")); err != nil {
		t.Fatalf("%v: install containernetworking-plugins", err)
	}
	dir := t.TempDir()
	c := &cniHost{
		host: h, network: network,
		plugins: filepath.Join(dir, "bin"), conf: filepath.Join(dir, "net.d"), ipam: filepath.Join(dir, "ipam"),
	}
	c.p = up(t, h.Namespace, "--vni", "5000", "--local", h.ip4.String())
	must(t, h.Sysctl("net.ipv6.conf.default.accept_dad", "0"))
	t.Cleanup(func() {
		// What cnitool keeps of containers that a test that failed did not DEL.
		for _, path := range c.cached(t) {
			_ = os.Remove(path)
		}
	})
	return c
}

// restart starts an endpoint in place of one that has ended, where the
// configuration looks for it.
func (c *cniHost) restart(t *testing.T, flags ...string) {
	t.Helper()
	path := c.p.control
	c.p = up(t, c.Namespace, append(flags, "--control", path)...)
	c.p.control = path
}

// cached are the files of attachments that cnitool believes to be there.
func (c *cniHost) cached(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("/var/lib/cni/results/" + c.network + "-*")
	must(t, err)
	return paths
}

// install installs plugin and configuration by the program's own command.
func (c *cniHost) install(t *testing.T, flags ...string) {
	t.Helper()
	args := append([]string{"cni", "install", "--network", c.network, "--bin-dir", c.plugins, "--conf-dir", c.conf,
		"--data-dir", c.ipam, "--control", c.p.control, "--vni", "4097"}, flags...)
	if o := run(t, c.Namespace, args...); o.code != 0 {
		t.Fatalf("%v: %+v", args, o)
	}
}

func (c *cniHost) env(more ...string) []string {
	return append(append(os.Environ(), "NETCONFPATH="+c.conf, "CNI_PATH="+c.plugins+":"+debianPlugins), more...)
}

// tool runs cnitool.
func (c *cniHost) tool(t *testing.T, verb string, container *netlab.Namespace, env ...string) outcome {
	t.Helper()
	path, err := cnitool()
	must(t, err)
	cmd := c.Command(t.Context(), path, verb, c.network, container.Path())
	cmd.Env = c.env(env...)
	return runCmd(t, cmd)
}

// do runs cnitool, which must succeed.
func (c *cniHost) do(t *testing.T, verb string, container *netlab.Namespace, env ...string) string {
	t.Helper()
	o := c.tool(t, verb, container, env...)
	if o.code != 0 {
		t.Fatalf("cnitool %s %s: %+v", verb, container.Name(), o)
	}
	return o.stdout
}

// wrong runs cnitool, which must fail and say these words.
func (c *cniHost) wrong(t *testing.T, verb string, container *netlab.Namespace, words ...string) {
	t.Helper()
	o := c.tool(t, verb, container)
	if o.code == 0 {
		t.Errorf("cnitool %s succeeds, want %q", verb, words)
	}
	for _, w := range words {
		if !strings.Contains(o.stderr, w) {
			t.Errorf("cnitool %s: no %q in %q", verb, w, o.stderr)
		}
	}
}

// add gives a container its interface.
func (c *cniHost) add(t *testing.T, container *netlab.Namespace, env ...string) *types100.Result {
	t.Helper()
	return cniResult(t, c.do(t, "add", container, env...))
}

func cniResult(t *testing.T, text string) *types100.Result {
	t.Helper()
	r := new(types100.Result)
	if err := json.Unmarshal([]byte(text), r); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return r
}

// only is the configuration of one plugin of the list, for a call without a
// runtime, with changes.
func (c *cniHost) only(t *testing.T, changes map[string]any) []byte {
	t.Helper()
	var list struct {
		CNIVersion string           `json:"cniVersion"`
		Plugins    []map[string]any `json:"plugins"`
	}
	text, err := os.ReadFile(filepath.Join(c.conf, "10-govxlan.conflist"))
	must(t, err)
	must(t, json.Unmarshal(text, &list))
	conf := list.Plugins[0]
	conf["cniVersion"], conf["name"] = list.CNIVersion, c.network
	for key, value := range changes {
		conf[key] = value
	}
	text, err = json.Marshal(conf)
	must(t, err)
	return text
}

// call calls the plugin as a runtime does, and returns the error that it prints,
// or nil.
func (c *cniHost) call(t *testing.T, command, id, netns string, conf []byte) *types.Error {
	t.Helper()
	_, e := c.ask(t, command, id, netns, conf)
	return e
}

// ask is call, and returns what is printed on success too.
func (c *cniHost) ask(t *testing.T, command, id, netns string, conf []byte) (string, *types.Error) {
	t.Helper()
	cmd := c.Command(t.Context(), filepath.Join(c.plugins, "govxlan"))
	cmd.Env = c.env("CNI_COMMAND="+command, "CNI_CONTAINERID="+id, "CNI_IFNAME=eth0", "CNI_NETNS="+netns)
	cmd.Stdin = strings.NewReader(string(conf))
	o := runCmd(t, cmd)
	if o.code == 0 {
		return o.stdout, nil
	}
	e := new(types.Error)
	if err := json.Unmarshal([]byte(o.stdout), e); err != nil || e.Msg == "" || o.stderr != "" {
		t.Fatalf("%s: %v: want an error as JSON, got %+v", command, err, o)
	}
	return "", e
}

// given are the addresses that host-local has given.
func (c *cniHost) given(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.ipam, c.network, "*[.:]*"))
	must(t, err)
	return slices.DeleteFunc(files, func(f string) bool { return strings.HasPrefix(filepath.Base(f), "last_reserved") })
}

// state is everything that a call of the plugin may leave on the host.
func (c *cniHost) state(t *testing.T) string {
	t.Helper()
	var s strings.Builder
	links, err := c.Links()
	must(t, err)
	for _, l := range links {
		fmt.Fprintf(&s, "device %s %s of %s\n", l.Kind, l.Name, l.Bridge)
	}
	must(t, c.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := conn.ListTables() // that of the plugin portmap stays
		for _, table := range tables {
			if strings.HasPrefix(table.Name, "govxlan") {
				fmt.Fprintln(&s, "table", table.Name)
			}
		}
		return err
	}))
	vnis, err := control.NewClient(c.p.control).VNIs(t.Context())
	must(t, err)
	for _, v := range vnis {
		fmt.Fprintln(&s, "VNI", v.VNI, v.Bridge)
	}
	fmt.Fprintln(&s, "addresses", c.given(t), "cached", c.cached(t))
	return s.String()
}

// unchanged returns a function that says whether anything was left since.
func (c *cniHost) unchanged(t *testing.T) func() {
	t.Helper()
	before := c.state(t)
	return func() {
		t.Helper()
		if after := c.state(t); after != before {
			t.Errorf("host %s: before\n%safter\n%s", c.Label(), before, after)
		}
	}
}

// TestCNI: containers of two hosts, with interfaces by a real runtime and a
// chained plugin, reach each other and what is beyond; CHECK notices what is
// amiss, and DEL leaves nothing.
func TestCNI(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "cni", 2, wiring{})
	a, b := newCNIHost(t, hosts[0], "twohosts-a"), newCNIHost(t, hosts[1], "twohosts-b")
	clean := [2]func(){a.unchanged(t), b.unchanged(t)}
	const ports = `CAP_ARGS={"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}`
	var containers [2]*netlab.Namespace
	var results [2]*types100.Result
	for i, c := range []*cniHost{a, b} {
		other := []*cniHost{b, a}[i]
		c.install(t, "--peer", other.ip4.String(), "--subnet", "10.244.0.0/16,fd44::/48",
			"--range", fmt.Sprintf("10.244.%d.0/24,fd44:0:0:%d::/64", i+1, i+1),
			"--default-gateway", "--ip-masq", "--chain", `{"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.log_martians": "1"}, "mtu": 1400}`, "--chain", "portmap")
		containers[i] = netlabtest.Namespace(t, c.lab, c.Label()+"container")
		results[i] = c.add(t, containers[i], ports)
	}
	address := func(i, family int) netip.Addr {
		ip, _ := netip.AddrFromSlice(results[i].IPs[family].Address.IP)
		return ip.Unmap()
	}
	r := results[0]
	if len(r.IPs) != 2 || len(r.Interfaces) != 3 || r.Interfaces[0].Name != "vxbr4097" || r.Interfaces[2].Mac != "02:42:0a:f4:01:02" || len(r.Routes) != 2 ||
		r.IPs[0].Address.String() != "10.244.1.2/16" || r.IPs[0].Gateway.String() != "10.244.1.1" || r.IPs[1].Address.String() != "fd44:0:0:1::2/48" {
		t.Errorf("the result: %+v", r)
	}
	link, err := containers[0].Link("eth0")
	if err != nil || link.MTU != 1400 || !link.Up || link.MAC != r.Interfaces[2].Mac {
		t.Errorf("the container's eth0: %+v, %v", link, err)
	}
	if port, err := a.Link(r.Interfaces[1].Name); err != nil || port.MTU != 1450 || port.Bridge != "vxbr4097" {
		t.Errorf("the port: %+v, %v", port, err)
	}
	for family := range 2 {
		ping(t, containers[0], address(1, family), 2)
		ping(t, containers[1], address(0, family), 2)
		gateway, _ := netip.AddrFromSlice(r.IPs[family].Gateway)
		ping(t, containers[0], gateway.Unmap(), 1)
		ping(t, containers[1], gateway.Unmap(), 1) // the gateway of the other host
	}
	must(t, transfer(containers[0], containers[1], address(1, 0), 1<<20))
	must(t, reaches(b.Namespace, netip.AddrPortFrom(a.ip4, 8080), containers[0], 80)) // by the plugin portmap
	// The far host has no route to the containers: what arrives was masqueraded.
	ping(t, containers[0], b.ip4, 1)
	ping(t, containers[0], b.ip6, 1)

	t.Run("check", func(t *testing.T) { checkNotices(t, a, containers[0], r) })

	for i, c := range []*cniHost{a, b} {
		c.do(t, "del", containers[i], ports)
		c.do(t, "del", containers[i], ports)
		clean[i]()
		if links, err := containers[i].Links(); err != nil || slices.ContainsFunc(links, func(l netlab.Link) bool { return l.Name == "eth0" }) {
			t.Errorf("eth0 is left in the container: %+v, %v", links, err)
		}
	}
}

// checkNotices: CHECK is content, and notices each thing that is broken and mended
// again.
func checkNotices(t *testing.T, c *cniHost, container *netlab.Namespace, r *types100.Result) {
	c.do(t, "check", container)
	port, mac, address := r.Interfaces[1].Name, r.Interfaces[2].Mac, r.IPs[0].Address.String()
	route := func(change func(*netlink.Route) error) error {
		return container.Do(func() error {
			routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_DST)
			if err == nil && len(routes) == 0 {
				link, e := netlink.LinkByName("eth0")
				if e != nil {
					return e
				}
				routes = []netlink.Route{{LinkIndex: link.Attrs().Index, Gw: r.IPs[0].Gateway}}
			}
			if err != nil {
				return err
			}
			return change(&routes[0])
		})
	}
	rules := func() error {
		return c.Do(func() error {
			conn, err := nftables.New()
			if err != nil {
				return err
			}
			conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "govxlan-cni"})
			return conn.Flush()
		})
	}
	nothing := func() error { return nil }
	for _, broken := range []struct {
		words      string
		harm, mend func() error
	}{
		{"no port of bridge", func() error { return c.Do(func() error { return master(port, "") }) }, func() error { return c.AttachToBridge(port, "vxbr4097") }},
		{"is down", func() error { return c.SetDown(port) }, func() error { return c.SetUp(port) }},
		{"has the MAC address 02:00:00:00:00:09, and not " + mac, func() error { return container.SetMAC("eth0", "02:00:00:00:00:09") }, func() error { return container.SetMAC("eth0", mac) }},
		{"no port of bridge", func() error { return c.Do(func() error { return master("vx4097", "") }) }, func() error { return c.AttachToBridge("vx4097", "vxbr4097") }},
		{"there is no route to 0.0.0.0/0 by 10.244.1.1", func() error { return route(func(r *netlink.Route) error { return netlink.RouteDel(r) }) }, func() error { return route(func(r *netlink.Route) error { return netlink.RouteAdd(r) }) }},
		{"does not have the gateway's address 10.244.1.1", func() error { return c.DelAddr("vxbr4097", "10.244.1.1/16") }, func() error { return c.AddAddr("vxbr4097", "10.244.1.1/16") }},
		{"does not have the address 10.244.1.2/16", func() error { return container.DelAddr("eth0", address) }, nothing},
		{"no rule to masquerade", rules, nothing}, // of the things on the host, what is looked at last
		{"the endpoint has no VNI 4097", func() error {
			v := vxlan.VNI(4097)
			_, err := control.NewClient(c.p.control).ChangeVNI(t.Context(), control.VNIWish{Verb: "del", VNI: &v})
			return err
		}, nothing},
	} {
		must(t, broken.harm())
		c.wrong(t, "check", container, broken.words)
		must(t, broken.mend())
	}
}

// master makes a device a port of a bridge, or of none.
func master(device, bridge string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	if bridge == "" {
		return netlink.LinkSetNoMaster(link)
	}
	to, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	return netlink.LinkSetMaster(link, to)
}

// reaches says whether a TCP connection to an address ends at a port of a container.
func reaches(from *netlab.Namespace, address netip.AddrPort, container *netlab.Namespace, port int) error {
	l, err := container.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	defer l.Close()
	client, err := from.Dial("tcp", address.String())
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		return err
	}
	return server.Close()
}
