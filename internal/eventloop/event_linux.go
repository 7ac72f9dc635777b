package eventloop

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// event is an eventfd: readable from set to clear.
type event struct {
	fd int

	mu     sync.Mutex
	closed bool
}

func newEvent() (*event, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return &event{fd: fd}, nil
}

// set may be called by any goroutine, and after close.
func (e *event) set() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		// EAGAIN: the counter is full, which wakes as well.
		_, _ = unix.Write(e.fd, binary.NativeEndian.AppendUint64(nil, 1))
	}
}

func (e *event) clear() {
	var b [8]byte
	_, _ = unix.Read(e.fd, b[:])
}

func (e *event) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return os.NewSyscallError("close", unix.Close(e.fd))
}
