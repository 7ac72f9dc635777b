package tap

import (
	"bytes"
	"encoding/binary"

	"github.com/govxlan/govxlan/internal/checksum"
)

const (
	// coalesceFlows is how many flows may be open at a time; a frame of one
	// more closes the oldest. Searched one by one, so kept small.
	coalesceFlows = 8
	// coalesceSegments is UDP_MAX_SEGMENTS of every kernel that has USO; for
	// TCP the length of the IP packet is the limit that matters.
	coalesceSegments = 64
	// mostUDPSegments is UDP_MAX_SEGMENTS of the newest kernels: none sends
	// more in one superframe, so what claims more is forged.
	mostUDPSegments = 128
	// coalesceVectors is when Full says so.
	coalesceVectors = 256
)

// Coalescer puts frames that arrive one by one together to superframes, as a
// network card with receive offload would: consecutive TCP segments of one
// flow, and UDP datagrams of one flow and one size. What it must not merge
// stays as it came, and the frames of a flow keep their order.
//
// It also recognises what other hosts' offloads left undone, because a veth
// pair or a virtual switch hands it through: a checksum that is only partial,
// and a TCP superframe without a word of its segment size.
//
// Use: Add each frame of a batch, hand Vectors to a Writer, Reset. It keeps
// the frames' memory, and writes into their headers, until Reset. The zero
// value with MTU set is ready; it allocates only while it grows.
type Coalescer struct {
	// MTU is the device's: a frame that is longer is a superframe.
	MTU int
	// Off passes every frame on as it is, but for partial checksums and
	// superframes.
	Off bool

	items   []item
	used    int
	vectors []Vector
	open    [coalesceFlows]int32 // items that may still grow, oldest first
	nopen   int
}

// item is one frame or superframe to be.
type item struct {
	header   Header
	parts    [][]byte
	l3, l4   int
	headers  int
	size     int // payload of each segment; of the only one so far
	payload  int // all payload together
	segments int
	nextSeq  uint32
	firstID  uint16
	sameID   bool // second segment had the first's IPv4 identification
	v6, tcp  bool
}

// Verdict is what Add made of a frame.
type Verdict uint8

const (
	// Accepted: the frame will be among the Vectors.
	Accepted Verdict = iota
	// Oversize: longer than the MTU and not to be taken apart, since it is
	// not TCP, or its checksum is wrong. It was not accepted.
	Oversize
)

// Reset forgets everything.
func (c *Coalescer) Reset() {
	c.used = 0
	c.nopen = 0
}

// Len is how many Vectors there would be now.
func (c *Coalescer) Len() int { return c.used }

// Full says that it is time to write the Vectors.
func (c *Coalescer) Full() bool { return c.used >= coalesceVectors }

// push begins a new item with one part.
func (c *Coalescer) push(frame []byte) *item {
	if c.used == len(c.items) {
		c.items = append(c.items, item{})
	}
	it := &c.items[c.used]
	c.used++
	parts := append(it.parts[:0], frame)
	*it = item{parts: parts}
	return it
}

// Add takes the next frame. segment is the payload of a segment where the
// frame is known to be a superframe of UDP datagrams, else 0.
func (c *Coalescer) Add(frame []byte, segment int) Verdict {
	var p parsed
	kind := p.parse(frame)
	if kind == opaque {
		if !c.fits(frame) {
			return Oversize
		}
		c.push(frame)
		return Accepted
	}

	packet := frame[:p.end]
	pseudo := checksum.Pseudo(p.src, p.dst, p.proto, len(packet)-p.l4)
	field := p.l4 + tcpChecksum
	if !p.tcp {
		field = p.l4 + udpChecksum
	}
	stored := binary.BigEndian.Uint16(frame[field:])
	partial := stored == checksum.Fold(pseudo)
	full := false
	if !partial && (stored != 0 || p.tcp) {
		full = checksum.Fold(checksum.Sum(packet[p.l4:], pseudo)) == 0xFFFF
	}

	if segment > 0 || !c.fits(frame) {
		c.closeFlow(&p, frame)
		return c.addSuperframe(&p, packet, segment, partial, full, pseudo)
	}

	mergeable := !c.Off && kind == whole && (partial || full) && p.payload > 0
	if mergeable {
		if c.merge(&p, frame) {
			return Accepted
		}
	} else {
		c.closeFlow(&p, frame)
	}

	if partial {
		// The receiver will sum to the end: leave no padding there.
		frame = packet
	}
	it := c.push(frame)
	it.l4, it.tcp = p.l4, p.tcp
	if partial {
		it.needChecksum()
	}
	if mergeable && (!p.tcp || p.flags&(tcpPSH|tcpFIN) == 0) {
		it.l3, it.headers, it.v6 = p.l3, p.headers, p.v6
		it.size, it.payload, it.segments = p.payload, p.payload, 1
		it.nextSeq = p.seq + uint32(p.payload)
		it.firstID = p.id
		c.openItem(c.used - 1)
	}
	return Accepted
}

