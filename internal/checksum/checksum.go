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
	//
	// The two chains of 64 bytes do not wait for each other, so that a processor
	// that adds more than one word a cycle can run them side by side. Each chain's
	// last carry goes into a sum of its own.
	var s, t, carries, c uint64
	for len(b) >= 128 {
		p := (*[128]byte)(b)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[0:8]), 0)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[8:16]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[16:24]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[24:32]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[32:40]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[40:48]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[48:56]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[56:64]), c)
		carries += c
		t, c = bits.Add64(t, binary.LittleEndian.Uint64(p[64:72]), 0)
		t, c = bits.Add64(t, binary.LittleEndian.Uint64(p[72:80]), c)
		t, c = bits.Add64(t, binary.LittleEndian.Uint64(p[80:88]), c)
		t, c = bits.Add64(t, binary.LittleEndian.Uint64(p[88:96]), c)
		t, c = bits.Add64(t, binary.LittleEndian.Uint64(p[96:104]), c)
		t, c = bits.Add64(t, binary.LittleEndian.Uint64(p[104:112]), c)
		t, c = bits.Add64(t, binary.LittleEndian.Uint64(p[112:120]), c)
		t, c = bits.Add64(t, binary.LittleEndian.Uint64(p[120:128]), c)
		carries += c
		b = b[128:]
	}
	s, c = bits.Add64(s, t, 0)
	carries += c
	if len(b) >= 64 {
		p := (*[64]byte)(b)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[0:8]), 0)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[8:16]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[16:24]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[24:32]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[32:40]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[40:48]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[48:56]), c)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[56:64]), c)
		carries += c
		b = b[64:]
	}
	for len(b) >= 16 {
		p := (*[16]byte)(b)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[0:8]), 0)
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(p[8:16]), c)
		carries += c
		b = b[16:]
	}
	if len(b) >= 8 {
		s, c = bits.Add64(s, binary.LittleEndian.Uint64(b), 0)
		carries += c
		b = b[8:]
	}
	// The last pieces are small and go where no carry can leave.
	if len(b) >= 4 {
		carries += uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		carries += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) != 0 {
		carries += uint64(b[0])
	}
	s, c = bits.Add64(s, carries, 0)
	s += c
	s, c = bits.Add64(bits.ReverseBytes64(s), initial, 0)
	return s + c
}

// Fold brings a running sum down to 16 bits. It does not complement it.
func Fold(sum uint64) uint16 {
	// A word added to itself with its halves swapped has the end-around sum of
	// the halves in the upper half.
	s32 := uint32((sum + bits.RotateLeft64(sum, 32)) >> 32)
	return uint16((s32 + bits.RotateLeft32(s32, 16)) >> 16)
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
	sum := uint64(proto) + uint64(length)
	if len(src) == 4 && len(dst) == 4 {
		return sum + uint64(binary.BigEndian.Uint32(src)) + uint64(binary.BigEndian.Uint32(dst))
	}
	return Sum(src, Sum(dst, sum))
}

// Update returns the checksum of a packet of which one 16-bit word changed:
// equation 3 of RFC 1624 section 3. A checksum that was wrong before stays
// wrong.
func Update(check, from, to uint16) uint16 {
	s := uint32(^check) + uint32(^from) + uint32(to)
	s = s>>16 + s&0xFFFF
	return ^uint16(s>>16 + s)
}
