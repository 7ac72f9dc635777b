package ping

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/govxlan/govxlan/vtep"
)

// MTU is how long an outer IP packet may be, in bytes.
type MTU struct {
	// There is the longest that arrived at the VTEP, Back the longest that came
	// from it; 0: not even the shortest, or not found out. Back is not sought
	// above There.
	There int `json:"there"`
	Back  int `json:"back"`
	// Tried is the longest that was tried: what the underlay device carries, or
	// less.
	Tried int `json:"tried"`
}

const (
	// fan is how many sizes are tried at once.
	fan = 12
	// tries is how often each is sent, so that a lost packet is not taken for
	// one that did not fit.
	tries = 2
)

// Patience is how long to wait for answers where the slowest so far took so many
// milliseconds: long enough for a path that is a little slower once, most at most.
func Patience(ms float64, most time.Duration) time.Duration {
	d := 5*time.Duration(ms*float64(time.Millisecond)) + 100*time.Millisecond
	return min(d, most)
}

// search is a hunt for the longest frame that is answered.
type search struct {
	line Line
	wait time.Duration
	seq  uint32
}

// answered sends frames of some sizes, and returns the largest that was answered,
// 0 for none, and the smallest that this host refused to send, 0 for none.
func (s *search) answered(ctx context.Context, sizes []int, answer func(size int) int) (largest, refused int) {
	base := s.seq
	pending := make(map[uint32]int)
	for range tries {
		for _, size := range sizes {
			if refused != 0 && size >= refused {
				continue
			}
			_, err := s.line.Send(vtep.Probe{Seq: s.seq, Size: size, AnswerSize: answer(size), Flow: s.seq})
			if tooLong(err) {
				refused = size
			}
			if err == nil {
				pending[s.seq] = size
			}
			s.seq++
		}
	}
	most := 0
	for _, size := range pending {
		most = max(most, size)
	}
	timer := time.NewTimer(s.wait)
	defer timer.Stop()
	for largest < most {
		select {
		case <-ctx.Done():
			return largest, refused
		case <-timer.C:
			return largest, refused
		case a, ok := <-s.line.Answers():
			if !ok {
				return largest, refused
			}
			if size, mine := pending[a.Seq]; mine && a.Seq >= base && a.Came == size {
				largest = max(largest, size)
			}
		}
	}
	return largest, refused
}

// longest returns the longest frame from lo to hi, in bytes, that is answered; 0
// if lo is not. It takes one round trip where hi is.
func (s *search) longest(ctx context.Context, lo, hi int, answer func(int) int) int {
	good, refused := s.answered(ctx, []int{lo, hi}, answer)
	if good == 0 || good == hi {
		return good
	}
	if refused != 0 {
		hi = refused
	}
	for good+1 < hi && ctx.Err() == nil {
		step := max(1, (hi-good)/(fan+1))
		var sizes []int
		for size := good + step; size < hi && len(sizes) < fan; size += step {
			sizes = append(sizes, size)
		}
		n, refused := s.answered(ctx, sizes, answer)
		if n > good {
			good = n
		}
		for _, size := range sizes {
			if size > good {
				hi = min(hi, size)
				break
			}
		}
		if refused != 0 {
			hi = min(hi, refused)
		}
	}
	return good
}

// FindMTU finds the longest packets that pass, up to outer IP packets of most
// bytes. overhead is that of Overhead. wait is how long answers may take: several
// round-trip times. Lines that cannot ask for answers of another length than
// their probes (NewEcho) find There alone: oneWay.
func FindMTU(ctx context.Context, line Line, overhead, most int, wait time.Duration, oneWay bool) MTU {
	hi := min(most-overhead, vtep.MaxProbe)
	m := MTU{Tried: hi + overhead}
	s := search{line: line, wait: wait, seq: rand.Uint32() | 1<<31}
	same := func(size int) int { return size }
	short := func(int) int { return vtep.MinProbe }
	if oneWay {
		if n := s.longest(ctx, vtep.MinProbe, hi, same); n != 0 {
			m.There = n + overhead
		}
		return m
	}
	// Mostly the way back is as wide, and one probe tells.
	switch n, _ := s.answered(ctx, []int{vtep.MinProbe, hi}, same); n {
	case 0:
		return m
	case hi:
		m.There, m.Back = hi+overhead, hi+overhead
		return m
	}
	there := s.longest(ctx, vtep.MinProbe, hi, short)
	if there == 0 {
		return m
	}
	m.There = there + overhead
	if back := s.longest(ctx, vtep.MinProbe, there, same); back != 0 {
		m.Back = back + overhead
	}
	return m
}

// Burst sends n frames of one size with one call, so that the system may carry
// them as one superframe, and returns how many were answered as they were.
func Burst(ctx context.Context, line Line, n, size int, wait time.Duration) (answered int, err error) {
	base := rand.Uint32() | 1<<31
	all := make([]vtep.Probe, n)
	for i := range all {
		all[i] = vtep.Probe{Seq: base + uint32(i), Size: size, AnswerSize: size}
	}
	if _, err := line.Send(all...); err != nil {
		return 0, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	seen := make(map[uint32]bool)
	for len(seen) < n {
		select {
		case <-ctx.Done():
			return len(seen), ctx.Err()
		case <-timer.C:
			return len(seen), nil
		case a, ok := <-line.Answers():
			if !ok {
				return len(seen), nil
			}
			if i := a.Seq - base; i < uint32(n) && a.Came == size && a.Size == size {
				seen[a.Seq] = true
			}
		}
	}
	return n, nil
}
