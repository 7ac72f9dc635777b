package vxlan

import (
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
)

// unhex turns digits, with blanks and line ends between them, into bytes.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ethernet returns a frame from 02:..:0a to 02:..:0b.
func ethernet(etherType uint16, payload ...byte) []byte {
	f := []byte{0x02, 0, 0, 0, 0, 0x0B, 0x02, 0, 0, 0, 0, 0x0A}
	f = binary.BigEndian.AppendUint16(f, etherType)
	return append(f, payload...)
}

// tagged puts an 802.1Q tag in front of the EtherType.
func tagged(frame []byte, tci uint16) []byte {
	return taggedAs(frame, 0x8100, tci)
}

func taggedAs(frame []byte, tpid, tci uint16) []byte {
	f := append([]byte{}, frame[:12]...)
	f = binary.BigEndian.AppendUint16(f, tpid)
	f = binary.BigEndian.AppendUint16(f, tci)
	return append(f, frame[12:]...)
}

// ipv4 returns an IPv4 packet from 10.0.1.101 to 10.0.1.102, TTL 64. flags are
// the 16 bits of flags and fragment offset.
func ipv4(tos, proto uint8, flags uint16, payload ...byte) []byte {
	h := make([]byte, IPv4Len, IPv4Len+len(payload))
	h[0], h[1], h[8], h[9] = 0x45, tos, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(IPv4Len+len(payload)))
	binary.BigEndian.PutUint16(h[6:], flags)
	copy(h[12:], []byte{10, 0, 1, 101, 10, 0, 1, 102})
	binary.BigEndian.PutUint16(h[10:], checksum.Checksum(h, 0))
	return append(h, payload...)
}

// ipv6 returns an IPv6 packet from fd00::65 to fd00::66, hop limit 64, flow
// label 0x12345.
func ipv6(class, next uint8, payload ...byte) []byte {
	h := make([]byte, IPv6Len, IPv6Len+len(payload))
	binary.BigEndian.PutUint32(h, 6<<28|uint32(class)<<20|0x12345)
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	h[6], h[7] = next, 64
	h[8], h[23], h[24], h[39] = 0xFD, 0x65, 0xFD, 0x66
	return append(h, payload...)
}

// tcp returns a TCP segment from 40000 to 5201 with n bytes in all, at least 20.
func tcp(n int) []byte {
	s := make([]byte, n)
	binary.BigEndian.PutUint16(s, 40000)
	binary.BigEndian.PutUint16(s[2:], 5201)
	s[12] = 5 << 4
	for i := 20; i < n; i++ {
		s[i] = byte(i)
	}
	return s
}

// udp returns a UDP datagram without checksum.
func udp(src, dst uint16, payload ...byte) []byte {
	d := binary.BigEndian.AppendUint16(nil, src)
	d = binary.BigEndian.AppendUint16(d, dst)
	d = binary.BigEndian.AppendUint16(d, uint16(UDPLen+len(payload)))
	return append(append(d, 0, 0), payload...)
}

// Frames of n bytes in all.
func tcp4Frame(n int) []byte {
	return ethernet(etherTypeIPv4, ipv4(0, protoTCP, 0x4000, tcp(n-EthernetLen-IPv4Len)...)...)
}

func tcp6Frame(n int) []byte {
	return ethernet(etherTypeIPv6, ipv6(0, protoTCP, tcp(n-EthernetLen-IPv6Len)...)...)
}

// tcp6ExtensionFrame has a hop-by-hop header in front of TCP.
func tcp6ExtensionFrame() []byte {
	hop := []byte{protoTCP, 0, 1, 4, 0, 0, 0, 0}
	return ethernet(etherTypeIPv6, ipv6(0, protoHopByHop, append(hop, tcp(100)...)...)...)
}

func arpFrame() []byte {
	return ethernet(0x0806, 0, 1, 8, 0, 6, 4, 0, 1,
		0x02, 0, 0, 0, 0, 0x0A, 10, 0, 1, 101, 0, 0, 0, 0, 0, 0, 10, 0, 1, 102,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // padding to 60
}
