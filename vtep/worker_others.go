//go:build !linux

package vtep

import (
	"errors"
	"time"

	"github.com/govxlan/govxlan/tap"
)

// worker is for Linux: elsewhere each queue and each socket has a goroutine.
type worker struct{}

func startWorkers(int, time.Duration, bool) ([]*worker, error) { return nil, errors.ErrUnsupported }

func (*worker) add(any) bool     { return false }
func (*worker) post(func()) bool { return false }
func (*worker) remove(any)       {}
func (*worker) stop()            {}
func (*worker) drain()           {}
func (*worker) kind() string     { return "" }

type (
	outRing struct{}
	stream  struct{}
)

func (*outlet) writeRing(vectors []tap.Vector) []tap.Vector { return vectors }

// bootTime is where the clock begins; any place will do where no endpoint is
// handed over.
func bootTime() time.Duration { return 0 }
