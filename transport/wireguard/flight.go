package wireguard

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

// flight bounds the packets between Read and the underlay's socket. The library
// would queue a thousand batches: a flow that is faster than encryption would have
// every other wait behind a hundred MB. Instead its device is not read meanwhile.
//
// It is an estimate: what the library drops on the way, for want of a session, is
// never seen to land. Who has waited for long starts counting anew.
type flight struct {
	n    atomic.Int64
	most int64
	room chan struct{}
	late *time.Timer // only for wait
}

// patience is how long nobody is seen to land before the count is taken for wrong.
const patience = 5 * time.Millisecond

func newFlight() *flight {
	f := &flight{most: int64(128 * max(runtime.GOMAXPROCS(0), 2)), room: make(chan struct{}, 1), late: time.NewTimer(0)}
	return f
}

// start counts packets that the library has got.
func (f *flight) start(n int) { f.n.Add(int64(n)) }

// land counts those that went out.
func (f *flight) land(n int) {
	left := f.n.Add(-int64(n))
	if left < 0 {
		f.n.CompareAndSwap(left, 0)
	}
	if left < f.most {
		select {
		case f.room <- struct{}{}:
		default:
		}
	}
}

// wait returns when there is room, or closed is.
func (f *flight) wait(closed <-chan struct{}) {
	for f.n.Load() >= f.most {
		f.late.Reset(patience)
		select {
		case <-f.room:
		case <-f.late.C:
			f.n.Store(0)
		case <-closed:
			return
		}
	}
}

// bind is the library's sockets, and tells what goes out.
type bind struct {
	conn.Bind
	flight *flight
}

// Send sends packets to one peer.
func (b *bind) Send(bufs [][]byte, to conn.Endpoint) error {
	n := 0
	for _, p := range bufs {
		// A keep-alive has no content, and did not come from Read.
		if len(p) > device.MessageKeepaliveSize && p[0] == device.MessageTransportType {
			n++
		}
	}
	err := b.Bind.Send(bufs, to)
	if n > 0 {
		b.flight.land(n)
	}
	return err
}
