package wireguard

import (
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// sameEvery is how often a complaint of one kind is passed on: the library has one
// for each batch that cannot be sent.
const sameEvery = time.Minute

// newLog is the library's logger.
func newLog(opt Options) *device.Logger {
	l := &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf}
	if opt.Debugf != nil {
		l.Verbosef = opt.Debugf
	}
	if opt.Logf != nil {
		var mu sync.Mutex
		told := make(map[string]time.Time)
		l.Errorf = func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			if now := time.Now(); told[format].IsZero() || now.Sub(told[format]) >= sameEvery {
				told[format] = now
				opt.Logf(format, args...)
			}
		}
	}
	return l
}
