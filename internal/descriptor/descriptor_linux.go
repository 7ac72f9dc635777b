// Package descriptor owns non-blocking file descriptors that are used in one of
// two ways: by an event loop, which waits for many of them by itself, or by a
// goroutine each, which waits in Go's poller.
//
// The difference matters because Go's poller is told of every event on a
// descriptor that it knows, waited for or not: an idle thread of the runtime
// would be woken for each packet that an event loop takes.
package descriptor

import (
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// FD is a non-blocking descriptor. Do, Read and Write may be called by
// different goroutines; Close may be called at any time, and again.
type FD struct {
	fd   int
	name string

	// mu keeps the number from being closed, and given to another file, while
	// somebody uses it.
	mu     sync.RWMutex
	closed bool
	// file makes the descriptor known to Go's poller: only once somebody waits
	// there.
	file *os.File
	raw  syscall.RawConn
}

// New takes over a descriptor that is non-blocking already.
func New(fd int, name string) *FD { return &FD{fd: fd, name: name} }

// Number is the descriptor, for an event loop that watches it. It is valid
// until Close.
func (d *FD) Number() int { return d.fd }

// Do calls f once. f must not block. It returns net.ErrClosed after Close.
func (d *FD) Do(f func(fd uintptr)) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return net.ErrClosed
	}
	f(uintptr(d.fd))
	return nil
}

// Read calls f again and again until it returns true, waiting in Go's poller
// for something to read each time that it does not. It returns an error when
// the descriptor was closed, or cannot be waited for.
func (d *FD) Read(f func(fd uintptr) bool) error {
	raw, err := d.polled()
	if err != nil {
		return err
	}
	return raw.Read(f)
}

// Write is Read, waiting for room to write.
func (d *FD) Write(f func(fd uintptr) bool) error {
	raw, err := d.polled()
	if err != nil {
		return err
	}
	return raw.Write(f)
}

// polled makes the descriptor known to Go's poller.
func (d *FD) polled() (syscall.RawConn, error) {
	d.mu.RLock()
	raw, closed := d.raw, d.closed
	d.mu.RUnlock()
	if closed {
		return nil, net.ErrClosed
	}
	if raw != nil {
		return raw, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, net.ErrClosed
	}
	if d.raw == nil {
		d.file = os.NewFile(uintptr(d.fd), d.name)
		raw, err := d.file.SyscallConn()
		if err != nil {
			return nil, err
		}
		d.raw = raw
	}
	return d.raw, nil
}

// Closed reports whether Close was called.
func (d *FD) Closed() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.closed
}

// Close ends every Read and Write. A second Close returns nil.
func (d *FD) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.file != nil {
		return d.file.Close()
	}
	return os.NewSyscallError("close", unix.Close(d.fd))
}
