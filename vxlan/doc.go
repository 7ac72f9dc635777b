// Package vxlan reads and writes VXLAN packets, RFC 7348, from the 8 bytes of
// the VXLAN header to the whole outer stack, and reads of inner Ethernet frames
// what an outer header needs to know of them.
//
// The package does no I/O, allocates nothing on the packet path, has no clock and
// no state, and runs on every system and byte order. Bytes from the network give
// errors, never panics; results alias the bytes they were read from.
//
// # The header
//
// A VXLAN packet is a UDP datagram, by default to port 4789, whose payload is
// this header and an Ethernet frame without its frame check sequence (RFC 7348
// section 5):
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|R|R|R|R|I|R|R|R|                   reserved                    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                      VNI                      |   reserved    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// The I flag (0x08) says that the VNI is valid, and is always set. The rest is
// zero when sent and ignored when received.
//
// # A short way in
//
// With a UDP socket there is only the header to write and to read. The socket's
// source port should tell flows apart, which the flow hash of the inner frame
// does:
//
//	var in vxlan.Inner
//	if err := in.Parse(buf[vxlan.HeaderLen:]); err != nil {
//		return err
//	}
//	vxlan.Header{VNI: 4097}.Put(buf)
//	port := vxlan.PortRange{Lo: 49152, Hi: 65535}.Port(in.Hash)
//
// and on the other side
//
//	header, frame, err := vxlan.Parse(buf)
//
// Below UDP, [Outer] is the whole stack of Ethernet, IP, UDP and VXLAN,
// [Template] the same for many packets, and [ParsePacket] reads one. [EncapECN],
// [DecapECN] and [SetECN] carry congestion marks through the tunnel as RFC 6040
// says.
//
// # Limits
//
// The outer IP header is written without options and extension headers; on
// reading, IPv4 options are stepped over, IPv6 extension headers and fragments
// refused. Of the extensions that give a meaning to reserved bits, [GBP] reads the
// group policy; the generic protocol extension is not read.
package vxlan
