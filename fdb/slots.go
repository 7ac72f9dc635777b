package fdb

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"sync/atomic"
)

// A slot holds one MAC. The key is written once and stays for the life of the
// array: deleting zeroes the value alone. A reader that has seen its key in a
// slot can therefore load the value at any later moment and never pair it with
// another MAC.
type slot struct {
	key   atomic.Uint64 // occupied | MAC (keyOf); 0 = never used
	value atomic.Uint64 // flags, remote index, time stamp; 0 = no entry
}

const (
	occupied = 1 << 48 // makes the key of every MAC, also of all zeros, not 0

	// value: bits 60-63 flags, bits 32-59 index of the remote (from 1 on, so
	// that a value is never 0), bits 0-31 time stamp in ticks.
	static = 1 << 63 // does not age or move
	ecmp   = 1 << 62 // points to the nexthop group of the ID in bits 0-31
	user   = 1 << 61 // set by the user: dynamic, or with static permanent
	held   = 1 << 60 // does not age or move for now (Damping); never with static

	// ecmp is the top bit of the index: to a reader in a hurry such an entry
	// looks like one whose remote is not in the array yet, and so costs
	// nothing where there is none.
	indexMask = ecmp>>32 | (1<<28 - 1)

	minSlots = 16
)

func index(value uint64) uint32 { return uint32(value>>32) & indexMask }

func pack(index uint32, flags uint64, tick uint32) uint64 {
	return flags | uint64(index)<<32 | uint64(tick)
}

// restamp returns value with another time stamp.
func restamp(value uint64, tick uint32) uint64 { return value>>32<<32 | uint64(tick) }

func flagsOf(k Kind) uint64 {
	switch k {
	case KindStatic:
		return static
	case KindPermanent:
		return static | user
	case KindDynamic:
		return user
	}
	return 0
}

func kindOf(value uint64) Kind {
	switch value & (static | user) {
	case static:
		return KindStatic
	case static | user:
		return KindPermanent
	case user:
		return KindDynamic
	}
	return KindLearned
}

// An array is one generation of the table. What readers need to make sense of
// a slot's value hangs on the same pointer as the slots, so that an index can
// never be looked up in the remotes of another generation.
type array struct {
	slots []slot // a power of two of them
	shift uint   // home slot = hash >> shift
	// remotes translates the index in a value; [0] is unused. Elements are
	// written before the first value that names them is published. When it
	// is full, a longer copy is published in a new array with the same slots.
	remotes []*Remote
}

func newArray(slots, remotes int) *array {
	a := &array{
		slots:   make([]slot, slots),
		shift:   uint(64 - bits.TrailingZeros(uint(slots))),
		remotes: make([]*Remote, remotes),
	}
	adviseHugePages(a.slots)
	return a
}

// find returns the slot bound to key, nil when there is none. It ends because
// an array always has unused slots (limit).
func (a *array) find(hash, key uint64) *slot {
	mask := uint64(len(a.slots) - 1)
	for i := hash >> (a.shift & 63); ; i++ {
		s := &a.slots[i&mask]
		switch s.key.Load() {
		case key:
			return s
		case 0:
			return nil
		}
	}
}

// remote returns the remote that a value names, nil when the value is younger
// than a or has the flag ecmp. In the first case the current array knows it: it
// is published before the value.
func (a *array) remote(value uint64) *Remote {
	if i := index(value); int(i) < len(a.remotes) {
		return a.remotes[i]
	}
	return nil
}

// bind returns the slot of key, taking an unused one if there is none yet. The
// second result is true when it took one. Writers only.
func (a *array) bind(hash, key uint64) (*slot, bool) {
	mask := uint64(len(a.slots) - 1)
	for i := hash >> (a.shift & 63); ; i++ {
		s := &a.slots[i&mask]
		switch s.key.Load() {
		case key:
			return s, false
		case 0:
			s.key.Store(key)
			return s, true
		}
	}
}

// limit is how many slots of an array may be bound. Linear probing at five
// eighths costs on average 1.8 slots for a hit and 4.1 for a miss, and four
// slots share a cache line.
func limit(slots int) int { return slots / 8 * 5 }

// slotsFor returns the size of array for live entries and one more. An eighth
// is left for growth, so that the cost of a rebuild is spread over many
// insertions also when most bound slots were dead.
func slotsFor(live int) int {
	slots := minSlots
	for limit(slots) < live+1+live/8 {
		slots *= 2
	}
	return slots
}

// keyOf returns the key of a MAC: its first byte is the lowest of the key.
func keyOf(mac MAC) uint64 {
	return joinKey(binary.LittleEndian.Uint32(mac[:]), binary.LittleEndian.Uint16(mac[4:]))
}

// joinKey makes a key of a MAC's first four and last two bytes.
func joinKey(head uint32, tail uint16) uint64 {
	return occupied | uint64(tail)<<32 | uint64(head)
}

const (
	zeroMAC  = uint64(occupied) // the key of all zeros
	groupBit = 1                // in the key of a multicast or broadcast MAC
)

func macOf(key uint64) (mac MAC) {
	binary.LittleEndian.PutUint32(mac[0:4], uint32(key))
	binary.LittleEndian.PutUint16(mac[4:6], uint16(key>>32))
	return mac
}

// order returns a number that sorts as the MAC of key does.
func order(key uint64) uint64 { return bits.ReverseBytes64(key) }

// A seed makes the hash of one table. It is secret: source MACs are chosen by
// whoever sends, and with a known hash a few thousand of them could be chosen
// to share one home slot.
type seed [3]uint64

func newSeed() (s seed) {
	var b [24]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(b[8*i:]) | 1
	}
	return s
}

// hash spreads a key over 64 bits, of which the top ones choose the home slot.
// Both halves of the first product are needed: the top bits of one
// multiplication alone send MACs counted up from a base, the usual case, to
// home slots in regular steps, on which linear probing piles up.
func (s *seed) hash(key uint64) uint64 {
	hi, lo := bits.Mul64(key^s[0], s[1])
	return (hi ^ lo) * s[2]
}