// fits says whether a frame is within the MTU, VLAN tags not counted.
func (c *Coalescer) fits(frame []byte) bool {
	if len(frame) <= 14+c.MTU {
		return true
	}
	l3, _ := layer3(frame)
	return l3 != 0 && len(frame)-l3 <= c.MTU
}

// needChecksum asks the receiver to complete the checksum.
func (it *item) needChecksum() {
	it.header.Flags = NeedsChecksum
	it.header.ChecksumStart = uint16(it.l4)
	it.header.ChecksumOffset = udpChecksum
	if it.tcp {
		it.header.ChecksumOffset = tcpChecksum
	}
}

// addSuperframe accepts one frame that is longer than the MTU, telling the
// kernel how to take it apart should it have to.
func (c *Coalescer) addSuperframe(p *parsed, frame []byte, segment int, partial, full bool, pseudo uint64) Verdict {
	if !partial && !full {
		return Oversize
	}
	gso := uint8(GSOUDP)
	if p.tcp {
		segment = c.MTU - (p.headers - p.l3)
		gso = GSOTCPv4
		if p.v6 {
			gso = GSOTCPv6
		}
		if p.flags&tcpCWR != 0 {
			gso |= GSOECN
		}
	}
	if segment <= 0 || !p.tcp && p.payload > segment*mostUDPSegments {
		return Oversize
	}
	it := c.push(frame)
	it.l4, it.tcp = p.l4, p.tcp
	it.needChecksum()
	if !partial {
		binary.BigEndian.PutUint16(frame[p.l4+int(it.header.ChecksumOffset):], checksum.Fold(pseudo))
	}
	it.header.GSO = gso
	it.header.HeaderBytes = uint16(p.headers)
	it.header.SegmentBytes = uint16(segment)
	return Accepted
}

// openItem remembers that item i may grow.
func (c *Coalescer) openItem(i int) {
	if c.nopen == coalesceFlows {
		copy(c.open[:], c.open[1:])
		c.nopen--
	}
	c.open[c.nopen] = int32(i)
	c.nopen++
}

// find returns the position in c.open of the flow that the frame belongs to,
// or -1. The newest is looked at first: frames come in runs.
func (c *Coalescer) find(p *parsed, frame []byte) int {
	for i := c.nopen - 1; i >= 0; i-- {
		it := &c.items[c.open[i]]
		head := it.parts[0]
		if it.l4 == p.l4 && it.l3 == p.l3 && it.tcp == p.tcp && it.v6 == p.v6 &&
			binary.NativeEndian.Uint32(head[p.l4:]) == binary.NativeEndian.Uint32(frame[p.l4:]) &&
			bytes.Equal(head[p.addresses:p.addresses+2*len(p.src)], frame[p.addresses:p.addresses+2*len(p.src)]) {
			return i
		}
	}
	return -1
}

// closeAt lets the item at position i of c.open grow no more.
func (c *Coalescer) closeAt(i int) {
	copy(c.open[i:c.nopen], c.open[i+1:c.nopen])
	c.nopen--
}

// closeFlow keeps later frames of p's flow from overtaking the one that is
// about to be added on its own.
func (c *Coalescer) closeFlow(p *parsed, frame []byte) {
	if c.nopen == 0 {
		return
	}
	if i := c.find(p, frame); i >= 0 {
		c.closeAt(i)
	}
}

// merge adds the frame to the open item of its flow and says whether it did.
// When it did not, that item is closed.
func (c *Coalescer) merge(p *parsed, frame []byte) bool {
	i := c.find(p, frame)
	if i < 0 {
		return false
	}
	it := &c.items[c.open[i]]
	if !it.takes(p, frame) {
		c.closeAt(i)
		return false
	}
	if it.segments == 1 && !p.v6 {
		it.sameID = p.id == it.firstID
	}
	it.parts = append(it.parts, frame[p.headers:])
	it.segments++
	it.payload += p.payload
	it.nextSeq += uint32(p.payload)
	if p.tcp {
		// On the wire these stand in the last segment of the run.
		it.parts[0][it.l4+13] |= p.flags & (tcpPSH | tcpFIN)
	}
	if p.payload < it.size || it.segments == coalesceSegments || p.tcp && p.flags&(tcpPSH|tcpFIN) != 0 {
		c.closeAt(i)
	}
	return true
}

