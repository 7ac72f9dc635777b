package soak

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
	"time"
)

// headLen is what a datagram begins with: the number (8 bytes) and the checksum of all
// that is not the checksum (4).
const headLen = 12

// sizes of datagrams, payload only, in turn. The largest fills the overlay's MTU.
var sizes = []int{18, 64, 512, 1200, 1400}

// appendDatagram makes a datagram of a stream. What it is made of follows from its
// number.
func appendDatagram(b []byte, number uint64) []byte {
	size := sizes[number%uint64(len(sizes))]
	b = binary.BigEndian.AppendUint64(b, number)
	b = append(b, 0, 0, 0, 0)
	for i := 0; len(b) < size; i++ {
		b = append(b, byte(number)+byte(i)*31)
	}
	binary.BigEndian.PutUint32(b[8:], sum(b))
	return b
}

func sum(b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(b[:8]), crc32.IEEETable, b[headLen:])
}

// parseDatagram says which number a datagram has, and whether it is as it was sent.
func parseDatagram(b []byte) (number uint64, ok bool) {
	if len(b) < headLen {
		return 0, false
	}
	number = binary.BigEndian.Uint64(b)
	return number, len(b) == sizes[number%uint64(len(sizes))] && sum(b) == binary.BigEndian.Uint32(b[8:])
}

// stream is numbered datagrams from one host to another, or to all others.
type stream struct {
	name string
	// from and to are hosts by their number.
	from, to int

	mu      sync.Mutex
	sent    []time.Duration // when, by number, since the beginning
	arrived []time.Duration // when first, by number; 0 = not
	again   []uint64        // numbers of those that arrived once more
	last    uint64          // the highest that has arrived, + 1
	account Account
}

// Account is what became of the datagrams of a stream.
type Account struct {
	Name    string `json:"name"`
	Sent    uint64 `json:"sent"`
	Arrived uint64 `json:"arrived"`
	Again   uint64 `json:"arrived_again"`
	// AgainCalm: of these, those that were not sent in a fault.
	AgainCalm uint64 `json:"arrived_again_unexplained"`
	Late      uint64 `json:"overtaken"` // arrived behind one with a higher number
	Altered   uint64 `json:"altered"`
	Lost      uint64 `json:"lost"`
	ByFault   uint64 `json:"lost_in_faults"`
	Counted   uint64 `json:"lost_and_counted"`
	Mystery   uint64 `json:"lost_unexplained"`
	Refused   uint64 `json:"refused_by_host"` // the host did not take them: no route, no device
	Examples  []Loss `json:"unexplained_examples,omitempty"`
}

// Loss is a datagram that was sent and did not arrive.
type Loss struct {
	Number uint64  `json:"number"`
	At     float64 `json:"at_s"`
}

// send notes that the next datagram was sent.
func (s *stream) send(at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, at)
	s.account.Sent++
}

// next is the number of the datagram to be sent next.
func (s *stream) next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.sent))
}

// refuse notes that the host did not take a datagram.
func (s *stream) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account.Refused++
}

// arrive notes what came in.
func (s *stream) arrive(b []byte, at time.Duration) {
	number, ok := parseDatagram(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok {
		s.account.Altered++
		return
	}
	for uint64(len(s.arrived)) <= number {
		s.arrived = append(s.arrived, 0)
	}
	switch {
	case s.arrived[number] != 0:
		s.account.Again++
		s.again = append(s.again, number)
		return
	case number < s.last:
		s.account.Late++
	default:
		s.last = number + 1
	}
	s.arrived[number] = max(at, 1)
	s.account.Arrived++
}

// losses are the datagrams that did not arrive, with when they were sent.
func (s *stream) losses() (lost []lostOne) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, at := range s.sent {
		if n >= len(s.arrived) || s.arrived[n] == 0 {
			lost = append(lost, lostOne{uint64(n), at})
		}
	}
	return lost
}

// twice is when the datagrams were sent that arrived again.
func (s *stream) twice() (at []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.again {
		if n < uint64(len(s.sent)) {
			at = append(at, s.sent[n])
		}
	}
	return at
}

type lostOne struct {
	number uint64
	at     time.Duration
}

// back is when the first datagram was sent, at this time or later, that arrived. ok is
// false when none did.
func (s *stream) back(from time.Duration) (at time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, sent := range s.sent {
		if sent >= from && n < len(s.arrived) && s.arrived[n] != 0 {
			return sent, true
		}
	}
	return 0, false
}
