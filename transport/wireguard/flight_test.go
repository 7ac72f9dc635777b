package wireguard

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"
)

// TestFlight: whoever sends waits for those before it to leave, and not for ever
// for those that never do.
func TestFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlight()
		closed := make(chan struct{})
		passed := func() bool {
			done := make(chan struct{})
			go func() {
				f.wait(closed)
				close(done)
			}()
			synctest.Wait()
			select {
			case <-done:
				return true
			default:
				t.Cleanup(func() { <-done })
				return false
			}
		}
		f.start(int(f.most) - 1)
		if !passed() {
			t.Error("waits though there is room")
		}
		f.start(1)
		if passed() {
			t.Error("does not wait though there is no room")
		}
		f.land(1)
		synctest.Wait()
		if n := f.n.Load(); n != f.most-1 || !passed() {
			t.Errorf("waits with %d of %d", n, f.most)
		}
		// More than were counted: others' keep-alives and the like.
		f.land(10 * int(f.most))
		if n := f.n.Load(); n != 0 {
			t.Errorf("%d are under way after all have landed", n)
		}
		f.start(int(f.most))
		began := time.Now()
		f.wait(closed)
		if took := time.Since(began); took != patience || f.n.Load() != 0 {
			t.Errorf("waited %v for what is lost, %d left", took, f.n.Load())
		}
		f.start(int(f.most))
		close(closed)
		if !passed() {
			t.Error("waits though it is closed")
		}
	})
}

type countingBind struct {
	conn.Bind
	sent int
}

func (b *countingBind) Send(bufs [][]byte, _ conn.Endpoint) error {
	b.sent += len(bufs)
	return errors.New("no way")
}

// TestBindCounts only what came from Read: neither handshakes nor keep-alives, and
// what could not be sent too.
func TestBindCounts(t *testing.T) {
	below := new(countingBind)
	b := &bind{below, newFlight()}
	b.flight.start(10)
	handshake, data := make([]byte, 148), make([]byte, 48)
	handshake[0], data[0] = 1, 4
	if err := b.Send([][]byte{handshake, data, data[:32], data}, nil); err == nil || below.sent != 4 {
		t.Errorf("sent %d: %v", below.sent, err)
	}
	if n := b.flight.n.Load(); n != 8 {
		t.Errorf("%d of 10 are under way after 2 have left", n)
	}
}
