// Package checksum computes the Internet checksum of RFC 1071: the one's
// complement of the one's-complement sum of a packet's 16-bit words.
//
// A sum is built in pieces. [Pseudo] and [Sum] give running sums, 64 bits wide
// so that the carries need no care between pieces, and [Fold] brings one down
// to 16 bits:
//
//	sum := checksum.Pseudo(src, dst, 17, len(datagram))
//	check := checksum.Checksum(datagram, sum)
//
// Words are taken in network byte order, so results go into a packet with
// binary.BigEndian and are the same on every machine.
package checksum

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds the big-endian 16-bit words of b to a running sum. The result is
// equal to the true sum modulo 0xFFFF, and zero only when initial and every
// byte of b are; it means nothing until [Fold] has folded it.
//
// b may have any length and any alignment. An odd length counts as if one zero
// byte followed (RFC 1071 section 4.1), which is right only for the last piece
// of a packet.
func Sum(b []byte, initial uint64) uint64 {
	// The words are added in little-endian order, eight bytes at a time, and the
	// sum is turned round once at the end: the order of the bytes within a word
	// does not matter to a one's-complement sum (RFC 1071 section 2(B)), and a
	// little-endian load is one instruction on every architecture.
	var s, c uint64
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[0:8]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[8:16]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[16:24]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[24:32]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[32:40]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[40:48]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[48:56]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[56:64]), c)
		b = b[64:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), c)
		b = b[8:]
	}
	var tail uint64
	for i, v := range b {
		tail |= uint64(v) << (8 * i)
	}
	s, c = bits.Add64(s, tail, c)
	s, c = bits.Add64(s, 0, c)
	s += c
	s, c = bits.Add64(bits.ReverseBytes64(s), initial, 0)
	return s + c
}

// Fold brings a running sum down to 16 bits. It does not complement it.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xFFFFFFFF
	sum = sum>>16&0xFFFF + sum&0xFFFF + sum>>32
	sum = sum>>16 + sum&0xFFFF
	return uint16(sum>>16 + sum)
}

// Checksum returns the checksum of b on top of a running sum, as a header's
// checksum field carries it.
//
// Over a header or a datagram whose checksum field is filled in, with the
// pseudo-header where there is one, it returns 0 when the checksum is right.
func Checksum(b []byte, initial uint64) uint16 {
	return ^Fold(Sum(b, initial))
}

// Pseudo returns the sum of the pseudo-header of UDP and TCP: RFC 768 and RFC
// 9293 for IPv4, RFC 8200 section 8.1 for IPv6. src and dst are addresses of 4
// bytes or of 16; length is that of the transport header and its payload.
func Pseudo(src, dst []byte, proto uint8, length int) uint64 {
	return Sum(src, Sum(dst, uint64(proto)+uint64(length)))
}

// Update returns the checksum of a packet of which one 16-bit word changed:
// equation 3 of RFC 1624 section 3. A checksum that was wrong before stays
// wrong.
func Update(check, from, to uint16) uint16 {
	s := uint32(^check) + uint32(^from) + uint32(to)
	s = s>>16 + s&0xFFFF
	return ^uint16(s>>16 + s)
}
