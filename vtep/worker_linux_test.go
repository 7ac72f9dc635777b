package vtep

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/descriptor"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// jack is a card whose frames come from a socket, one a datagram: a worker can
// wait for it.
type jack struct {
	*card
	fd   *descriptor.FD
	host int // where the frames are put in
}

func newJack(t *testing.T) *jack {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	j := &jack{card: newCard(t), fd: descriptor.New(fds[0], "jack"), host: fds[1]}
	t.Cleanup(func() { unix.Close(j.host) })
	return j
}

func (j *jack) Readers() []tap.Reader { return []tap.Reader{j} }
func (j *jack) Close() error          { return errors.Join(j.fd.Close(), j.card.Close()) }
func (j *jack) Descriptor() int       { return j.fd.Number() }
func (j *jack) ReadLen() int          { return 2000 }

func (j *jack) Frame(raw []byte) (tap.Frame, bool) { return tap.Frame{Bytes: raw}, len(raw) >= 14 }
func (j *jack) Read(*tap.Batch) error              { panic("a worker reads this") }

func (j *jack) TryRead(b *tap.Batch) error {
	b.Frames = b.Frames[:0]
	var failed error
	if err := j.fd.Do(func(fd uintptr) {
		for {
			buf := make([]byte, 2000)
			n, err := unix.Read(int(fd), buf)
			if err != nil {
				if err != unix.EAGAIN {
					failed = err
				}
				return
			}
			b.Frames = append(b.Frames, tap.Frame{Bytes: buf[:n]})
		}
	}); err != nil {
		return err
	}
	return failed
}

// put sends a frame as the host would; it waits while the device's queue is
// full.
func (j *jack) put(t *testing.T, frame []byte) {
	t.Helper()
	for range 10000 {
		_, err := unix.Write(j.host, frame)
		if err == nil {
			return
		}
		if err != unix.EAGAIN {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("nobody reads the device")
}

// eachWorker runs a test with both kinds of worker.
func eachWorker(t *testing.T, f func(t *testing.T, noRing bool)) {
	for name, noRing := range map[string]bool{"io_uring": false, "epoll": true} {
		t.Run(name, func(t *testing.T) { f(t, noRing) })
	}
}

// until waits for a condition that another goroutine brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 10000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal(what)
}

func oneWorker(t *testing.T, noRing bool) *worker {
	t.Helper()
	workers, err := startWorkers(1, 0, noRing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(workers[0].stop)
	return workers[0]
}

// plug has a worker serve a VNI of the rig, with a jack for a device.
func plug(t *testing.T, w *worker, v vxlan.VNI) (*port, *jack) {
	t.Helper()
	return plugWith(t, w, v, nil)
}

// plugWith is plug, on a wire that fails.
func plugWith(t *testing.T, w *worker, v vxlan.VNI, fail func(*transport.Train) error) (*port, *jack) {
	t.Helper()
	p := newRig(t).add(v, func(c *VNIConfig) { c.Peers = []netip.AddrPort{vtepA} })
	p.rig.wire.fail = fail
	j := newJack(t)
	p.tx.reader, p.tx.worker = j, w
	if !w.add(p.tx) {
		t.Fatal("not added")
	}
	return p, j
}

// All frames leave, once, in order, however full the underlay is at times; a
// device beside it does not wait meanwhile.
func TestWorkerBlocks(t *testing.T) {
	eachWorker(t, func(t *testing.T, noRing bool) {
		w := oneWorker(t, noRing)
		var blocked atomic.Int64
		var full atomic.Bool
		full.Store(true)
		p, j := plugWith(t, w, 10, func(*transport.Train) error {
			if full.Load() || blocked.Load()%3 != 0 {
				blocked.Add(1)
				return transport.ErrWouldBlock
			}
			blocked.Add(1) // the next two have no room again
			return nil
		})
		q, k := plug(t, w, 11)
		const count = 200
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for i := range count {
				j.put(t, numbered(i))
			}
		}()
		until(t, "never blocked", func() bool { return blocked.Load() > 0 })
		for i := range 20 {
			k.put(t, numbered(i))
		}
		until(t, "the other device waits", func() bool { return onWire(q.rig.wire) == 20 })
		full.Store(false)
		<-sent
		until(t, "frames are missing", func() bool { return onWire(p.rig.wire) >= count })
		next := 0
		for _, tr := range p.rig.wire.take() {
			for i := range tr.Len() {
				if f := tr.Datagram(i)[vxlan.HeaderLen:]; !bytes.Equal(f, numbered(next)) {
					t.Fatalf("frame %d: %x", next, f)
				}
				next++
			}
		}
		if next != count {
			t.Errorf("%d frames, want %d", next, count)
		}
		w.remove(p.tx)
		w.remove(q.tx)
		if c := p.counters(); c.TxFrames != count {
			t.Errorf("%d frames counted, want %d", c.TxFrames, count)
		}
	})
}

// onWire counts what a wire keeps.
func onWire(w *wire) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.sent {
		n += w.sent[i].Len()
	}
	return n
}