// takes says whether the frame, of the same flow, continues the item such that
// taking the superframe apart again gives the same frames.
func (it *item) takes(p *parsed, frame []byte) bool {
	head := it.parts[0]
	if p.headers != it.headers || p.payload > it.size || it.headers-it.l3+it.payload+p.payload > 65535 {
		return false
	}
	if !bytes.Equal(head[:14], frame[:14]) {
		return false
	}
	if it.l3 != 14 && !bytes.Equal(head[14:it.l3], frame[14:it.l3]) {
		return false // another VLAN
	}
	a, b := head[it.l3:], frame[it.l3:]
	if it.v6 {
		// Version, traffic class and flow label; next header; hop limit.
		if binary.NativeEndian.Uint32(a) != binary.NativeEndian.Uint32(b) || a[6] != b[6] || a[7] != b[7] {
			return false
		}
	} else {
		// TOS; flags; TTL. The protocol is part of the flow.
		if a[1] != b[1] || a[6] != b[6] || a[8] != b[8] {
			return false
		}
		// Identifications count up, or all are one where DF makes them
		// meaningless (RFC 6864 section 4.1).
		counts := p.id == it.firstID+uint16(it.segments)
		same := p.id == it.firstID && a[6]&0x40 != 0
		switch {
		case it.segments == 1:
			if !counts && !same {
				return false
			}
		case it.sameID:
			if !same {
				return false
			}
		default:
			if !counts {
				return false
			}
		}
	}
	if !it.tcp {
		return true
	}
	a, b = head[it.l4:it.headers], frame[it.l4:it.headers]
	return p.seq == it.nextSeq &&
		binary.NativeEndian.Uint32(a[8:]) == binary.NativeEndian.Uint32(b[8:]) && // acknowledgement
		a[12] == b[12] && // header length, AE
		(a[13]^b[13])&^(tcpPSH|tcpFIN) == 0 &&
		binary.NativeEndian.Uint16(a[14:]) == binary.NativeEndian.Uint16(b[14:]) && // window
		bytes.Equal(a[18:], b[18:]) // urgent pointer, options
}

// Vectors returns what the frames added since Reset became, in the order of
// each one's first frame. The slice is valid until the next call of any method.
func (c *Coalescer) Vectors() []Vector {
	c.vectors = c.vectors[:0]
	for i := range c.items[:c.used] {
		it := &c.items[i]
		if it.segments > 1 {
			it.finish()
		}
		c.vectors = append(c.vectors, Vector{Header: it.header, Parts: it.parts})
	}
	c.nopen = 0
	return c.vectors
}

// finish turns the headers of the first frame into those of the superframe.
func (it *item) finish() {
	head := it.parts[0]
	l4Len := it.headers - it.l4 + it.payload
	ip := head[it.l3:]
	proto := uint8(protoUDP)
	if it.tcp {
		proto = protoTCP
	}
	var pseudo uint64
	if it.v6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(it.headers-it.l3-40+it.payload))
		pseudo = checksum.Pseudo(ip[8:24], ip[24:40], proto, l4Len)
		it.header.GSO = GSOTCPv6
	} else {
		binary.BigEndian.PutUint16(ip[2:], uint16(it.headers-it.l3+it.payload))
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], checksum.Checksum(ip[:20], 0))
		pseudo = checksum.Pseudo(ip[12:16], ip[16:20], proto, l4Len)
		it.header.GSO = GSOTCPv4
	}
	l4 := head[it.l4:]
	if it.tcp {
		binary.BigEndian.PutUint16(l4[tcpChecksum:], checksum.Fold(pseudo))
	} else {
		it.header.GSO = GSOUDP
		binary.BigEndian.PutUint16(l4[4:], uint16(l4Len))
		binary.BigEndian.PutUint16(l4[udpChecksum:], checksum.Fold(pseudo))
	}
	it.needChecksum()
	it.header.HeaderBytes = uint16(it.headers)
	it.header.SegmentBytes = uint16(it.size)
	it.segments = 1 // a second call of Vectors changes nothing
}
