package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// underlayDevice is the one network card of every host.
const underlayDevice = "ens160"

// host is one machine of a lab, joined to the others by one wire.
type host struct {
	*netlab.Namespace
	lab      *netlab.Lab
	ip4, ip6 netip.Addr        // on the underlay
	middle   *netlab.Namespace // the switch, its bridge br0; nil without
}

// ip returns the host's underlay address of one family.
func (h *host) ip(v6 bool) netip.Addr {
	if v6 {
		return h.ip6
	}
	return h.ip4
}

// wiring is what joins hosts.
type wiring struct {
	// mtu of the underlay; 0 = 1500.
	mtu int
	// real makes every packet one that a real wire could carry: no
	// superframes, no checksums left to be filled in.
	real bool
	// gro puts what arrives on a real wire together, as network cards and
	// their drivers do.
	gro bool
	// snooping has the switch hold multicast back from where nobody has joined.
	snooping bool
	// bad joins two hosts with a link that does this to packets.
	bad *badLink
}

// newHosts makes a lab of n hosts: 192.168.52.203, .204, ... and fd52::203,
// fd52::204, ... Two are joined back to back, more by a switch.
func newHosts(t *testing.T, label string, n int, w wiring) []*host {
	t.Helper()
	lab := netlabtest.New(t, label)
	hosts := make([]*host, n)
	for i := range hosts {
		hosts[i] = &host{
			lab:       lab,
			Namespace: netlabtest.Namespace(t, lab, fmt.Sprintf("host%c", 'A'+i)),
			ip4:       netip.AddrFrom4([4]byte{192, 168, 52, byte(203 + i)}),
			ip6:       netip.MustParseAddr(fmt.Sprintf("fd52::%d", 203+i)),
		}
	}
	join := func(a *netlab.Namespace, aName string, b *netlab.Namespace, bName string) {
		must(t, lab.Veth(a, aName, "", b, bName, "", w.mtu))
		if w.real {
			must(t, a.SetOffloads(aName, false))
			must(t, b.SetOffloads(bName, false))
		}
		if w.gro {
			must(t, a.SetFeatures(aName, map[string]bool{"rx-gro": true}))
			must(t, b.SetFeatures(bName, map[string]bool{"rx-gro": true}))
		}
	}
	if w.bad != nil {
		middle := netlabtest.Namespace(t, lab, "link")
		must(t, middle.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"))
		for i, h := range hosts {
			join(h.Namespace, underlayDevice, middle, fmt.Sprintf("port%d", i))
		}
		w.bad.run(t, middle, "port0", "port1")
	} else if n == 2 {
		join(hosts[0].Namespace, underlayDevice, hosts[1].Namespace, underlayDevice)
	} else {
		middle := netlabtest.Namespace(t, lab, "switch")
		must(t, middle.Bridge("br0"))
		if w.snooping {
			must(t, middle.Snoop("br0"))
		}
		for i, h := range hosts {
			h.middle = middle
			port := fmt.Sprintf("port%d", i)
			join(h.Namespace, underlayDevice, middle, port)
			must(t, middle.AttachToBridge(port, "br0"))
		}
	}
	for _, h := range hosts {
		must(t, h.AddAddr(underlayDevice, h.ip4.String()+"/24"))
		must(t, h.AddAddr(underlayDevice, h.ip6.String()+"/64"))
	}
	return hosts
}

// quiet keeps the IPv6 stack of a host off devices made from now on, so that
// nothing but what the test sends appears on the overlay.
func (h *host) quiet(t *testing.T) {
	t.Helper()
	must(t, h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"))
}

// kernelVTEP gives a host the kernel's vxlan device vxlan0, with the other
// hosts on its flood list.
func (h *host) kernelVTEP(t *testing.T, c netlab.VXLANConfig, v6 bool, others ...*host) {
	t.Helper()
	c.Name, c.Local = "vxlan0", h.ip(v6)
	for _, o := range others {
		c.Remotes = append(c.Remotes, o.ip(v6))
	}
	if c.MTU == 0 {
		c.MTU = 1450
		if v6 {
			c.MTU = 1430
		}
	}
	must(t, h.VXLAN(c))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
