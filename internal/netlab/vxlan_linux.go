package netlab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// TTLInherit as a TTL takes it over from the inner packet.
const TTLInherit = -1

// VXLANConfig describes a vxlan device of the kernel. Every field but Name is
// optional; zero is the kernel's own default unless said otherwise.
type VXLANConfig struct {
	Name  string
	VNI   uint32
	Local netip.Addr // source of the outer packets

	// Remotes get flooded frames, by one FDB entry for the zero MAC each.
	Remotes []netip.Addr
	// Group is the multicast group, or the one default remote, of the device;
	// a multicast group needs Dev.
	Group netip.Addr
	// Dev is the underlay device, in the same namespace.
	Dev string

	Port                       uint16 // 0: 4789, not the kernel's 8472
	SourcePortLo, SourcePortHi uint16
	TTL                        int   // TTLInherit, or 1 to 255
	TOS                        uint8 // 1: inherit
	DF                         DF
	NoLearning                 bool
	Ageing                     time.Duration // whole seconds; there is no \"never\", but years will do
	MaxEntries                 uint32
	NoUDPChecksum              bool // IPv4
	UDP6ZeroTx, UDP6ZeroRx     bool // IPv6: send and accept zero checksums
	NoLocalBypass              bool // send to own addresses too (Linux 6.5)
	Proxy, L2Miss, L3Miss      bool
	GBP                        bool
	FlowLabel                  uint32 // IPv6
	FlowLabelInherit           bool   // Linux 6.7
	// ReservedBits are those of the header that no packet may have set, of
	// which the kernel has a list of its own unless it is given one (Linux
	// 6.14).
	ReservedBits *uint64
	MAC          string
	MTU          int
	Bridge       string // the device becomes its port

	// Namespace is where the device lives, and its Bridge, while its socket
	// stays in the namespace that makes it: what Docker does with its overlay
	// networks. Nil is that namespace itself.
	Namespace *Namespace
}

// DF is what a vxlan device does with the outer don't fragment bit.
type DF uint8

const (
	DFUnset DF = iota
	DFSet
	DFInherit
)

// VXLAN makes a vxlan device of the kernel and brings it up.
func (ns *Namespace) VXLAN(c VXLANConfig) error {
	what := fmt.Sprintf("netlab: add vxlan %s (VNI %d) in %s", c.Name, c.VNI, ns.name)
	req, err := ns.vxlanRequest(c)
	if err == nil {
		err = ns.Do(func() error {
			_, err := req.Execute(unix.NETLINK_ROUTE, 0)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	in := ns
	if c.Namespace != nil {
		in = c.Namespace
	}
	if c.Bridge != "" {
		if err := in.AttachToBridge(c.Name, c.Bridge); err != nil {
			return err
		}
	}
	if err := in.SetUp(c.Name); err != nil {
		return err
	}
	for _, remote := range c.Remotes {
		if err := in.AppendFDB(c.Name, zeroMAC, netip.AddrPortFrom(remote, 0)); err != nil {
			return err
		}
	}
	return nil
}

// vxlanRequest writes the netlink message itself: the library's Vxlan type has
// no DF, no TTL inheritance and no local bypass, and cannot ask for a UDP
// checksum to be off.
func (ns *Namespace) vxlanRequest(c VXLANConfig) (*nl.NetlinkRequest, error) {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(c.Name)))
	if c.Namespace != nil {
		req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(c.Namespace.file.Fd()))))
	}
	if c.MTU != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(c.MTU))))
	}
	if c.MAC != "" {
		mac, err := net.ParseMAC(c.MAC)
		if err != nil {
			return nil, err
		}
		req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, mac))
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vxlan"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)

	u8 := func(attr int, v uint8) { data.AddRtAttr(attr, nl.Uint8Attr(v)) }
	u32 := func(attr int, v uint32) { data.AddRtAttr(attr, nl.Uint32Attr(v)) }
	flag := func(attr int, on bool) {
		if on {
			u8(attr, 1)
		}
	}
	address := func(a netip.Addr, attr4, attr6 int) {
		switch {
		case a.Is4():
			data.AddRtAttr(attr4, a.AsSlice())
		case a.Is6():
			data.AddRtAttr(attr6, a.AsSlice())
		}
	}
	u32(unix.IFLA_VXLAN_ID, c.VNI)
	address(c.Local, unix.IFLA_VXLAN_LOCAL, unix.IFLA_VXLAN_LOCAL6)
	address(c.Group, unix.IFLA_VXLAN_GROUP, unix.IFLA_VXLAN_GROUP6)
	if c.Dev != "" {
		link, err := ns.link.LinkByName(c.Dev)
		if err != nil {
			return nil, err
		}
		u32(unix.IFLA_VXLAN_LINK, uint32(link.Attrs().Index))
	}
	port := c.Port
	if port == 0 {
		port = 4789
	}
	data.AddRtAttr(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, port))
	if c.SourcePortLo != 0 || c.SourcePortHi != 0 {
		lohi := binary.BigEndian.AppendUint16(nil, c.SourcePortLo)
		data.AddRtAttr(unix.IFLA_VXLAN_PORT_RANGE, binary.BigEndian.AppendUint16(lohi, c.SourcePortHi))
	}
	switch {
	case c.TTL == TTLInherit:
		data.AddRtAttr(unix.IFLA_VXLAN_TTL_INHERIT, nil)
	case c.TTL < 0 || c.TTL > 255:
		return nil, fmt.Errorf("TTL %d: want 0 to 255 or TTLInherit", c.TTL)
	case c.TTL != 0:
		u8(unix.IFLA_VXLAN_TTL, uint8(c.TTL))
	}
	u8(unix.IFLA_VXLAN_TOS, c.TOS)
	if c.DF != DFUnset {
		u8(unix.IFLA_VXLAN_DF, uint8(c.DF))
	}
	u8(unix.IFLA_VXLAN_LEARNING, oneIf(!c.NoLearning))
	if c.Ageing > 0 {
		u32(unix.IFLA_VXLAN_AGEING, uint32((c.Ageing+time.Second-1)/time.Second))
	}
	if c.MaxEntries != 0 {
		u32(unix.IFLA_VXLAN_LIMIT, c.MaxEntries)
	}
	u8(unix.IFLA_VXLAN_UDP_CSUM, oneIf(!c.NoUDPChecksum))
	flag(unix.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, c.UDP6ZeroTx)
	flag(unix.IFLA_VXLAN_UDP_ZERO_CSUM6_RX, c.UDP6ZeroRx)
	if c.NoLocalBypass {
		u8(unix.IFLA_VXLAN_LOCALBYPASS, 0)
	}
	flag(unix.IFLA_VXLAN_PROXY, c.Proxy)
	flag(unix.IFLA_VXLAN_L2MISS, c.L2Miss)
	flag(unix.IFLA_VXLAN_L3MISS, c.L3Miss)
	if c.FlowLabel != 0 {
		data.AddRtAttr(unix.IFLA_VXLAN_LABEL, binary.BigEndian.AppendUint32(nil, c.FlowLabel))
	}
	if c.FlowLabelInherit {
		u32(unix.IFLA_VXLAN_LABEL_POLICY, 1)
	}
	if c.ReservedBits != nil {
		const reservedBits = unix.IFLA_VXLAN_LABEL_POLICY + 1
		data.AddRtAttr(reservedBits, binary.BigEndian.AppendUint64(nil, *c.ReservedBits))
	}
	if c.GBP {
		data.AddRtAttr(unix.IFLA_VXLAN_GBP, nil)
	}
	req.AddData(info)
	return req, nil
}

func oneIf(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
