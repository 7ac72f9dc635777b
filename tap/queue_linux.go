package tap

import (
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader implements Reader on one descriptor.
type reader struct {
	q      *queue
	header int

	// State of the Read in progress, kept here because the closure that the
	// poller calls is made once: a closure a call would be an allocation.
	fill  func(fd uintptr) bool
	try   func(fd uintptr)
	batch *Batch
	errno unix.Errno
}

var _ Pollable = (*reader)(nil)

func newReader(q *queue, header int) *reader {
	r := &reader{q: q, header: header}
	r.fill = r.drain
	r.try = func(fd uintptr) { r.drain(fd) }
	return r
}

func (r *reader) Read(b *Batch) error {
	b.reset()
	r.batch, r.errno = b, 0
	err := r.q.fd.Read(r.fill)
	if err != nil {
		r.batch = nil
		if !r.q.fd.Closed() {
			// It is open: the poller calls a descriptor whose device was
			// deleted "not pollable". Reading it says the same as this.
			return os.NewSyscallError("read tap", unix.EBADFD)
		}
		// The descriptor was closed; os.File does not say net.ErrClosed.
		return net.ErrClosed
	}
	return r.outcome()
}

func (r *reader) TryRead(b *Batch) error {
	b.reset()
	r.batch, r.errno = b, 0
	if err := r.q.fd.Do(r.try); err != nil {
		r.batch = nil
		return err
	}
	return r.outcome()
}

// outcome is the result of a Read whose system calls are done.
func (r *reader) outcome() error {
	b := r.batch
	r.batch = nil
	if r.errno != 0 && len(b.Frames) == 0 {
		return os.NewSyscallError("read tap", r.errno)
	}
	return nil
}

func (r *reader) Descriptor() int { return r.q.fd.Number() }
func (r *reader) ReadLen() int    { return r.header + MaxFrame }

func (r *reader) Frame(raw []byte) (Frame, bool) {
	var f Frame
	if len(raw) < r.header+14 {
		return f, false
	}
	if r.header != 0 {
		f.Header.parse(raw)
	}
	f.Bytes = raw[r.header:]
	return f, true
}

// drain reads until the device runs dry or the batch is full. It returns false
// to be called again when the device has something.
//
// RawSyscall, not Syscall: the descriptor is non-blocking, and telling Go's
// scheduler about a system call of 1 us costs more than the call
// (docs/performance.md).
func (r *reader) drain(fd uintptr) bool {
	b := r.batch
	b.acquire()
	for {
		room := b.room(r.header)
		if room == nil {
			return true
		}
		n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(room))), uintptr(len(room)))
		switch {
		case errno == 0:
			if int(n) >= r.header+14 {
				b.add(r.header, int(n))
			} else {
				b.Short++
			}
		case errno == unix.EINTR:
		case errno == unix.EAGAIN:
			if len(b.Frames) > 0 {
				return true
			}
			b.release()
			return false
		default:
			// EBADFD: the device was deleted under us.
			r.errno = errno
			return true
		}
	}
}

// writer implements Writer on one descriptor.
type writer struct {
	q        *queue
	features *features
	header   int

	head [HeaderLen]byte
	iov  []unix.Iovec

	put    func(fd uintptr)
	frames []Vector
	done   int
	err    error

	// What writePlain needs, kept for closures made once.
	emit func([]byte) error
	fd   uintptr
	one  [1][]byte

	ringed *ringed
}

func newWriter(q *queue, features *features, header int) *writer {
	w := &writer{q: q, features: features, header: header}
	w.put = w.writeAll
	w.emit = w.writeOne
	return w
}

func (w *writer) Write(frames []Vector) (int, error) {
	w.frames, w.done, w.err = frames, 0, nil
	err := w.q.fd.Do(w.put)
	w.frames = nil
	if err != nil {
		return w.done, err
	}
	return w.done, w.err
}

// writeAll never waits: a TAP has no queue towards the host that could fill.
func (w *writer) writeAll(fd uintptr) {
	for w.done < len(w.frames) {
		if w.err = w.write(fd, &w.frames[w.done]); w.err != nil {
			return
		}
		w.done++
	}
}

// write hands over one frame, in another form where the kernel does not take
// this one.
func (w *writer) write(fd uintptr, v *Vector) error {
	if w.features.load().lacks(&v.Header) {
		return w.writePlain(fd, v)
	}
	err := w.writev(fd, &v.Header, v.Parts)
	if err == unix.EINVAL && v.Header.GSO != GSONone {
		// This kernel takes no superframes of this kind, though reading them
		// was granted: from now on without. One of more segments than any
		// kernel takes says nothing; a peer can send such. Nor does one with a
		// VLAN tag about those without.
		if v.segments() <= coalesceSegments && !VLANTagged(v.Parts[0]) {
			w.features.refuse(v.Header.GSO)
		}
		err = w.writePlain(fd, v)
	}
	return err
}

// writev hands over one frame as it is.
func (w *writer) writev(fd uintptr, h *Header, parts [][]byte) error {
	w.iov = w.iov[:0]
	if w.header != 0 {
		h.put(w.head[:])
		w.iov = appendIovec(w.iov, w.head[:])
	}
	for _, p := range parts {
		w.iov = appendIovec(w.iov, p)
	}
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(w.iov))), uintptr(len(w.iov)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			// Bare, for a device that is down answers EIO to every frame:
			// no allocation for each.
			return errno
		}
	}
}

// writePlain hands over a frame that wants a feature which the device lacks.
func (w *writer) writePlain(fd uintptr, v *Vector) error {
	p := plains.Get().(*plain)
	defer plains.Put(p)
	w.fd = fd
	return p.each(v, w.emit)
}

// writeOne hands over a frame that wants nothing.
func (w *writer) writeOne(f []byte) error {
	w.one[0] = f
	return w.writev(w.fd, &Header{}, w.one[:])
}

func appendIovec(iov []unix.Iovec, b []byte) []unix.Iovec {
	if len(b) == 0 {
		return iov
	}
	v := unix.Iovec{Base: unsafe.SliceData(b)}
	v.SetLen(len(b))
	return append(iov, v)
}
