package tap

import (
	"net"
	"strings"
)

// MaxFrame is the longest frame that crosses a Device, in bytes: an IP packet
// of 65,535 bytes behind an Ethernet header and two VLAN tags.
const MaxFrame = 65535 + 14 + 4 + 4

// Features are the offloads of a device: work that the network stack leaves to
// us on the way out, and accepts undone on the way in.
type Features uint8

const (
	// VnetHeader: every frame is accompanied by a VnetHeader. The other
	// features need it.
	VnetHeader Features = 1 << iota
	// Checksum: a frame may carry a partial TCP or UDP checksum.
	Checksum
	// TSO4 and TSO6: a frame may be a TCP superframe over IPv4 or IPv6.
	TSO4
	TSO6
	// USO: a frame may be a run of UDP datagrams (IPv4 and IPv6).
	USO

	// AllFeatures is what Linux offers since 6.2.
	AllFeatures = VnetHeader | Checksum | TSO4 | TSO6 | USO
)

// String lists the features as "checksum,tso4,tso6,uso", or "none".
func (f Features) String() string {
	var names []string
	for _, n := range []struct {
		bit  Features
		name string
	}{{Checksum, "checksum"}, {TSO4, "tso4"}, {TSO6, "tso6"}, {USO, "uso"}} {
		if f&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ",")
}

// Frame is one frame that the network stack sent through the device: Ethernet
// header first, no frame check sequence. With TSO or USO it may be a
// superframe of up to MaxFrame bytes, to be taken apart by a Splitter.
type Frame struct {
	Header Header
	Bytes  []byte
}

// Vector is one frame, or superframe, on its way to the network stack, in
// pieces that lie apart in memory: the concatenation of Parts is the frame.
type Vector struct {
	Header Header
	Parts  [][]byte
}

// Len returns the length of the frame in bytes.
func (v *Vector) Len() int {
	n := 0
	for _, p := range v.Parts {
		n += len(p)
	}
	return n
}

// segments is how many frames a superframe stands for.
func (v *Vector) segments() int {
	size := max(int(v.Header.SegmentBytes), 1)
	return (v.Len() - int(v.Header.HeaderBytes) + size - 1) / size
}

// Reader is one queue of a device on its way out of the network stack. One
// goroutine may use it at a time.
type Reader interface {
	// Read waits for at least one frame, then takes more for as long as the
	// device has some and b has room. It returns net.ErrClosed after Close,
	// which also interrupts it.
	Read(b *Batch) error
}

// Pollable is a Reader that an event loop can wait for, instead of a goroutine
// in Read. Readers of Linux devices are.
type Pollable interface {
	Reader
	// Descriptor is readable, in the sense of poll(2), when TryRead has
	// something to return. It is valid until the device is closed.
	Descriptor() int
	// TryRead is Read without waiting: no frames in b and no error say that
	// there are none.
	TryRead(b *Batch) error
	// ReadLen is how much read(2) on the Descriptor may return, in bytes, 0 if
	// it can only be waited for; and Frame what such a read returned: false when
	// it is no frame. The frame lies in raw.
	ReadLen() int
	Frame(raw []byte) (Frame, bool)
}

// Writer hands frames to the network stack. One goroutine may use it at a
// time; make one for each with Device.NewWriter.
type Writer interface {
	// Write hands over frames in their order. It returns how many were taken;
	// when that is fewer than all, err says why the next one was not, and the
	// caller decides whether to go on behind it. It may change the bytes of
	// the frames (a checksum completed in software). It does not keep them.
	// On Linux err is a syscall.Errno (EIO: the device is down; EBADFD: it was
	// deleted), or net.ErrClosed.
	Write(frames []Vector) (int, error)
}

// Device is an Ethernet device of the host whose far end is this program.
type Device interface {
	Name() string
	// MTU is the largest layer-3 packet that the device carries now, in bytes,
	// whoever set it.
	MTU() int
	// SetMTU sets it.
	SetMTU(mtu int) error
	// MAC is the device's own address as the network stack sees it.
	MAC() net.HardwareAddr
	// Features are those in force, which may be fewer than asked for, and
	// become fewer when the kernel refuses one while running. A
	// Vector that needs a feature that is missing is converted by the Writer.
	Features() Features
	// Readers are the device's queues, at least one.
	Readers() []Reader
	// NewWriter returns a writer for one goroutine, into the given queue modulo
	// their number. Which queue matters on Linux: what the host answers to a
	// flow leaves by the queue that the flow was last written to.
	NewWriter(queue int) Writer
	// Close removes the device from the host, unless it was there before, and
	// ends every Read. A second Close does nothing.
	Close() error
}
