package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	api "github.com/docker/go-plugins-helpers/network"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// dockerHost is a host whose Docker is the test: it speaks the plugin API with
// `govxlan docker-plugin`, and does with links what Docker does.
type dockerHost struct {
	*host
	t      *testing.T
	dir    string
	cmd    *netlab.Cmd
	stderr *output
	http   http.Client
}

func newDockerHost(t *testing.T, h *host) *dockerHost {
	t.Helper()
	d := &dockerHost{host: h, t: t, dir: t.TempDir()}
	d.http.Transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.socket())
		},
	}
	t.Cleanup(func() {
		d.stop(syscall.SIGTERM)
		// A test that failed may have left some.
		for _, path := range d.sandboxes() {
			_ = unix.Unmount(path, unix.MNT_DETACH)
		}
		if t.Failed() {
			t.Logf("%s's driver: %s", h.Name(), d.stderr)
		}
	})
	d.start()
	return d
}

func (d *dockerHost) socket() string { return filepath.Join(d.dir, "govxlan.sock") }
func (d *dockerHost) state() string  { return filepath.Join(d.dir, "state") }

// sandboxes are the paths of the networks' namespaces.
func (d *dockerHost) sandboxes() []string {
	paths, err := filepath.Glob(filepath.Join(d.dir, "netns", "*"))
	must(d.t, err)
	return paths
}

// start starts the driver.
func (d *dockerHost) start() {
	d.t.Helper()
	d.stderr = newOutput()
	d.cmd = d.Command(context.Background(), govxlan, "docker-plugin", "--name", d.socket(), "--state", d.state(),
		"--sandboxes", filepath.Join(d.dir, "netns"))
	d.cmd.Stdout, d.cmd.Stderr = d.stderr, d.stderr
	must(d.t, d.cmd.Start())
	eventually(d.t, func() error {
		if !strings.Contains(d.stderr.String(), "the driver is ready") {
			return fmt.Errorf("the driver is not ready: %s", d.stderr)
		}
		return nil
	})
}

// stop ends the driver.
func (d *dockerHost) stop(s syscall.Signal) {
	d.t.Helper()
	if d.cmd == nil {
		return
	}
	must(d.t, d.cmd.Process.Signal(s))
	<-d.cmd.Exited()
	if code := exitCode(d.t, d.cmd.Wait()); s == syscall.SIGTERM && code != 0 {
		d.t.Errorf("exit status %d after SIGTERM", code)
	}
	d.cmd = nil
}

// call makes a request, and reads the answer into response unless that is nil.
func (d *dockerHost) call(method string, request, response any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := d.http.Post("http://driver/NetworkDriver."+method, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		var e api.ErrorResponse
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			return fmt.Errorf("%s: status %d: %w", method, r.StatusCode, err)
		}
		return errors.New(e.Err)
	}
	if response == nil {
		return nil
	}
	return json.NewDecoder(r.Body).Decode(response)
}

// create creates a network, with -o options.
func (d *dockerHost) create(id string, options map[string]string) error {
	generic := make(map[string]any)
	for k, v := range options {
		generic[k] = v
	}
	return d.call("CreateNetwork", api.CreateNetworkRequest{
		NetworkID: id, Options: map[string]any{"com.docker.network.generic": generic, "com.docker.network.enable_ipv6": false},
		IPv4Data: []*api.IPAMData{{AddressSpace: "LocalDefault", Pool: "10.0.1.0/24", Gateway: "10.0.1.1/24"}},
	}, nil)
}

// dockerContainer is a namespace with a link of the driver's in it.
type dockerContainer struct {
	*netlab.Namespace
	d              *dockerHost
	network, id    string
	link           string // its name outside
	addr           netip.Addr
	mac            string
	gatewayService bool
}

// run does what `docker run --network ... --ip addr` does.
func (d *dockerHost) run(label, network, addr string) *dockerContainer {
	d.t.Helper()
	c := &dockerContainer{
		Namespace: netlabtest.Namespace(d.t, d.lab, label), d: d, network: network, addr: netip.MustParseAddr(addr),
		id: strings.Repeat(label, 64)[:64],
	}
	c.join()
	return c
}

