package soak

import (
	"slices"
	"time"
)

// fault is a fault that was made.
type fault struct {
	name       string
	hosts      []int // whose traffic it touches
	begin, end time.Duration
	// settle is how long after its end it may go on to cost something, whether or
	// not datagrams arrive already.
	settle time.Duration
	// harmless faults explain nothing: an endpoint has to bear them.
	harmless bool
}

// touches says whether a stream passes where the fault is.
func (f *fault) touches(s *stream) bool {
	return !f.harmless && f.near(s)
}

// near is touches, of faults that are harmless too.
func (f *fault) near(s *stream) bool {
	return slices.Contains(f.hosts, s.from) || slices.Contains(f.hosts, s.to)
}

// before is how long before a fault a datagram may have been sent that was on its
// way when it came.
const before = 100 * time.Millisecond

// drops are what the counters of drops of one host say at one moment.
type drops struct {
	at    time.Duration
	host  int
	count uint64
}

// slack is how far a counter may be behind, or ahead of, the datagram that it counts.
const slack = 1500 * time.Millisecond

// explain parts the losses of a stream, and what arrived again. counters are samples in
// the order of time, and lose what they explain: each drop explains one datagram.
func (s *stream) explain(faults []fault, counters []drops) Account {
	a := &s.account
	lost := s.losses()
	// until is how long each fault explains losses of this stream: until the first
	// datagram that was sent after it, and arrived.
	until := make([]time.Duration, len(faults))
	for i, f := range faults {
		at, ok := s.back(f.end)
		if !ok {
			at = f.end
		}
		until[i] = max(at, f.end+f.settle)
	}
	byFault := func(at time.Duration) bool {
		for i, f := range faults {
			if f.touches(s) && at >= f.begin-before && at <= until[i] {
				return true
			}
		}
		return false
	}
	for _, at := range s.twice() {
		if !byFault(at) {
			a.AgainCalm++
		}
	}
	for _, l := range lost {
		a.Lost++
		switch {
		case byFault(l.at):
			a.ByFault++
		case s.counted(counters, l.at):
			a.Counted++
		default:
			a.Mystery++
			if len(a.Examples) < 10 {
				a.Examples = append(a.Examples, Loss{l.number, l.at.Seconds()})
			}
		}
	}
	return *a
}

// counted takes one drop out of the counters that was counted at about this time, at one
// of the stream's hosts. Each sample has what was counted since the one before.
func (s *stream) counted(counters []drops, at time.Duration) bool {
	for i := range counters {
		if c := &counters[i]; c.count > 0 && (c.host == s.from || c.host == s.to) && c.at >= at-slack && c.at <= at+slack {
			c.count--
			return true
		}
	}
	return false
}
