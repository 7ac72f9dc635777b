package tap

import (
	"encoding/binary"
	"errors"

	"github.com/govxlan/govxlan/internal/checksum"
)

// Errors of superframes and partial checksums whose Header does not fit their
// bytes.
var (
	// ErrHeader: the Header points outside the frame, or says a GSO kind that
	// the frame's own headers contradict.
	ErrHeader = errors.New("tap: virtio-net header does not fit the frame")
)

const (
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86DD
	etherTypeVLAN = 0x8100
	etherTypeQinQ = 0x88A8

	protoTCP = 6
	protoUDP = 17

	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpPSH = 0x08
	tcpACK = 0x10
	tcpURG = 0x20
	tcpECE = 0x40
	tcpCWR = 0x80

	tcpChecksum = 16 // offset of the checksum in a TCP header
	udpChecksum = 6
)

// CompleteChecksum finishes a partial checksum: afterwards the frame may leave
// the host. It does nothing when h does not ask for it.
func CompleteChecksum(h *Header, frame []byte) error {
	if h.Flags&NeedsChecksum == 0 {
		return nil
	}
	start := int(h.ChecksumStart)
	field := start + int(h.ChecksumOffset)
	if field+2 > len(frame) {
		return ErrHeader
	}
	// The field's own content, the pseudo header's sum, belongs to the sum.
	sum := checksum.Checksum(frame[start:], 0)
	if sum == 0 {
		// 0 means "no checksum" in UDP; both forms of zero add up alike.
		sum = 0xFFFF
	}
	binary.BigEndian.PutUint16(frame[field:], sum)
	h.Flags &^= NeedsChecksum
	return nil
}

// layer3 skips up to two VLAN tags and returns where the network header
// begins and what it is.
func layer3(frame []byte) (offset int, etherType uint16) {
	if len(frame) < 14 {
		return 0, 0
	}
	offset = 14
	etherType = binary.BigEndian.Uint16(frame[12:])
	for tags := 0; tags < 2 && (etherType == etherTypeVLAN || etherType == etherTypeQinQ); tags++ {
		if len(frame) < offset+4 {
			return 0, 0
		}
		etherType = binary.BigEndian.Uint16(frame[offset+2:])
		offset += 4
	}
	return offset, etherType
}

// Splitter takes a superframe apart into the frames that it stands for, as the
// network card would: every one with its own lengths, IPv4 identification,
// sequence number and full checksums. Its zero value is ready for Init.
//
// The frames are written at a fixed stride, with headroom in front of each, so
// that a tunnel header fits there and the whole is one buffer for UDP_SEGMENT.
type Splitter struct {
	frame   []byte
	l3, l4  int
	headers int // length of all headers
	size    int // payload of a segment
	next    int // offset of the payload not yet written
	index   uint16
	id      uint16 // IPv4 identification of the first segment
	v6      bool
	tcp     bool
	seq     uint32
	flags   uint8  // TCP flags of the superframe
	base    uint64 // sum of the pseudo header, its length taken out
	ipBase  uint64 // sum of the IPv4 header without length, identification and checksum
}