// join creates the endpoint and takes the link.
func (c *dockerContainer) join() {
	d := c.d
	d.t.Helper()
	var created api.CreateEndpointResponse
	must(d.t, d.call("CreateEndpoint", api.CreateEndpointRequest{
		NetworkID: c.network, EndpointID: c.id, Interface: &api.EndpointInterface{Address: c.addr.String() + "/24"},
	}, &created))
	if created.Interface.Address != "" {
		d.t.Errorf("the driver answers with the address %s that it was told, which Docker refuses", created.Interface.Address)
	}
	c.mac = created.Interface.MacAddress
	var joined api.JoinResponse
	must(d.t, d.call("Join", api.JoinRequest{NetworkID: c.network, EndpointID: c.id, SandboxKey: c.Path()}, &joined))
	c.link, c.gatewayService = joined.InterfaceName.SrcName, !joined.DisableGatewayService
	if joined.InterfaceName.DstPrefix != "eth" {
		d.t.Errorf("the link is to be called %q in the container", joined.InterfaceName.DstPrefix)
	}
	target, err := netns.GetFromPath(c.Path())
	must(d.t, err)
	defer target.Close()
	must(d.t, d.Do(func() error {
		link, err := netlink.LinkByName(c.link)
		if err != nil {
			return fmt.Errorf("%s: %w", c.link, err)
		}
		return errors.Join(netlink.LinkSetDown(link), netlink.LinkSetNsFd(link, int(target)))
	}))
	must(d.t, c.Do(func() error {
		link, err := netlink.LinkByName(c.link)
		if err != nil {
			return err
		}
		mac, err := net.ParseMAC(c.mac)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetName(link, "eth0"), netlink.LinkSetHardwareAddr(link, mac))
	}))
	must(d.t, c.AddAddr("eth0", c.addr.String()+"/24"))
	must(d.t, c.SetUp("eth0"))
}

// leave gives the link back and deletes the endpoint.
func (c *dockerContainer) leave() {
	d := c.d
	d.t.Helper()
	must(d.t, d.call("Leave", api.LeaveRequest{NetworkID: c.network, EndpointID: c.id}, nil))
	home, err := netns.GetFromPath(d.Path())
	must(d.t, err)
	defer home.Close()
	must(d.t, c.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, c.link), netlink.LinkSetNsFd(link, int(home)))
	}))
	must(d.t, d.call("DeleteEndpoint", api.DeleteEndpointRequest{NetworkID: c.network, EndpointID: c.id}, nil))
}

const (
	networkA = "73d436ebb84d7eafbf667ae39bfd6a380e0b558fcdbb91e3d9a9f25961d308f4"
	networkB = "f827c332000bd99bfac104f3b8ce36fb6bf1e9af97ca1a88e2ebc34b8f4bc1dd"
)

// dockerLayouts are the values of -o layout=.
var dockerLayouts = []string{"bridge", "direct"}

