package tap

import (
	"runtime"
	"syscall"
	"unsafe"

	"github.com/govxlan/govxlan/internal/uring"
	"golang.org/x/sys/unix"
)

// RingWriter is a Writer that hands over many frames with one system call,
// through a ring of the calling thread. Writers of Linux devices are.
type RingWriter interface {
	Writer
	// WriteRing hands over all frames, in their order, but those that it calls
	// failed for. After an error, which is of the ring or of a device that was
	// closed, these are also the frames that it did not come to, or does not
	// know the end of. The ring is used for nothing else.
	WriteRing(ring *uring.Ring, frames []Vector, failed func(frame *Vector, err error)) error
}

var _ RingWriter = (*writer)(nil)

// ringWrites is how many frames go with one system call.
const ringWrites = 64

// ringed is what a writer needs for WriteRing; made on its first use.
type ringed struct {
	heads [ringWrites][HeaderLen]byte
	sent  [ringWrites]int // frames; -1: done with
	try   func(fd uintptr)

	ring   *uring.Ring
	frames []Vector
	next   int // of frames
	under  int // of sent: under way
	failed func(*Vector, error)
	err    error
}

func (w *writer) WriteRing(ring *uring.Ring, frames []Vector, failed func(frame *Vector, err error)) error {
	if w.ringed == nil {
		w.ringed = &ringed{}
		w.ringed.try = w.writeRing
	}
	r := w.ringed
	r.ring, r.frames, r.next, r.under, r.failed, r.err = ring, frames, 0, 0, failed, nil
	err := w.q.fd.Do(r.try)
	if err == nil {
		err = r.err
	}
	if err != nil {
		for _, i := range r.sent[:r.under] {
			if i >= 0 {
				failed(&frames[i], err)
			}
		}
		for i := r.next; i < len(frames); i++ {
			failed(&frames[i], err)
		}
	}
	r.frames, r.failed = nil, nil
	return err
}

func (w *writer) writeRing(fd uintptr) {
	r := w.ringed
	features := w.features.load()
	for r.next < len(r.frames) {
		parts := 0
		for i := r.next; i < len(r.frames) && i < r.next+ringWrites; i++ {
			parts += len(r.frames[i].Parts) + 1
		}
		if cap(w.iov) < parts {
			w.iov = make([]unix.Iovec, 0, 2*parts)
		}
		// The kernel reads these while the requests are under way: they must
		// not move, so the slice does not grow below.
		w.iov = w.iov[:0]
		r.under = 0
		for ; r.next < len(r.frames) && r.under < ringWrites; r.next++ {
			n, v := r.under, &r.frames[r.next]
			if features.lacks(&v.Header) {
				if n > 0 {
					break // in its turn
				}
				w.alone(fd, v)
				continue
			}
			first := len(w.iov)
			if w.header != 0 {
				v.Header.put(r.heads[n][:])
				w.iov = appendIovec(w.iov, r.heads[n][:])
			}
			for _, p := range v.Parts {
				w.iov = appendIovec(w.iov, p)
			}
			if r.err = r.ring.Push(uring.SQE{
				Op: uring.OpWritev, FD: int32(fd), Offset: ^uint64(0), User: uint64(n),
				Addr: uint64(uintptr(unsafe.Pointer(&w.iov[first]))), Len: uint32(len(w.iov) - first),
			}); r.err != nil {
				return
			}
			r.sent[n] = r.next
			r.under++
		}
		if w.complete(fd, r.under); r.err != nil {
			return
		}
	}
	runtime.KeepAlive(r.frames)
}

// complete has n requests done, and looks after those that failed.
func (w *writer) complete(fd uintptr, n int) {
	r := w.ringed
	if r.err = r.ring.Submit(); r.err != nil {
		return
	}
	for n > 0 {
		c, ok := r.ring.Next()
		if !ok {
			// A device takes what it is given at once; a kernel that puts it
			// off is waited for.
			if r.err = r.ring.Wait(-1, false); r.err != nil {
				return
			}
			continue
		}
		n--
		v := &r.frames[r.sent[c.User]]
		r.sent[c.User] = -1
		if c.Res >= 0 {
			continue
		}
		errno := syscall.Errno(-c.Res)
		if errno == unix.EINVAL && v.Header.GSO != GSONone {
			w.alone(fd, v) // finds out what the kernel has against it
			continue
		}
		r.failed(v, errno)
	}
}

// alone writes one frame by itself.
func (w *writer) alone(fd uintptr, v *Vector) {
	if err := w.write(fd, v); err != nil {
		w.ringed.failed(v, err)
	}
}
