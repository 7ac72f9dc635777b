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

func (*worker) add(any) bool { return false }
func (*worker) remove(any)   {}
func (*worker) stop()        {}
func (*worker) kind() string { return "" }

type (
	outRing struct{}
	stream  struct{}
)

func (*outlet) writeRing(vectors []tap.Vector) []tap.Vector { return vectors }
