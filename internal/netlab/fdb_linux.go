package netlab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// zeroMAC is the key of a vxlan device's flood list in its FDB.
const zeroMAC = "00:00:00:00:00:00"

// clockTick is the unit in which the kernel tells ages (USER_HZ), the same on
// every architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// FDBEntry is one line of "bridge fdb show".
type FDBEntry struct {
	MAC  string
	Port string // the device: a port of a bridge, or a vxlan device
	// Bridge is set for entries of a bridge, Remote for those of a vxlan device.
	Bridge string
	Remote netip.Addr
	// UDPPort and VNI are 0 where the vxlan device's own apply.
	UDPPort   uint16
	VNI       uint32
	Permanent bool          // entered, not learned
	Age       time.Duration // since a frame from this address was last seen
}

func (e FDBEntry) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s dev %s", e.MAC, e.Port)
	if e.Remote.IsValid() {
		fmt.Fprintf(&b, " dst %s", e.Remote)
	}
	if e.UDPPort != 0 {
		fmt.Fprintf(&b, " port %d", e.UDPPort)
	}
	if e.VNI != 0 {
		fmt.Fprintf(&b, " vni %d", e.VNI)
	}
	if e.Bridge != "" {
		fmt.Fprintf(&b, " master %s", e.Bridge)
	}
	if e.Permanent {
		b.WriteString(" permanent")
	}
	return b.String()
}

// AddFDB enters mac -> remote into a vxlan device's FDB. An entry for that MAC
// is an error. The port of remote may be 0: the device's own.
func (ns *Namespace) AddFDB(dev, mac string, remote netip.AddrPort) error {
	return ns.changeFDB("add", dev, mac, remote, 0, unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
}

// ReplaceFDB is AddFDB in place of an older entry.
func (ns *Namespace) ReplaceFDB(dev, mac string, remote netip.AddrPort) error {
	return ns.changeFDB("replace", dev, mac, remote, 0, unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
}

// AppendFDB adds one more remote for a multicast or the zero MAC.
func (ns *Namespace) AppendFDB(dev, mac string, remote netip.AddrPort) error {
	return ns.AppendFDBVNI(dev, mac, remote, 0)
}

// AppendFDBVNI is AppendFDB for a remote that gets frames with a VNI of its own.
func (ns *Namespace) AppendFDBVNI(dev, mac string, remote netip.AddrPort, vni uint32) error {
	return ns.changeFDB("append", dev, mac, remote, vni, unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
}

// DelFDB removes an entry; of several remotes for one MAC, the one given.
func (ns *Namespace) DelFDB(dev, mac string, remote netip.AddrPort) error {
	return ns.changeFDB("delete", dev, mac, remote, 0, unix.RTM_DELNEIGH, 0)
}

// ndMsg is struct ndmsg of linux/neighbour.h.
type ndMsg struct{ netlink.Ndmsg }

func (ns *Namespace) changeFDB(what, dev, mac string, remote netip.AddrPort, vni uint32, message, flags int) error {
	err := ns.change(what+" FDB entry "+mac+" of", dev, func(link netlink.Link) error {
		hw, err := net.ParseMAC(mac)
		if err != nil {
			return err
		}
		// Written here because the library's Neigh has no UDP port.
		req := nl.NewNetlinkRequest(message, flags|unix.NLM_F_ACK)
		req.AddData(&ndMsg{netlink.Ndmsg{
			Family: unix.AF_BRIDGE, Index: uint32(link.Attrs().Index),
			State: unix.NUD_NOARP | unix.NUD_PERMANENT, Flags: unix.NTF_SELF,
		}})
		req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, hw))
		if remote.Addr().IsValid() {
			req.AddData(nl.NewRtAttr(unix.NDA_DST, remote.Addr().AsSlice()))
		}
		if remote.Port() != 0 {
			req.AddData(nl.NewRtAttr(unix.NDA_PORT, binary.BigEndian.AppendUint16(nil, remote.Port())))
		}
		if vni != 0 {
			req.AddData(nl.NewRtAttr(unix.NDA_VNI, nl.Uint32Attr(vni)))
		}
		return ns.Do(func() error {
			_, err := req.Execute(unix.NETLINK_ROUTE, 0)
			return err
		})
	})
	return err
}

// FDB reads the forwarding table of a device: of a vxlan device MAC -> VTEP, of
// a bridge MAC -> port, of a bridge port the bridge's entries for that port.
// The order is by MAC, then by remote and port.
func (ns *Namespace) FDB(dev string) ([]FDBEntry, error) {
	var entries []FDBEntry
	err := ns.change("read FDB of", dev, func(link netlink.Link) error {
		links, err := ns.link.LinkList()
		if err != nil {
			return err
		}
		names := make(map[int]string)
		for _, l := range links {
			names[l.Attrs().Index] = l.Attrs().Name
		}
		var messages [][]byte
		err = ns.Do(func() error {
			req := nl.NewNetlinkRequest(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
			req.AddData(&ndMsg{netlink.Ndmsg{Family: unix.AF_BRIDGE}})
			messages, err = req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
			return err
		})
		if err != nil {
			return err
		}
		for _, m := range messages {
			e, index, master, ok := parseFDB(m)
			own := link.Attrs().Index
			if !ok || index != own && master != own {
				continue
			}
			e.Port, e.Bridge = names[index], names[master]
			entries = append(entries, e)
		}
		return nil
	})
	slices.SortFunc(entries, func(a, b FDBEntry) int {
		if c := strings.Compare(a.MAC, b.MAC); c != 0 {
			return c
		}
		if c := a.Remote.Compare(b.Remote); c != 0 {
			return c
		}
		return strings.Compare(a.Port, b.Port)
	})
	return entries, err
}

// parseFDB reads one RTM_NEWNEIGH message of family AF_BRIDGE.
func parseFDB(m []byte) (e FDBEntry, index, master int, ok bool) {
	const ndmsgLen = 12
	if len(m) < ndmsgLen {
		return e, 0, 0, false
	}
	native := nl.NativeEndian()
	index = int(native.Uint32(m[4:]))
	e.Permanent = native.Uint16(m[8:])&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0
	attrs, err := nl.ParseRouteAttr(m[ndmsgLen:])
	if err != nil {
		return e, 0, 0, false
	}
	for _, a := range attrs {
		v := a.Value
		switch {
		case a.Attr.Type == unix.NDA_LLADDR:
			e.MAC = net.HardwareAddr(bytes.Clone(v)).String()
		case a.Attr.Type == unix.NDA_DST:
			e.Remote, _ = netip.AddrFromSlice(v)
		case a.Attr.Type == unix.NDA_PORT && len(v) >= 2:
			e.UDPPort = binary.BigEndian.Uint16(v)
		case a.Attr.Type == unix.NDA_VNI && len(v) >= 4:
			e.VNI = native.Uint32(v)
		case a.Attr.Type == unix.NDA_MASTER && len(v) >= 4:
			master = int(native.Uint32(v))
		case a.Attr.Type == unix.NDA_CACHEINFO && len(v) >= 12:
			// struct nda_cacheinfo: confirmed, used, updated, in clock ticks
			// ago. Bridges and vxlan devices stamp "updated" on each frame
			// from the address.
			e.Age = time.Duration(native.Uint32(v[8:])) * clockTick
		}
	}
	return e, index, master, e.MAC != ""
}
