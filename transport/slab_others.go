//go:build !linux

package transport

// Slab is the memory that datagrams are received into.
type Slab struct{}

// NewSlab returns an empty one.
func NewSlab() *Slab { return &Slab{} }