// TestDockerDriver: two hosts, a container on each, as Docker asks for them; and
// nothing is left of them.
func TestDockerDriver(t *testing.T) {
	t.Parallel()
	for _, layout := range dockerLayouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "dkapi", 2, wiring{})
			a, b := newDockerHost(t, hosts[0]), newDockerHost(t, hosts[1])
			before := [2]string{snapshot(t, a.Namespace), snapshot(t, b.Namespace)}
			// The same list for all: who is on it leaves itself out.
			options := map[string]string{"peers": a.ip4.String() + "," + b.ip4.String(), "layout": layout}
			must(t, a.create(networkA, options))
			must(t, b.create(networkB, options))
			near := a.run("near", networkA, "10.0.1.100")
			far := b.run("far", networkB, "10.0.1.103")
			second := a.run("second", networkA, "10.0.1.101")
			if near.mac != "02:42:0a:00:01:64" || far.mac != "02:42:0a:00:01:67" {
				t.Errorf("MAC addresses %s and %s, want them as Docker makes them", near.mac, far.mac)
			}
			for _, c := range []*dockerContainer{near, far} {
				link, err := c.Link("eth0")
				if must(t, err); link.MTU != 1450 {
					t.Errorf("eth0 has an MTU of %d, want 1450", link.MTU)
				}
				if !c.gatewayService {
					t.Error("the container has no way out of the overlay")
				}
			}
			ping(t, near.Namespace, far.addr, 3)
			ping(t, near.Namespace, second.addr, 3)
			ping(t, second.Namespace, far.addr, 3)
			ping(t, far.Namespace, near.addr, 2, "-M", "do", "-s", "1422")
			must(t, transfer(near.Namespace, far.Namespace, far.addr, 4<<20))
			must(t, transfer(far.Namespace, second.Namespace, second.addr, 4<<20))
			must(t, transfer(near.Namespace, second.Namespace, second.addr, 4<<20))

			// The VNI is the first of Docker's own.
			o := run(t, a.Namespace, "status")
			if !strings.Contains(o.stdout, "vni 4097 ") {
				t.Errorf("govxlan status: %+v", o)
			}

			// Docker repeats itself.
			must(t, a.create(networkA, options))
			ping(t, near.Namespace, far.addr, 1)

			// A container moves: the same address, another VTEP.
			second.leave()
			moved := b.run("moved", networkB, "10.0.1.101")
			ping(t, near.Namespace, moved.addr, 1, "-W", "1")
			moved.leave()
			// And comes to the host of who spoke to it last.
			moved = a.run("back", networkA, "10.0.1.101")
			ping(t, near.Namespace, moved.addr, 1, "-W", "1")
			ping(t, far.Namespace, moved.addr, 1, "-W", "1")
			moved.leave()

			// The driver is killed, and another one goes on.
			a.stop(syscall.SIGKILL)
			a.start()
			ping(t, near.Namespace, far.addr, 3)
			must(t, transfer(near.Namespace, far.Namespace, far.addr, 1<<20))
			a.stop(syscall.SIGTERM)
			a.start()
			ping(t, far.Namespace, near.addr, 3)

			near.leave()
			far.leave()
			for i, d := range []*dockerHost{a, b} {
				must(t, d.call("DeleteNetwork", api.DeleteNetworkRequest{NetworkID: []string{networkA, networkB}[i]}, nil))
				if after := snapshot(t, d.Namespace); after != before[i] {
					t.Errorf("something is left: before\n%safter\n%s", before[i], after)
				}
				if left := d.sandboxes(); len(left) > 0 {
					t.Errorf("sandboxes are left: %v", left)
				}
				left, err := os.ReadDir(d.state())
				if must(t, err); len(left) > 0 {
					t.Errorf("state is left: %v", left)
				}
			}
		})
	}
}

