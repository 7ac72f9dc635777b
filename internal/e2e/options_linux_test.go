package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// TestDeviceOptions: --name, --addr, --mac, --mtu and --bridge are what the
// device then has, and what the line says.
func TestDeviceOptions(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "options", 2, wiring{})
	a := hosts[0]
	must(t, a.Bridge("br7"))
	for _, offload := range []string{"auto", "off"} {
		p := up(t, a.Namespace, "--vni", "4097", "--peer", hosts[1].ip4.String(), "--name", "overlay-fifteen",
			"--addr", "10.0.1.100/24,fd10::100/64", "--addr", "10.0.2.100/16", "--mac", "02-42-0A-00-01-64",
			"--mtu", "1281", "--bridge", "br7", "--offload", offload)
		want := "up overlay-fifteen vni 4097 local 192.168.52.203:4789 peers 192.168.52.204 mtu 1281 mac 02:42:0a:00:01:64"
		if p.upLine() != want {
			t.Errorf("it printed %q, want %q", p.upLine(), want)
		}
		link, err := a.Link("overlay-fifteen")
		must(t, err)
		if link.MAC != "02:42:0a:00:01:64" || link.MTU != 1281 || link.Bridge != "br7" || !link.Up {
			t.Errorf("the device: %+v", link)
		}
		for _, addr := range []string{"10.0.1.100/24", "fd10::100/64", "10.0.2.100/16"} {
			if !slices.Contains(link.Addrs, addr) {
				t.Errorf("address %s is not among %v", addr, link.Addrs)
			}
		}
		p.stop()
	}
}

// TestDefaultMAC: derived from VNI and local address: the same after a restart,
// locally administered, and another one for another VNI or host.
func TestDefaultMAC(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "mac", 2, wiring{})
	a, b := hosts[0], hosts[1]
	seen := make(map[string]string)
	for _, c := range []struct {
		on    *host
		flags []string
	}{
		{a, []string{"--vni", "1", "--peer", b.ip4.String()}},
		{a, []string{"--vni", "2", "--peer", b.ip4.String()}},
		{a, []string{"--vni", "1", "--peer", b.ip6.String()}},
		{b, []string{"--vni", "1", "--peer", a.ip4.String()}},
	} {
		var first string
		for range 2 {
			p := up(t, c.on.Namespace, c.flags...)
			link, err := c.on.Link(p.device())
			must(t, err)
			if first == "" {
				first = link.MAC
			} else if link.MAC != first {
				t.Errorf("%v: %s, then %s", c.flags, first, link.MAC)
			}
			if !strings.HasSuffix(p.upLine(), "mac "+link.MAC) {
				t.Errorf("it printed %q, the device has %s", p.upLine(), link.MAC)
			}
			p.stop()
		}
		mac, err := vxlan.ParseMAC(first)
		if err != nil || mac.IsMulticast() || mac[0]&2 == 0 {
			t.Errorf("%s is not locally administered, or not for one station", first)
		}
		who := fmt.Sprint(c.on.Label(), c.flags)
		if other, ok := seen[first]; ok {
			t.Errorf("%s of %s is that of %s too", first, who, other)
		}
		seen[first] = who
	}
}

// TestNoPeer: without a peer it listens where the default route leads.
func TestNoPeer(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "nopeer", 2, wiring{})
			a, b := hosts[0], hosts[1]
			if v6 {
				// A host without IPv4.
				a.changeAddr(t, false, false)
			}
			must(t, a.AddRoute("default", b.ip(v6).String(), underlayDevice))
			p := up(t, a.Namespace, "--vni", "7")
			want := fmt.Sprintf("up vx7 vni 7 local %v peers none mtu %d mac ", addrPort(a.ip(v6), 4789), map[bool]int{false: 1450, true: 1430}[v6])
			if !strings.HasPrefix(p.upLine(), want) {
				t.Errorf("it printed %q, want %q", p.upLine(), want)
			}
			openPort(t, a.Namespace, "vx7", false).send(testFrame(broadcast, station(1), nil, 60, 1))
			p.awaitCounters("no destination", func(c vtep.Counters) bool { return c.TxDropNoDestination > 0 })
		})
	}
}

