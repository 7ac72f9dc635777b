package vtep

import (
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/govxlan/govxlan/internal/eventloop"
	"github.com/govxlan/govxlan/internal/uring"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
)

const (
	// retryBlocked is how soon a worker tries again to send what the underlay
	// had no room for. A socket buffer holds some milliseconds of the fastest
	// link.
	retryBlocked = time.Millisecond
	// quantum is how many bytes of a device a worker carries before it is the
	// turn of the next.
	quantum = 128 << 10
	// mostStreams is how many devices' queues of a worker are read through
	// io_uring; each has buffers of its own there.
	mostStreams = 64
	// writeEntries is how many frames one system call hands to a device.
	writeEntries = 64
)

// worker serves queues of devices and sockets of the underlay in turn, with one
// goroutine and one set of buffers. What is ready gets one batch, then the next
// its turn: a bulk transfer in one queue delays the flows of another by no more
// than that.
type worker struct {
	loop eventloop.Loop
	ring *eventloop.Ring // loop, if it is one
	out  *uring.Ring     // for writes to devices; nil: one by one
	done chan struct{}

	// For whoever's turn it is.
	batch  tap.Batch
	frames []tap.Frame
	shop   *workshop
	slab   *transport.Slab
	trains [recvTrains]transport.Train

	sources map[int32]source
	next    int32
	streams int
	blocked []*transmitter // they wait for room on the underlay

	mu       sync.Mutex
	requests []func() // to be done by the worker
	stopped  bool
	draining bool
}

// source is a queue or a socket, as a worker sees it.
type source interface {
	// attach has w wait for the source under id.
	attach(w *worker, id int32) error
	// detach takes it back.
	detach(w *worker)
	// serve carries one batch. An error takes the source out of the worker.
	serve(w *worker) error
	// lost hears of the error that attach or serve returned.
	lost(err error)
}

// startWorkers starts n workers. busy is Config.BusyPoll; with noRing they do
// without io_uring.
func startWorkers(n int, busy time.Duration, noRing bool) ([]*worker, error) {
	var workers []*worker
	for range n {
		w := &worker{done: make(chan struct{}), sources: make(map[int32]source)}
		began := make(chan error)
		go w.run(busy, noRing, began)
		if err := <-began; err != nil {
			for _, w := range workers {
				w.stop()
			}
			return nil, err
		}
		workers = append(workers, w)
	}
	return workers, nil
}

// open makes the loop: of io_uring where the kernel has it.
func (w *worker) open(busy time.Duration, noRing bool) error {
	if !noRing {
		err := w.openRing(busy)
		if !errors.Is(err, uring.ErrUnsupported) {
			return err
		}
	}
	loop, err := eventloop.NewEpoll(busy)
	if err == nil {
		w.loop = loop
	}
	return err
}

func (w *worker) openRing(busy time.Duration) error {
	ring, err := eventloop.NewRing(busy)
	if err != nil {
		return err
	}
	out, err := uring.New(writeEntries, 2*writeEntries, uring.OpWritev)
	if err != nil {
		ring.Close()
		return err
	}
	w.loop, w.ring, w.out = ring, ring, out
	return nil
}

// run serves until stop.
func (w *worker) run(busy time.Duration, noRing bool, began chan<- error) {
	// An io_uring belongs to a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := w.open(busy, noRing)
	began <- err
	if err != nil {
		return
	}
	defer close(w.done)
	defer w.close()
	w.shop = workshops.Get().(*workshop)
	w.slab = transport.NewSlab()
	for {
		timeout := time.Duration(-1)
		if len(w.blocked) > 0 {
			timeout = retryBlocked
		}
		ready, err := w.loop.Wait(timeout)
		if err != nil || !w.doRequests() {
			return
		}
		w.unblock()
		for _, id := range ready {
			if s := w.sources[id]; s != nil {
				if err := s.serve(w); err != nil {
					w.forget(id, s)
					s.lost(err)
				}
			}
		}
	}
}

// doRequests does what others asked for. It returns false after stop.
func (w *worker) doRequests() bool {
	w.mu.Lock()
	requests, stopped := w.requests, w.stopped
	w.requests = nil
	w.mu.Unlock()
	for _, f := range requests {
		f()
	}
	return !stopped
}

// close ends what the worker has.
func (w *worker) close() {
	w.mu.Lock()
	w.stopped = true
	requests := w.requests
	w.requests = nil
	w.mu.Unlock()
	for _, f := range requests {
		f()
	}
	if w.draining {
		w.finish()
	}
	for id, s := range w.sources {
		w.forget(id, s)
	}
	if w.out != nil {
		_ = w.out.Close()
	}
	_ = w.loop.Close()
}

// post has the worker do f. It returns false when the worker has ended.
func (w *worker) post(f func()) bool {
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return false
	}
	w.requests = append(w.requests, f)
	w.mu.Unlock()
	w.loop.Wake()
	return true
}

// add has the worker serve a source, soon.
func (w *worker) add(s source) bool {
	return w.post(func() {
		id := w.next
		w.next = (w.next + 1) & (1<<31 - 1)
		if err := s.attach(w, id); err != nil {
			s.lost(err)
			return
		}
		w.sources[id] = s
	})
}

// remove ends the service of a source. When it returns, nobody serves it.
func (w *worker) remove(s source) {
	done := make(chan struct{})
	if !w.post(func() {
		defer close(done)
		for id, have := range w.sources {
			if have == s {
				w.forget(id, s)
			}
		}
	}) {
		<-w.done
		return
	}
	<-done
}