// TestDockerRepeats: requests that come twice, or in another order than ever, and
// those that cannot be met.
func TestDockerRepeats(t *testing.T) {
	t.Parallel()
	for _, layout := range dockerLayouts {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			d := newDockerHost(t, newHosts(t, "dkrep", 2, wiring{})[0])
			before := snapshot(t, d.Namespace)
			options := map[string]string{"vni": "7", "peers": "192.168.52.204", "layout": layout, "gateway": "false", "mtu": "1300"}
			must(t, d.call("DeleteNetwork", api.DeleteNetworkRequest{NetworkID: networkA}, nil))
			must(t, d.create(networkA, options))
			must(t, d.create(networkA, options))
			c := d.run("near", networkA, "10.0.1.100")
			if link, err := c.Link("eth0"); err != nil || link.MTU != 1300 || c.gatewayService {
				t.Errorf("%+v %v, gateway %v: want an MTU of 1300 and no gateway", link, err, c.gatewayService)
			}
			endpoint := api.CreateEndpointRequest{NetworkID: networkA, EndpointID: c.id, Interface: &api.EndpointInterface{Address: "10.0.1.100/24"}}
			var again api.CreateEndpointResponse
			must(t, d.call("CreateEndpoint", endpoint, &again))
			if again.Interface.MacAddress != c.mac {
				t.Errorf("MAC %s at first, then %s", c.mac, again.Interface.MacAddress)
			}
			var info api.InfoResponse
			must(t, d.call("EndpointOperInfo", api.InfoRequest{NetworkID: networkA, EndpointID: c.id}, &info))
			if info.Value["vni"] != "7" || info.Value["layout"] != layout {
				t.Errorf("what the driver tells of the endpoint: %v", info.Value)
			}
			// A MAC of the user's.
			endpoint.EndpointID, endpoint.Interface = strings.Repeat("ab", 32), &api.EndpointInterface{Address: "10.0.1.9/24", MacAddress: "02:00:00:00:00:09"}
			must(t, d.call("CreateEndpoint", endpoint, &again))
			if again.Interface.MacAddress != "" {
				t.Errorf("the driver answers with the MAC %s that it was told, which Docker refuses", again.Interface.MacAddress)
			}
			join := api.JoinRequest{NetworkID: networkA, EndpointID: endpoint.EndpointID, SandboxKey: c.Path()}
			var first, second api.JoinResponse
			must(t, d.call("Join", join, &first))
			must(t, d.call("Join", join, &second))
			if first.InterfaceName != second.InterfaceName {
				t.Errorf("joined as %v at first, then %v", first, second)
			}
			for range 2 {
				must(t, d.call("Leave", api.LeaveRequest{NetworkID: networkA, EndpointID: endpoint.EndpointID}, nil))
			}
			for range 2 {
				must(t, d.call("DeleteEndpoint", api.DeleteEndpointRequest{NetworkID: networkA, EndpointID: endpoint.EndpointID}, nil))
			}
			// A container that is there once more has the same link again.
			c.leave()
			c.join()

			for _, refused := range []struct {
				method  string
				request any
				words   []string
			}{
				{"CreateEndpoint", api.CreateEndpointRequest{NetworkID: networkB, EndpointID: "a1", Interface: &api.EndpointInterface{Address: "10.0.1.7/24"}}, []string{"f827c332000b", "create it again"}},
				{"CreateEndpoint", api.CreateEndpointRequest{NetworkID: networkA, EndpointID: "a1"}, []string{"address", "IPAM"}},
				{"CreateEndpoint", api.CreateEndpointRequest{NetworkID: networkA, EndpointID: "../../etc"}, []string{"ID"}},
				{"CreateEndpoint", api.CreateEndpointRequest{NetworkID: networkA, EndpointID: "a1", Interface: &api.EndpointInterface{Address: "10.0.1.100/24"}}, []string{"02:42:0a:00:01:64", "already"}},
				{"Join", api.JoinRequest{NetworkID: networkA, EndpointID: "a1"}, []string{"a1", "start the container again"}},
			} {
				err := d.call(refused.method, refused.request, nil)
				for _, w := range refused.words {
					if err == nil || !strings.Contains(err.Error(), w) || strings.Contains(err.Error(), "\n") {
						t.Errorf("%s: %v, want %q in one line", refused.method, err, w)
					}
				}
			}
			during := snapshot(t, d.Namespace)
			for _, refused := range []struct {
				options map[string]string
				words   []string
			}{
				{map[string]string{"vni": "7"}, []string{"VNI 7", networkA[:12], "-o vni="}},
				{map[string]string{"vni": "16777216"}, []string{"24 bits"}},
				{map[string]string{"layout": "tree"}, []string{"bridge", "direct"}},
				{map[string]string{"mtu": "12"}, []string{"mtu", "1450"}},
				{map[string]string{"port": "0"}, []string{"port"}},
				{map[string]string{"gateway": "perhaps"}, []string{"gateway"}},
				{map[string]string{"peers": "a b"}, []string{"peers"}},
				{map[string]string{"colour": "blue"}, []string{"colour", "vni, peers, join"}},
				{map[string]string{"learning": "perhaps"}, []string{"learning", "perhaps"}},
				{map[string]string{"vni": "8", "peers": "no-such-host.invalid"}, []string{"no-such-host.invalid"}},
			} {
				err := d.create(networkB, refused.options)
				for _, w := range refused.words {
					if err == nil || !strings.Contains(err.Error(), w) || strings.Contains(err.Error(), "\n") {
						t.Errorf("%v: %v, want %q in one line", refused.options, err, w)
					}
				}
			}
			if after := snapshot(t, d.Namespace); after != during {
				t.Errorf("what was refused left something: before\n%safter\n%s", during, after)
			}
			if want := map[string]int{"bridge": 1}[layout]; len(d.sandboxes()) != want {
				t.Errorf("sandboxes: %v, want %d", d.sandboxes(), want)
			}

			// The network goes while a container is in it.
			must(t, d.call("DeleteNetwork", api.DeleteNetworkRequest{NetworkID: networkA}, nil))
			must(t, d.call("Leave", api.LeaveRequest{NetworkID: networkA, EndpointID: c.id}, nil))
			must(t, d.call("DeleteEndpoint", api.DeleteEndpointRequest{NetworkID: networkA, EndpointID: c.id}, nil))
			if after := snapshot(t, d.Namespace); after != before || len(d.sandboxes()) > 0 {
				t.Errorf("something is left: before\n%safter\n%s%v", before, after, d.sandboxes())
			}
		})
	}
}

