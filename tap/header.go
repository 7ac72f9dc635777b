package tap

import "encoding/binary"

// HeaderLen is the length of a Header on its way to and from the kernel.
const HeaderLen = 10

// Flags of a Header.
const (
	// NeedsChecksum: the checksum field at Start+Offset holds the folded sum
	// of the pseudo header only; the rest, from Start to the end of the frame,
	// is still to be added.
	NeedsChecksum = 1
	// DataValid: the checksum was verified by whoever had the frame before.
	DataValid = 2
)

// GSO kinds of a Header: what a superframe is taken apart into.
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	GSOUDP   = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
	// GSOECN may be added to a TCP kind: CWR is set in the first segment only.
	GSOECN = 0x80
)

// Header is struct virtio_net_hdr (virtio 1.2, 5.1.6): what a frame's checksum
// and segmentation still want. Its zero value is a frame that wants nothing.
type Header struct {
	Flags uint8
	GSO   uint8
	// HeaderBytes is the length of all headers together, Ethernet to TCP.
	// A hint: the kernel fills it with other lengths too.
	HeaderBytes uint16
	// SegmentBytes is the payload of each segment but the last.
	SegmentBytes uint16
	// ChecksumStart and ChecksumOffset tell where summing begins in the frame
	// and how far behind that the checksum field lies.
	ChecksumStart  uint16
	ChecksumOffset uint16
}

// parse reads the 10 bytes of b in the host's byte order, which is what a
// TAP device uses unless told otherwise.
func (h *Header) parse(b []byte) {
	_ = b[HeaderLen-1]
	h.Flags = b[0]
	h.GSO = b[1]
	h.HeaderBytes = binary.NativeEndian.Uint16(b[2:])
	h.SegmentBytes = binary.NativeEndian.Uint16(b[4:])
	h.ChecksumStart = binary.NativeEndian.Uint16(b[6:])
	h.ChecksumOffset = binary.NativeEndian.Uint16(b[8:])
}

// put is the reverse of parse.
func (h *Header) put(b []byte) {
	_ = b[HeaderLen-1]
	b[0] = h.Flags
	b[1] = h.GSO
	binary.NativeEndian.PutUint16(b[2:], h.HeaderBytes)
	binary.NativeEndian.PutUint16(b[4:], h.SegmentBytes)
	binary.NativeEndian.PutUint16(b[6:], h.ChecksumStart)
	binary.NativeEndian.PutUint16(b[8:], h.ChecksumOffset)
}
