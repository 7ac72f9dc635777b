package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/govxlan/govxlan/vxlan"
)

// List is what a network configuration list is made of.
type List struct {
	Version string // of the specification
	Name    string
	VNI     vxlan.VNI
	// Peers, Options, Bridge, Control and MTU are those of Conf.
	Peers   []string
	Options map[string]any
	AddVNI  bool
	Bridge  string
	Control string
	MTU     int
	// Subnets of the overlay, one of each family or both.
	Subnets []netip.Prefix
	// Ranges are what of the subnets this host hands out: LO-HI, or a prefix
	// whose first address is the gateway. Without one for a subnet, all of it.
	Ranges []string
	// Gateways are this host's own addresses on the overlay.
	Gateways       []netip.Addr
	IsGateway      bool
	DefaultGateway bool
	Masquerade     bool
	Hairpin        bool
	Routes         []string // DST or DST=GATEWAY
	// DataDir is where host-local keeps what it has given.
	DataDir string
	// Chain are the plugins that follow, by type, or as JSON objects.
	Chain []string
}

// hostLocalRange is one range of the plugin host-local.
type hostLocalRange struct {
	Subnet     netip.Prefix `json:"subnet"`
	RangeStart netip.Addr   `json:"rangeStart,omitzero"`
	RangeEnd   netip.Addr   `json:"rangeEnd,omitzero"`
	Gateway    netip.Addr   `json:"gateway,omitzero"`
}

type ipamRoute struct {
	Dst netip.Prefix `json:"dst"`
	GW  netip.Addr   `json:"gw,omitzero"`
}

type hostLocal struct {
	Type    string             `json:"type"`
	DataDir string             `json:"dataDir,omitempty"`
	Ranges  [][]hostLocalRange `json:"ranges"`
	Routes  []ipamRoute        `json:"routes,omitempty"`
}

type plugin struct {
	Type             string          `json:"type"`
	VNI              vxlan.VNI       `json:"vni"`
	Peers            []string        `json:"peers,omitempty"`
	Options          map[string]any  `json:"options,omitempty"`
	AddVNI           *bool           `json:"addVNI,omitempty"`
	Control          string          `json:"control,omitempty"`
	Bridge           string          `json:"bridge,omitempty"`
	MTU              int             `json:"mtu,omitempty"`
	IsGateway        bool            `json:"isGateway,omitempty"`
	IsDefaultGateway bool            `json:"isDefaultGateway,omitempty"`
	IPMasq           bool            `json:"ipMasq,omitempty"`
	HairpinMode      bool            `json:"hairpinMode,omitempty"`
	Capabilities     map[string]bool `json:"capabilities,omitempty"`
	IPAM             *hostLocal      `json:"ipam,omitempty"`
}

// capabilities are what plugins that often follow are told by the runtime.
var capabilities = map[string]map[string]bool{
	"portmap":   {"portMappings": true},
	"bandwidth": {"bandwidth": true},
}

// JSON is the list as a file has it, checked as the plugin checks it.
func (l *List) JSON() ([]byte, error) {
	if versions := Versions.SupportedVersions(); !slices.Contains(versions, l.Version) {
		return nil, fmt.Errorf("CNI version %q: give one of %s", l.Version, strings.Join(versions, ", "))
	}
	p := plugin{
		Type: PluginType, VNI: l.VNI, Peers: l.Peers, Options: l.Options, Control: l.Control, Bridge: l.Bridge, MTU: l.MTU,
		IsGateway: l.IsGateway || l.DefaultGateway, IsDefaultGateway: l.DefaultGateway, IPMasq: l.Masquerade, HairpinMode: l.Hairpin,
	}
	if !l.AddVNI {
		p.AddVNI = new(bool)
	}
	if len(l.Subnets) > 0 {
		ipam, err := l.ipam()
		if err != nil {
			return nil, err
		}
		p.IPAM = ipam
	} else if len(l.Ranges)+len(l.Gateways)+len(l.Routes) > 0 {
		return nil, errors.New("ranges, gateways and routes need a subnet")
	}
	one, err := json.Marshal(struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
		plugin
	}{l.Version, l.Name, p})
	if err != nil {
		return nil, err
	}
	if _, err := parse(one, ""); err != nil {
		return nil, err
	}
	plugins := []any{p}
	for _, next := range l.Chain {
		if strings.HasPrefix(strings.TrimSpace(next), "{") {
			var object struct {
				Type string `json:"type"`
			}
			if err := json.Unmarshal([]byte(next), &object); err != nil || object.Type == "" {
				return nil, fmt.Errorf("plugin %s: give its type, or a JSON object that has one", next)
			}
			plugins = append(plugins, json.RawMessage(next))
			continue
		}
		object := map[string]any{"type": next}
		if c := capabilities[next]; c != nil {
			object["capabilities"] = c
		}
		plugins = append(plugins, object)
	}
	text, err := json.MarshalIndent(struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
		Plugins    []any  `json:"plugins"`
	}{l.Version, l.Name, plugins}, "", "  ")
	return append(text, '\n'), err
}

