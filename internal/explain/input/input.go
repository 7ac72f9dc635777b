// Package input reads packets out of what people have at hand: pcap and pcapng
// captures, hexdumps of many programs, and the bare bytes of one packet. What it
// is given is told by its first bytes.
package input

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/govxlan/govxlan/internal/explain"
)

// Packet is one packet with what its source says about it.
type Packet struct {
	Bytes   []byte
	Time    time.Time     // zero when not known
	Length  int           // on the wire; more than len(Bytes) when the capture kept less
	Start   explain.Start // explain.Detect when the source does not say
	Comment string        // of a pcapng capture
}

// Reader gives packets one after another.
type Reader struct {
	next  func() (Packet, error)
	kind  string
	ready func() bool
	count int
}

// Kind names what is read: "pcap", "pcapng", "hex" or "bytes".
func (r *Reader) Kind() string { return r.kind }

// Count is how many packets there are, where that is known from the start: in
// text and bytes. Else it is 0.
func (r *Reader) Count() int { return r.count }

// Next returns the next packet, or io.EOF behind the last. Any other error ends
// the reading too.
func (r *Reader) Next() (Packet, error) { return r.next() }

// Ready says whether Next can answer without waiting for more input, as far as
// that is known: a live capture's last packet is worth showing at once.
func (r *Reader) Ready() bool { return r.ready() }

// Magic numbers of capture files, as they stand in the file.
var (
	magicGzip   = []byte{0x1f, 0x8b}
	magicPcapng = []byte{0x0a, 0x0d, 0x0d, 0x0a}
	magicSnoop  = []byte("snoop\x00\x00\x00")
	// Of a pcap in either byte order: microseconds, nanoseconds, and the modified
	// form of 1997 that nobody writes any more.
	magicMicro    = [2][4]byte{{0xd4, 0xc3, 0xb2, 0xa1}, {0xa1, 0xb2, 0xc3, 0xd4}}
	magicNano     = [2][4]byte{{0x4d, 0x3c, 0xb2, 0xa1}, {0xa1, 0xb2, 0x3c, 0x4d}}
	magicModified = [2][4]byte{{0x34, 0xcd, 0xb2, 0xa1}, {0xa1, 0xb2, 0xcd, 0x34}}
)

// maxText bounds what is read of an input that is no capture, in bytes.
const maxText = 64 << 20

// ErrEmpty is returned for an input without a single byte.
var ErrEmpty = errors.New("the input is empty")

// NewReader finds out what r holds and returns a Reader of its packets. Errors
// say what is wrong with the input, without its name.
func NewReader(r io.Reader) (*Reader, error) { return newReader(r, false) }

func newReader(r io.Reader, zipped bool) (*Reader, error) {
	// The buffer holds at least one of the largest packets, so that Ready can see
	// a whole one.
	br := bufio.NewReaderSize(r, 256<<10)
	head, err := br.Peek(4)
	if len(head) == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, ErrEmpty
		}
		return nil, err
	}
	if bytes.HasPrefix(head, magicGzip) && !zipped {
		// No dump of hex, and no header of a packet that is known here, begins so.
		unzipped, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("it is compressed with gzip, but damaged: %w", err)
		}
		return newReader(unzipped, true)
	}
	if len(head) == 4 {
		switch magic := [4]byte(head); {
		case bytes.Equal(head, magicPcapng):
			return newPcapng(br)
		case magic == magicMicro[0] || magic == magicNano[0]:
			return newPcap(br, binary.LittleEndian)
		case magic == magicMicro[1] || magic == magicNano[1]:
			return newPcap(br, binary.BigEndian)
		case magic == magicModified[0] || magic == magicModified[1]:
			return nil, errors.New("it is a pcap of the modified form of 1997, which is not read here; 'editcap -F pcap' converts it")
		case bytes.Equal(head, magicSnoop[:4]):
			return nil, errors.New("it is a Solaris snoop capture, which is not read here; 'editcap -F pcap' converts it")
		}
	}
	all, err := io.ReadAll(io.LimitReader(br, maxText+1))
	if err != nil {
		return nil, err
	}
	if len(all) > maxText {
		return nil, fmt.Errorf("it is no capture, and too long for a hexdump or one packet (more than %d MiB)", maxText>>20)
	}
	if isText(all) {
		packets, err := ParseHex(string(all))
		if err != nil {
			return nil, err
		}
		return listed("hex", packets), nil
	}
	return listed("bytes", []Packet{{Bytes: all, Length: len(all)}}), nil
}

// FromHex returns a Reader of the packets in hex text.
func FromHex(text string) (*Reader, error) {
	packets, err := ParseHex(text)
	if err != nil {
		return nil, err
	}
	return listed("hex", packets), nil
}

func listed(kind string, packets []Packet) *Reader {
	return &Reader{
		kind:  kind,
		count: len(packets),
		next: func() (Packet, error) {
			if len(packets) == 0 {
				return Packet{}, io.EOF
			}
			p := packets[0]
			packets = packets[1:]
			return p, nil
		},
		ready: func() bool { return true },
	}
}

// isText says whether bytes are for people: nothing but printable characters and
// white space. A dump may have UTF-8 in its column of characters.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f' || c == 0x7f {
			return false
		}
	}
	return true
}
