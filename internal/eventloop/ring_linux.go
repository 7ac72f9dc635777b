package eventloop

import (
	"fmt"
	"os"
	"time"

	"github.com/govxlan/govxlan/internal/uring"
	"golang.org/x/sys/unix"
)

const (
	// streamBuffers is how many reads of a stream are done before somebody has
	// to ask for them: what a system call is shared by. A power of two.
	streamBuffers = 16
	ringEntries   = 256
	// ringCompletions leaves room for all streams' reads of one wait.
	ringCompletions = 4096
	pollIn          = unix.POLLIN
)

// Ring is a Loop on io_uring, which also reads: frames of a Stream are there
// when its id is reported. All methods but Wake belong to one goroutine, which
// is locked to its thread.
type Ring struct {
	ring    *uring.Ring
	event   *event
	busy    time.Duration
	sources map[int32]*ringSource
	arm     []*ringSource // to be asked for at the next Wait
	ready   []int32
	streams []*ringSource // those with frames, whose turn it is next first
	groups  []uint16      // of buffers, that are free
	next    uint16        // of groups, never used so far
}

// ringSource is one descriptor.
type ringSource struct {
	fd     int
	id     int32
	stream *Stream // nil: it is only waited for
	armed  bool    // a request is under way
	queued bool    // in Ring.arm
	paused bool
}

// Stream is a descriptor that is read as the data comes.
type Stream struct {
	source  *ringSource
	ring    *Ring
	buffers *uring.Buffers
	pending []chunk // read, and not yet taken
	next    int     // of pending
	taken   []uint16
	listed  bool // in Ring.streams
	err     error
}

// chunk is what one read brought.
type chunk struct {
	buffer uint16
	len    int32
}

// NewRing returns an empty loop, or an error that wraps uring.ErrUnsupported.
func NewRing(busy time.Duration) (*Ring, error) {
	ring, err := uring.New(ringEntries, ringCompletions, uring.OpPollAdd, uring.OpAsyncCancel, uring.OpReadMultishot)
	if err != nil {
		return nil, err
	}
	r := &Ring{ring: ring, busy: busy, sources: make(map[int32]*ringSource)}
	if r.event, err = newEvent(); err != nil {
		ring.Close()
		return nil, err
	}
	r.later(&ringSource{fd: r.event.fd, id: wakeup})
	r.sources[wakeup] = r.arm[0]
	return r, nil
}

// later asks for s at the next Wait.
func (r *Ring) later(s *ringSource) {
	if !s.queued && !s.armed {
		s.queued = true
		r.arm = append(r.arm, s)
	}
}

// Add reports id whenever there is something to read from fd, or it has failed.
func (r *Ring) Add(fd int, id int32) error {
	s := &ringSource{fd: fd, id: id}
	r.sources[id] = s
	r.later(s)
	return nil
}

// AddStream reads fd, at most size bytes at a time, and reports id when
// something was read or reading failed.
func (r *Ring) AddStream(fd int, id int32, size int) (*Stream, error) {
	group := r.next
	if n := len(r.groups); n > 0 {
		group = r.groups[n-1]
	}
	buffers, err := r.ring.NewBuffers(group, streamBuffers, size)
	if err != nil {
		return nil, err
	}
	if n := len(r.groups); n > 0 {
		r.groups = r.groups[:n-1]
	} else {
		r.next++
	}
	s := &ringSource{fd: fd, id: id}
	s.stream = &Stream{source: s, ring: r, buffers: buffers}
	r.sources[id] = s
	r.later(s)
	return s.stream, nil
}

// Pause reports id no more, until Resume.
func (r *Ring) Pause(_ int, id int32) { r.sources[id].paused = true }

// Resume reports id again.
func (r *Ring) Resume(_ int, id int32) {
	s := r.sources[id]
	s.paused = false
	if s.stream == nil {
		r.later(s)
	} else {
		r.list(s)
	}
}

// Del forgets id, before its descriptor is closed. When it returns, nothing of
// it is under way.
func (r *Ring) Del(_ int, id int32) {
	s := r.sources[id]
	if s == nil {
		return
	}
	s.paused = true
	r.cancel(s)
	delete(r.sources, id)
	if s.stream != nil && !s.armed {
		_ = s.stream.buffers.Close()
		r.groups = append(r.groups, s.stream.buffers.Group)
	}
}

// cancel ends what is asked for s, for good.
func (r *Ring) cancel(s *ringSource) {
	s.queued = true // never armed again
	if s.armed {
		if r.ring.Push(uring.SQE{Op: uring.OpAsyncCancel, FD: -1, Addr: s.user(), User: ignored}) == nil {
			for s.armed && r.ring.Wait(time.Second, false) == nil {
				r.collect()
			}
		}
	}
}

// Stop reads no more. What was read until it returns is still there to be
// taken, and what comes later stays with the descriptor.
func (st *Stream) Stop() { st.ring.cancel(st.source) }

// Waiting says whether there is something to take.
func (st *Stream) Waiting() bool { return st.next < len(st.pending) }

