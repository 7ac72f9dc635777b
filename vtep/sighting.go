package vtep

import (
	"net/netip"
	"sync"

	"github.com/govxlan/govxlan/vxlan"
)

// lastSeen remembers who sent what was dropped last: a counter alone does not
// say whom to let in.
type lastSeen struct {
	mu   sync.Mutex
	seen Sighting
}

// note never waits: where another receiver writes, what that one saw is as good.
func (l *lastSeen) note(a netip.Addr, v vxlan.VNI) {
	if l.mu.TryLock() {
		l.seen = Sighting{a, v}
		l.mu.Unlock()
	}
}

// get returns nil when there was nothing.
func (l *lastSeen) get() *Sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.seen.VTEP.IsValid() {
		return nil
	}
	s := l.seen
	return &s
}
