package probe

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/govxlan/govxlan/vxlan"
)

// MAC is the source and the destination of every probe. A bridge that sees one
// has just learned that the destination is where the frame came from, and so
// sends it nowhere.
var MAC = vxlan.MAC{0x02, 'g', 'v', 'x', 'l', 'n'}

const (
	// EtherType of probes: the second of those for local experiments.
	EtherType = 0x88B6
	// MinLen is the shortest probe, in bytes: the shortest Ethernet frame, FCS
	// not included.
	MinLen = 60
	// MaxLen is the longest: its length has 16 bits, and a datagram has room for
	// less.
	MaxLen = 65499

	version = 1
	magic   = "gvxp"
	crcAt   = 36
	padAt   = 40
)

// Kind is what a probe wants.
type Kind uint8

const (
	// Request wants an answer.
	Request Kind = 1
	// Answer is one.
	Answer Kind = 2
	// Silent wants none: it asks the host's UDP, not its VTEP.
	Silent Kind = 3
)

// Errors of Parse.
var (
	// ErrNone: the frame is no probe.
	ErrNone = errors.New("no probe")
	// ErrDamaged: it is one, and what came is not what was sent.
	ErrDamaged = errors.New("a damaged probe")
)

// Frame is what a probe says.
type Frame struct {
	Kind Kind
	// Came, of an answer: how long the request's frame was when it came, in
	// bytes.
	Came int
	// Want, of a request: how long the answer's frame may be. The answer is not
	// longer than the request all the same.
	Want int
	ID   uint64
	Seq  uint32
}

// Put fills b, which is the whole frame: MinLen to MaxLen bytes.
func (f *Frame) Put(b []byte) {
	copy(b[0:6], MAC[:])
	copy(b[6:12], MAC[:])
	binary.BigEndian.PutUint16(b[12:], EtherType)
	copy(b[14:], magic)
	b[18], b[19] = version, byte(f.Kind)
	binary.BigEndian.PutUint16(b[20:], uint16(f.Came))
	binary.BigEndian.PutUint16(b[22:], uint16(f.Want))
	binary.BigEndian.PutUint64(b[24:], f.ID)
	binary.BigEndian.PutUint32(b[32:], f.Seq)
	clear(b[crcAt:padAt])
	// No two bytes in a row alike, and no two probes: what repeats or swaps
	// parts of a packet shall show in the CRC.
	x := f.Seq*2654435761 + uint32(f.ID) | 1
	for i := padAt; i < len(b); i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	binary.BigEndian.PutUint32(b[crcAt:], crc(b))
}

var zeros = make([]byte, padAt-crcAt)

// crc is that of the frame as if its field were zero.
func crc(b []byte) uint32 {
	c := crc32.ChecksumIEEE(b[:crcAt])
	c = crc32.Update(c, crc32.IEEETable, zeros)
	return crc32.Update(c, crc32.IEEETable, b[padAt:])
}

// Parse reads a frame. It returns ErrNone or ErrDamaged, bare, and allocates
// nothing.
func Parse(b []byte) (f Frame, err error) {
	if len(b) < MinLen || string(b[0:6]) != string(MAC[:]) || string(b[6:12]) != string(MAC[:]) ||
		binary.BigEndian.Uint16(b[12:]) != EtherType || string(b[14:18]) != magic || b[18] != version {
		return f, ErrNone
	}
	f = Frame{
		Kind: Kind(b[19]),
		Came: int(binary.BigEndian.Uint16(b[20:])),
		Want: int(binary.BigEndian.Uint16(b[22:])),
		ID:   binary.BigEndian.Uint64(b[24:]),
		Seq:  binary.BigEndian.Uint32(b[32:]),
	}
	if crc(b) != binary.BigEndian.Uint32(b[crcAt:]) {
		return f, ErrDamaged
	}
	if f.Kind < Request || f.Kind > Silent {
		return f, ErrNone
	}
	return f, nil
}

// AnswerLen is how long the answer to a request of so many bytes is.
func (f *Frame) AnswerLen(request int) int {
	return max(MinLen, min(f.Want, request))
}