func numbered(i int) []byte {
	return append(raw(broadcast, host, 64), fmt.Sprintf("%04d", i)...)
}

// After remove a device is not read any more, though it was blocked.
func TestWorkerRemoves(t *testing.T) {
	eachWorker(t, func(t *testing.T, noRing bool) {
		w := oneWorker(t, noRing)
		p, j := plug(t, w, 10)
		j.put(t, numbered(0))
		until(t, "nothing was sent", func() bool { return onWire(p.rig.wire) == 1 })
		w.remove(p.tx)
		j.put(t, numbered(1))
		var blocked atomic.Int64
		q, k := plugWith(t, w, 11, func(*transport.Train) error { blocked.Add(1); return transport.ErrWouldBlock })
		k.put(t, numbered(0))
		until(t, "never blocked", func() bool { return blocked.Load() > 2 })
		w.remove(q.tx)
		n := blocked.Load()
		w.remove(q.tx) // and again, which does nothing
		if blocked.Load() != n {
			t.Error("sent after remove")
		}
		if got := onWire(p.rig.wire); got != 1 {
			t.Errorf("%d frames sent, want the one from before", got)
		}
		if q.tx.held != nil || len(w.blocked) != 0 {
			t.Error("a batch is kept")
		}
	})
}

// A device that fails is given up, the others not.
func TestWorkerLosesDevice(t *testing.T) {
	eachWorker(t, func(t *testing.T, noRing bool) {
		w := oneWorker(t, noRing)
		s := &failing{err: syscall.EBADFD, told: make(chan error, 1)}
		s.jack = newJack(t)
		if !w.add(s) {
			t.Fatal("not added")
		}
		s.put(t, numbered(0))
		select {
		case err := <-s.told:
			if !errors.Is(err, syscall.EBADFD) {
				t.Errorf("told %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("not told")
		}
		p, j := plug(t, w, 10)
		j.put(t, numbered(0))
		until(t, "the other device is not served", func() bool { return onWire(p.rig.wire) == 1 })
		w.remove(p.tx)
	})
}

// failing is a source that cannot be served.
type failing struct {
	*jack
	err  error
	told chan error
	id   int32
}

func (f *failing) attach(w *worker, id int32) error {
	f.id = id
	return w.loop.Add(f.Descriptor(), id)
}
func (f *failing) detach(w *worker)    { w.loop.Del(f.Descriptor(), f.id) }
func (f *failing) serve(*worker) error { return f.err }
func (f *failing) lost(err error)      { f.told <- err }

// A worker that has ended takes nothing on, and lets nobody wait.
func TestWorkerStopped(t *testing.T) {
	eachWorker(t, func(t *testing.T, noRing bool) {
		workers, err := startWorkers(2, 0, noRing)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := plug(t, workers[0], 10)
		for _, w := range workers {
			w.stop()
		}
		if workers[0].add(p.tx) {
			t.Error("a stopped worker takes a device")
		}
		workers[0].remove(p.tx)
		workers[0].stop()
	})
}

// Two endpoints with workers, on sockets of the loopback: frames both ways, VNIs
// that come and go meanwhile, and an end that leaves nothing behind.
func TestWorkersOnSockets(t *testing.T) {
	eachWorker(t, func(t *testing.T, noRing bool) {
		port := freePort(t)
		var sites [2]*site
		var at [2]netip.AddrPort
		for i := range sites {
			at[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(21 + i)}), port)
		}
		for i := range sites {
			conn, err := transport.ListenUDP(transport.UDPConfig{Local: []netip.Addr{at[i].Addr()}, Port: port, Receivers: 3})
			if err != nil {
				t.Fatal(err)
			}
			sites[i] = newSiteWith(t, Config{Conn: conn, Workers: 2, NoRing: noRing})
		}
		for v := vxlan.VNI(1); v <= 4; v++ {
			var jacks [2]*jack
			for i, s := range sites {
				jacks[i] = newJack(t)
				jacks[i].mac = vxlan.MAC{2, 0xFE, 0, 0, 0, byte(i)}
				if err := s.e.AddVNI(VNIConfig{VNI: v, Device: jacks[i], Peers: []netip.AddrPort{at[1-i]}}); err != nil {
					t.Fatal(err)
				}
			}
			for i, j := range jacks {
				for n := range 50 {
					j.put(t, append(raw(broadcast, vxlan.MAC{2, 1, 1, 1, 1, byte(i)}, 64), byte(n)))
				}
			}
			for i, j := range jacks {
				until(t, fmt.Sprintf("VNI %v: frames are missing at %d", v, i), func() bool { return j.vectors.Load() >= 50 })
			}
			if v%2 == 0 {
				for i, s := range sites {
					if err := s.e.DelVNI(v); err != nil {
						t.Error(err)
					}
					if jacks[i].closes.Load() != 1 || !jacks[i].fd.Closed() {
						t.Error("the device of a deleted VNI is open")
					}
				}
			}
		}
		for _, s := range sites {
			s.stop()
		}
	})
}

