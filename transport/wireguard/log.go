package wireguard

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// sameEvery is how often a complaint of one kind is passed on: the library has one
// for each batch that cannot be sent.
const sameEvery = time.Minute

// logger passes on what the library says.
type logger struct {
	// open: Listen has succeeded. Before, what is wrong is its error.
	open atomic.Bool
	mu   sync.Mutex
	told map[string]time.Time
}

func (l *logger) of(opt Options) *device.Logger {
	d := &device.Logger{Verbosef: device.DiscardLogf, Errorf: device.DiscardLogf}
	if opt.Debugf != nil {
		d.Verbosef = opt.Debugf
	}
	if opt.Logf != nil {
		d.Errorf = func(format string, args ...any) {
			if l.open.Load() && !expected(args) && l.first(format) {
				opt.Logf(format, args...)
			}
		}
	}
	return d
}

// expected: a peer without endpoint has not come yet, which the state says.
func expected(args []any) bool {
	for _, a := range args {
		if err, ok := a.(error); ok && strings.Contains(err.Error(), "no known endpoint") {
			return true
		}
	}
	return false
}

// first says whether nothing of this kind was said lately.
func (l *logger) first(format string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if before, ok := l.told[format]; ok && now.Sub(before) < sameEvery {
		return false
	}
	if l.told == nil {
		l.told = make(map[string]time.Time)
	}
	l.told[format] = now
	return true
}
