package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Spec is one device with its VNI, or with its VNIs if it is a trunk.
type Spec struct {
	View
	VNI       vxlan.VNI // of a trunk without --vni: its first
	NoNative  bool      // a trunk whose frames without a tag go nowhere
	Trunk     []VLAN    // empty: the device is VNI's alone
	Peers     []PeerName
	Groups    []vtep.Group
	Entries   []vtep.Entry
	Device    tap.Config // without what follows from the underlay
	Persist   bool       // the device outlives the process
	Learning  bool
	Ageing    time.Duration // negative: for ever
	Entry     Bound
	ClampMSS  bool
	Strangers bool // --allow-unknown-vteps
	Outer     Outer
	Header    Header
	VLAN      vtep.VLANMode
	ARP       ARP
	Guard     vtep.Guard
}

// Bound is how many entries a table may have.
type Bound struct {
	Most int // negative: no bound
	All  bool
}

// VLAN is one VNI of a trunk; VID 0 stands for frames without a tag.
type VLAN struct {
	VID uint16
	VNI vxlan.VNI
}

// VNIs are all that the device carries.
func (s *Spec) VNIs() []VLAN {
	if len(s.Trunk) == 0 {
		return []VLAN{{0, s.VNI}}
	}
	return s.Trunk
}

// String names the spec for messages.
func (s *Spec) String() string { return "VNI " + s.VNI.String() }

// newSpec checks what one VNI is to be like.
func newSpec(v View, e *Endpoint) (*Spec, error) {
	s := &Spec{
		View: v, Persist: v.Bool("persist"), Learning: v.Bool("learning"), ClampMSS: v.Bool("mss-clamp"), Strangers: v.Bool("allow-unknown-vteps"),
		Entry: Bound{All: v.Bool("max-entries-all")},
	}
	if v.Given("vni") {
		n, err := v.number("vni", 0, int64(vxlan.MaxVNI))
		if err != nil {
			return nil, v.Errorf("vni", "%s: a VNI has 24 bits, so 0 to %d", v.Text("vni"), vxlan.MaxVNI)
		}
		s.VNI = vxlan.VNI(n)
	} else {
		s.NoNative = true
	}
	if err := s.vlans(); err != nil {
		return nil, err
	}
	if s.NoNative {
		// It stands for the whole in what is named or derived from a VNI.
		s.VNI = s.Trunk[0].VNI
		if addrs := v.List("addr"); len(addrs) > 0 {
			return nil, v.Errorf("addr", "%s is for frames without a VLAN tag, which --vlan-map takes nowhere: give them a VNI with --vni", addrs[0])
		}
	}
	if v.emptyFlag("peer") {
		return nil, v.Errorf("peer", "is empty: give ADDR[:PORT], or leave it out")
	}
	for i, text := range v.List("peer") {
		peer, err := ParsePeer(text, e.Port)
		if err != nil {
			return nil, v.errorAt("peer", i, "%v", err)
		}
		s.Peers = append(s.Peers, peer)
	}
	if err := s.groups(e); err != nil {
		return nil, err
	}
	if err := s.device(e); err != nil {
		return nil, err
	}
	if err := s.table(e); err != nil {
		return nil, err
	}
	var err error
	if s.Outer, err = newOuter(v); err != nil {
		return nil, err
	}
	if s.Header, err = newHeader(v); err != nil {
		return nil, err
	}
	if s.ARP, err = newARP(v); err != nil {
		return nil, err
	}
	if s.Guard, err = newGuard(v, s.Device.Addrs); err != nil {
		return nil, err
	}
	return s, nil
}

// device checks what concerns the TAP.
func (s *Spec) device(e *Endpoint) error {
	s.Device = tap.Config{
		Name: cmp.Or(s.Text("name"), fmt.Sprintf("vx%d", s.VNI)), Netns: s.Text("netns"), Bridge: s.Text("bridge"),
		Adopt: s.Persist,
	}
	if err := checkDeviceName(s.Device.Name); err != nil {
		return s.Errorf("name", "%v", err)
	}
	mtu, err := s.number("mtu", 0, 65521)
	if err != nil || mtu != 0 && mtu < 68 {
		return s.Errorf("mtu", "%s: an Ethernet device takes 68 to 65521", s.Text("mtu"))
	}
	s.Device.MTU = int(mtu)
	for i, text := range s.List("addr") {
		a, err := netip.ParsePrefix(text)
		if err != nil {
			return s.errorAt("addr", i, "%q: give an address with its prefix length, such as 10.0.1.100/24", text)
		}
		s.Device.Addrs = append(s.Device.Addrs, a)
	}
	if text := s.Text("mac"); text != "" {
		mac, err := vxlan.ParseMAC(text)
		if err != nil {
			return s.Errorf("mac", "%q: give six bytes, such as 02:42:0a:00:01:64", text)
		}
		if mac.IsMulticast() || mac.IsZero() {
			return s.Errorf("mac", "%v: a device needs a unicast MAC address, with an even first byte", mac)
		}
		s.Device.MAC = net.HardwareAddr(mac[:])
	}
	offload, err := s.offload()
	if err != nil {
		return err
	}
	if offload {
		s.Device.Offload = tap.AllFeatures
	}
	if s.Device.Queues, err = s.count("queues", mostQueues); err != nil {
		return err
	}
	if s.Device.Queues == 0 {
		s.Device.Queues = e.Queues
	}
	return nil
}