// Many VNIs are served by a few threads, no goroutine each, and one more does
// not stop the others: more devices than a worker reads by io_uring.
func TestManyVNIs(t *testing.T) {
	const vnis = 4*mostStreams + 50
	eachWorker(t, func(t *testing.T, noRing bool) {
		w := newWire()
		s := newSiteWith(t, Config{Conn: &pollableWire{wire: w, ends: [2]*jack{newJack(t), newJack(t)}}, Workers: 2, NoRing: noRing})
		until(t, "does not run", func() bool { return s.e.Status().Workers == 2 })
		before := runtime.NumGoroutine()
		var jacks [vnis]*jack
		for i := range jacks {
			jacks[i] = newJack(t)
			if err := s.e.AddVNI(VNIConfig{VNI: vxlan.VNI(i), Device: jacks[i], Peers: []netip.AddrPort{vtepA}}); err != nil {
				t.Fatal(err)
			}
			jacks[i/2].put(t, numbered(i)) // one that is there already
		}
		until(t, "frames are missing", func() bool { return onWire(w) == vnis })
		seen := make(map[vxlan.VNI]int)
		for _, tr := range w.take() {
			for i := range tr.Len() {
				h, _, err := vxlan.Parse(tr.Datagram(i))
				if err != nil {
					t.Fatal(err)
				}
				seen[h.VNI]++
			}
		}
		for v := range vxlan.VNI(vnis / 2) {
			if seen[v] != 2 {
				t.Errorf("VNI %v: %d frames, want 2", v, seen[v])
			}
		}
		if n := runtime.NumGoroutine() - before; n > 10 {
			t.Errorf("%d more goroutines for %d VNIs", n, vnis)
		}
		s.stop()
		for _, j := range jacks {
			if !j.fd.Closed() {
				t.Fatal("a device stays open")
			}
		}
	})
}

// pollableWire is a wire with sockets that a worker can wait for, on which
// nothing arrives.
type pollableWire struct {
	*wire
	ends [2]*jack
}

func (w *pollableWire) Receivers() []transport.Receiver {
	return []transport.Receiver{deaf{w.ends[0]}, deaf{w.ends[1]}}
}

type deaf struct{ *jack }

func (deaf) Recv([]transport.Train) (int, error) { panic("a worker receives from this") }
func (deaf) TryRecv([]transport.Train, *transport.Slab) (int, error) {
	return 0, nil
}

// freePort is a UDP port that nobody has on the loopback.
func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 21)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}
