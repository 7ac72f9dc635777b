package tapswitch

import (
	"net"
	"os"
	"unsafe"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// portsAtOnce is how many ports one TryRead serves; those that have more, or come
// later, are served by the next.
const portsAtOnce = 2

// reader reads all ports, and carries what is from one to another.
type reader struct {
	s      *Switch
	events [portsAtOnce]unix.EpollEvent
	ready  int // of events
	errno  unix.Errno
	ask    func(epoll uintptr)
	wait   func(epoll uintptr) bool

	// A run of frames to one port.
	run   []tap.Vector
	parts [][]byte
	to    *Port
	flood tap.Vector
	copy  []byte
}

func newReader(s *Switch) *reader {
	r := &reader{s: s}
	r.ask = r.poll
	r.wait = func(epoll uintptr) bool {
		r.poll(epoll)
		return r.ready > 0
	}
	return r
}

// Descriptor is readable when a port is.
func (r *reader) Descriptor() int { return r.s.epoll.Number() }

// ReadLen is 0: nothing is read from the Descriptor itself.
func (r *reader) ReadLen() int { return 0 }

// Frame is for those who read the Descriptor.
func (r *reader) Frame([]byte) (tap.Frame, bool) { return tap.Frame{}, false }

// Read waits for TryRead to have something.
func (r *reader) Read(b *tap.Batch) error {
	for {
		if err := r.TryRead(b); err != nil || len(b.Frames) > 0 || b.Short > 0 {
			return err
		}
		if r.ready > 0 {
			continue // what there was stayed among the ports
		}
		if err := r.s.epoll.Read(r.wait); err != nil {
			return net.ErrClosed // nobody else ends it
		}
	}
}

// poll asks which ports are ready. It does not wait: Go's scheduler need not hear
// of it.
func (r *reader) poll(epoll uintptr) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(&r.events[0])), portsAtOnce, 0, 0, 0)
	if r.ready, r.errno = int(n), errno; errno != 0 {
		r.ready = 0
	}
}

// TryRead returns what ports send to the VNI. Frames lie in memory of the ports,
// which have it until the next TryRead.
func (r *reader) TryRead(b *tap.Batch) error {
	b.Frames, b.Short = b.Frames[:0], 0
	if err := r.s.epoll.Do(r.ask); err != nil {
		return err
	}
	if r.errno != 0 && r.errno != unix.EINTR {
		return os.NewSyscallError("epoll_pwait", r.errno)
	}
	for _, ev := range r.events[:r.ready] {
		p := r.s.ports.Load().all[ev.Fd]
		if p == nil {
			continue // removed this moment
		}
		if err := p.reader.TryRead(&p.batch); err != nil {
			// Its device is gone, with its namespace perhaps. The others stay.
			r.s.mu.Lock()
			r.s.drop(p)
			r.s.mu.Unlock()
			_ = p.device.Close()
			continue
		}
		b.Short += p.batch.Short
		r.forward(p, b)
	}
	return nil
}

// forward carries what a port has sent.
func (r *reader) forward(from *Port, b *tap.Batch) {
	t := r.s.ports.Load()
	source := from.mac
	for i := range from.batch.Frames {
		f := &from.batch.Frames[i]
		to := vxlan.MAC(f.Bytes[:6])
		if mac := vxlan.MAC(f.Bytes[6:12]); mac != source {
			source = mac
			if t.macs[mac] != from {
				r.s.hear(mac, from)
				t = r.s.ports.Load()
			}
		}
		if !to.IsMulticast() {
			switch q := t.macs[to]; q {
			case nil:
				b.Frames = append(b.Frames, *f)
			case from: // the station's own
			default:
				r.queue(q, f)
			}
			continue
		}
		r.send() // before it, in order
		for _, q := range t.all {
			if q != from {
				r.copy = append(r.copy[:0], f.Bytes...)
				r.flood.Header = f.Header
				r.flood.Parts = append(r.flood.Parts[:0], r.copy)
				r.to, r.run = q, append(r.run, r.flood)
				r.send()
			}
		}
		b.Frames = append(b.Frames, *f)
	}
	r.send()
}

// queue adds a frame to the run to a port.
func (r *reader) queue(to *Port, f *tap.Frame) {
	if r.to != to {
		r.send()
		r.to = to
	}
	r.parts = append(r.parts, f.Bytes)
	n := len(r.parts)
	r.run = append(r.run, tap.Vector{Header: f.Header, Parts: r.parts[n-1 : n : n]})
}

// send writes the run. What the port does not take, since its link is down, is
// lost as in any switch.
func (r *reader) send() {
	for run := r.run; len(run) > 0; {
		n, err := r.to.out.Write(run)
		if run = run[n:]; err != nil && len(run) > 0 {
			run = run[1:]
		}
	}
	clear(r.run)
	clear(r.parts)
	r.run, r.parts, r.to = r.run[:0], r.parts[:0], nil
}
