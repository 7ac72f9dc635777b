package vxlan

import (
	"fmt"
	"strconv"
)

// VNI is a VXLAN Network Identifier, 24 bits wide (RFC 7348 section 5). Every
// value from 0 to [MaxVNI] is valid on the wire; check a VNI once, where it
// enters the program.
type VNI uint32

// MaxVNI is the largest VNI, 2^24-1.
const MaxVNI VNI = 1<<24 - 1

// ParseVNI reads a VNI in decimal. The error quotes s and wraps [ErrVNI].
func ParseVNI(s string) (VNI, error) {
	n, err := strconv.ParseUint(s, 10, 24)
	if err != nil {
		return 0, fmt.Errorf("%w: %q", ErrVNI, s)
	}
	return VNI(n), nil
}

// Valid reports whether v fits its 24 bits.
func (v VNI) Valid() bool { return v <= MaxVNI }

// String returns v in decimal.
func (v VNI) String() string { return strconv.FormatUint(uint64(v), 10) }
