package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sync/errgroup"
)

// configFile writes a configuration file, as often as it is called.
func configFile(t *testing.T) (path string, write func(string)) {
	path = filepath.Join(t.TempDir(), "govxlan.yaml")
	return path, func(text string) {
		t.Helper()
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

// reload has the program read its file again, which must work.
func (p *program) reload() control.Reloaded {
	p.t.Helper()
	r, err := control.NewClient(p.control).Reload(p.t.Context())
	must(p.t, err)
	return r
}

// shown is what `config show` says.
func (p *program) shown() string {
	p.t.Helper()
	o := p.ask("config", "show")
	if o.code != 0 || o.stderr != "" {
		p.t.Fatalf("config show: %+v", o)
	}
	return o.stdout
}

// index of a device in its namespace.
func index(t *testing.T, ns *netlab.Namespace, device string) int {
	t.Helper()
	link, err := ns.Link(device)
	must(t, err)
	return link.Index
}

// TestReload: what does not change keeps flowing while all around it changes, and
// a reload that fails leaves all as it was.
func TestReload(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "reload", 2, wiring{})
	a, b := hosts[0], hosts[1]
	must(t, a.Bridge("br0"))
	path, write := configFile(t)
	steady := fmt.Sprintf("local: %v,%v\npeers: [%v]\nvnis:\n  - {vni: 1, addr: 10.0.1.1/24}\n", a.ip4, a.ip6, b.ip4)
	versions := []string{
		steady + "  - {vni: 2, addr: [10.0.2.1/24]}\n  - {vni: 3, mac: \"02:00:00:00:00:03\"}\n",
		steady + fmt.Sprintf(`
  - vni: 2
    peers: [%v, "%v:4790", 192.168.52.99]
    addr: [10.0.2.9/24, fd10::9/64]
    mtu: 1300
    bridge: br0
    ageing: 10s
    max-entries: 5
    learning: false
    ttl: 9
    tos: 0xb8
    gbp: 5
    vlan: strip
    arp: proxy
    mss-clamp: true
    allow-unknown-vteps: true
    neigh: [{ip: 10.0.2.7, mac: "02:00:00:00:00:07"}]
    fdb: [{mac: "02:00:00:00:00:08", vtep: %v}]
  - {vni: 3, mac: "02:00:00:00:00:33"}
  - {vni: 4, group: 239.1.1.1, dev: %s}
`, b.ip4, b.ip6, b.ip4, underlayDevice),
	}
	write(versions[0])
	p := up(t, a.Namespace, "--config", path)
	up(t, b.Namespace, "--vni", "1", "--peer", a.ip4.String(), "--addr", "10.0.1.2/24")
	before := p.shown()
	kept := index(t, a.Namespace, "vx1")

	finish := stream(t, a.Namespace, b.Namespace, netip.MustParseAddr("10.0.1.2"))
	changed := index(t, a.Namespace, "vx2")
	for round := 1; round <= 4; round++ {
		write(versions[round%2])
		r := p.reload()
		if r.Same != 1 || len(r.Changed) != 1 || r.Changed[0].VNI != 2 || len(r.Remade) != 1 || r.Remade[0].VNI != 3 || !slices.Equal(r.Remade[0].Options, []string{"mac"}) {
			t.Fatalf("reload %d: %+v", round, r)
		}
		if round%2 == 1 {
			checkSecond(t, a, p)
		} else if got := p.shown(); got != before {
			t.Fatalf("it was\n%s\nand after another configuration and back it is\n%s", before, got)
		}
		was := p.shown()
		next := versions[(round+1)%2]
		for _, bad := range []string{
			next + "  - {vni: 5, peers: 203.0.113.1}\n",                         // while it is checked
			next + "  - {vni: 5, name: " + underlayDevice + "}\n",               // with the first step
			strings.Replace(next, "{vni: 3,", "{vni: 3, netns: no-such-ns,", 1), // with all else changed
			steady + "  - {vni: 2, addr: fd10::9/64, mtu: 1279}\n  - vni: 3\n",
			steady + "  - {vni: 2, addr: [10.0.3.1/24, 10.0.2.1/24], mtu: 1299, ageing: 3s, bridge: br9}\n  - vni: 3\n",
		} {
			write(bad)
			if o := p.ask("reload"); o.code != 1 || strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stderr, "the configuration stays as it was") {
				t.Fatalf("reload of %q: %+v", bad, o)
			}
			if got := p.shown(); got != was {
				t.Fatalf("it was\n%s\nand after a reload that failed of\n%s\nit is\n%s", was, bad, got)
			}
		}
	}
	must(t, finish())
	if now := index(t, a.Namespace, "vx1"); now != kept {
		t.Errorf("vx1 has index %d, had %d", now, kept)
	}
	if now := index(t, a.Namespace, "vx2"); now != changed {
		t.Errorf("vx2 has index %d, had %d", now, changed)
	}
}

