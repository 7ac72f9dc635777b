package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// containerHost is a host as Docker lays it out: a container whose eth0 is
// joined to the bridge br0 of a sandbox namespace.
type containerHost struct {
	*host
	sandbox, container *netlab.Namespace
}

func newContainerHost(t *testing.T, h *host, ip4, ip6 netip.Addr) *containerHost {
	t.Helper()
	c := &containerHost{
		host:      h,
		sandbox:   netlabtest.Namespace(t, h.lab, h.Label()+"sandbox"),
		container: netlabtest.Namespace(t, h.lab, h.Label()+"container"),
	}
	must(t, c.sandbox.Bridge("br0"))
	must(t, h.lab.Veth(c.container, "eth0", ip4.String()+"/24", c.sandbox, "veth0", "", 1450))
	must(t, c.container.AddAddr("eth0", ip6.String()+"/64"))
	must(t, c.sandbox.AttachToBridge("veth0", "br0"))
	return c
}

// TestContainers: the TAP is a port of a bridge in a sandbox namespace, the
// socket stays in the host's, and containers reach each other, whoever is the
// VTEP of the other host.
func TestContainers(t *testing.T) {
	t.Parallel()
	for _, far := range []string{"kernel", "govxlan"} {
		for _, offload := range []string{"auto", "off"} {
			t.Run(far+"/offload="+offload, func(t *testing.T) {
				t.Parallel()
				hosts := newHosts(t, "docker", 2, wiring{})
				a := newContainerHost(t, hosts[0], inner4A, inner6A)
				b := newContainerHost(t, hosts[1], inner4B, inner6B)
				p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(),
					"--netns", a.sandbox.Name(), "--bridge", "br0", "--offload", offload)
				if far == "kernel" {
					must(t, b.VXLAN(netlab.VXLANConfig{
						Name: "vxlan0", VNI: 4097, Local: b.ip4, Remotes: []netip.Addr{a.ip4},
						MTU: 1450, Namespace: b.sandbox, Bridge: "br0",
					}))
				} else {
					// By path this time, under another name.
					up(t, b.Namespace, "--vni", "4097", "--peer", a.ip4.String(), "--name", "ov0",
						"--netns", b.sandbox.Path(), "--bridge", "br0", "--offload", offload)
				}

				link, err := a.sandbox.Link(p.device())
				if err != nil || link.Bridge != "br0" || !link.Up || link.MTU != 1450 {
					t.Errorf("the TAP in the sandbox: %+v, %v", link, err)
				}
				if _, err := a.Link(p.device()); err == nil {
					t.Error("the TAP is in the host's namespace too")
				}
				if s := snapshot(t, a.sandbox); strings.Contains(s, "udp") {
					t.Errorf("the sandbox has UDP sockets:\n%s", s)
				}

				ping(t, a.container, inner4B, 3)
				ping(t, b.container, inner6A, 3)
				ping(t, a.container, inner4B, 2, "-M", "do", "-s", "1422")
				ping(t, b.container, inner4A, 2, "-M", "do", "-s", "1422")
				must(t, transfer(a.container, b.container, inner4B, 4<<20))
				must(t, transfer(b.container, a.container, inner6A, 4<<20))
				path := openUDP(t, a.container, inner4A, b.container, inner4B)
				for _, way := range []udpPath{path, path.reverse()} {
					must(t, way.carry([]int{4, 100, 1421, 1422, 1423, 9000}))
					must(t, way.carrySegments(20*1400+3, 1400))
				}
				p.stop()
				if _, err := a.sandbox.Link(p.device()); err == nil {
					t.Error("the TAP is left in the sandbox")
				}
			})
		}
	}
}

// TestContainerOwnDevice: the TAP is the container's own eth0; there is no
// bridge and no veth pair on the way.
func TestContainerOwnDevice(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "eth0", 2, wiring{})
	a, b := hosts[0], hosts[1]
	container := netlabtest.Namespace(t, a.lab, "container")
	p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--netns", container.Path(),
		"--name", "eth0", "--addr", inner4A.String()+"/24", "--mac", "02:42:0a:00:01:64")
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	must(t, b.AddAddr("vxlan0", inner4B.String()+"/24"))
	link, err := container.Link("eth0")
	if err != nil || link.MAC != "02:42:0a:00:01:64" || link.Kind != "tuntap" {
		t.Errorf("the container's eth0: %+v, %v", link, err)
	}
	ping(t, container, inner4B, 3)
	ping(t, b.Namespace, inner4A, 3)
	must(t, transfer(container, b.Namespace, inner4B, 4<<20))
	p.stop()
}