// forget drops a source.
func (w *worker) forget(id int32, s source) {
	delete(w.sources, id)
	s.detach(w)
}

// stop ends the worker and waits for it.
func (w *worker) stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.loop.Wake()
	<-w.done
}

// drain is stop, but what was read from devices is carried first.
func (w *worker) drain() {
	w.mu.Lock()
	w.draining = true
	w.mu.Unlock()
	w.stop()
}

// mostDraining is how long a worker that ends waits for room on the underlay.
const mostDraining = 200 * time.Millisecond

// finish carries what was read from devices, and reads no more.
func (w *worker) finish() {
	var rest []*transmitter
	for _, s := range w.sources {
		if t, ok := s.(*transmitter); ok && t.stream != nil {
			t.stream.Stop()
			rest = append(rest, t)
		}
	}
	for end := time.Now().Add(mostDraining); ; {
		rest = slices.DeleteFunc(rest, func(t *transmitter) bool {
			for t.held == nil && t.stream.Waiting() {
				if t.serve(w) != nil {
					return true
				}
			}
			return !t.stream.Waiting()
		})
		if len(rest) == 0 && len(w.blocked) == 0 || time.Now().After(end) {
			return
		}
		time.Sleep(retryBlocked)
		w.unblock()
	}
}

// block sets a transmitter aside whose batch does not go out at the moment. Its
// device is not read meanwhile: the frames queue there, where the host sees it.
func (w *worker) block(t *transmitter) {
	t.held, w.shop = w.shop, workshops.Get().(*workshop)
	w.blocked = append(w.blocked, t)
	w.loop.Pause(t.fd, t.id)
}

// unblock tries again what did not go out.
func (w *worker) unblock() {
	if len(w.blocked) == 0 {
		return
	}
	w.blocked = slices.DeleteFunc(w.blocked, func(t *transmitter) bool {
		if !t.held.trySend(t) {
			return false
		}
		t.held.captures = nil
		workshops.Put(t.held)
		t.held = nil
		w.loop.Resume(t.fd, t.id)
		return true
	})
}

func (t *transmitter) attach(w *worker, id int32) (err error) {
	p := t.reader.(tap.Pollable)
	t.fd, t.id = p.Descriptor(), id
	if w.ring != nil && w.streams < mostStreams && p.ReadLen() > 0 {
		if t.stream, err = w.ring.AddStream(t.fd, id, p.ReadLen()); err == nil {
			w.streams++
			return nil
		}
	}
	return w.loop.Add(t.fd, id)
}

func (t *transmitter) detach(w *worker) {
	w.loop.Del(t.fd, t.id)
	if t.stream != nil {
		w.streams--
	}
	if t.held != nil {
		t.held.discard()
		t.held.captures = nil
		workshops.Put(t.held)
		t.held = nil
		w.blocked = slices.DeleteFunc(w.blocked, func(b *transmitter) bool { return b == t })
	}
}

// serve carries one batch of the device.
func (t *transmitter) serve(w *worker) error {
	p := t.reader.(tap.Pollable)
	frames := w.frames[:0]
	if t.stream == nil {
		if err := p.TryRead(&w.batch); err != nil {
			return err
		}
		frames = w.batch.Frames
		t.short(w.batch.Short)
	} else {
		short := 0
		for bytes := 0; bytes < quantum; {
			raw := t.stream.Next()
			if raw == nil {
				break
			}
			bytes += len(raw)
			if f, ok := p.Frame(raw); ok {
				frames = append(frames, f)
			} else {
				short++
			}
		}
		w.frames = frames
		t.short(short)
	}
	sent := true
	if len(frames) > 0 {
		w.shop.pack(t, frames)
		sent = w.shop.trySend(t)
	}
	if !sent {
		w.block(t)
	} else {
		w.shop.captures = nil
	}
	if t.stream != nil {
		t.stream.Release()
		return t.stream.Err()
	}
	return nil
}

func (t *transmitter) lost(err error) {
	if !errors.Is(err, net.ErrClosed) {
		go t.e.lose(t.o, err)
	}
}

func (r *receiver) attach(w *worker, id int32) error {
	r.id, r.ring = id, w.out
	return w.loop.Add(r.conn.(transport.Pollable).Descriptor(), id)
}

func (r *receiver) detach(w *worker) {
	w.loop.Del(r.conn.(transport.Pollable).Descriptor(), r.id)
}

// serve carries one batch of the socket.
func (r *receiver) serve(w *worker) error {
	n, err := r.conn.(transport.Pollable).TryRecv(w.trains[:], w.slab)
	if err != nil {
		return err
	}
	if n > 0 {
		r.batch(w.trains[:n], r.e.now())
	}
	return nil
}

func (r *receiver) lost(err error) { r.ended(err) }

// writeRing hands over frames with one system call for many, and returns those
// that it did not take up.
func (out *outlet) writeRing(vectors []tap.Vector) []tap.Vector {
	w, ok := out.writer.(tap.RingWriter)
	if !ok {
		return vectors
	}
	if out.failure == nil {
		out.failure = out.failed
	}
	if err := w.WriteRing(out.ring, vectors, out.failure); err != nil {
		out.ring = nil // it works no more
	}
	return nil
}

// kind names what the worker waits with.
func (w *worker) kind() string {
	if w.ring != nil {
		return "io_uring"
	}
	return "epoll"
}

type (
	outRing = uring.Ring
	stream  = *eventloop.Stream
)