// TestBothFamilies: peers over IPv4 and over IPv6 in one VNI, which the kernel's
// device refuses.
func TestBothFamilies(t *testing.T) {
	t.Parallel()
	for _, how := range [][]string{{"--offload", "auto"}, {"--offload", "off"}, {"--transport", "packet"}} {
		t.Run(flagsName(how), func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "both", 3, wiring{})
			a, b, c := hosts[0], hosts[1], hosts[2]
			must(t, b.VXLAN(netlab.VXLANConfig{Name: "vxlan0", VNI: 4097, Local: b.ip4, Remotes: []netip.Addr{a.ip4}, MTU: 1430}))
			must(t, c.VXLAN(netlab.VXLANConfig{Name: "vxlan0", VNI: 4097, Local: c.ip6, Remotes: []netip.Addr{a.ip6}, MTU: 1430}))
			must(t, b.AddAddr("vxlan0", "10.0.1.104/24"))
			must(t, c.AddAddr("vxlan0", "10.0.1.105/24"))
			p := up(t, a.Namespace, append([]string{"--vni", "4097", "--peer", b.ip4.String(), "--peer", "[" + c.ip6.String() + "]:4789",
				"--addr", "10.0.1.103/24"}, how...)...)
			if want := "up vx4097 vni 4097 local 192.168.52.203:4789,[fd52::203]:4789 peers 192.168.52.204,fd52::205 mtu 1430 mac "; !strings.HasPrefix(p.upLine(), want) {
				t.Errorf("it printed %q, want %q", p.upLine(), want)
			}
			for _, far := range []struct {
				h  *host
				at netip.Addr
			}{{b, netip.MustParseAddr("10.0.1.104")}, {c, netip.MustParseAddr("10.0.1.105")}} {
				ping(t, a.Namespace, far.at, 2, "-M", "do", "-s", "1402")
				ping(t, far.h.Namespace, netip.MustParseAddr("10.0.1.103"), 2)
				must(t, transfer(a.Namespace, far.h.Namespace, far.at, 2<<20))
			}
		})
	}
}

// TestLinkLocalUnderlay: VTEPs need no configured address: IPv6's own will do.
func TestLinkLocalUnderlay(t *testing.T) {
	t.Parallel()
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			linkLocalUnderlay(t, transport)
		})
	}
}

func linkLocalUnderlay(t *testing.T, transport string) {
	hosts := newHosts(t, "fe80", 2, wiring{})
	linkLocal := func(h *host) netip.Addr {
		link, err := h.Link(underlayDevice)
		must(t, err)
		for _, a := range link.Addrs {
			if p, err := netip.ParsePrefix(a); err == nil && p.Addr().IsLinkLocalUnicast() {
				return p.Addr()
			}
		}
		t.Fatalf("no link-local address on %+v", link)
		return netip.Addr{}
	}
	var programs []*program
	var ports []*packetPort
	for i, h := range hosts {
		h.quiet(t)
		p := up(t, h.Namespace, "--vni", "4097", "--peer", linkLocal(hosts[1-i]).WithZone(underlayDevice).String(), "--transport", transport)
		programs = append(programs, p)
		ports = append(ports, openPort(t, h.Namespace, p.device(), false))
	}
	passes(t, ports[0], ports[1], patience)
	// What they learned leads back.
	f := testFrame(station(1), station(0), nil, 200, 1)
	ports[0].send(f)
	ports[1].numbersUntil(1)
	programs[0].awaitCounters("something sent to what was learned", func(c vtep.Counters) bool { return c.TxFrames > c.TxFlooded })
}

// TestPeerByName: a peer may be a host name.
func TestPeerByName(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "name", 2, wiring{})
	a := hosts[0]
	names := filepath.Join(a.LabDir(), "hosts")
	must(t, os.WriteFile(names, []byte("192.168.52.204 vtep2.example\n"), 0o644))
	p := prepare(t, a.Namespace, "--vni", "4097", "--peer", "vtep2.example:4790,vtep2.example")
	p.cmd.Path = "/proc/self/exe"
	p.cmd.Args = append([]string{"e2e.test", names}, p.cmd.Args...)
	p.cmd.Args[2] = govxlan
	p.cmd.Env = append(os.Environ(), roleVariable+"=own /etc/hosts")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	p.start()
	if want := " peers 192.168.52.204:4790,192.168.52.204 "; !strings.Contains(p.upLine(), want) {
		t.Errorf("it printed %q, want %q", p.upLine(), want)
	}
}

func init() {
	roles["own /etc/hosts"] = func() error {
		if err := unix.Mount(os.Args[1], "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount over /etc/hosts: %w", err)
		}
		return unix.Exec(os.Args[2], os.Args[2:], os.Environ())
	}
}

