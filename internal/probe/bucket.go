package probe

import (
	"sync/atomic"
	"time"
)

// Answers to one VTEP: enough at once for a search for the path's MTU, and for
// a probe each 5 ms after that.
const (
	Burst = 100
	Every = 5 * time.Millisecond
)

// Bucket limits the answers to one VTEP. Its zero value is full, and any number
// of goroutines may use it.
type Bucket struct{ full atomic.Int64 }

// Take says whether one more answer may be sent now.
func (b *Bucket) Take(now time.Duration) bool {
	for {
		was := b.full.Load()
		full := max(was, int64(now)) + int64(Every)
		if full-int64(now) > Burst*int64(Every) {
			return false
		}
		if b.full.CompareAndSwap(was, full) {
			return true
		}
	}
}