// table checks what concerns the FDB.
func (s *Spec) table(e *Endpoint) error {
	s.Ageing = s.duration("ageing")
	switch {
	case s.Ageing < 0:
		return s.Errorf("ageing", "%v: give a duration such as 300s, or 0 to keep entries", s.Ageing)
	case s.Ageing == 0:
		s.Ageing = -1
	}
	most, err := s.number("max-entries", 0, 1<<31-1)
	if err != nil {
		return s.Errorf("max-entries", "%s: give a number, or 0 for no limit", s.Text("max-entries"))
	}
	if s.Entry.Most = int(most); most == 0 {
		s.Entry.Most = -1
	}
	return s.entries(e)
}

// checkDeviceName refuses what the kernel would, with a sentence of our own.
func checkDeviceName(name string) error {
	if len(name) > 15 {
		return fmt.Errorf("%q: a device name has 15 bytes at most", name)
	}
	if name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n%") {
		return fmt.Errorf("%q: a device name has no slash, colon, percent sign or blank", name)
	}
	return nil
}

// groups checks --group and what belongs to it.
func (s *Spec) groups(e *Endpoint) error {
	if err := s.noGroup(e); err != nil {
		return err
	}
	list := s.List("group")
	dev := s.Text("dev")
	switch {
	case s.emptyFlag("group"):
		return s.Errorf("group", "is empty: give a multicast address, or leave it out")
	case len(list) > 0 && dev == "":
		return s.Errorf("group", "%s needs --dev IF: the underlay interface to join it on", list[0])
	case len(list) > 0 && e.Packet:
		return s.Errorf("group", "%s with --transport packet: groups are joined by --transport udp alone", list[0])
	case len(list) == 0 && dev != e.Dev:
		return s.Errorf("dev", "%s differs from that of the endpoint: in a VNI it is the interface to join --group on, and there is none", dev)
	case len(list) > 0 && e.Dev != "" && dev != e.Dev:
		return s.Errorf("dev", "%s differs from that of the endpoint, whose sockets are bound to %s", dev, e.Dev)
	}
	for i, text := range list {
		g, err := s.parseGroup(i, text, e.Port)
		if err != nil {
			return err
		}
		if z := g.Addr().Zone(); z != "" && z != dev {
			return s.errorAt("group", i, "%s names another interface than --dev %s", text, dev)
		}
		group := vtep.Group{Addr: netip.AddrPortFrom(g.Addr().WithZone(""), g.Port()), Device: dev}
		if !slices.Contains(s.Groups, group) {
			s.Groups = append(s.Groups, group)
		}
	}
	return nil
}

// parseGroup reads ADDR, ADDR:PORT or [ADDR6]:PORT.
func (s *Spec) parseGroup(i int, text string, port uint16) (netip.AddrPort, error) {
	g, err := netip.ParseAddrPort(text)
	if err != nil {
		a, err := netip.ParseAddr(strings.Trim(text, "[]"))
		if err != nil {
			return g, s.errorAt("group", i, "%q: give a multicast address such as 239.1.1.1 or ff05::100", text)
		}
		g = netip.AddrPortFrom(a, port)
	}
	g = netip.AddrPortFrom(g.Addr().Unmap(), g.Port())
	switch {
	case !g.Addr().IsMulticast():
		return g, s.errorAt("group", i, "%s: that is no multicast address (224.0.0.0/4, ff00::/8); for one VTEP give --peer", text)
	case g.Addr().IsInterfaceLocalMulticast():
		return g, s.errorAt("group", i, "%s: what is sent to it never leaves the host; ff02:: to ff0e:: do", text)
	case g.Port() == 0:
		return g, s.errorAt("group", i, "%s: port 0 cannot be sent to", text)
	}
	return g, nil
}

// emptyFlag says whether a list was typed that has nothing in it. In a file that
// is a way to have none where the top has some.
func (v View) emptyFlag(name string) bool {
	value, ok := v.given(name)
	return ok && len(value.Texts) == 0 && len(value.Places) == 0
}