// checkSecond looks whether VNI 2 is as the second version of TestReload has it.
func checkSecond(t *testing.T, a *host, p *program) {
	t.Helper()
	link, err := a.Link("vx2")
	must(t, err)
	if link.MTU != 1300 || link.Bridge != "br0" || slices.Contains(link.Addrs, "10.0.2.1/24") ||
		!slices.Contains(link.Addrs, "10.0.2.9/24") || !slices.Contains(link.Addrs, "fd10::9/64") {
		t.Errorf("vx2: %+v", link)
	}
	if e := p.entry("02:00:00:00:00:08"); e == nil || e.Kind != "static" {
		t.Errorf("the static entry: %+v", e)
	}
	neighbours, err := control.NewClient(p.control).Neighbours(t.Context(), 2)
	must(t, err)
	if len(neighbours) != 1 || neighbours[0].IP.String() != "10.0.2.7" {
		t.Errorf("neighbours: %+v", neighbours)
	}
	for _, v := range p.status().VNIs {
		if v.VNI == 2 && (len(v.Peers) != 3 || v.ARP != "proxy") {
			t.Errorf("VNI 2: %+v", v)
		}
		if v.VNI == 4 && (len(v.Multicast) != 1 || !v.Multicast[0].Joined) {
			t.Errorf("VNI 4: %+v", v)
		}
	}
}

