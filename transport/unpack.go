package transport

import (
	"encoding/binary"
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

// vnetHeaderLen is the length of struct virtio_net_hdr, which a packet socket
// with PACKET_VNET_HDR puts in front of every packet, in native byte order:
// flags, GSO type (1 byte each), header length, GSO size, where checksumming
// starts, where behind that the checksum lies (2 bytes each).
const vnetHeaderLen = 10

// Values in a vnet header (include/uapi/linux/virtio_net.h).
const (
	vnetNeedsChecksum = 1 // flags: the checksum is partial
	vnetDataValid     = 2 // flags: it was verified
	vnetGSOUDP        = 5 // GSO type: datagrams of GSO size, a train
	vnetGSOECN        = 0x80
)

// verdict is what became of a received packet.
type verdict uint8

const (
	taken verdict = iota
	badPacket
	badChecksum
	empty // nothing in it
)

// unpacker reads what a packet socket received.
type unpacker struct {
	port   uint16 // that the packets are for
	zero6  bool   // no checksum is right over IPv6 too
	packet vxlan.Packet

	last     netip.Addr // memo of the last source: runs come from one VTEP
	lastZone string
	lastAddr netip.Addr // last with its zone
}

// unpack makes a train of one received packet, vnet header first, then from the
// Ethernet header on or, on links that have none, from the IP header. The train
// is of one datagram unless the kernel put several together. The zone is that of
// the device that a packet from a link-local address came by.
func (u *unpacker) unpack(b []byte, ethernet bool, zone func() string, t *Train) verdict {
	if len(b) < vnetHeaderLen {
		return badPacket
	}
	flags, gso := b[0], b[1]&^vnetGSOECN
	size := int(binary.NativeEndian.Uint16(b[4:6]))
	p := &u.packet
	var payload []byte
	var err error
	if ethernet {
		payload, err = p.ParseDatagram(b[vnetHeaderLen:])
	} else {
		payload, err = p.ParseIPDatagram(b[vnetHeaderLen:])
	}
	if err != nil || p.DstPort != u.port {
		return badPacket
	}
	// A partial checksum is that of a sender on this machine, or of packets
	// that the kernel verified before it put them together; it may lie in the
	// inner packet too, whose device would then compute the outer one.
	switch {
	case flags&vnetNeedsChecksum != 0:
	case p.ZeroChecksum || flags&vnetDataValid == 0:
		if !p.ChecksumOK() && !(p.ZeroChecksum && u.zero6) {
			return badChecksum
		}
	}
	if len(payload) == 0 {
		return empty
	}
	*t = Train{Buf: payload[:len(payload):len(payload)], TOS: p.TOS}
	if gso == vnetGSOUDP && size < len(payload) {
		t.Stride = size
	}
	t.Addr = netip.AddrPortFrom(u.source(zone), p.SrcPort)
	return taken
}

// source is the address of the last packet, with its zone.
func (u *unpacker) source(zone func() string) netip.Addr {
	if !u.packet.Src.IsLinkLocalUnicast() || u.packet.Src.Is4() {
		return u.packet.Src
	}
	if z := zone(); u.packet.Src != u.last || z != u.lastZone {
		u.last, u.lastZone = u.packet.Src, z
		u.lastAddr = u.last.WithZone(z)
	}
	return u.lastAddr
}
