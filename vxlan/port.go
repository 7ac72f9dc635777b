package vxlan

import (
	"fmt"
	"strconv"
	"strings"
)

// The range of UDP source ports that RFC 7348 section 5 recommends: the dynamic
// ports of RFC 6335.
const (
	SourcePortLo = 49152
	SourcePortHi = 65535
)

// PortRange is a range of UDP ports, both ends included. The zero value is not a
// valid range.
type PortRange struct {
	Lo, Hi uint16
}

// ParsePortRange reads a range such as "49152-65535", or a single port, which
// is a range of one. Port 0 is refused: a datagram from it says that nobody
// answers there. The error quotes s and wraps [ErrPortRange].
func ParsePortRange(s string) (PortRange, error) {
	lo, hi, found := strings.Cut(s, "-")
	if !found {
		hi = lo
	}
	l, err1 := strconv.ParseUint(lo, 10, 16)
	h, err2 := strconv.ParseUint(hi, 10, 16)
	r := PortRange{uint16(l), uint16(h)}
	if err1 != nil || err2 != nil || !r.Valid() {
		return PortRange{}, fmt.Errorf("%w: %q", ErrPortRange, s)
	}
	return r, nil
}

// Valid reports whether r has at least one port and not port 0.
func (r PortRange) Valid() bool { return 0 < r.Lo && r.Lo <= r.Hi }

// Len returns the number of ports in the range.
func (r PortRange) Len() int { return int(r.Hi-r.Lo) + 1 }

// Port returns the port of r for a flow hash. One hash has one port; hashes that
// are spread evenly over 32 bits are spread evenly over the range. The choice
// is by the high bits of the hash.
func (r PortRange) Port(hash uint32) uint16 {
	n := uint64(r.Hi-r.Lo) + 1
	return r.Lo + uint16(uint64(hash)*n>>32)
}

// String returns the range as [ParsePortRange] reads it: "49152-65535".
func (r PortRange) String() string {
	return fmt.Sprintf("%d-%d", r.Lo, r.Hi)
}

// MarshalText returns the range as [PortRange.String] writes it. It never fails.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what [ParsePortRange] reads. On error r keeps its value.
func (r *PortRange) UnmarshalText(text []byte) error {
	v, err := ParsePortRange(string(text))
	if err == nil {
		*r = v
	}
	return err
}
