package vxlan

import (
	"encoding/binary"
	"math/bits"
)

// Odd constants with evenly mixed bits, from the digits of pi. They carry no
// secret: a sender who picks his flows such that they collide only harms the
// spread of his own traffic.
const (
	hashKey0 = 0x243F6A8885A308D3
	hashKey1 = 0x13198A2E03707345
	hashKey2 = 0xA4093822299F31D1
	hashKey3 = 0x082EFA98EC4E6C89
)

// mum multiplies two words and folds the 128-bit product: every bit of the
// result depends on every bit of both words.
func mum(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// finish spreads a folded product over all bits of the flow hash: the source
// port takes the high bits, the choice of one of N sockets may take the low.
func finish(h uint64) uint32 {
	h ^= h >> 32
	return uint32(h * hashKey2 >> 32)
}

// hashIPv4 hashes addresses (source and destination, 8 bytes) and a word of
// protocol and ports.
func hashIPv4(addrs *[8]byte, rest uint64) uint32 {
	return finish(mum(binary.LittleEndian.Uint64(addrs[:])^hashKey0, rest^hashKey1))
}

// hashIPv6 hashes addresses (source and destination, 32 bytes) and a word of
// protocol and ports.
func hashIPv6(addrs *[32]byte, rest uint64) uint32 {
	s := mum(binary.LittleEndian.Uint64(addrs[0:8])^hashKey0, binary.LittleEndian.Uint64(addrs[8:16])^hashKey1)
	d := mum(binary.LittleEndian.Uint64(addrs[16:24])^hashKey2, binary.LittleEndian.Uint64(addrs[24:32])^hashKey3)
	return finish(mum(s^hashKey0, d^rest^hashKey1))
}

// hashEthernet hashes the MAC addresses of a frame (destination and source, 12
// bytes) and its EtherType behind all tags.
func hashEthernet(macs *[12]byte, etherType uint16) uint32 {
	a := binary.LittleEndian.Uint64(macs[0:8])
	b := uint64(binary.LittleEndian.Uint32(macs[8:12])) | uint64(etherType)<<32
	return finish(mum(a^hashKey0, b^hashKey1))
}
