package neighbour

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/vxlan"
)

var (
	asker  = vxlan.MAC{2, 0, 0, 0, 0, 1}
	target = vxlan.MAC{2, 0, 0, 0, 0, 2}
	other  = vxlan.MAC{2, 0, 0, 0, 0, 3}

	asker4  = netip.MustParseAddr("10.0.1.100")
	target4 = netip.MustParseAddr("10.0.1.103")
	asker6  = netip.MustParseAddr("fd10::100")
	target6 = netip.MustParseAddr("fd10::103")
	none4   = netip.IPv4Unspecified()
	none6   = netip.IPv6Unspecified()

	tagQ    = []byte{0x81, 0, 0x20, 0x64}
	tagQinQ = []byte{0x88, 0xA8, 0, 0xC8, 0x81, 0, 0x20, 0x64}
)

// arp is an ARP message, built by gopacket.
type arp struct {
	op       uint16
	dst, src vxlan.MAC // of the frame; dst zero: broadcast
	sha, tha vxlan.MAC // sha zero: src
	spa, tpa netip.Addr
	change   func(*layers.ARP)
}

func (a arp) frame(t testing.TB) []byte {
	t.Helper()
	if a.dst.IsZero() {
		a.dst = vxlan.Broadcast
	}
	if a.sha.IsZero() {
		a.sha = a.src
	}
	l := &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: a.op, SourceHwAddress: a.sha[:], SourceProtAddress: a.spa.AsSlice(),
		DstHwAddress: a.tha[:], DstProtAddress: a.tpa.AsSlice(),
	}
	if a.change != nil {
		a.change(l)
	}
	return serialize(t, &layers.Ethernet{DstMAC: a.dst[:], SrcMAC: a.src[:], EthernetType: layers.EthernetTypeARP}, l)[:42]
}

// nd is a neighbour solicitation or advertisement, built by gopacket.
type nd struct {
	advertise bool
	dst, src  vxlan.MAC // dst zero: the group of the destination
	from, to  netip.Addr
	target    netip.Addr
	options   layers.ICMPv6Options
	flags     uint8
	hops      uint8 // 0 = 255
	code      uint8
}

func option(kind layers.ICMPv6Opt, mac vxlan.MAC) layers.ICMPv6Options {
	return layers.ICMPv6Options{{Type: kind, Data: mac[:]}}
}

func sourceOption(mac vxlan.MAC) layers.ICMPv6Options {
	return option(layers.ICMPv6OptSourceAddress, mac)
}

func targetOption(mac vxlan.MAC) layers.ICMPv6Options {
	return option(layers.ICMPv6OptTargetAddress, mac)
}

// group is the solicited-node multicast address.
func group(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xFF, 2, 11: 1, 12: 0xFF, 13: b[13], 14: b[14], 15: b[15]})
}

func (n nd) frame(t testing.TB) []byte {
	t.Helper()
	if !n.to.IsValid() {
		n.to = group(n.target)
	}
	if n.dst.IsZero() {
		b := n.to.As16()
		n.dst = vxlan.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
	}
	if n.hops == 0 {
		n.hops = 255
	}
	typ := uint8(layers.ICMPv6TypeNeighborSolicitation)
	var body gopacket.SerializableLayer = &layers.ICMPv6NeighborSolicitation{TargetAddress: n.target.AsSlice(), Options: n.options}
	if n.advertise {
		typ = layers.ICMPv6TypeNeighborAdvertisement
		body = &layers.ICMPv6NeighborAdvertisement{Flags: n.flags, TargetAddress: n.target.AsSlice(), Options: n.options}
	}
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: n.hops, SrcIP: n.from.AsSlice(), DstIP: n.to.AsSlice()}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, n.code)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, &layers.Ethernet{DstMAC: n.dst[:], SrcMAC: n.src[:], EthernetType: layers.EthernetTypeIPv6}, ip, icmp, body)
}

func serialize(t testing.TB, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tagged puts VLAN tags into a frame.
func tagged(frame, tags []byte) []byte {
	f := append([]byte(nil), frame[:12]...)
	f = append(f, tags...)
	return append(f, frame[12:]...)
}

// edited changes bytes of a solicitation's ICMPv6 message and mends its checksum.
func edited(t testing.TB, frame []byte, change func(icmp []byte)) []byte {
	t.Helper()
	f := append([]byte(nil), frame...)
	change(f[54:])
	return rechecked(f)
}

// rechecked mends the checksum of an untagged ICMPv6 packet, bit by bit from RFC
// 8200 section 8.1.
func rechecked(f []byte) []byte {
	f[56], f[57] = 0, 0
	binary.BigEndian.PutUint16(f[56:], plainChecksum(f[14:]))
	return f
}

// plainChecksum is the ICMPv6 checksum of a packet whose field is 0.
func plainChecksum(p []byte) uint16 {
	icmp := p[40:]
	sum := uint32(len(icmp)) + protoICMPv6
	add := func(b []byte) {
		for i, v := range b {
			sum += uint32(v) << (8 * (1 - i%2))
		}
	}
	add(p[8:40])
	add(icmp)
	for sum > 0xFFFF {
		sum = sum>>16 + sum&0xFFFF
	}
	return ^uint16(sum)
}
