package descriptor

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (*FD, *FD) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := New(fds[0], "a"), New(fds[1], "b")
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}

// Do calls at once and once; Read waits until its function is content.
func TestDoAndRead(t *testing.T) {
	a, b := pair(t)
	var buf [10]byte
	var errno error
	read := func(fd uintptr) bool {
		_, errno = unix.Read(int(fd), buf[:])
		return errno != unix.EAGAIN
	}
	if err := a.Do(func(fd uintptr) { read(fd) }); err != nil || errno != unix.EAGAIN {
		t.Fatalf("%v, %v: want EAGAIN from the read", err, errno)
	}
	time.AfterFunc(5*time.Millisecond, func() {
		if err := b.Write(func(fd uintptr) bool { _, err := unix.Write(int(fd), []byte("hello")); return err == nil }); err != nil {
			t.Error(err)
		}
	})
	if err := a.Read(read); err != nil || errno != nil || string(buf[:5]) != "hello" {
		t.Fatalf("%v, %v, %q", err, errno, buf)
	}
	// Both ways may be mixed afterwards.
	if err := a.Do(func(fd uintptr) { read(fd) }); err != nil || errno != unix.EAGAIN {
		t.Fatalf("%v, %v: want EAGAIN from the read", err, errno)
	}
}

func TestClose(t *testing.T) {
	a, _ := pair(t)
	result := make(chan error)
	waits := make(chan struct{})
	go func() {
		first := true
		result <- a.Read(func(uintptr) bool {
			if first {
				close(waits)
			}
			first = false
			return false
		})
	}()
	<-waits
	if a.Closed() {
		t.Error("closed already")
	}
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-result:
		if err == nil {
			t.Error("Read ended without an error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Close does not end Read")
	}
	if !a.Closed() {
		t.Error("not closed")
	}
	for name, err := range map[string]error{
		"Do":    a.Do(func(uintptr) { t.Error("called after Close") }),
		"Read":  a.Read(func(uintptr) bool { t.Error("called after Close"); return true }),
		"Write": a.Write(func(uintptr) bool { t.Error("called after Close"); return true }),
	} {
		if err != net.ErrClosed {
			t.Errorf("%s after Close: %v, want net.ErrClosed", name, err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(a.Number()), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("descriptor %d is open still: %v", a.Number(), err)
	}
}
