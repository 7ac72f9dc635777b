package toobig

import "time"

// Bucket limits how often something is done: Burst times at once, and from
// then on once in Every. The zero value never lets anything through.
type Bucket struct {
	Burst int
	Every time.Duration

	// full is when the bucket is full again.
	full time.Duration
}

// Take says whether it may be done now. The time is that since any fixed
// moment; time that goes back fills nothing.
func (b *Bucket) Take(now time.Duration) bool {
	full := max(b.full, now) + b.Every
	if full-now > time.Duration(b.Burst)*b.Every {
		return false
	}
	b.full = full
	return b.Burst > 0
}