// TestDockerBrokenState: a file that was cut in half costs its network, not the
// others, and Docker's next word about it mends that.
func TestDockerBrokenState(t *testing.T) {
	t.Parallel()
	d := newDockerHost(t, newHosts(t, "dkcut", 2, wiring{})[0])
	before := snapshot(t, d.Namespace)
	must(t, d.create(networkA, map[string]string{"vni": "7", "peers": "192.168.52.204"}))
	must(t, d.create(networkB, map[string]string{"vni": "8", "peers": "192.168.52.204"}))
	d.stop(syscall.SIGKILL)
	name := filepath.Join(d.state(), "network-"+networkA+".json")
	text, err := os.ReadFile(name)
	must(t, err)
	must(t, os.WriteFile(name, text[:len(text)/2], 0o600))
	must(t, os.WriteFile(filepath.Join(d.state(), ".new-123"), text, 0o600))
	d.start()
	if s := d.stderr.String(); !strings.Contains(s, "set aside") || !strings.Contains(s, networkA[:12]) {
		t.Errorf("the log does not tell of the broken file: %s", s)
	}
	if o := run(t, d.Namespace, "vni", "list"); !strings.Contains(o.stdout, "8") || strings.Contains(o.stdout, "vx7") {
		t.Errorf("VNIs after the start: %s%s", o.stdout, o.stderr)
	}
	must(t, d.create(networkA, map[string]string{"vni": "7", "peers": "192.168.52.204"}))
	d.run("near", networkA, "10.0.1.100")
	for _, id := range []string{networkA, networkB} {
		must(t, d.call("DeleteNetwork", api.DeleteNetworkRequest{NetworkID: id}, nil))
	}
	if after := snapshot(t, d.Namespace); after != before || len(d.sandboxes()) > 0 {
		t.Errorf("something is left: before\n%safter\n%s%v", before, after, d.sandboxes())
	}
	if left, err := os.ReadDir(d.state()); err != nil || len(left) != 1 || !strings.HasSuffix(left[0].Name(), ".broken") {
		t.Errorf("state: %v %v, want the broken file alone", left, err)
	}
}

// TestDockerPort: a port that is somebody else's is told in one sentence, and the
// driver is the only one at its socket.
func TestDockerPort(t *testing.T) {
	t.Parallel()
	d := newDockerHost(t, newHosts(t, "dkport", 2, wiring{})[0])
	conn, err := d.ListenPacket("udp", "192.168.52.203:4789")
	must(t, err)
	err = d.create(networkA, map[string]string{"peers": "192.168.52.204"})
	if err == nil || !strings.Contains(err.Error(), "port 4789 is in use") || !strings.Contains(err.Error(), "-o port=") {
		t.Errorf("with the port in use: %v", err)
	}
	if left := d.sandboxes(); len(left) > 0 {
		t.Errorf("sandboxes are left: %v", left)
	}
	must(t, d.create(networkA, map[string]string{"peers": "192.168.52.204", "port": "4790"}))
	must(t, conn.Close())
	must(t, d.create(networkB, map[string]string{"peers": "192.168.52.204"}))
	refusedCmd(t, d.Namespace, d.Command(t.Context(), govxlan, "docker-plugin", "--name", d.socket(), "--state", t.TempDir()), 1, []string{"another driver", d.socket()})
	for _, id := range []string{networkA, networkB} {
		must(t, d.call("DeleteNetwork", api.DeleteNetworkRequest{NetworkID: id}, nil))
	}
}
