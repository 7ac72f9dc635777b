package tap

import "sync/atomic"

// features are those in force of a device, shared by its writers.
type features struct{ bits atomic.Uint32 }

func (f *features) load() Features   { return Features(f.bits.Load()) }
func (f *features) store(v Features) { f.bits.Store(uint32(v)) }

// refuse takes back the feature that a GSO kind needs.
func (f *features) refuse(gso uint8) {
	bit := USO
	switch gso &^ GSOECN {
	case GSOTCPv4:
		bit = TSO4
	case GSOTCPv6:
		bit = TSO6
	}
	f.bits.And(^uint32(bit))
}
