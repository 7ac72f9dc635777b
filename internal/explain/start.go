package explain

import (
	"encoding/binary"
	"fmt"

	"github.com/govxlan/govxlan/internal/checksum"
)

// Start says what the first byte of a packet belongs to.
type Start uint8

// The starts. Their order is that of preference where the bytes allow more than
// one.
const (
	Detect    Start = iota // find out from the bytes
	Ethernet               // an Ethernet header, outer or bare
	IP                     // an IPv4 or IPv6 header
	VXLAN                  // a VXLAN header: the payload of the outer UDP datagram
	LinuxSLL               // Linux "cooked" capture header, 16 bytes
	LinuxSLL2              // its second version, 20 bytes
	Loopback               // BSD loopback: 4 bytes of address family in either byte order
)

var startNames = [...]string{"detect", "ethernet", "ip", "vxlan", "linux-sll", "linux-sll2", "loopback"}

// String returns the name that ParseStart takes.
func (s Start) String() string {
	if int(s) < len(startNames) {
		return startNames[s]
	}
	return fmt.Sprintf("start(%d)", uint8(s))
}

// ParseStart is for the starts that a user may ask for: ethernet, ip and vxlan.
func ParseStart(s string) (Start, error) {
	for _, start := range []Start{Ethernet, IP, VXLAN} {
		if s == start.String() {
			return start, nil
		}
	}
	return Detect, fmt.Errorf("%q is no place to start: give ethernet, ip or vxlan", s)
}

// LinkStart returns the start that a capture's link type means
// (https://www.tcpdump.org/linktypes.html); false for a link type that is not
// known here.
func LinkStart(linkType uint32) (Start, bool) {
	switch linkType {
	case 0, 108: // NULL, LOOP
		return Loopback, true
	case 1: // ETHERNET
		return Ethernet, true
	case 12, 14, 101, 228, 229: // RAW as written by some systems, RAW, IPV4, IPV6
		return IP, true
	case 113: // LINUX_SLL
		return LinuxSLL, true
	case 276: // LINUX_SLL2
		return LinuxSLL2, true
	case 147, 148, 149, 150, 151, 152, 153, 154, 155, 156, 157, 158, 159, 160, 161, 162: // USER0..15
		return Detect, true
	}
	return Detect, false
}

// enough is the weight from which a reading is believed. Text that begins with a
// small "n" is no IPv6 packet.
const enough = 10

// DetectStart finds out where a packet begins: Ethernet, IP or VXLAN, or Detect
// when nothing fits. Each reading is weighed by the number of bits in the
// packet that would have to agree by chance if it were wrong.
func DetectStart(b []byte) Start {
	best, most := Detect, enough-1
	for _, c := range []struct {
		start  Start
		weight int
	}{
		{Ethernet, weighEthernet(b)},
		{IP, weighIP(b)},
		{VXLAN, weighVXLAN(b)},
	} {
		if c.weight > most {
			best, most = c.start, c.weight
		}
	}
	return best
}

func weighEthernet(b []byte) int {
	if len(b) < 14 {
		return 0
	}
	rest := b[14:]
	switch t := binary.BigEndian.Uint16(b[12:]); t {
	case 0x0800, 0x86dd:
		version := 4
		if t == 0x86dd {
			version = 6
		}
		if len(rest) > 0 && int(rest[0]>>4) != version {
			return 0
		}
		return 14 + weighIP(rest)
	case 0x0806:
		if len(rest) >= 6 && rest[0] == 0 && rest[1] == 1 && rest[4] == 6 {
			return 40
		}
		return 12
	case 0x8100, 0x88a8:
		if len(rest) < 4 {
			return 12
		}
		// A tag is followed by a type as the MACs are.
		return 12 + weighEthernet(b[4:])
	case 0x88cc, 0x8847, 0x8863, 0x8864, 0x888e, 0x88b5, 0x88b6, 0x9000, 0x8035:
		return 12
	default:
		// 802.3: the type is a length, and it fits.
		if t > 2 && t <= 1500 && (int(t) == len(rest) || int(t) < len(rest) && len(b) == 60) {
			return enough
		}
	}
	return 0
}

func weighIP(b []byte) int {
	if len(b) < 1 {
		return 0
	}
	switch b[0] >> 4 {
	case 4:
		header := int(b[0]&15) * 4
		if header < 20 || len(b) < 20 {
			return 0
		}
		weight := 6
		if len(b) >= header && checksum.Fold(checksum.Sum(b[:header], 0)) == 0xffff {
			weight += 16
		}
		if total := int(binary.BigEndian.Uint16(b[2:])); total == len(b) {
			weight += 16
		} else if total < header {
			return 0
		}
		return weight
	case 6:
		if len(b) < 40 {
			return 0
		}
		weight := 4
		if int(binary.BigEndian.Uint16(b[4:]))+40 == len(b) {
			weight += 16
		}
		switch b[6] { // next header
		case 0, 6, 17, 43, 44, 58, 60:
			weight += 5
		}
		// Global unicast, unique local, link-local or multicast, on both sides.
		if plausibleIPv6(b[8]) && plausibleIPv6(b[24]) {
			weight += 6
		}
		return weight
	}
	return 0
}

func plausibleIPv6(first byte) bool {
	return first>>5 == 1 || first>>1 == 0x7e || first == 0xfe || first == 0xff || first == 0
}

func weighVXLAN(b []byte) int {
	if len(b) < 8+14 || b[0]&0x08 == 0 {
		return 0
	}
	inner := weighEthernet(b[8:])
	if inner == 0 {
		return 0
	}
	weight := inner
	if b[0] == 0x08 {
		weight += 8
	}
	if b[1]|b[2]|b[3] == 0 {
		weight += 8
	}
	if b[7] == 0 {
		weight += 4
	}
	return weight
}

// LooksLikeVXLAN says whether a UDP payload on a port that says nothing is
// VXLAN all the same: only the I flag set (the group policy bits apart), no
// reserved bit, and an inner frame that makes sense.
func LooksLikeVXLAN(b []byte) bool {
	if len(b) < 8+14 {
		return false
	}
	gbp := b[0] == 0x88 && b[1]&^0x48 == 0
	plain := b[0] == 0x08 && b[1]|b[2]|b[3] == 0
	return (plain || gbp) && b[7] == 0 && weighEthernet(b[8:]) >= 14
}
