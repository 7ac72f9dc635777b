package vtep

import (
	"net/netip"
	"sync/atomic"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
)

const (
	// cellBytes is the grain of a captureRing: a record takes as many cells as
	// its bytes fill, at least one.
	cellBytes = 512
	// leastCells have room for the longest superframe.
	leastCells = 512
)

// sighting is what is known of a captured frame beside its bytes.
type sighting struct {
	at      int64 // wall clock, nanoseconds
	out     bool
	verdict Verdict

	vni    vxlan.VNI // here
	known  bool      // vni is
	device string    // where the VNI is not known

	peer     netip.AddrPort // the other VTEP; invalid: none, or several
	replicas []fdb.Remote   // those, for the filter; not in the ring
	local    netip.Addr     // that it was sent to, if it is a group

	// datagram: the bytes begin with a VXLAN header, and these are the fields
	// around it.
	datagram    bool
	hash, label uint32
	tos, ttl    uint8
	df          bool

	undone tap.Header // what the frame still wants
}

// captureRing is a queue of records from those who carry frames to one reader.
// Nobody waits: what it has no room for is counted. It is made of cells, in
// positions counted from 0 for ever; a record has consecutive ones, and its
// sighting is in the first.
type captureRing struct {
	cells []captureCell // a power of two
	bytes []byte        // cellBytes for each cell

	_    [64]byte
	tail atomic.Uint64 // first free position
	_    [64]byte
	head atomic.Uint64 // first position that was not read

	missed atomic.Uint64
	asleep atomic.Bool // the reader
	wake   chan struct{}
}

type captureCell struct {
	// ready is the record's position + 1 once it is whole. Positions never come
	// again, so that what an earlier round left here cannot be mistaken for it.
	ready atomic.Uint64
	sighting
	length int // of the packet
	kept   int // bytes of it
}

func newCaptureRing(bytes int) *captureRing {
	cells := leastCells
	for cells*cellBytes < bytes {
		cells *= 2
	}
	return &captureRing{
		cells: make([]captureCell, cells), bytes: make([]byte, cells*cellBytes),
		wake: make(chan struct{}, 1),
	}
}

// claim is a place in a ring for one record. The zero value is none.
type claim struct {
	ring *captureRing
	at   uint64
}

func (c claim) cell() *captureCell { return &c.ring.cells[c.at&uint64(len(c.ring.cells)-1)] }

// cellsOf is how many cells so many bytes take.
func cellsOf(bytes int) uint64 { return uint64(max(bytes+cellBytes-1, cellBytes) / cellBytes) }

// put copies a frame, of length bytes of which the first kept are, into a place.
// It is not seen before commit. No place is had where there is no room.
func (r *captureRing) put(s *sighting, length, kept int, parts ...[]byte) claim {
	n := cellsOf(kept)
	var at uint64
	for {
		at = r.tail.Load()
		if at+n-r.head.Load() > uint64(len(r.cells)) {
			r.missed.Add(1)
			return claim{}
		}
		if r.tail.CompareAndSwap(at, at+n) {
			break
		}
	}
	c := claim{r, at}
	cell := c.cell()
	cell.sighting, cell.length, cell.kept = *s, length, kept
	cell.replicas = nil
	offset := int(at&uint64(len(r.cells)-1)) * cellBytes
	for _, p := range parts {
		for p = p[:min(len(p), kept)]; len(p) > 0; {
			copied := copy(r.bytes[offset:], p)
			p, kept = p[copied:], kept-copied
			if offset += copied; offset == len(r.bytes) {
				offset = 0
			}
		}
	}
	return c
}

// commit shows a record to the reader.
func (c claim) commit(v Verdict) {
	if c.ring == nil {
		return
	}
	cell := c.cell()
	cell.verdict = v
	cell.ready.Store(c.at + 1)
	if c.ring.asleep.Load() && c.ring.asleep.CompareAndSwap(true, false) {
		c.ring.rouse()
	}
}

// rouse wakes the reader.
func (r *captureRing) rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// empty says that the reader has had everything.
func (r *captureRing) empty() bool { return r.head.Load() == r.tail.Load() }

// pending says whether take would return a record.
func (r *captureRing) pending() bool {
	at := r.head.Load()
	return at != r.tail.Load() && r.cells[at&uint64(len(r.cells)-1)].ready.Load() == at+1
}

// take takes the oldest record out, its bytes appended to b. It is for one
// reader.
func (r *captureRing) take(b []byte) (s sighting, length int, packet []byte, ok bool) {
	if !r.pending() {
		return s, 0, b, false
	}
	at := r.head.Load()
	cell := claim{r, at}.cell()
	s, length = cell.sighting, cell.length
	offset := int(at&uint64(len(r.cells)-1)) * cellBytes
	first := min(cell.kept, len(r.bytes)-offset)
	b = append(b, r.bytes[offset:offset+first]...)
	b = append(b, r.bytes[:cell.kept-first]...)
	cell.sighting = sighting{}
	r.head.Store(at + cellsOf(cell.kept))
	return s, length, b, true
}
