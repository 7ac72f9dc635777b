package codec

import (
	"encoding/binary"
	"fmt"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/tap"
)

const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	tcpLen      = 20
	udpLen      = 8
)

// fill makes bytes that are not all alike.
func fill(b []byte) {
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
}

// tcpHeaders is the length of all headers of a TCP frame without options.
func tcpHeaders(v6 bool) int {
	if v6 {
		return ethernetLen + ipv6Len + tcpLen
	}
	return ethernetLen + ipv4Len + tcpLen
}

// ipFrame writes Ethernet and IP headers in front of length bytes that are to be
// a transport header and its payload.
func ipFrame(v6 bool, proto uint8, length int) (frame []byte, l4 int, pseudo uint64) {
	if v6 {
		l4 = ethernetLen + ipv6Len
	} else {
		l4 = ethernetLen + ipv4Len
	}
	frame = make([]byte, l4+length)
	copy(frame, []byte{2, 0x42, 0x0a, 0, 1, 0x67, 2, 0x42, 0x0a, 0, 1, 0x64})
	ip := frame[ethernetLen:]
	if v6 {
		binary.BigEndian.PutUint16(frame[12:], 0x86DD)
		ip[0], ip[6], ip[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(length))
		src, dst := [16]byte{0xfd, 1, 15: 0x64}, [16]byte{0xfd, 1, 15: 0x67}
		copy(ip[8:], src[:])
		copy(ip[24:], dst[:])
		return frame, l4, checksum.Pseudo(ip[8:24], ip[24:40], proto, length)
	}
	binary.BigEndian.PutUint16(frame[12:], 0x0800)
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	ip[6] = 0x40 // DF
	binary.BigEndian.PutUint16(ip[2:], uint16(ipv4Len+length))
	copy(ip[12:], []byte{10, 0, 1, 100, 10, 0, 1, 103})
	binary.BigEndian.PutUint16(ip[10:], checksum.Checksum(ip[:ipv4Len], 0))
	return frame, l4, checksum.Pseudo(ip[12:16], ip[16:20], proto, length)
}

// tcpFrame is a segment with that much payload, its checksum complete.
func tcpFrame(v6 bool, payload int) []byte {
	frame, l4, pseudo := ipFrame(v6, 6, tcpLen+payload)
	writeTCP(frame[l4:])
	binary.BigEndian.PutUint16(frame[l4+16:], checksum.Checksum(frame[l4:], pseudo))
	return frame
}

func writeTCP(tcp []byte) {
	fill(tcp[tcpLen:])
	binary.BigEndian.PutUint16(tcp[0:], 43210)
	binary.BigEndian.PutUint16(tcp[2:], 5201)
	binary.BigEndian.PutUint32(tcp[4:], 1000)
	binary.BigEndian.PutUint32(tcp[8:], 2000)
	tcp[12], tcp[13] = tcpLen/4<<4, 0x10 // ACK
	binary.BigEndian.PutUint16(tcp[14:], 502)
}

func udpFrame(payload int) []byte {
	frame, l4, pseudo := ipFrame(false, 17, udpLen+payload)
	writeUDP(frame[l4:])
	binary.BigEndian.PutUint16(frame[l4+6:], checksum.Checksum(frame[l4:], pseudo))
	return frame
}

func writeUDP(udp []byte) {
	fill(udp[udpLen:])
	binary.BigEndian.PutUint16(udp[0:], 43210)
	binary.BigEndian.PutUint16(udp[2:], 5201)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
}

func arpFrame() []byte {
	frame := make([]byte, 42)
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0x42, 0x0a, 0, 1, 0x64, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1})
	return frame
}

// superTCPFrame is a superframe as the network stack hands it to a TAP: with the
// sum of the pseudo header where the checksum goes.
func superTCPFrame() (tap.Header, []byte) {
	frame, l4, pseudo := ipFrame(false, 6, tcpLen+superTCP)
	writeTCP(frame[l4:])
	binary.BigEndian.PutUint16(frame[l4+16:], checksum.Fold(pseudo))
	return tap.Header{
		Flags: tap.NeedsChecksum, GSO: tap.GSOTCPv4, HeaderBytes: uint16(l4 + tcpLen), SegmentBytes: segmentTCP,
		ChecksumStart: uint16(l4), ChecksumOffset: 16,
	}, frame
}

func superUDPFrame() (tap.Header, []byte) {
	frame, l4, pseudo := ipFrame(false, 17, udpLen+superUDP)
	writeUDP(frame[l4:])
	binary.BigEndian.PutUint16(frame[l4+6:], checksum.Fold(pseudo))
	return tap.Header{
		Flags: tap.NeedsChecksum, GSO: tap.GSOUDP, HeaderBytes: uint16(l4 + udpLen), SegmentBytes: 64,
		ChecksumStart: uint16(l4), ChecksumOffset: 6,
	}, frame
}

// segments takes a superframe apart into frames that lie apart, as those of a
// train do.
func segments(h tap.Header, frame []byte) ([][]byte, error) {
	var s tap.Splitter
	if err := s.Init(&h, frame); err != nil {
		return nil, err
	}
	want, stride := s.Segments(), s.Stride(8)
	b := make([]byte, want*stride)
	n, used := s.Next(b, 8, want)
	if n != want {
		return nil, fmt.Errorf("%d of %d segments", n, want)
	}
	var frames [][]byte
	for at := 0; at < used; at += stride {
		end := min(at+stride, used)
		frames = append(frames, b[at+8:end:end])
	}
	return frames, nil
}