// TestReloadKeepsRunTimeChanges: what commands made and the file never named
// stays, also when the device is made anew; what the file names is as it says.
func TestReloadKeepsRunTimeChanges(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "runtime", 2, wiring{})
	a, b := hosts[0], hosts[1]
	path, write := configFile(t)
	text := fmt.Sprintf("vnis:\n  - vni: 1\n    peers: [%v]\n    arp: suppress\n    fdb: [{mac: \"02:00:00:00:00:01\", vtep: %v}]\n", b.ip4, b.ip4)
	write(text)
	p := up(t, a.Namespace, "--config", path)
	p.tell("peer", "add", "192.168.52.77")
	p.tell("fdb", "add", "02:00:00:00:00:02", "192.168.52.77")
	p.tell("neigh", "add", "10.0.1.7", "02:00:00:00:00:02")
	if o := p.ask("vni", "add", "9", "--peer", b.ip4.String()); o.code != 0 {
		t.Fatalf("vni add: %+v", o)
	}
	// What the file names is gone.
	p.tell("peer", "del", b.ip4.String(), "--vni", "1")
	p.tell("fdb", "del", "02:00:00:00:00:01", "--vni", "1")
	check := func() {
		t.Helper()
		entries, err := control.NewClient(p.control).FDB(t.Context(), 1)
		must(t, err)
		var all []string
		for _, e := range entries {
			all = append(all, fmt.Sprintf("%v %v %s", e.MAC, e.VTEP, e.Kind))
		}
		slices.Sort(all)
		want := []string{
			"00:00:00:00:00:00 192.168.52.204 flood", "00:00:00:00:00:00 192.168.52.77 flood",
			"02:00:00:00:00:01 192.168.52.204 static", "02:00:00:00:00:02 192.168.52.77 static",
		}
		if !slices.Equal(all, want) {
			t.Errorf("the FDB is %q, want %q", all, want)
		}
		neighbours, err := control.NewClient(p.control).Neighbours(t.Context(), 1)
		must(t, err)
		if len(neighbours) != 1 {
			t.Errorf("neighbours: %+v", neighbours)
		}
	}
	if r := p.reload(); len(r.Changed) != 1 || !slices.Equal(r.Changed[0].Options, []string{"peer", "fdb"}) {
		t.Errorf("reload: %+v", r)
	}
	check()
	if r := p.reload(); r.Same != 1 || len(r.Changed)+len(r.Removed)+len(r.Added) != 0 {
		t.Errorf("another reload: %+v", r)
	}
	write(text + "    queues: 2\n")
	if r := p.reload(); len(r.Remade) != 1 {
		t.Errorf("reload with other queues: %+v", r)
	}
	check()
	vnis, err := control.NewClient(p.control).VNIs(t.Context())
	must(t, err)
	if len(vnis) != 2 || vnis[1].VNI != 9 || vnis[1].Origin != "request" {
		t.Errorf("VNIs: %+v", vnis)
	}
	// What is in force, with all of that, is a file that means the same.
	shown := filepath.Join(t.TempDir(), "shown.yaml")
	must(t, os.WriteFile(shown, []byte(p.shown()), 0o600))
	comments := regexp.MustCompile(`(?m) *#.*$`)
	again := run(t, a.Namespace, "config", "show", shown)
	if is, want := comments.ReplaceAllString(again.stdout, ""), comments.ReplaceAllString(p.shown(), ""); again.code != 0 || is != want {
		t.Errorf("config show of what it shows: %+v, want\n%s", again, want)
	}
	// What the file names once and then not any more goes.
	write(text + "  - vni: 9\n    peers: [192.168.52.204]\n")
	if r := p.reload(); r.Same != 1 {
		t.Errorf("reload with VNI 9: %+v", r)
	}
	write(text)
	if r := p.reload(); len(r.Removed) != 1 || r.Removed[0] != 9 {
		t.Errorf("reload without VNI 9: %+v", r)
	}
}

// TestReloadRefused: what is wrong, or needs a restart, changes nothing; SIGHUP
// leaves it in the log. Without a file both say so, and the endpoint goes on.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "norel", 2, wiring{})
	a, b := hosts[0], hosts[1]
	path, write := configFile(t)
	text := fmt.Sprintf("local: %v\nvnis:\n  - {vni: 1, peers: [%v]}\n", a.ip4, b.ip4)
	write(text)
	p := up(t, a.Namespace, "--config", path)
	was := p.shown()
	for _, c := range []struct{ text, words string }{
		{text + "port: 4790\nworkers: 2\n", "port, workers cannot change while it runs"},
		{text + "  - {vni: 2, pears: [a]}\n", `:4:14: there is no key "pears": did you mean "peers"?`},
		{text[:len(text)-3], "end token ']' not found"},
		{text + "  - {vni: 2, peers: [\"fd52::204\"]}\n", "restart it with both in --local"},
		{text + "  - {vni: 2, ttl: auto}\n", "ttl auto: the sockets of the endpoint were opened for a TTL of 64"},
		{strings.Repeat("#\n", 5<<20), "longer than 8 MB"},
	} {
		write(c.text)
		p.denied(1, c.words, "reload")
		if got := p.shown(); got != was {
			t.Errorf("after %q it is\n%s", c.words, got)
		}
	}
	p.signal(syscall.SIGHUP)
	eventually(t, func() error {
		if n := strings.Count(p.stderr.String(), "longer than 8 MB"); n != 2 {
			return fmt.Errorf("SIGHUP is not in the log: %s", p.stderr)
		}
		return nil
	})
	must(t, os.Remove(path))
	p.denied(1, "no such file", "reload")

	alone := up(t, b.Namespace, "--vni", "1", "--peer", a.ip4.String())
	alone.denied(1, "started without --config", "reload")
	alone.signal(syscall.SIGHUP)
	eventually(t, func() error {
		if n := strings.Count(alone.stderr.String(), "started without --config"); n != 2 {
			return fmt.Errorf("SIGHUP is not in the log: %s", alone.stderr)
		}
		return nil
	})
}

