package eventloop

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/uring"
	"golang.org/x/sys/unix"
)

// eachLoop runs a test on every kind of Loop.
func eachLoop(t *testing.T, busy time.Duration, f func(t *testing.T, l Loop)) {
	t.Run("epoll", func(t *testing.T) {
		l, err := NewEpoll(busy)
		if err != nil {
			t.Fatal(err)
		}
		f(t, l)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("io_uring", func(t *testing.T) {
		l := newRing(t, busy)
		f(t, l)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

func newRing(t *testing.T, busy time.Duration) *Ring {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	l, err := NewRing(busy)
	if errors.Is(err, uring.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pair is a descriptor to watch, and one to write into.
func pair(t *testing.T) (watched, other int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds[0], fds[1]
}

func write(t *testing.T, fd int, text string) {
	t.Helper()
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, l Loop, timeout time.Duration) []int32 {
	t.Helper()
	ids, err := l.Wait(timeout)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(ids)
}

// waitFor waits until ids are reported, or the test fails. What is reported
// early may come alone.
func waitFor(t *testing.T, l Loop, want ...int32) {
	t.Helper()
	var got []int32
	for i := 0; i < 20 && len(got) < len(want); i++ {
		for _, id := range wait(t, l, time.Second) {
			if !slices.Contains(got, id) {
				got = append(got, id)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("reported %v, want %v", got, want)
	}
}

func add(t *testing.T, l Loop, fd int, id int32) {
	t.Helper()
	if err := l.Add(fd, id); err != nil {
		t.Fatal(err)
	}
}

func TestReadable(t *testing.T) {
	for _, busy := range []time.Duration{0, time.Millisecond} {
		t.Run(fmt.Sprint("busy ", busy), func(t *testing.T) {
			eachLoop(t, busy, func(t *testing.T, l Loop) {
				a, toA := pair(t)
				b, toB := pair(t)
				add(t, l, a, 3)
				add(t, l, b, 4)
				if got := wait(t, l, 0); len(got) != 0 {
					t.Fatalf("nothing to read, but %v", got)
				}
				for _, d := range []time.Duration{time.Millisecond, 10 * time.Millisecond} {
					// Signals of the scheduler end a wait early, but not all.
					waits := 0
					for began := time.Now(); time.Since(began) < 10*d; waits++ {
						if got := wait(t, l, d); len(got) != 0 {
							t.Fatalf("nothing to read, but %v", got)
						}
					}
					if waits > 50 {
						t.Errorf("%d waits of %v in ten times that", waits, d)
					}
				}
				write(t, toA, "x")
				waitFor(t, l, 3)
				waitFor(t, l, 3) // for as long as there is something
				write(t, toB, "x")
				waitFor(t, l, 3, 4)
				var buf [10]byte
				if _, err := unix.Read(a, buf[:]); err != nil {
					t.Fatal(err)
				}
				wait(t, l, 0) // what was asked before may still say 3
				waitFor(t, l, 4)

				l.Pause(b, 4)
				wait(t, l, 0)
				if got := wait(t, l, 0); len(got) != 0 {
					t.Errorf("paused, but %v", got)
				}
				l.Resume(b, 4)
				waitFor(t, l, 4)
				l.Del(b, 4)
				if got := wait(t, l, 0); len(got) != 0 {
					t.Errorf("deleted, but %v", got)
				}
				add(t, l, b, 5)
				waitFor(t, l, 5)
			})
		})
	}
}

// Wake ends a wait in every stage of it, and a later one if there is none.
func TestWake(t *testing.T) {
	eachLoop(t, 0, func(t *testing.T, l Loop) {
		l.Wake()
		if got := wait(t, l, -1); len(got) != 1 || got[0] >= 0 {
			t.Errorf("woken before: %v", got)
		}
		for _, after := range []time.Duration{awake / 2, 3 * awake} {
			time.AfterFunc(after, l.Wake)
			if got := wait(t, l, -1); len(got) != 1 || got[0] >= 0 {
				t.Errorf("woken after %v: %v", after, got)
			}
		}
	})
}

// A stream is read as messages come, more of them than it has buffers, and the
// reading can be stopped, paused and taken back.
func TestStream(t *testing.T) {
	l := newRing(t, 0)
	defer l.Close()
	fd, to := pair(t)
	st, err := l.AddStream(fd, 6, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if got := wait(t, l, 0); len(got) != 0 {
		t.Fatalf("nothing to read, but %v", got)
	}
	sent, got := 0, 0
	take := func(most int) {
		t.Helper()
		for range most {
			b := st.Next()
			if b == nil {
				break
			}
			if want := fmt.Sprint("message ", got); string(b) != want {
				t.Fatalf("read %q, want %q", b, want)
			}
			got++
		}
		st.Release()
	}
	for _, burst := range []int{1, 3, streamBuffers, streamBuffers + 3, 2 * streamBuffers} {
		for range burst {
			if _, err := unix.Write(to, fmt.Append(nil, "message ", sent)); err != nil {
				break // the socket has room for no more
			}
			sent++
		}
		for i := 0; got < sent; i++ {
			if i == 1000 {
				t.Fatalf("%d of %d arrived", got, sent)
			}
			waitFor(t, l, 6)
			take(5) // and no more at a time
		}
	}
	if ids := wait(t, l, 0); len(ids) != 0 {
		t.Errorf("all taken, but %v", ids)
	}

	write(t, to, fmt.Sprint("message ", sent))
	sent++
	waitFor(t, l, 6)
	l.Pause(fd, 6)
	if ids := wait(t, l, 0); len(ids) != 0 {
		t.Errorf("paused, but %v", ids)
	}
	l.Resume(fd, 6)
	waitFor(t, l, 6)
	take(1)

	l.Del(fd, 6)
	write(t, to, "late")
	if ids := wait(t, l, 0); len(ids) != 0 {
		t.Errorf("deleted, but %v", ids)
	}
	var buf [10]byte
	if n, err := unix.Read(fd, buf[:]); err != nil || string(buf[:n]) != "late" {
		t.Errorf("after Del the stream still reads: %q, %v", buf[:max(n, 0)], err)
	}
}

// What ends the reading is told after everything that was read before.
func TestStreamFails(t *testing.T) {
	l := newRing(t, 0)
	defer l.Close()
	fd, to := pair(t)
	if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil {
		t.Fatal(err)
	}
	closed, err := l.AddStream(-1, 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, l, 1)
	if closed.Next() != nil || !errors.Is(closed.Err(), unix.EBADF) {
		t.Errorf("no descriptor: %v, want EBADF", closed.Err())
	}
	_ = to
}

// The scheduler can stop the world while a loop waits with its thread held.
func TestWorldStops(t *testing.T) {
	eachLoop(t, 0, func(t *testing.T, l Loop) {
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					runtime.GC()
				}
			}
		}()
		for range 50 {
			wait(t, l, awake)
		}
		close(stop)
		<-done
	})
}
