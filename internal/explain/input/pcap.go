package input

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/govxlan/govxlan/internal/explain"
)

// maxPacket bounds the packets of a capture, in bytes: what a file says about
// itself must not make us allocate gigabytes. Superframes have 64 KB.
const maxPacket = 1 << 20

func newPcap(br *bufio.Reader, order binary.ByteOrder) (*Reader, error) {
	header, err := br.Peek(24)
	if err != nil {
		return nil, fmt.Errorf("it is a pcap, cut short in its header: %w", short(err))
	}
	// gopacket keeps eight bits of the link type: read it here. The upper bits
	// are the length of a frame check sequence.
	linkType := order.Uint32(header[20:]) & 0xffff
	start, err := linkStart(linkType)
	if err != nil {
		return nil, err
	}
	r, err := pcapgo.NewReader(br)
	if err != nil {
		return nil, fmt.Errorf("it is a pcap, but damaged: %w", err)
	}
	// Programs write packets longer than the snap length that they announce.
	r.SetSnaplen(maxPacket)
	n := 0
	return &Reader{
		kind: "pcap",
		next: func() (Packet, error) {
			b, ci, err := guarded(r.ReadPacketData)
			if errors.Is(err, io.EOF) && ci.CaptureLength > 0 {
				err = io.ErrUnexpectedEOF // a header, and not one byte of its packet
			}
			if err != nil {
				return Packet{}, damaged(err, n)
			}
			n++
			return Packet{Bytes: b, Time: ci.Timestamp, Length: ci.Length, Start: start}, nil
		},
		ready: func() bool {
			head, _ := br.Peek(min(br.Buffered(), 16))
			return len(head) == 16 && br.Buffered() >= 16+int(order.Uint32(head[8:])&0xfffff)
		},
	}, nil
}

// linkStart says where packets of a link type begin.
func linkStart(linkType uint32) (explain.Start, error) {
	start, ok := explain.LinkStart(linkType)
	if !ok {
		return start, fmt.Errorf("its link type is %s: only Ethernet, IP, Linux cooked and loopback captures are explained", linkName(linkType))
	}
	return start, nil
}

func linkName(linkType uint32) string {
	if linkType < 256 {
		if name := layers.LinkType(linkType).String(); name != "" && name != "UnknownLinkType" {
			return fmt.Sprintf("%d (%s)", linkType, name)
		}
	}
	return fmt.Sprint(linkType)
}

// guarded calls a reader of gopacket. Lengths in a damaged file make some of
// them index past the end, divide by zero or allocate a negative size.
func guarded(read func() ([]byte, gopacket.CaptureInfo, error)) (b []byte, ci gopacket.CaptureInfo, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("its lengths contradict each other")
		}
	}()
	return read()
}

// damaged says what ended a capture: nothing, a clean end, after n packets.
func damaged(err error, n int) error {
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the capture is cut short in packet %d", n+1)
	}
	return fmt.Errorf("the capture is damaged at packet %d: %w", n+1, err)
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
