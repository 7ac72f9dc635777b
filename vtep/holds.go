package vtep

import (
	"sync"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/rate"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// holds are MACs that were held or let go (Guard.Damping), until the sweeper has
// told the log: receivers do not write to it.
type holds struct {
	mu     sync.Mutex
	queue  []hold
	missed int
	wake   chan struct{}
	told   rate.Bucket
}

type hold struct {
	vni vxlan.VNI
	fdb.Event
}

// Somebody may have thousands of MACs move. What is more than that is counted.
const mostHolds = 16

var holdLines = rate.New(1, 2*mostHolds)

// note is told with a table's lock held.
func (h *holds) note(v vxlan.VNI, ev fdb.Event) {
	h.mu.Lock()
	if len(h.queue) < mostHolds {
		h.queue = append(h.queue, hold{v, ev})
	} else {
		h.missed++
	}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// refused is where a MAC wanted to be, where that is known.
func refused(r fdb.Remote) zap.Field {
	if !r.Addr.IsValid() {
		return zap.Skip()
	}
	return zap.Stringer("refused", r)
}

// release lets MACs go that were held long enough, and returns when to look again.
func (e *Endpoint) release() time.Duration {
	next := longestSweep
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.overlays {
		if d := o.table.Release(e.now()); d > 0 {
			next = min(next, d)
		}
	}
	return next
}

// tellHolds logs what note was told.
func (e *Endpoint) tellHolds() {
	h := &e.holds
	h.mu.Lock()
	queue, missed := h.queue, h.missed
	h.queue, h.missed = nil, 0
	h.mu.Unlock()
	now := e.now()
	for _, x := range queue {
		if !h.told.Take(holdLines, now, 1) {
			missed++
			continue
		}
		at := []zap.Field{zap.Stringer("vni", x.vni), zap.Stringer("mac", vxlan.MAC(x.Entry.MAC)), zap.Stringer("vtep", x.Entry.Remote)}
		if x.What == fdb.EventHeld {
			e.log.Warn("a MAC keeps moving between VTEPs and is held: a loop, two stations with one MAC, or somebody takes its frames",
				append(at, refused(x.Was))...)
		} else {
			e.log.Info("a MAC may move again", at...)
		}
	}
	if missed == 0 {
		return
	}
	if h.told.Take(holdLines, now, 1) {
		e.log.Warn("more MACs were held or let go than are told one by one", zap.Int("more", missed))
		return
	}
	h.mu.Lock()
	h.missed += missed // with the next
	h.mu.Unlock()
}