// TestContainersOfOneHost: two VNIs on one host, each in a sandbox of its own,
// with the same addresses in both, never mix.
func TestContainersOfOneHost(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "tenants", 2, wiring{})
	a, b := hosts[0], hosts[1]
	for i, vni := range []uint32{5001, 5002} {
		port := uint16(4789 + i)
		sandbox := netlabtest.Namespace(t, a.lab, fmt.Sprintf("tenant%d", i))
		up(t, a.Namespace, "--vni", fmt.Sprint(vni), "--port", fmt.Sprint(port), "--peer", b.ip4.String(),
			"--netns", sandbox.Name(), "--name", "eth0", "--addr", inner4A.String()+"/24")
		far := netlabtest.Namespace(t, b.lab, fmt.Sprintf("far%d", i))
		must(t, b.VXLAN(netlab.VXLANConfig{
			Name: "eth0", VNI: vni, Port: port, Local: b.ip4, Remotes: []netip.Addr{a.ip4}, MTU: 1450, Namespace: far,
		}))
		must(t, far.AddAddr("eth0", inner4B.String()+"/24"))
		ping(t, sandbox, inner4B, 2)
		must(t, transfer(sandbox, far, inner4B, 1<<20))
	}
}

// TestDeviceMovedToContainer: a TAP that was moved into a container's namespace
// and renamed there, as container engines do, works on; its end is the
// program's, wherever it is.
func TestDeviceMovedToContainer(t *testing.T) {
	t.Parallel()
	for _, offload := range []string{"auto", "off"} {
		t.Run("offload="+offload, func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "moved", 2, wiring{})
			a, b := hosts[0], hosts[1]
			container := netlabtest.Namespace(t, a.lab, "container")
			b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
			must(t, b.AddAddr("vxlan0", inner4B.String()+"/24"))
			p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--offload", offload)

			var inode int
			must(t, container.Do(func() (err error) {
				inode, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				return err
			}))
			defer unix.Close(inode)
			must(t, a.Do(func() error {
				link, err := netlink.LinkByName(p.device())
				return firstError(err, netlink.LinkSetDown(link), netlink.LinkSetNsFd(link, inode))
			}))
			must(t, container.Do(func() error {
				link, err := netlink.LinkByName(p.device())
				return firstError(err, netlink.LinkSetName(link, "eth0"))
			}))
			must(t, container.SetUp("eth0"))
			must(t, container.AddAddr("eth0", inner4A.String()+"/24"))
			ping(t, container, inner4B, 2)
			must(t, transfer(container, b.Namespace, inner4B, 2<<20))
			must(t, transfer(b.Namespace, container, inner4A, 2<<20))
			p.stop()
			if link, err := container.Link("eth0"); err == nil {
				t.Errorf("the TAP is left in the container: %+v", link)
			}
		})
	}
}

// TestOneHostOverLoopback: two containers of one host are joined by two
// endpoints that meet on its loopback.
func TestOneHostOverLoopback(t *testing.T) {
	t.Parallel()
	for _, offload := range []string{"auto", "off"} {
		for _, c := range []struct {
			a, b string
			mtu  int
		}{
			{"127.0.0.2", "127.0.0.3", 65485}, // the longest datagram over IPv4 has 65,507 bytes
			{"fd00::2", "fd00::3", 65466},
		} {
			t.Run(c.a+"/offload="+offload, func(t *testing.T) {
				t.Parallel()
				h := newHosts(t, "loop", 2, wiring{})[0]
				one, two := netlabtest.Namespace(t, h.lab, "one"), netlabtest.Namespace(t, h.lab, "two")
				if strings.Contains(c.a, ":") {
					must(t, h.AddAddr("lo", c.a+"/128"))
					must(t, h.AddAddr("lo", c.b+"/128"))
				}
				flags := []string{"--vni", "4097", "--name", "eth0", "--offload", offload}
				p := up(t, h.Namespace, append(flags, "--local", c.a, "--peer", c.b, "--netns", one.Path(), "--addr", "10.0.1.100/24")...)
				up(t, h.Namespace, append(flags, "--local", c.b, "--peer", c.a, "--netns", two.Path(), "--addr", "10.0.1.103/24")...)
				if mtu := p.status().VNIs[0].MTU; mtu != c.mtu {
					t.Errorf("MTU %d, want %d", mtu, c.mtu)
				}
				ping(t, one, inner4B, 2)
				ping(t, one, inner4B, 2, "-M", "do", "-s", fmt.Sprint(c.mtu-28))
				must(t, transfer(one, two, inner4B, 8<<20))
				must(t, transfer(two, one, inner4A, 8<<20))
				path := openUDP(t, one, inner4A, two, inner4B)
				must(t, path.carry([]int{4, 1000, c.mtu - 28}))
				must(t, path.carrySegments(30*1000, 1000))
			})
		}
	}
}
