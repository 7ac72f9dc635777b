package netlab_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"golang.org/x/sys/unix"
)

// underlay joins two hosts by IPv4 and IPv6.
func underlay(t *testing.T, lab *netlab.Lab) (a, b *netlab.Namespace) {
	t.Helper()
	a, b = netlabtest.Namespace(t, lab, "hostA"), netlabtest.Namespace(t, lab, "hostB")
	if err := lab.Veth(a, "ens160", "192.168.52.203/24", b, "ens160", "192.168.52.204/24", 1500); err != nil {
		t.Fatal(err)
	}
	for ns, addr := range map[*netlab.Namespace]string{a: "fd00::203/64", b: "fd00::204/64"} {
		if err := ns.AddAddr("ens160", addr); err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func TestKernelVXLAN(t *testing.T) {
	for _, version := range []struct{ name, a, b string }{
		{"IPv4", "192.168.52.203", "192.168.52.204"},
		{"IPv6", "fd00::203", "fd00::204"},
	} {
		t.Run(version.name, func(t *testing.T) {
			lab := netlabtest.New(t, "vxlan")
			a, b := underlay(t, lab)
			for _, end := range []struct {
				ns            *netlab.Namespace
				local, remote string
				addr          string
			}{
				{a, version.a, version.b, "10.0.1.100/24"},
				{b, version.b, version.a, "10.0.1.103/24"},
			} {
				err := end.ns.VXLAN(netlab.VXLANConfig{
					Name: "vx0", VNI: 4097, Local: netip.MustParseAddr(end.local),
					Remotes: []netip.Addr{netip.MustParseAddr(end.remote)}, MTU: 1430,
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := end.ns.AddAddr("vx0", end.addr); err != nil {
					t.Fatal(err)
				}
			}
			echo(t, a, b, "10.0.1.103:0")
			far, err := b.Link("vx0")
			if err != nil {
				t.Fatal(err)
			}
			entries, err := a.FDB("vx0")
			if err != nil {
				t.Fatal(err)
			}
			find := func(mac string) netlab.FDBEntry {
				i := slices.IndexFunc(entries, func(e netlab.FDBEntry) bool { return e.MAC == mac })
				if i < 0 {
					t.Fatalf("no entry for %s in %v", mac, entries)
				}
				return entries[i]
			}
			remote := netip.MustParseAddr(version.b)
			if e := find("00:00:00:00:00:00"); e.Remote != remote || !e.Permanent || e.Port != "vx0" {
				t.Errorf("flood entry: %+v", e)
			}
			if e := find(far.MAC); e.Remote != remote || e.Permanent || e.Age > 10*time.Second {
				t.Errorf("learned entry: %+v", e)
			}
		})
	}
}

func TestFDBChanges(t *testing.T) {
	lab := netlabtest.New(t, "fdb")
	a, _ := underlay(t, lab)
	if err := a.VXLAN(netlab.VXLANConfig{Name: "vx0", VNI: 1, NoLearning: true}); err != nil {
		t.Fatal(err)
	}
	const mac = "02:42:0a:00:01:67"
	ap := netip.MustParseAddrPort
	show := func() string {
		entries, err := a.FDB("vx0")
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, e := range entries {
			lines = append(lines, e.String())
		}
		return strings.Join(lines, "\n")
	}
	for _, step := range []struct {
		name string
		err  error
		want string
	}{
		{"add", a.AddFDB("vx0", mac, ap("192.168.52.204:0")), mac + " dev vx0 dst 192.168.52.204 permanent"},
		{"replace", a.ReplaceFDB("vx0", mac, ap("192.168.52.205:4790")), mac + " dev vx0 dst 192.168.52.205 port 4790 permanent"},
	} {
		if step.err != nil {
			t.Fatalf("%s: %v", step.name, step.err)
		}
	}
	if err := a.AddFDB("vx0", mac, ap("192.168.52.204:0")); !errors.Is(err, unix.EEXIST) {
		t.Errorf("second add: %v", err)
	}
	if got, want := show(), mac+" dev vx0 dst 192.168.52.205 port 4790 permanent"; got != want {
		t.Errorf("after replace: %s", got)
	}
	if err := a.DelFDB("vx0", mac, netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	for _, remote := range []string{"192.168.52.205:0", "192.168.52.204:0"} {
		if err := a.AppendFDB("vx0", "00:00:00:00:00:00", ap(remote)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := show(), `00:00:00:00:00:00 dev vx0 dst 192.168.52.204 permanent
00:00:00:00:00:00 dev vx0 dst 192.168.52.205 permanent`; got != want {
		t.Errorf("flood list:\n%s", got)
	}
}

// TestVXLANAttributes has the kernel say what it made of each attribute.
func TestVXLANAttributes(t *testing.T) {
	lab := netlabtest.New(t, "attributes")
	a, _ := underlay(t, lab)
	for i, c := range []struct {
		config netlab.VXLANConfig
		want   []string // as "ip -d link" words them
	}{
		{netlab.VXLANConfig{VNI: 1<<24 - 1}, []string{"vxlan id 16777215 ", "dstport 4789 ", "ttl auto", " ageing 300 ", " udpcsum "}},
		{netlab.VXLANConfig{VNI: 2, Port: 8472, SourcePortLo: 49152, SourcePortHi: 65535}, []string{"srcport 49152 65535 dstport 8472 "}},
		{netlab.VXLANConfig{VNI: 3, TTL: 64, TOS: 1, DF: netlab.DFSet}, []string{" tos inherit ", " ttl 64 ", " df set "}},
		{netlab.VXLANConfig{VNI: 4, TTL: netlab.TTLInherit, DF: netlab.DFInherit}, []string{" ttl inherit ", " df inherit "}},
		{netlab.VXLANConfig{VNI: 5, NoLearning: true, Ageing: 1500 * time.Millisecond, MaxEntries: 7}, []string{" nolearning ", " ageing 2 ", " maxaddr 7 "}},
		{netlab.VXLANConfig{VNI: 6, Port: 4791, NoUDPChecksum: true, Proxy: true, L2Miss: true, L3Miss: true, GBP: true}, []string{" noudpcsum ", " proxy ", " l2miss l3miss ", " gbp "}},
		{netlab.VXLANConfig{VNI: 7, UDP6ZeroTx: true, UDP6ZeroRx: true, Local: netip.MustParseAddr("fd00::203")}, []string{" local fd00::203 ", " udp6zerocsumtx ", " udp6zerocsumrx "}},
		{netlab.VXLANConfig{VNI: 8, Group: netip.MustParseAddr("239.1.1.1"), Dev: "ens160", Ageing: 24 * 365 * time.Hour, Port: 4790}, []string{" group 239.1.1.1 dev ens160 ", " ageing 31536000 "}},
		{netlab.VXLANConfig{VNI: 9, MTU: 1300, MAC: "02:00:00:00:00:09"}, []string{" mtu 1300 ", " 02:00:00:00:00:09 "}},
	} {
		c.config.Name = fmt.Sprintf("vx%d", i)
		if err := a.VXLAN(c.config); err != nil {
			t.Errorf("%+v: %v", c.config, err)
			continue
		}
		out, err := a.Command(t.Context(), "ip", "-d", "link", "show", c.config.Name).Output()
		if err != nil {
			t.Fatalf("ip: %v", err)
		}
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%+v: no %q in\n%s", c.config, want, out)
			}
		}
	}
	if err := a.VXLAN(netlab.VXLANConfig{Name: "vx99", VNI: 99, NoLocalBypass: true}); err != nil {
		t.Error(err)
	}
	if err := a.VXLAN(netlab.VXLANConfig{Name: "vx100", VNI: 100, TTL: 256}); err == nil {
		t.Error("TTL 256 was taken")
	}
}

func TestBridgeFDB(t *testing.T) {
	lab := netlabtest.New(t, "bridge")
	sandbox, one, two := netlabtest.Namespace(t, lab, "sandbox"), netlabtest.Namespace(t, lab, "one"), netlabtest.Namespace(t, lab, "two")
	if err := sandbox.Bridge("br0"); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		ns         *netlab.Namespace
		addr, mac  string
		other, via string
	}{
		{one, "10.0.1.1/24", "02:42:0a:00:01:01", "10.0.1.2", "02:42:0a:00:01:02"},
		{two, "10.0.1.2/24", "02:42:0a:00:01:02", "10.0.1.1", "02:42:0a:00:01:01"},
	} {
		port := fmt.Sprintf("veth%d", i)
		for _, err := range []error{
			lab.Veth(sandbox, port, "", c.ns, "eth0", c.addr, 1450),
			c.ns.SetMAC("eth0", c.mac),
			sandbox.AttachToBridge(port, "br0"),
			c.ns.AddNeighbour("eth0", c.other, c.via),
			c.ns.AddRoute("default", c.other, "eth0"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	echo(t, one, two, "10.0.1.2:0")
	entries, err := sandbox.FDB("br0")
	if err != nil {
		t.Fatal(err)
	}
	for mac, port := range map[string]string{"02:42:0a:00:01:01": "veth0", "02:42:0a:00:01:02": "veth1"} {
		if !slices.ContainsFunc(entries, func(e netlab.FDBEntry) bool {
			return e.MAC == mac && e.Port == port && e.Bridge == "br0" && !e.Permanent
		}) {
			t.Errorf("%s is not behind %s in %v", mac, port, entries)
		}
	}
}

// TestVXLANInOtherNamespace has the devices, and their bridges, in namespaces
// beside the hosts, which alone know the underlay.
func TestVXLANInOtherNamespace(t *testing.T) {
	lab := netlabtest.New(t, "sandbox")
	a, b := underlay(t, lab)
	var sandboxes []*netlab.Namespace
	for i, host := range []*netlab.Namespace{a, b} {
		local := []string{"192.168.52.203", "192.168.52.204"}
		sandbox := netlabtest.Namespace(t, lab, fmt.Sprintf("sandbox%d", i))
		for _, err := range []error{
			sandbox.Bridge("br0"),
			host.VXLAN(netlab.VXLANConfig{
				Name: "vxlan0", VNI: 4097, Local: netip.MustParseAddr(local[i]),
				Remotes: []netip.Addr{netip.MustParseAddr(local[1-i])}, MTU: 1450,
				Namespace: sandbox, Bridge: "br0",
			}),
			sandbox.AddAddr("br0", fmt.Sprintf("10.0.1.%d/24", i+1)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if link, err := sandbox.Link("vxlan0"); err != nil || link.Bridge != "br0" || !link.Up {
			t.Fatalf("%+v, %v", link, err)
		}
		if _, err := host.Link("vxlan0"); err == nil {
			t.Error("the device is in the host's namespace")
		}
		sandboxes = append(sandboxes, sandbox)
	}
	echo(t, sandboxes[0], sandboxes[1], "10.0.1.2:0")
}
