package netlab

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Membership says whether a device is in a multicast group: what "ip maddress"
// shows.
func (ns *Namespace) Membership(dev string, group netip.Addr) (member bool, err error) {
	err = ns.Do(func() error {
		if group.Is4() {
			member, err = inIGMP(dev, group)
			return err
		}
		text, err := os.ReadFile("/proc/thread-self/net/igmp6")
		if err != nil {
			return err
		}
		want := group.As16()
		for line := range strings.Lines(string(text)) {
			// index device address users ...
			if f := strings.Fields(line); len(f) > 2 && f[1] == dev && f[2] == hex.EncodeToString(want[:]) {
				member = true
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("netlab: groups of %s in %s: %w", dev, ns.name, err)
	}
	return member, nil
}

// inIGMP reads /proc/net/igmp: a line "index device ..." for each device, then
// one for each group, its address as a number of this machine's byte order.
func inIGMP(dev string, group netip.Addr) (bool, error) {
	text, err := os.ReadFile("/proc/thread-self/net/igmp")
	if err != nil {
		return false, err
	}
	b := group.AsSlice()
	little, big := slices.Clone(b), b
	slices.Reverse(little)
	in := ""
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if line[0] != '\t' {
			in = strings.TrimSuffix(f[1], ":")
			continue
		}
		if a := strings.ToLower(f[0]); in == dev && (a == hex.EncodeToString(little) || a == hex.EncodeToString(big)) {
			return true, nil
		}
	}
	return false, nil
}

// DelAddr takes an address off the device.
func (ns *Namespace) DelAddr(dev, cidr string) error {
	return ns.change("delete address "+cidr+" of", dev, func(link netlink.Link) error {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return err
		}
		return ns.link.AddrDel(link, &netlink.Addr{IPNet: ipNet(prefix)})
	})
}

// Snoop has a bridge forward multicast only to ports where somebody has joined
// (IGMP and MLD snooping), and ask who has (querier), as a switch does. It asks
// once a second, and takes a moment until it begins to hold multicast back.
func (ns *Namespace) Snoop(bridge string) error {
	return ns.change("switch multicast snooping on for", bridge, func(link netlink.Link) error {
		req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(link.Attrs().Index)
		req.AddData(msg)
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
		data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
		const ticks = 100 // a second, in USER_HZ
		for attr, value := range map[int]uint64{
			nl.IFLA_BR_MCAST_STARTUP_QUERY_INTVL:  ticks,
			nl.IFLA_BR_MCAST_QUERY_INTVL:          ticks,
			nl.IFLA_BR_MCAST_QUERY_RESPONSE_INTVL: ticks / 10,
		} {
			data.AddRtAttr(attr, binary.NativeEndian.AppendUint64(nil, value))
		}
		data.AddRtAttr(nl.IFLA_BR_MCAST_SNOOPING, nl.Uint8Attr(1))
		data.AddRtAttr(nl.IFLA_BR_MCAST_QUERIER, nl.Uint8Attr(1))
		req.AddData(info)
		return ns.Do(func() error {
			_, err := req.Execute(unix.NETLINK_ROUTE, 0)
			return err
		})
	})
}
