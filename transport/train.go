package transport

import "net/netip"

const (
	// MaxBytes is the most that one train holds: the payload of the largest
	// UDP datagram over IPv4, which is also what one UDP_SEGMENT send takes.
	MaxBytes = 65507
	// MaxSegments is the most datagrams that one train holds.
	// UDP_MAX_SEGMENTS of Linux was 64 up to 6.8 and is 128 since; Limits of
	// the Conn tells what the running kernel takes.
	MaxSegments = 128
)

// Train is a run of datagrams to or from one VTEP, in one contiguous buffer:
//
//	Buf: [datagram 0: Stride bytes][datagram 1: Stride bytes]...[last: 1 to Stride bytes]
//
// It is the unit of all sending and receiving. One datagram is a train of one.
type Train struct {
	Buf []byte
	// Stride is the length of every datagram but the last, in bytes. 0 means
	// that Buf is one datagram.
	Stride int
	// Addr is the VTEP at the other end: where to send to, or who sent.
	Addr netip.AddrPort
	// Hash of the inner flow chooses the source port. Only for sending.
	Hash uint32
	// TOS is the outer IPv4 TOS or IPv6 traffic class: DSCP and ECN.
	TOS uint8
	// TTL is the outer IPv4 TTL or IPv6 hop limit; 0 leaves it to the Conn.
	// Only for sending.
	TTL uint8
	// DontFragment sets DF in the outer IPv4 header, beside what the Conn was
	// told for all. Only for sending.
	DontFragment bool
	// FlowLabel is the outer IPv6 flow label, 20 bits. Only for sending.
	FlowLabel uint32
}

// Len returns the number of datagrams.
func (t *Train) Len() int {
	switch {
	case len(t.Buf) == 0:
		return 0
	case t.Stride <= 0 || t.Stride >= len(t.Buf):
		return 1
	}
	return (len(t.Buf) + t.Stride - 1) / t.Stride
}

// Datagram returns the i-th datagram, 0 <= i < Len().
func (t *Train) Datagram(i int) []byte {
	if t.Stride <= 0 {
		return t.Buf
	}
	start := i * t.Stride
	end := min(start+t.Stride, len(t.Buf))
	return t.Buf[start:end:end]
}