// ipam gives host-local its ranges: a list of its own for each subnet, so that a
// container gets an address of each.
func (l *List) ipam() (*hostLocal, error) {
	h := &hostLocal{Type: "host-local", DataDir: l.DataDir}
	ranges, gateways := slices.Clone(l.Ranges), slices.Clone(l.Gateways)
	for _, subnet := range l.Subnets {
		if subnet != subnet.Masked() {
			return nil, fmt.Errorf("subnet %v: that is an address in it: %v is the subnet", subnet, subnet.Masked())
		}
		var list []hostLocalRange
		for _, text := range l.Ranges {
			r, ok, err := rangeIn(subnet, text)
			if err != nil {
				return nil, err
			}
			if ok {
				list = append(list, r)
				ranges = slices.DeleteFunc(ranges, func(s string) bool { return s == text })
			}
		}
		if list == nil {
			list = []hostLocalRange{{Subnet: subnet}}
		}
		for _, gateway := range l.Gateways {
			if !subnet.Contains(gateway) {
				continue
			}
			for i := range list {
				list[i].Gateway = gateway
			}
			gateways = slices.DeleteFunc(gateways, func(a netip.Addr) bool { return a == gateway })
		}
		if (l.IsGateway || l.DefaultGateway) && !list[0].Gateway.IsValid() {
			return nil, fmt.Errorf("subnet %v: each host needs an address of its own to be a gateway: give a gateway, or a range that is a prefix", subnet)
		}
		h.Ranges = append(h.Ranges, list)
	}
	if len(ranges) > 0 {
		return nil, fmt.Errorf("range %s is in none of the subnets %v", ranges[0], l.Subnets)
	}
	if len(gateways) > 0 {
		return nil, fmt.Errorf("gateway %v is in none of the subnets %v", gateways[0], l.Subnets)
	}
	for _, text := range l.Routes {
		dst, gateway, by := strings.Cut(text, "=")
		var r ipamRoute
		var err error
		if r.Dst, err = netip.ParsePrefix(dst); err == nil && by {
			r.GW, err = netip.ParseAddr(gateway)
		}
		if err != nil {
			return nil, fmt.Errorf("route %s: give DST or DST=GATEWAY, such as 10.9.0.0/16=10.0.1.1", text)
		}
		h.Routes = append(h.Routes, r)
	}
	return h, nil
}

// rangeIn reads a range, and says whether it is one of the subnet.
func rangeIn(subnet netip.Prefix, text string) (r hostLocalRange, ok bool, err error) {
	r.Subnet = subnet
	if lo, hi, both := strings.Cut(text, "-"); both {
		if r.RangeStart, err = netip.ParseAddr(lo); err == nil {
			r.RangeEnd, err = netip.ParseAddr(hi)
		}
		if err != nil || r.RangeEnd.Less(r.RangeStart) {
			return r, false, badRange(text)
		}
		if subnet.Contains(r.RangeStart) != subnet.Contains(r.RangeEnd) {
			return r, false, fmt.Errorf("range %s is not all in %v", text, subnet)
		}
		return r, subnet.Contains(r.RangeStart), nil
	}
	part, err := netip.ParsePrefix(text)
	if err != nil {
		return r, false, badRange(text)
	}
	if !subnet.Contains(part.Addr()) {
		return r, false, nil
	}
	// A gateway, one address for a container, and what IPv4 keeps for broadcast.
	if part.Bits() < subnet.Bits() || part.Addr().BitLen()-part.Bits() < 2 {
		return r, false, fmt.Errorf("range %s has to be a part of %v, of 4 addresses or more", text, subnet)
	}
	part = part.Masked()
	r.Gateway = part.Addr().Next()
	r.RangeStart = r.Gateway.Next()
	r.RangeEnd = last(part)
	if part.Addr().Is4() {
		r.RangeEnd = r.RangeEnd.Prev()
	}
	return r, true, nil
}

func badRange(text string) error {
	return fmt.Errorf("range %s: give LO-HI, such as 10.0.1.100-10.0.1.199, or a part of the subnet, such as 10.244.3.0/24", text)
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