// ignored is the user data of requests whose answer nobody waits for.
const ignored = ^uint64(0)

func (s *ringSource) user() uint64 { return uint64(uint32(s.id)) }

// Wake ends a Wait under way, or the next one. Any goroutine may call it.
func (r *Ring) Wake() { r.event.set() }

// Wait is as Loop.Wait.
func (r *Ring) Wait(timeout time.Duration) ([]int32, error) {
	for _, s := range r.arm {
		s.queued = false
		if r.sources[s.id] != s || s.armed {
			continue
		}
		if err := r.ask(s); err != nil {
			return nil, err
		}
	}
	r.arm = r.arm[:0]
	r.ready = r.ready[:0]

	if r.waiting() {
		timeout = 0
	}
	if err := inStages(timeout, r.busy, func(timeout time.Duration, hold bool) (bool, error) {
		if err := r.ring.Wait(timeout, hold); err != nil {
			return false, err
		}
		r.collect()
		return len(r.ready) > 0 || r.waiting(), nil
	}); err != nil {
		return nil, err
	}
	// Streams with frames take turns.
	for _, s := range r.streams {
		s.stream.listed = false
		if !s.paused && r.sources[s.id] == s {
			r.ready = append(r.ready, s.id)
		}
	}
	r.streams = r.streams[:0]
	return r.ready, nil
}

// ask sends the request that reports s.
func (r *Ring) ask(s *ringSource) error {
	s.armed = true
	if s.stream == nil {
		return r.ring.Push(uring.SQE{Op: uring.OpPollAdd, FD: int32(s.fd), OpFlags: pollIn, User: s.user()})
	}
	return r.ring.Push(uring.SQE{
		Op: uring.OpReadMultishot, Flags: uring.BufferSelect, FD: int32(s.fd),
		Offset: ^uint64(0), Group: s.stream.buffers.Group, User: s.user(),
	})
}

// waiting says whether a stream has frames already.
func (r *Ring) waiting() bool {
	for _, s := range r.streams {
		if !s.paused {
			return true
		}
	}
	return false
}

// collect takes the completions.
func (r *Ring) collect() {
	for {
		c, ok := r.ring.Next()
		if !ok {
			return
		}
		if c.User == ignored {
			continue
		}
		s := r.sources[int32(uint32(c.User))]
		if s == nil {
			continue
		}
		if c.Flags&uring.MoreFollows == 0 {
			s.armed = false
		}
		switch {
		case s.id == wakeup:
			r.event.clear()
			r.ready = append(r.ready, wakeup)
			r.later(s)
		case s.stream == nil:
			if !s.paused {
				r.ready = append(r.ready, s.id)
				r.later(s)
			}
		default:
			s.stream.completed(c)
		}
	}
}

// list notes that a stream has something to report.
func (r *Ring) list(s *ringSource) {
	st := s.stream
	if !st.listed && (st.next < len(st.pending) || st.err != nil) {
		st.listed = true
		r.streams = append(r.streams, s)
	}
}

// completed takes one completion of the stream.
func (st *Stream) completed(c uring.CQE) {
	if id, ok := c.Buffer(); ok && c.Res > 0 {
		st.pending = append(st.pending, chunk{id, c.Res})
	} else if ok {
		st.buffers.Give(id)
	}
	if c.Res < 0 {
		switch errno := unix.Errno(-c.Res); errno {
		case unix.ENOBUFS, unix.EAGAIN, unix.EINTR, unix.ECANCELED:
		default:
			st.err = os.NewSyscallError("read", errno)
		}
	}
	if !st.source.armed && st.err == nil && len(st.pending) < streamBuffers {
		st.ring.later(st.source)
	}
	st.ring.list(st.source)
}

// Next takes the oldest read that was not taken, nil when there is none. The
// bytes are valid until Release.
func (st *Stream) Next() []byte {
	if st.next == len(st.pending) {
		return nil
	}
	c := st.pending[st.next]
	st.next++
	st.taken = append(st.taken, c.buffer)
	return st.buffers.Bytes(c.buffer)[:c.len:c.len]
}

// Err is what ended the reading, once everything that was read is taken.
func (st *Stream) Err() error {
	if st.next < len(st.pending) {
		return nil
	}
	return st.err
}

// Release gives back the memory of what was taken.
func (st *Stream) Release() {
	for _, id := range st.taken {
		st.buffers.Give(id)
	}
	st.taken = st.taken[:0]
	if st.next == len(st.pending) {
		st.pending, st.next = st.pending[:0], 0
	}
	if !st.source.armed && st.err == nil {
		st.ring.later(st.source)
	}
	st.ring.list(st.source)
}

// Close ends the loop.
func (r *Ring) Close() error {
	err := r.ring.Close()
	for _, s := range r.sources {
		if s.stream != nil {
			_ = s.stream.buffers.Unmap()
		}
	}
	if cerr := r.event.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("event loop: %w", err)
	}
	return nil
}