// TestQueues: several queues and sockets carry several connections.
func TestQueues(t *testing.T) {
	t.Parallel()
	for _, how := range [][]string{{"--offload", "auto"}, {"--offload", "off"}, {"--transport", "packet"}} {
		t.Run(flagsName(how), func(t *testing.T) {
			t.Parallel()
			tn := kernelTunnel(t, "queues", wiring{}, false, append([]string{"--queues", "3"}, how...)...)
			if q := tn.program.status().VNIs[0].Queues; q != 3 {
				t.Errorf("%d queues, want 3", q)
			}
			errs := make(chan error)
			for range 6 {
				go func() { errs <- transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 1<<20) }()
			}
			for range 6 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestLearningOff: nothing is learned; everything is flooded.
func TestLearningOff(t *testing.T) {
	t.Parallel()
	nodes := newMesh(t, "nolearn", []string{"govxlan", "kernel", "kernel"}, "--learning=false")
	a, b, c := nodes[0], nodes[1], nodes[2]
	hello := testFrame(broadcast, station(1), nil, 60, 1)
	b.port.send(hello)
	a.port.expect(hello)
	if e := a.program.entry(station(1).String()); e != nil {
		t.Errorf("learned: %+v", e)
	}
	a.port.send(testFrame(station(1), station(0), nil, 60, 2))
	b.port.numbersUntil(2)
	c.port.numbersUntil(2)
}

// TestMaxEntries: a full table learns nothing new, and still delivers.
func TestMaxEntries(t *testing.T) {
	t.Parallel()
	nodes := newMesh(t, "full", []string{"govxlan", "kernel"}, "--max-entries", "3")
	a, b := nodes[0], nodes[1]
	for n := range byte(5) {
		f := testFrame(broadcast, station(n), nil, 60, uint32(n))
		b.port.send(f)
		a.port.expect(f)
	}
	a.program.awaitCounters("2 not learned", func(c vtep.Counters) bool { return c.RxNotLearnedFull == 2 && c.RxFrames == 5 })
	if e := a.program.status().VNIs[0].Entries; e != 3 {
		t.Errorf("%d entries, want 3", e)
	}
}

// TestUnderlayDevice: --dev is where the address and the MTU come from.
func TestUnderlayDevice(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "dev", 2, wiring{})
	a, b := hosts[0], hosts[1]
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	must(t, a.SetMTU(underlayDevice, 1400))
	for _, flags := range [][]string{
		{"--peer", b.ip4.String(), "--dev", underlayDevice},
		{"--peer", b.ip4.String(), "--dev", underlayDevice, "--local", a.ip4.String()},
		{"--peer", b.ip4.String(), "--dev", underlayDevice, "--transport", "packet"},
	} {
		p := up(t, a.Namespace, append([]string{"--vni", "4097"}, flags...)...)
		if want := " local 192.168.52.203:4789 peers 192.168.52.204 mtu 1350 "; !strings.Contains(p.upLine(), want) {
			t.Errorf("it printed %q, want %q", p.upLine(), want)
		}
		passes(t, openPort(t, a.Namespace, p.device(), false), openPort(t, b.Namespace, "vxlan0", false), patience)
		p.stop()
	}
	p := up(t, a.Namespace, "--vni", "4097", "--dev", underlayDevice)
	if want := " local 192.168.52.203:4789 peers none mtu 1350 "; !strings.Contains(p.upLine(), want) {
		t.Errorf("it printed %q, want %q", p.upLine(), want)
	}
}

// TestLog: the log goes to standard error, in the form and from the level on
// that were asked for.
func TestLog(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "log", 2, wiring{})
	lines := func(flags ...string) []string {
		p := up(t, hosts[0].Namespace, append([]string{"--vni", "4097", "--peer", hosts[1].ip4.String(), "--mtu", "1460"}, flags...)...)
		p.stop()
		return strings.Split(strings.TrimSuffix(p.stderr.String(), "\n"), "\n")
	}
	all := lines("--log-format", "json")
	if len(all) < 3 {
		t.Errorf("the log: %q", all)
	}
	for _, line := range all {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Level == "" || entry.Msg == "" {
			t.Errorf("%q is no JSON of a log entry: %v", line, err)
		}
	}
	if l := lines("--log-level", "warn"); len(l) != 1 || !strings.Contains(l[0], "WARN") {
		t.Errorf("from warn on: %q", l)
	}
	if l := lines("--log-level", "error"); len(l) != 1 || l[0] != "" {
		t.Errorf("from error on: %q", l)
	}
}

// TestIO: frames flow whatever the threads wait with, and status says which.
func TestIO(t *testing.T) {
	t.Parallel()
	tn := kernelTunnel(t, "io", wiring{}, false, "--io", "epoll")
	ping(t, tn.a.Namespace, inner4B, 3)
	// Not before: the program says that it is up a moment before its threads are.
	if io := tn.program.status().IO; io != "epoll" {
		t.Errorf("--io epoll: status says %q", io)
	}
	must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 4<<20))
	must(t, transfer(tn.b.Namespace, tn.a.Namespace, inner4A, 4<<20))
	tn.program.stop()
}

// TestBusyPoll: polling before sleeping changes when things happen, not what.
func TestBusyPoll(t *testing.T) {
	t.Parallel()
	for _, how := range [][]string{{"--offload", "auto"}, {"--offload", "off"}, {"--transport", "packet"}} {
		t.Run(flagsName(how), func(t *testing.T) {
			t.Parallel()
			tn := kernelTunnel(t, "busy", wiring{}, false, append([]string{"--busy-poll", "50us"}, how...)...)
			ping(t, tn.a.Namespace, inner4B, 3)
			must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 4<<20))
			must(t, transfer(tn.b.Namespace, tn.a.Namespace, inner4A, 4<<20))
			tn.program.stop()
		})
	}
}