// TestReloadsAtOnce: reloads, by signal and by command, and VNIs that come and go
// at the same time, one after the other.
func TestReloadsAtOnce(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "atonce", 2, wiring{})
	a, b := hosts[0], hosts[1]
	path, write := configFile(t)
	text := fmt.Sprintf("vnis:\n  - {vni: 1, peers: [%v], addr: 10.0.1.1/24}\n", b.ip4)
	write(text)
	p := up(t, a.Namespace, "--config", path)
	up(t, b.Namespace, "--vni", "1", "--peer", a.ip4.String(), "--addr", "10.0.1.2/24")
	var tasks errgroup.Group
	tasks.Go(func() error { return transfer(a.Namespace, b.Namespace, netip.MustParseAddr("10.0.1.2"), 16<<20) })
	for i := range 4 {
		tasks.Go(func() error {
			client := control.NewClient(p.control)
			for round := range 5 {
				name := fmt.Sprint(10 + i)
				switch i {
				case 0:
					// Whole or not at all: a reload must not see half a file.
					other := path + ".new"
					if err := os.WriteFile(other, []byte(text+fmt.Sprintf("  - {vni: 2, mtu: %d}\n", 1300+round)), 0o600); err != nil {
						return err
					}
					if err := os.Rename(other, path); err != nil {
						return err
					}
					if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
						return err
					}
				case 1:
					if _, err := client.Reload(t.Context()); err != nil {
						return err
					}
				default:
					if _, err := client.ChangeVNI(t.Context(), control.VNIWish{Verb: "add", Options: map[string][]string{"vni": {name}}}); err != nil {
						return err
					}
					v := vxlan.VNI(10 + i)
					if _, err := client.ChangeVNI(t.Context(), control.VNIWish{Verb: "del", VNI: &v}); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	must(t, tasks.Wait())
	p.reload()
	vnis, err := control.NewClient(p.control).VNIs(t.Context())
	must(t, err)
	if len(vnis) != 2 || vnis[1].MTU != 1304 {
		t.Errorf("VNIs: %+v", vnis)
	}
}

// TestVNICommands: VNIs come and go in a running process; frames of each pass.
func TestVNICommands(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "vni", 3, wiring{})
	a, b, sandbox := hosts[0], hosts[1], hosts[2]
	must(t, b.VXLAN(netlab.VXLANConfig{Name: "vxlan1", VNI: 1, Local: b.ip4, Remotes: []netip.Addr{a.ip4}, MTU: 1450}))
	must(t, b.AddAddr("vxlan1", "10.0.1.2/24"))
	must(t, b.VXLAN(netlab.VXLANConfig{Name: "vxlan2", VNI: 2, Local: b.ip4, Remotes: []netip.Addr{a.ip4}, MTU: 1450}))
	must(t, b.AddAddr("vxlan2", "10.0.2.2/24"))
	peer := []string{"--peer", b.ip4.String()}
	p := up(t, a.Namespace, append(peer, "--vni", "1", "--addr", "10.0.1.1/24", "--privileges", "all")...)

	// A second process on the port is told the very command.
	o := run(t, a.Namespace, append(peer, "up", "--vni", "2", "--addr", "10.0.2.1/24", "--mtu", "1400", "--control", filepath.Join(t.TempDir(), "sock"))...)
	if o.code != 1 || !strings.Contains(o.stderr, "is held by process") {
		t.Errorf("a second up: %+v", o)
	}
	// From the place of a container, by the path of its own namespace: what is
	// "self" there is another for the running process.
	add := append(peer, "vni", "add", "2", "--addr", "10.0.2.1/24", "--mtu", "1400", "--netns", "/proc/self/ns/net", "--control", p.control)
	o = run(t, sandbox.Namespace, add...)
	if o.code != 0 || !strings.HasPrefix(o.stdout, "up vx2 vni 2 local 192.168.52.203:4789 peers 192.168.52.204 mtu 1400 mac ") || strings.Count(o.stdout, "\n") != 1 {
		t.Errorf("vni add: %+v", o)
	}
	if link, err := sandbox.Link("vx2"); err != nil || !link.Up {
		t.Errorf("vx2 in the sandbox: %+v, %v", link, err)
	}
	ping(t, a.Namespace, netip.MustParseAddr("10.0.1.2"), 2)
	ping(t, sandbox.Namespace, netip.MustParseAddr("10.0.2.2"), 2)
	// The namespace is reached later too, when whoever named it is gone.
	must(t, sandbox.SetDown("vx2"))
	must(t, sandbox.SetUp("vx2"))

	var list []control.VNI
	o = p.ask("vni", "list", "--json")
	must(t, json.Unmarshal([]byte(o.stdout), &list))
	if len(list) != 2 || list[0].Device != "vx1" || list[0].Origin != "start" || list[1].MTU != 1400 || list[1].Origin != "request" ||
		!slices.Equal(list[1].Peers, []string{b.ip4.String()}) {
		t.Errorf("vni list: %+v", list)
	}
	p.denied(1, "VNI 2 exists already, on device vx2", "vni", "add", "2")
	p.denied(1, "exists", "vni", "add", "3", "--name", underlayDevice)
	p.denied(1, "vx1", "vni", "add", "3", "--name", "vx1")
	p.denied(1, "no-such-ns", "vni", "add", "3", "--netns", "no-such-ns")
	p.denied(1, "ip route get 203.0.113.1", "vni", "add", "3", "--peer", "203.0.113.1")
	p.denied(1, "itself", "vni", "add", "3", "--peer", a.ip4.String())
	p.denied(1, "auto is chosen for the endpoint as a whole", "vni", "add", "3", "--flow-label", "auto")
	p.denied(1, "VNI 3: no such VNI here", "vni", "del", "3")
	p.denied(2, "--addr", "vni", "add", "3", "--addr", "10.0.1")
	p.denied(2, "--port", "vni", "add", "3", "--port", "5")
	p.denied(2, "16777216", "vni", "add", "16777216")

	p.tell("vni", "del", "2")
	if _, err := sandbox.Link("vx2"); err == nil {
		t.Error("vx2 is left in the sandbox")
	}
	ping(t, a.Namespace, netip.MustParseAddr("10.0.1.2"), 2)
	// The last one may go too: the process waits for others.
	p.tell("vni", "del", "1")
	o = p.ask("vni", "add", "1", "--peer", b.ip4.String(), "--addr", "10.0.1.1/24")
	if o.code != 0 {
		t.Errorf("vni add: %+v", o)
	}
	ping(t, a.Namespace, netip.MustParseAddr("10.0.1.2"), 2)
	p.tell("vni", "del", "1")
	// Otherwise a deleted device would end the process: this one is gone already.
	o = p.ask("vni", "list")
	if o.code != 0 || strings.Count(o.stdout, "\n") != 1 {
		t.Errorf("vni list: %+v", o)
	}
	if o = p.ask("vni", "add", "1", "--name", "vx1"); o.code != 0 {
		t.Errorf("vni add: %+v", o)
	}
}

// TestSecondUpShowsTheCommand: the command that it shows does what was wanted.
func TestSecondUpShowsTheCommand(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "second", 2, wiring{})
	a, b := hosts[0], hosts[1]
	first := a.Command(t.Context(), govxlan, "up", "--vni", "1", "--peer", b.ip4.String())
	out := newOutput()
	first.Stdout = out
	must(t, first.Start())
	defer func() {
		must(t, first.Process.Signal(syscall.SIGTERM))
		if err := first.Wait(); err != nil {
			t.Error(err)
		}
	}()
	<-out.line
	want := fmt.Sprintf("govxlan vni add 2 --peer %v --name over-b --addr 10.0.2.1/24 --learning=false", b.ip4)
	o := run(t, a.Namespace, "up", "--vni", "2", "--peer", b.ip4.String(), "--addr", "10.0.2.1/24", "--learning=false", "--name", "over-b", "--local", a.ip4.String())
	if o.code != 1 || !strings.Contains(o.stderr, "'"+want+"'") {
		t.Fatalf("a second up: %+v, want %q", o, want)
	}
	if o := run(t, a.Namespace, strings.Fields(want)[1:]...); o.code != 0 || !strings.HasPrefix(o.stdout, "up over-b vni 2 ") {
		t.Errorf("%s: %+v", want, o)
	}
}

// TestManyVNIsInAFile: hundreds of VNIs start, are listed, change and end.
func TestManyVNIsInAFile(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "many", 2, wiring{})
	a, b := hosts[0], hosts[1]
	path, write := configFile(t)
	text := fmt.Sprintf("peers: [%v]\nvnis:\n", b.ip4)
	for i := range 300 {
		text += fmt.Sprintf("  - {vni: %d, addr: 10.%d.%d.1/24}\n", i+1, (i+1)>>8, (i+1)&255)
	}
	write(text)
	p := prepare(t, a.Namespace, "--config", path)
	p.start()
	eventually(t, func() error {
		if n := strings.Count(p.stdout.String(), "\n"); n != 300 {
			return fmt.Errorf("%d lines", n)
		}
		return nil
	})
	up(t, b.Namespace, "--vni", "300", "--peer", a.ip4.String(), "--addr", "10.1.44.2/24")
	ping(t, a.Namespace, netip.MustParseAddr("10.1.44.2"), 2)
	write(strings.Replace(text, b.ip4.String(), b.ip4.String()+", 192.168.52.99", 1) + "  - vni: 400\n")
	if r := p.reload(); len(r.Changed) != 300 || len(r.Added) != 1 || r.Same != 0 {
		t.Errorf("reload: %d changed, %v added, %d the same", len(r.Changed), r.Added, r.Same)
	}
	ping(t, a.Namespace, netip.MustParseAddr("10.1.44.2"), 2)
	p.stop()
	links, err := a.Links()
	must(t, err)
	if len(links) != 2 { // lo and the underlay
		t.Errorf("%d devices are left", len(links))
	}
}

