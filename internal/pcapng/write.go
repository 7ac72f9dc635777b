package pcapng

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Block types.
const (
	TypeSection    = 0x0A0D0D0A
	TypeInterface  = 1
	TypeStatistics = 5
	TypePacket     = 6 // enhanced packet block
)

// Link types (https://www.tcpdump.org/linktypes.html).
const LinkEthernet = 1

// Option codes.
const (
	optEnd     = 0
	optComment = 1

	sectionApplication = 4 // shb_userappl

	interfaceName        = 2
	interfaceDescription = 3
	interfaceResolution  = 9

	packetFlags = 2

	statisticsStart     = 2
	statisticsEnd       = 3
	statisticsDropped   = 5 // isb_ifdrop
	statisticsDelivered = 8 // isb_usrdeliv

	// optNote is for what only our own programs read of a packet: codes with the
	// highest bit set are for local use.
	optNote = 0x8001
)

const (
	byteOrderMagic = 0x1A2B3C4D
	nanoseconds    = 9 // if_tsresol: 10^-9 s
	longestOption  = 1 << 15
)

// Direction of a packet, as the two lowest bits of epb_flags have it.
type Direction uint8

// The directions.
const (
	DirectionUnknown Direction = iota
	Inbound
	Outbound
)

// Interface is one place of capture.
type Interface struct {
	Name, Description string
	// SnapLen is the most bytes of a packet that are kept; 0 = all.
	SnapLen uint32
}

// Packet is one captured packet. Bytes begin with an Ethernet header.
type Packet struct {
	Interface uint32 // in the order of AddInterface, from 0
	Time      time.Time
	Direction Direction
	Bytes     []byte
	// Length on the wire, where fewer bytes were kept; 0 = len(Bytes).
	Length int
	// Comment for people, one line or several. Optional.
	Comment string
	// Note for programs of ours; others leave it alone. Optional.
	Note []byte
}

// Statistics of an interface.
type Statistics struct {
	Interface  uint32
	Time       time.Time // of the statistics
	Start, End time.Time // of the capture; zero: unknown
	Delivered  uint64    // packets that are in the capture
	Missed     uint64    // and that should be
}

// Writer writes one section. Each of its methods hands a whole block to the
// io.Writer, with one Write.
type Writer struct {
	w          io.Writer
	buf        []byte
	start      int  // of the block in buf that is being made
	options    bool // it has some
	interfaces uint32
}

// NewWriter begins a section; application is what wrote it.
func NewWriter(w io.Writer, application string) (*Writer, error) {
	p := &Writer{w: w}
	p.begin(TypeSection)
	p.u32(byteOrderMagic)
	p.u16(1) // version 1.0
	p.u16(0)
	p.u64(1<<64 - 1) // length of the section: until the end
	p.option(sectionApplication, application)
	p.end()
	return p, p.flush()
}

// AddInterface adds an interface and returns its number.
func (p *Writer) AddInterface(i Interface) (uint32, error) {
	p.begin(TypeInterface)
	p.u16(LinkEthernet)
	p.u16(0)
	p.u32(i.SnapLen)
	p.option(interfaceName, i.Name)
	p.option(interfaceDescription, i.Description)
	p.option(interfaceResolution, string(rune(nanoseconds)))
	p.end()
	n := p.interfaces
	p.interfaces++
	return n, p.flush()
}

// WritePacket writes a packet.
func (p *Writer) WritePacket(k *Packet) error {
	if k.Interface >= p.interfaces {
		return fmt.Errorf("pcapng: packet of interface %d, there are %d", k.Interface, p.interfaces)
	}
	p.begin(TypePacket)
	p.u32(k.Interface)
	p.time(k.Time)
	p.u32(uint32(len(k.Bytes)))
	p.u32(uint32(max(k.Length, len(k.Bytes))))
	p.buf = append(p.buf, k.Bytes...)
	p.pad()
	if k.Direction != DirectionUnknown {
		var flags [4]byte
		binary.LittleEndian.PutUint32(flags[:], uint32(k.Direction))
		p.option(packetFlags, string(flags[:]))
	}
	p.option(optComment, k.Comment)
	p.option(optNote, string(k.Note))
	p.end()
	return p.flush()
}

// WriteStatistics writes the statistics of an interface.
func (p *Writer) WriteStatistics(s *Statistics) error {
	if s.Interface >= p.interfaces {
		return fmt.Errorf("pcapng: statistics of interface %d, there are %d", s.Interface, p.interfaces)
	}
	p.begin(TypeStatistics)
	p.u32(s.Interface)
	p.time(s.Time)
	for _, t := range []struct {
		code uint16
		time time.Time
	}{{statisticsStart, s.Start}, {statisticsEnd, s.End}} {
		if !t.time.IsZero() {
			p.optionHead(t.code, 8)
			p.time(t.time)
		}
	}
	for _, n := range []struct {
		code  uint16
		value uint64
	}{{statisticsDropped, s.Missed}, {statisticsDelivered, s.Delivered}} {
		p.optionHead(n.code, 8)
		p.u64(n.value)
	}
	p.end()
	return p.flush()
}

// begin begins a block; its length comes with end.
func (p *Writer) begin(kind uint32) {
	p.start, p.options = len(p.buf), false
	p.u32(kind)
	p.u32(0)
}

func (p *Writer) end() {
	if p.options {
		p.u32(optEnd)
	}
	n := uint32(len(p.buf) - p.start + 4)
	p.u32(n)
	binary.LittleEndian.PutUint32(p.buf[p.start+4:], n)
}

func (p *Writer) flush() error {
	_, err := p.w.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}

func (p *Writer) u16(v uint16) { p.buf = binary.LittleEndian.AppendUint16(p.buf, v) }
func (p *Writer) u32(v uint32) { p.buf = binary.LittleEndian.AppendUint32(p.buf, v) }
func (p *Writer) u64(v uint64) { p.buf = binary.LittleEndian.AppendUint64(p.buf, v) }

// time writes nanoseconds since 1970, the upper half first.
func (p *Writer) time(t time.Time) {
	n := uint64(t.UnixNano())
	p.u32(uint32(n >> 32))
	p.u32(uint32(n))
}

// option writes one that is not empty.
func (p *Writer) option(code uint16, value string) {
	if value == "" {
		return
	}
	value = value[:min(len(value), longestOption)]
	p.optionHead(code, len(value))
	p.buf = append(p.buf, value...)
	p.pad()
}

func (p *Writer) optionHead(code uint16, length int) {
	p.u16(code)
	p.u16(uint16(length))
	p.options = true
}

// pad fills up to a multiple of 4.
func (p *Writer) pad() {
	for len(p.buf)%4 != 0 {
		p.buf = append(p.buf, 0)
	}
}
