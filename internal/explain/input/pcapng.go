package input

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/gopacket/pcapgo"

	"github.com/govxlan/govxlan/internal/explain"
)

// Block types of pcapng (draft-ietf-opsawg-pcapng) that matter here.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6
)

// maxBlock bounds a block in bytes: a packet, its options, and room.
const maxBlock = maxPacket + 1<<17

func newPcapng(br *bufio.Reader) (*Reader, error) {
	blocks := &blockReader{br: br}
	r, err := pcapgo.NewNgReader(blocks, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errors.New("it is a pcapng, cut short in its header")
		}
		return nil, fmt.Errorf("it is a pcapng, but damaged: %w", err)
	}
	n := 0
	return &Reader{
		kind: "pcapng",
		next: func() (Packet, error) {
			b, ci, err := guarded(r.ReadPacketData)
			if err != nil {
				return Packet{}, damaged(err, n)
			}
			n++
			said := blocks.packet()
			// A link type that is not known need not spoil the others of the
			// capture: the bytes may speak for themselves.
			start, _ := explain.LinkStart(said.linkType)
			return Packet{Bytes: b, Time: ci.Timestamp, Length: ci.Length, Start: start, Comment: said.comment}, nil
		},
		ready: blocks.ready,
	}, nil
}

// blockReader hands a pcapng on to gopacket block by block. It checks what
// gopacket trusts, the lengths, and keeps what gopacket throws away: the
// comments of packets, and link types above 255.
type blockReader struct {
	br      *bufio.Reader
	order   binary.ByteOrder
	pending []byte // of the block that is being handed on

	interfaces []interfaceBlock // of the section
	packets    []packetBlock    // handed on, not yet asked for
}

type interfaceBlock struct {
	linkType uint32
	snapLen  uint32
}

type packetBlock struct {
	linkType uint32
	comment  string
}

// packet returns what is known of the packet that gopacket has just returned.
func (r *blockReader) packet() packetBlock {
	if len(r.packets) == 0 {
		return packetBlock{}
	}
	p := r.packets[0]
	r.packets = r.packets[1:]
	return p
}

func (r *blockReader) ready() bool {
	if r.order == nil || r.br.Buffered() < 8 {
		return false
	}
	head, _ := r.br.Peek(8)
	return uint64(r.br.Buffered()) >= uint64(r.order.Uint32(head[4:]))
}

// Read gives no more than the rest of one block, so that gopacket never waits
// for a block beyond the one that it needs.
func (r *blockReader) Read(p []byte) (int, error) {
	if len(r.pending) == 0 {
		if err := r.block(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.pending)
	r.pending = r.pending[n:]
	return n, nil
}

// block reads and checks the next block. io.EOF comes only between blocks.
func (r *blockReader) block() error {
	var head [12]byte
	if n, err := io.ReadFull(r.br, head[:]); err != nil {
		if n > 0 {
			return short(err)
		}
		return err
	}
	// A section header's type is the same in both byte orders; the order follows.
	if binary.BigEndian.Uint32(head[:]) == blockSection {
		switch [4]byte(head[8:]) {
		case [4]byte{0x4d, 0x3c, 0x2b, 0x1a}:
			r.order = binary.LittleEndian
		case [4]byte{0x1a, 0x2b, 0x3c, 0x4d}:
			r.order = binary.BigEndian
		default:
			return fmt.Errorf("its section header has no byte order (% x)", head[8:])
		}
	}
	if r.order == nil {
		return errors.New("it does not begin with a section header")
	}
	typ, length := r.order.Uint32(head[:]), r.order.Uint32(head[4:])
	if length < 12 || length%4 != 0 || length > maxBlock {
		return fmt.Errorf("a block says that it has %d bytes", length)
	}
	b := make([]byte, length)
	copy(b, head[:])
	if _, err := io.ReadFull(r.br, b[12:]); err != nil {
		return short(err)
	}
	if again := r.order.Uint32(b[length-4:]); again != length {
		return fmt.Errorf("a block has %d bytes at its beginning and %d at its end", length, again)
	}
	if err := r.check(typ, b[8:length-4]); err != nil {
		return err
	}
	r.pending = b
	return nil
}

// check looks into a block's body for what gopacket takes on trust.
func (r *blockReader) check(typ uint32, body []byte) error {
	switch typ {
	case blockSection:
		if len(body) < 16 {
			return fmt.Errorf("its section header has %d bytes", len(body))
		}
		if major := r.order.Uint16(body[4:]); major != 1 {
			return fmt.Errorf("it is pcapng version %d, 1 is known here", major)
		}
		r.interfaces = nil
	case blockInterface:
		if len(body) < 8 {
			return fmt.Errorf("an interface block has %d bytes", len(body))
		}
		r.interfaces = append(r.interfaces, interfaceBlock{uint32(r.order.Uint16(body)), r.order.Uint32(body[4:])})
	case blockEnhanced, blockPacket:
		if len(body) < 20 {
			return fmt.Errorf("a packet block has %d bytes", len(body))
		}
		index := r.order.Uint32(body)
		if typ == blockPacket {
			index = uint32(r.order.Uint16(body))
		}
		size := r.order.Uint32(body[12:])
		if uint64(size) > uint64(len(body)-20) {
			return fmt.Errorf("a packet says that it has %d bytes in a block of %d", size, len(body))
		}
		if uint64(index) >= uint64(len(r.interfaces)) {
			return fmt.Errorf("a packet is of interface %d, there are %d", index, len(r.interfaces))
		}
		r.packets = append(r.packets, packetBlock{
			linkType: r.interfaces[index].linkType,
			comment:  r.comment(body[20+(size+3)&^3:]),
		})
	case blockSimple:
		if len(body) < 4 || len(r.interfaces) == 0 {
			return errors.New("a simple packet block is too short, or before any interface")
		}
		size := r.order.Uint32(body)
		if snap := r.interfaces[0].snapLen; snap != 0 {
			size = min(size, snap)
		}
		if uint64(size) > uint64(len(body)-4) {
			return fmt.Errorf("a packet says that it has %d bytes in a block of %d", size, len(body))
		}
		r.packets = append(r.packets, packetBlock{linkType: r.interfaces[0].linkType})
	}
	return nil
}

// comment finds opt_comment among a packet's options.
func (r *blockReader) comment(options []byte) string {
	for len(options) >= 4 {
		code, size := r.order.Uint16(options), int(r.order.Uint16(options[2:]))
		if code == 0 || 4+size > len(options) {
			break
		}
		if code == 1 {
			return string(options[4 : 4+size])
		}
		options = options[min(4+(size+3)&^3, len(options)):]
	}
	return ""
}
