package netlab

import (
	"bytes"
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
	const ticks = 100 // a second, in USER_HZ
	number := func(n uint64) []byte { return binary.NativeEndian.AppendUint64(nil, n) }
	return ns.change("switch multicast snooping on for", bridge, func(link netlink.Link) error {
		// Two steps: with both in one the kernel becomes querier first, and
		// waits for the interval that it had then, 10 s.
		for _, options := range []map[int][]byte{
			{
				nl.IFLA_BR_MCAST_STARTUP_QUERY_INTVL:  number(ticks),
				nl.IFLA_BR_MCAST_QUERY_INTVL:          number(ticks),
				nl.IFLA_BR_MCAST_QUERY_RESPONSE_INTVL: number(ticks / 10),
			},
			{nl.IFLA_BR_MCAST_SNOOPING: {1}},
			{nl.IFLA_BR_MCAST_QUERIER: {1}},
		} {
			req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
			msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
			msg.Index = int32(link.Attrs().Index)
			req.AddData(msg)
			info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
			info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("bridge"))
			data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
			for attr, value := range options {
				data.AddRtAttr(attr, value)
			}
			req.AddData(info)
			if err := ns.Do(func() error {
				_, err := req.Execute(unix.NETLINK_ROUTE, 0)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Joined tells how many ports of a bridge that snoops have somebody in a
// multicast group behind them: what "bridge mdb" shows.
func (ns *Namespace) Joined(bridge string, group netip.Addr) (ports int, err error) {
	const ( // linux/if_bridge.h
		rtmGetMDB        = 86 // the type of the answers too
		mdb, entry, info = 1, 1, 1
		portMsgLen       = 8
		addressAt        = 8 // in struct br_mdb_entry, behind ifindex, state, flags and vid
	)
	err = ns.change("read the groups of", bridge, func(link netlink.Link) error {
		var messages [][]byte
		if err := ns.Do(func() error {
			req := nl.NewNetlinkRequest(rtmGetMDB, unix.NLM_F_DUMP)
			req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
			messages, err = req.Execute(unix.NETLINK_ROUTE, rtmGetMDB)
			return err
		}); err != nil {
			return err
		}
		for _, m := range messages {
			if len(m) < portMsgLen || binary.NativeEndian.Uint32(m[4:]) != uint32(link.Attrs().Index) {
				continue
			}
			for _, table := range nested(m[portMsgLen:], mdb) {
				for _, e := range nested(table, entry) {
					for _, i := range nested(e, info) {
						if a := group.AsSlice(); len(i) >= addressAt+len(a) && bytes.Equal(i[addressAt:addressAt+len(a)], a) {
							ports++
						}
					}
				}
			}
		}
		return nil
	})
	return ports, err
}

// nested are the values of the attributes of one type.
func nested(b []byte, kind uint16) (values [][]byte) {
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil
	}
	for _, a := range attrs {
		if a.Attr.Type&^unix.NLA_F_NESTED == kind {
			values = append(values, a.Value)
		}
	}
	return values
}
