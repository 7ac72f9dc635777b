package uring

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func newRing(t *testing.T, ops ...uint8) *Ring {
	t.Helper()
	runtime.LockOSThread()
	r, err := New(8, 64, ops...)
	if errors.Is(err, ErrUnsupported) {
		runtime.UnlockOSThread()
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
	return r
}

func socketpair(t *testing.T) (a, b int) {
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

func TestUnknownRequest(t *testing.T) {
	newRing(t) // skips where there is none at all
	if _, err := New(8, 64, OpWritev, 250); !errors.Is(err, ErrUnsupported) {
		t.Errorf("request 250: %v, want ErrUnsupported", err)
	}
}

// More writes than the queue holds are all done, in their order.
func TestWrites(t *testing.T) {
	r := newRing(t, OpWritev)
	a, b := socketpair(t)
	const count = 20
	var texts [count][]byte
	var iovs [count]unix.Iovec
	for i := range count {
		texts[i] = fmt.Appendf(nil, "message %d", i)
		iovs[i].Base = &texts[i][0]
		iovs[i].SetLen(len(texts[i]))
		if err := r.Push(SQE{Op: OpWritev, FD: int32(a), Addr: uint64(uintptr(unsafe.Pointer(&iovs[i]))), Len: 1, Offset: ^uint64(0), User: uint64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Submit(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for i := range count {
		c, ok := r.Next()
		if !ok || c.User != uint64(i) || int(c.Res) != len(texts[i]) {
			t.Fatalf("completion %d: %+v, %v", i, c, ok)
		}
		n, err := unix.Read(b, buf)
		if err != nil || !bytes.Equal(buf[:n], texts[i]) {
			t.Fatalf("message %d: %q, %v", i, buf[:max(n, 0)], err)
		}
	}
	if c, ok := r.Next(); ok {
		t.Errorf("one more completion: %+v", c)
	}
}

func TestFailedWrite(t *testing.T) {
	r := newRing(t, OpWritev)
	b := []byte{1}
	iov := unix.Iovec{Base: &b[0]}
	iov.SetLen(1)
	if err := r.Push(SQE{Op: OpWritev, FD: -1, Addr: uint64(uintptr(unsafe.Pointer(&iov))), Len: 1, User: 5}); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(time.Second, false); err != nil {
		t.Fatal(err)
	}
	if c, ok := r.Next(); !ok || c.User != 5 || unix.Errno(-c.Res) != unix.EBADF {
		t.Errorf("%+v, %v; want EBADF", c, ok)
	}
}

func TestWaitEndsInTime(t *testing.T) {
	r := newRing(t, OpReadMultishot)
	for _, hold := range []bool{true, false} {
		// The scheduler's signals end a wait early: now and then, not always.
		waits := 0
		for began := time.Now(); time.Since(began) < 100*time.Millisecond; waits++ {
			if err := r.Wait(10*time.Millisecond, hold); err != nil {
				t.Fatal(err)
			}
		}
		if waits > 50 {
			t.Errorf("hold %v: %d waits of 10 ms in 100 ms", hold, waits)
		}
	}
	if err := r.Wait(0, true); err != nil {
		t.Fatal(err)
	}
}

// One request reads again and again, until the buffers are used up; given back,
// they are read into again.
func TestReadMultishot(t *testing.T) {
	r := newRing(t, OpReadMultishot)
	a, b := socketpair(t)
	const count, size = 4, 5000
	buffers, err := r.NewBuffers(7, count, size)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() {
		if err := r.Push(SQE{Op: OpReadMultishot, Flags: BufferSelect, FD: int32(b), Offset: ^uint64(0), Group: 7, User: 9}); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	sent := 0
	text := func(i int) []byte { return bytes.Repeat([]byte{byte(i + 1)}, 100+i) }
	got := 0
	for range 5 {
		for range count + 2 { // more than there are buffers
			if _, err := unix.Write(a, text(sent)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		for got < sent {
			if err := r.Wait(time.Second, false); err != nil {
				t.Fatal(err)
			}
			more, given := true, []uint16(nil)
			for {
				c, ok := r.Next()
				if !ok {
					break
				}
				more = c.Flags&MoreFollows != 0
				id, ok := c.Buffer()
				if !ok {
					if unix.Errno(-c.Res) != unix.ENOBUFS {
						t.Fatalf("%+v: without a buffer", c)
					}
					continue
				}
				if !bytes.Equal(buffers.Bytes(id)[:c.Res], text(got)) {
					t.Fatalf("message %d has %d bytes", got, c.Res)
				}
				got++
				given = append(given, id)
			}
			if len(given) > count {
				t.Fatalf("%d reads into %d buffers", len(given), count)
			}
			for _, id := range given {
				buffers.Give(id)
			}
			if !more {
				ask()
			}
		}
	}
	// Taken back, the request ends, and the memory can go.
	if err := r.Push(SQE{Op: OpAsyncCancel, FD: -1, Addr: 9, User: 10}); err != nil {
		t.Fatal(err)
	}
	ended := false
	for i := 0; !ended && i < 10; i++ {
		if err := r.Wait(time.Second, false); err != nil {
			t.Fatal(err)
		}
		for c, ok := r.Next(); ok; c, ok = r.Next() {
			ended = ended || c.User == 9 && c.Flags&MoreFollows == 0
		}
	}
	if !ended {
		t.Error("the read goes on")
	}
	if err := buffers.Close(); err != nil {
		t.Error(err)
	}
}
