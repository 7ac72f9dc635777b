package pcapng

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxBlock bounds a block in bytes: a superframe, its options, and room.
const maxBlock = 1 << 18

// ErrFormat: what is read is not what Writer writes.
var ErrFormat = errors.New("no pcapng as it is written here")

// Block is one block of a section. Of Packet, Interface and Statistics, the one
// that Type says is set.
type Block struct {
	Type uint32
	// Raw is the whole block, both lengths included.
	Raw []byte

	Packet     Packet
	Interface  Interface
	Statistics Statistics
}

// Reader reads what a Writer wrote.
type Reader struct {
	r          *bufio.Reader
	raw        []byte
	block      Block
	interfaces uint32
	begun      bool
}

// NewReader returns a reader; nothing is read yet.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 256<<10)} }

// Ready says whether the next block is here already, so that Next does not wait.
func (r *Reader) Ready() bool {
	if r.r.Buffered() < 8 {
		return false
	}
	head, _ := r.r.Peek(8)
	return uint64(r.r.Buffered()) >= uint64(binary.LittleEndian.Uint32(head[4:]))
}

// Next returns the next block, which is valid until the next Next. Its error is
// io.EOF behind the last block, io.ErrUnexpectedEOF inside of one, and wraps
// ErrFormat for what Writer does not write.
func (r *Reader) Next() (*Block, error) {
	var head [8]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[4:])
	if n < 12 || n%4 != 0 || n > maxBlock {
		return nil, fmt.Errorf("%w: a block of %d bytes", ErrFormat, n)
	}
	if uint32(cap(r.raw)) < n {
		r.raw = make([]byte, n, max(2*n, 4096))
	}
	r.raw = r.raw[:n]
	copy(r.raw, head[:])
	if _, err := io.ReadFull(r.r, r.raw[8:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if again := binary.LittleEndian.Uint32(r.raw[n-4:]); again != n {
		return nil, fmt.Errorf("%w: a block of %d bytes ends as one of %d", ErrFormat, n, again)
	}
	r.block = Block{Type: binary.LittleEndian.Uint32(head[:]), Raw: r.raw}
	if (r.block.Type == TypeSection) == r.begun {
		return nil, fmt.Errorf("%w: a section header is missing, or is one too many", ErrFormat)
	}
	r.begun = true
	if err := r.parse(r.raw[8 : n-4]); err != nil {
		return nil, err
	}
	return &r.block, nil
}

func (r *Reader) parse(body []byte) error {
	fixed := map[uint32]int{TypeSection: 16, TypeInterface: 8, TypePacket: 20, TypeStatistics: 12}[r.block.Type]
	if len(body) < fixed {
		return fmt.Errorf("%w: a block of type %d has %d bytes", ErrFormat, r.block.Type, len(body))
	}
	u32 := binary.LittleEndian.Uint32
	switch r.block.Type {
	case TypeSection:
		if u32(body) != byteOrderMagic || u32(body[4:]) != 1 {
			return fmt.Errorf("%w: another byte order, or version", ErrFormat)
		}
	case TypeInterface:
		if binary.LittleEndian.Uint16(body) != LinkEthernet {
			return fmt.Errorf("%w: an interface without Ethernet", ErrFormat)
		}
		r.interfaces++
		i := &r.block.Interface
		i.SnapLen = u32(body[4:])
		return options(body[8:], func(code uint16, b []byte) error {
			switch {
			case code == interfaceName:
				i.Name = string(b)
			case code == interfaceDescription:
				i.Description = string(b)
			case code == interfaceResolution && (len(b) != 1 || b[0] != nanoseconds):
				return fmt.Errorf("%w: times are not in nanoseconds", ErrFormat)
			}
			return nil
		})
	case TypePacket:
		p := &r.block.Packet
		p.Interface, p.Time = u32(body), timeOf(body[4:])
		kept, length := u32(body[12:]), u32(body[16:])
		if p.Interface >= r.interfaces || uint64(kept) > uint64(len(body)-20) || length < kept {
			return fmt.Errorf("%w: a packet of interface %d and %d bytes, %d kept, in a block of %d", ErrFormat, p.Interface, length, kept, len(body))
		}
		p.Bytes, p.Length = body[20:20+kept], int(length)
		return options(body[20+(kept+3)&^3:], func(code uint16, b []byte) error {
			switch {
			case code == optComment:
				p.Comment = string(b)
			case code == optNote:
				p.Note = b
			case code == packetFlags && len(b) == 4:
				p.Direction = Direction(b[0] & 3)
			}
			return nil
		})
	case TypeStatistics:
		s := &r.block.Statistics
		s.Interface, s.Time = u32(body), timeOf(body[4:])
		if s.Interface >= r.interfaces {
			return fmt.Errorf("%w: statistics of interface %d", ErrFormat, s.Interface)
		}
		return options(body[12:], func(code uint16, b []byte) error {
			if len(b) != 8 {
				return nil
			}
			switch code {
			case statisticsStart:
				s.Start = timeOf(b)
			case statisticsEnd:
				s.End = timeOf(b)
			case statisticsDropped:
				s.Missed = binary.LittleEndian.Uint64(b)
			case statisticsDelivered:
				s.Delivered = binary.LittleEndian.Uint64(b)
			}
			return nil
		})
	}
	return nil
}

// timeOf reads nanoseconds since 1970, the upper half first.
func timeOf(b []byte) time.Time {
	n := uint64(binary.LittleEndian.Uint32(b))<<32 | uint64(binary.LittleEndian.Uint32(b[4:]))
	return time.Unix(0, int64(n))
}

// options calls f for each option.
func options(b []byte, f func(code uint16, value []byte) error) error {
	for len(b) >= 4 {
		code, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if code == optEnd {
			return nil
		}
		if 4+n > len(b) {
			return fmt.Errorf("%w: an option of %d bytes where there are %d", ErrFormat, n, len(b)-4)
		}
		if err := f(code, b[4:4+n]); err != nil {
			return err
		}
		b = b[min(4+(n+3)&^3, len(b)):]
	}
	return nil
}
