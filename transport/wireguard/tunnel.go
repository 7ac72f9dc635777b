package wireguard

import (
	"os"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/tun"
)

// tunnel is what the library takes for a device: it reads the packets here that it
// is to encrypt, and writes those that it has decrypted.
type tunnel struct {
	c        *Conn
	requests chan *request // of senders
	open     *request      // what Read is at; only for Read
	id       uint16        // IPv4 identification; only for Read
	receiver *receiver
	flight   *flight
	closed   chan struct{}
	once     sync.Once

	events  chan tun.Event
	mu      sync.Mutex
	settled bool // events is closed
}

var _ tun.Device = (*tunnel)(nil)

func newTunnel(c *Conn) *tunnel {
	t := &tunnel{c: c, requests: make(chan *request), events: make(chan tun.Event, 1), closed: make(chan struct{})}
	t.receiver, t.flight = newReceiver(t.closed), newFlight()
	return t
}

// Read fills buffers with the packets of senders: as many as are there, and
// waits for one. Only one goroutine of the library is in here.
func (t *tunnel) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	t.flight.wait(t.closed)
	defer func() { t.flight.start(n) }()
	if t.open == nil {
		select {
		case t.open = <-t.requests:
		case <-t.closed:
			return 0, os.ErrClosed
		}
	}
	for {
		select {
		case <-t.closed:
			t.open.done <- struct{}{}
			t.open = nil
			return 0, os.ErrClosed
		default:
		}
		n += t.open.fill(t, bufs[n:], sizes[n:], offset)
		if !t.open.finished() {
			return n, nil // the buffers are full
		}
		t.open.done <- struct{}{}
		t.open = nil
		if n == len(bufs) {
			return n, nil
		}
		select {
		case t.open = <-t.requests:
		default:
			return n, nil
		}
	}
}

// Write takes packets that were decrypted. Each peer has a goroutine in here.
func (t *tunnel) Write(bufs [][]byte, offset int) (int, error) {
	return t.receiver.take(t.c, bufs, offset)
}

// BatchSize is how many packets the library's sockets take at once.
func (t *tunnel) BatchSize() int { return conn.IdealBatchSize }

// MTU is what the library pads packets to at most.
func (t *tunnel) MTU() (int, error) { return int(t.c.mtu.Load()), nil }

func (t *tunnel) Name() (string, error)    { return "vxlan", nil }
func (t *tunnel) File() *os.File           { return nil }
func (t *tunnel) Events() <-chan tun.Event { return t.events }

// Close is the library's.
func (t *tunnel) Close() error {
	t.close()
	return nil
}

func (t *tunnel) close() {
	t.once.Do(func() {
		close(t.closed)
		t.mu.Lock()
		defer t.mu.Unlock()
		close(t.events)
		t.settled = true
	})
}

// remeasure has the library ask for the MTU again.
func (t *tunnel) remeasure() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.settled {
		return
	}
	select {
	case t.events <- tun.EventMTUUpdate:
	default: // it is about to
	}
}
