package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/govxlan/govxlan/internal/firewall"
	"github.com/govxlan/govxlan/internal/reach"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// way is how packets get to a peer.
type way struct {
	source netip.Addr
	link   netlink.Link
}

// wayTo asks the routing table, for a packet of the endpoint.
func (x *examination) wayTo(to netip.Addr) (w way, err error) {
	options := &netlink.RouteGetOptions{Oif: to.Zone()}
	if x.Status != nil && x.tunnel() == nil {
		if local := reach.Local(x.Status, to); local.IsValid() {
			options.SrcAddr = net.IP(local.AsSlice())
			w.source = local
		}
	}
	routes, err := netlink.RouteGetWithOptions(net.IP(to.AsSlice()), options)
	if err != nil {
		return w, err
	}
	if len(routes) == 0 {
		return w, errors.New("none found")
	}
	if !w.source.IsValid() {
		source, _ := netip.AddrFromSlice(routes[0].Src)
		w.source = source.Unmap()
	}
	w.link, err = netlink.LinkByIndex(routes[0].LinkIndex)
	return w, err
}

// checkRoutes: is there a way to each peer, is its device up, and does it not
// lead into the tunnel.
func (x *examination) checkRoutes() {
	devices := make(map[string]bool)
	for _, v := range x.vnis() {
		devices[v.Device] = true
	}
	for _, peer := range x.far() {
		to := peer.Addr()
		say := func(s State, command, format string, args ...any) {
			x.report.add(Finding{Check: "route", State: s, Peer: to, Command: command, Text: fmt.Sprintf(format, args...)})
		}
		home := x.home(to)
		by := "via <gateway>"
		if home != "" {
			by = "dev " + home
		}
		if x.Status != nil && x.tunnel() == nil && home == "" {
			if local := reach.Local(x.Status, to); local.IsValid() {
				say(Fail, fmt.Sprintf("ip address add %v/<bits> dev <device>", local), "the endpoint's own address %v is on no device of this host any more", local)
				continue
			}
		}
		w, err := x.wayTo(to)
		if err != nil {
			if down := x.downDevice(home); down != "" {
				say(Fail, fmt.Sprintf("ip link set dev %s up", down), "%s, which has the endpoint's address, is down: no route to %v", down, to)
				continue
			}
			say(Fail, fmt.Sprintf("ip route replace %v %s", to.WithZone(""), by), "no route to %v (%v)", to, err)
			continue
		}
		name := w.link.Attrs().Name
		switch {
		case devices[name]:
			say(Fail, fmt.Sprintf("ip route replace %v %s", to.WithZone(""), by), "the route to %v leads into the tunnel itself, device %s", to, name)
		case w.link.Attrs().Flags&net.FlagUp == 0:
			say(Fail, fmt.Sprintf("ip link set dev %s up", name), "device %s, by which %v is reached, is down", name, to)
		case w.link.Attrs().RawFlags&unix.IFF_LOWER_UP == 0:
			say(Fail, "", "device %s, by which %v is reached, has no carrier: look at the cable, or the other end", name, to)
		case home != "" && home != name && strict(home):
			say(Warn, fmt.Sprintf("sysctl -w net.ipv4.conf.%s.rp_filter=2", strings.ReplaceAll(home, ".", "/")),
				"%v is reached by %s, but answers come to %v on %s, whose strict reverse-path filter drops them", to, name, w.source, home)
		default:
			say(OK, "", "%v is reached by %s from %v", to, name, w.source)
		}
	}
}

// home is the device that has the endpoint's address of a peer's family, "" if
// there is none.
func (x *examination) home(to netip.Addr) string {
	if x.Status == nil || x.tunnel() != nil {
		return ""
	}
	local := reach.Local(x.Status, to)
	links, err := netlink.LinkList()
	if err != nil || !local.IsValid() {
		return ""
	}
	for _, l := range links {
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.Equal(net.IP(local.AsSlice())) }) {
			return l.Attrs().Name
		}
	}
	return ""
}

// downDevice returns the name if that device is down.
func (x *examination) downDevice(name string) string {
	if name == "" {
		return ""
	}
	if link, err := netlink.LinkByName(name); err == nil && link.Attrs().Flags&net.FlagUp == 0 {
		return name
	}
	return ""
}

// strict says whether a device drops what comes by it from an address that is
// reached by another (rp_filter 1, of the device or of all).
func strict(device string) bool {
	most := "0"
	for _, name := range []string{"all", device} {
		text, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + name + "/rp_filter")
		if err == nil {
			most = max(most, strings.TrimSpace(string(text)))
		}
	}
	return most == "1"
}

// checkFirewall: rules of this host that drop what goes to a peer or comes from
// it.
func (x *examination) checkFirewall() {
	peers := x.far()
	switch {
	case len(peers) == 0:
		x.find("firewall", Skip, "", "there is no peer whose packets it might drop")
		return
	case x.Status != nil && x.Status.Transport == "packet":
		x.find("firewall", Skip, "", "packet sockets go past it")
		return
	}
	rules, err := firewall.Read(x.ctx)
	if err != nil {
		x.find("firewall", Skip, "", "its rules cannot be read: %v", err)
		return
	}
	found := false
	for _, peer := range peers {
		w, err := x.wayTo(peer.Addr())
		if err != nil {
			continue // told already
		}
		out := firewall.Packet{
			Src: w.source.WithZone(""), Dst: peer.Addr().WithZone(""), DstPort: peer.Port(),
			Device: w.link.Attrs().Name, Index: w.link.Attrs().Index,
		}
		in := out
		in.Incoming, in.Src, in.Dst, in.DstPort = true, out.Dst, out.Src, x.underPort()
		for _, p := range []firewall.Packet{in, out} {
			for _, d := range rules.Check(p) {
				if d.Maybe && x.answers(peer.Addr()) {
					continue
				}
				found = true
				f := Finding{Check: "firewall", State: Fail, Peer: peer.Addr(), Command: d.Command}
				verb := "drops"
				if d.Maybe {
					f.State, verb = Warn, "may drop"
				}
				f.Text = fmt.Sprintf("%s %s UDP port %d to %v", d.Where, verb, p.DstPort, peer.Addr())
				if p.Incoming {
					f.Text = fmt.Sprintf("%s %s UDP port %d from %v", d.Where, verb, p.DstPort, peer.Addr())
				}
				x.report.add(f)
			}
		}
	}
	if !found {
		x.find("firewall", OK, "", "no rule of this host drops UDP port %d of the peers", x.underPort())
	}
}
