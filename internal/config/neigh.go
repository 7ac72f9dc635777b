package config

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// ARP is what a VNI does about ARP and neighbour discovery.
type ARP struct {
	Mode       vtep.ARPMode
	Neighbours []vtep.Neighbour
	Snoop      bool
}

func newARP(v View) (p ARP, err error) {
	mode := v.Text("arp")
	if p.Mode, err = vtep.ParseARPMode(mode); err != nil {
		return p, v.Errorf("arp", "%q: give flood, suppress or proxy", mode)
	}
	for _, layer := range v { // the two are one choice
		own := View{layer}
		if own.Bool("proxy") {
			if own.Given("arp") && p.Mode != vtep.ARPProxy {
				return p, v.Errorf("proxy", "and --arp %s: --proxy means --arp proxy, so leave one of them out", mode)
			}
			p.Mode = vtep.ARPProxy
		}
		if own.Given("proxy") || own.Given("arp") {
			break
		}
	}
	for i, text := range v.List("neigh") {
		ip, rest, ok := strings.Cut(text, "=")
		mac, router, isRouter := strings.Cut(rest, "=")
		if !ok || isRouter && router != "router" && router != "true" && router != "false" {
			return p, v.errorAt("neigh", i, "%q: give IP=MAC, such as 10.0.1.103=02:42:0a:00:01:67, with =router behind it for a router", text)
		}
		n, err := ParseNeighbour(ip, mac)
		if err != nil {
			return p, v.errorAt("neigh", i, "%q: %v", text, err)
		}
		n.Router = router == "router" || router == "true"
		for _, had := range p.Neighbours {
			if had.IP == n.IP {
				return p, v.errorAt("neigh", i, "%q: %v has a MAC already", text, n.IP)
			}
		}
		p.Neighbours = append(p.Neighbours, n)
	}
	if p.Mode == vtep.ARPFlood {
		const useless = "and --arp flood: where all is flooded nothing is answered; add --arp suppress or --arp proxy"
		if len(p.Neighbours) > 0 {
			return p, v.Errorf("neigh", useless)
		}
		if v.Bool("neigh-snoop") {
			return p, v.Errorf("neigh-snoop", useless)
		}
	}
	p.Snoop = v.Bool("neigh-snoop")
	return p, nil
}

// ParseNeighbour reads the addresses of a neighbour.
func ParseNeighbour(ip, mac string) (n vtep.Neighbour, err error) {
	a, err := netip.ParseAddr(ip)
	if err != nil || a.Zone() != "" {
		return n, fmt.Errorf("%q is no IP address: give one such as 10.0.1.103 or fd10::103", ip)
	}
	n.IP = a.Unmap()
	if n.IP.IsMulticast() || n.IP.IsUnspecified() || n.IP.IsLoopback() {
		return n, fmt.Errorf("%v is not the address of one station of a network", n.IP)
	}
	if n.MAC, err = vxlan.ParseMAC(mac); err != nil {
		return n, fmt.Errorf("%q is no MAC address: give six bytes, such as 02:42:0a:00:01:67", mac)
	}
	if n.MAC.IsMulticast() || n.MAC.IsZero() {
		return n, fmt.Errorf("%v is not the MAC address of one station", n.MAC)
	}
	return n, nil
}
