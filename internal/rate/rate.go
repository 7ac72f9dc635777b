// Package rate limits how often something is done by many goroutines at once,
// without a lock and without a clock of its own.
package rate

import (
	"sync/atomic"
	"time"
)

// Limit is so many a second in the long run, and so many at once before that. Its
// zero value has no room for anything; New makes one.
type Limit struct{ every, depth int64 } // ns

// New returns the limit of perSecond, 1 to 1e9, with burst, at least 1, at once.
func New(perSecond, burst int) Limit {
	every := max(int64(time.Second)/int64(max(perSecond, 1)), 1)
	return Limit{every, every * int64(min(max(burst, 1), 1<<31-1))}
}

// Bucket is what is left of a Limit. Its zero value is full. The Limit is told with
// each Take, so that another one may hold from then on.
type Bucket struct {
	full atomic.Int64 // when it is full again, ns since the origin of now
}

// Take says whether n more may be done now, all or none. It is enough that there is
// room for one: a superframe that stands for more than the burst gets through too,
// and what it took too much is missing afterwards.
func (b *Bucket) Take(l Limit, now time.Duration, n int) bool {
	for {
		was := b.full.Load()
		begin := max(was, int64(now))
		if begin-int64(now)+l.every > l.depth || l.depth == 0 {
			return false
		}
		if b.full.CompareAndSwap(was, begin+l.every*int64(n)) {
			return true
		}
	}
}