// TestManyEntriesInAFile: tens of thousands are shown, and one that changes is changed,
// before anybody gives up waiting.
func TestManyEntriesInAFile(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "entries", 2, wiring{})
	a, b := hosts[0], hosts[1]
	path, write := configFile(t)
	const count = 20_000
	var text strings.Builder
	fmt.Fprintf(&text, "vnis:\n  - vni: 4097\n    peers: [%v]\n    fdb:\n", b.ip4)
	line := func(i int, vtep string) string {
		return fmt.Sprintf("      - {mac: \"02:42:0a:%02x:%02x:%02x\", vtep: %s}\n", i>>16, i>>8&255, i&255, vtep)
	}
	for i := range count {
		text.WriteString(line(i, b.ip4.String()))
	}
	write(text.String())
	p := prepare(t, a.Namespace, "--config", path)
	p.start()
	if o := p.ask("config", "show"); o.code != 0 || strings.Count(o.stdout, "mac: \"02:42:0a:") != count {
		t.Errorf("status %d, %d entries shown: %s", o.code, strings.Count(o.stdout, "mac: \"02:42:0a:"), o.stderr)
	}
	// One moves, one goes.
	moved := strings.Replace(text.String(), line(7, b.ip4.String()), line(7, "192.168.52.99"), 1)
	write(strings.Replace(moved, line(8, b.ip4.String()), "", 1))
	if r := p.reload(); len(r.Changed) != 1 || !slices.Equal(r.Changed[0].Options, []string{"fdb"}) {
		t.Errorf("reload: %+v", r)
	}
	if e := p.entry("02:42:0a:00:00:07"); e == nil || e.VTEP.String() != "192.168.52.99" {
		t.Errorf("the one that moved: %+v", e)
	}
	if e := p.entry("02:42:0a:00:00:08"); e != nil {
		t.Errorf("the one that went: %+v", e)
	}
}