// Init begins with a superframe. It returns ErrHeader when h does not describe
// frame, and it is the only place that checks: Next relies on it.
func (s *Splitter) Init(h *Header, frame []byte) error {
	*s = Splitter{frame: frame, size: int(h.SegmentBytes), l4: int(h.ChecksumStart)}
	var etherType uint16
	s.l3, etherType = layer3(frame)
	if s.l3 == 0 || s.size == 0 || h.Flags&NeedsChecksum == 0 {
		return ErrHeader
	}
	switch etherType {
	case etherTypeIPv4:
		if s.l4 < s.l3+20 || len(frame) < s.l4 || frame[s.l3]>>4 != 4 || s.l3+int(frame[s.l3]&0xF)*4 != s.l4 {
			return ErrHeader
		}
		ip := frame[s.l3:s.l4]
		s.id = binary.BigEndian.Uint16(ip[4:])
		s.ipBase = checksum.Sum(ip[6:10], checksum.Sum(ip[0:2], 0))
		s.ipBase = checksum.Sum(ip[12:], s.ipBase)
	case etherTypeIPv6:
		if s.l4 < s.l3+40 || len(frame) < s.l4 || frame[s.l3]>>4 != 6 {
			return ErrHeader
		}
		s.v6 = true
	default:
		return ErrHeader
	}
	field := 0
	switch h.GSO &^ GSOECN {
	case GSOTCPv4, GSOTCPv6:
		if (h.GSO&^GSOECN == GSOTCPv6) != s.v6 || len(frame) < s.l4+20 {
			return ErrHeader
		}
		tcp := frame[s.l4:]
		s.tcp = true
		s.headers = s.l4 + int(tcp[12]>>4)*4
		if s.headers < s.l4+20 || s.headers > len(frame) {
			return ErrHeader
		}
		s.seq = binary.BigEndian.Uint32(tcp[4:])
		s.flags = tcp[13]
		field = tcpChecksum
	case GSOUDP:
		s.headers = s.l4 + 8
		if s.headers > len(frame) {
			return ErrHeader
		}
		field = udpChecksum
	default:
		return ErrHeader
	}
	if int(h.ChecksumOffset) != field {
		return ErrHeader
	}
	// The field holds the sum of the pseudo header with the superframe's
	// length in it; each segment adds its own length instead.
	partial := binary.BigEndian.Uint16(frame[s.l4+field:])
	s.base = uint64(partial) + uint64(^lengthSum(len(frame)-s.l4))
	s.next = s.headers
	return nil
}

// lengthSum is a layer-4 length as the pseudo header counts it: 32 bits in
// IPv6, which are two words of the sum.
func lengthSum(n int) uint16 {
	return checksum.Fold(uint64(n))
}

// Segments returns how many frames are still to come.
func (s *Splitter) Segments() int {
	left := len(s.frame) - s.next
	if left <= 0 {
		if s.index == 0 && s.next == s.headers && s.headers > 0 {
			return 1 // headers without payload are one frame
		}
		return 0
	}
	return (left + s.size - 1) / s.size
}

// Stride returns the length of every frame but the last of the superframe,
// with its headroom.
func (s *Splitter) Stride(headroom int) int {
	return headroom + s.headers + min(s.size, len(s.frame)-s.headers)
}

// Next writes up to most frames into dst, each behind headroom bytes that it
// leaves alone. It returns how many, and how many bytes of dst they take; the
// frames lie Stride(headroom) bytes apart. It returns 0, 0 when none are left,
// or when not even one fits.
func (s *Splitter) Next(dst []byte, headroom, most int) (frames, bytes int) {
	left := s.Segments()
	for frames < most && left > 0 {
		payload := min(s.size, len(s.frame)-s.next)
		end := bytes + headroom + s.headers + payload
		if end > len(dst) {
			break
		}
		s.segment(dst[bytes+headroom:end:end], payload, left == 1)
		bytes = end
		frames++
		left--
	}
	return frames, bytes
}

// segment writes one frame.
func (s *Splitter) segment(f []byte, payload int, last bool) {
	copy(f[:s.headers], s.frame)
	copy(f[s.headers:], s.frame[s.next:])

	if s.v6 {
		binary.BigEndian.PutUint16(f[s.l3+4:], uint16(len(f)-s.l3-40))
	} else {
		ip := f[s.l3:]
		length, id := uint16(len(f)-s.l3), s.id+s.index
		binary.BigEndian.PutUint16(ip[2:], length)
		binary.BigEndian.PutUint16(ip[4:], id)
		binary.BigEndian.PutUint16(ip[10:], ^checksum.Fold(s.ipBase+uint64(length)+uint64(id)))
	}

	l4 := f[s.l4:]
	sum := s.base + uint64(len(l4))
	if s.tcp {
		binary.BigEndian.PutUint32(l4[4:], s.seq)
		flags := s.flags
		if !last {
			flags &^= tcpFIN | tcpPSH
		}
		if s.index > 0 {
			flags &^= tcpCWR
		}
		l4[13] = flags
		l4[16], l4[17] = 0, 0
		binary.BigEndian.PutUint16(l4[16:], checksum.Checksum(l4, sum))
		s.seq += uint32(payload)
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		l4[6], l4[7] = 0, 0
		check := checksum.Checksum(l4, sum)
		if check == 0 {
			check = 0xFFFF
		}
		binary.BigEndian.PutUint16(l4[6:], check)
	}
	s.next += payload
	s.index++
}
