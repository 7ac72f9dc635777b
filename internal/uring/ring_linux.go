// Package uring speaks to the kernel through io_uring: many reads and writes
// with one system call.
//
// It has what a packet path needs and no more: rings that belong to one thread,
// reads that go on by themselves into provided buffers, and batches of writes.
package uring

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of include/uapi/linux/io_uring.h.
const (
	setupCQSize       = 1 << 3
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13

	enterGetEvents = 1 << 0
	enterExtArg    = 1 << 3

	offSQRing = 0
	offSQEs   = 0x10000000

	registerProbe      = 8
	registerBufferRing = 22
	dropBufferRing     = 23

	probeSupported = 1 << 0

	// BufferSelect takes the buffer of a read from the group of SQE.Group.
	BufferSelect = 1 << 5

	// MoreFollows in CQE.Flags: the request goes on.
	MoreFollows = 1 << 1
	hasBuffer   = 1 << 0
	bufferShift = 16
)

// Requests.
const (
	OpWritev        = 2
	OpPollAdd       = 6
	OpAsyncCancel   = 14
	OpReadMultishot = 49
)

type params struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32
	_                                                                      [3]uint32
	sqOff                                                                  struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cqOff struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// SQE is a request, struct io_uring_sqe.
type SQE struct {
	Op, Flags uint8
	Priority  uint16
	FD        int32
	Offset    uint64
	Addr      uint64
	Len       uint32
	OpFlags   uint32 // poll events, cancel flags
	User      uint64 // comes back in the CQE
	Group     uint16 // of buffers
	_         uint16
	_         int32
	_         [2]uint64
}

// CQE is the answer to a request, struct io_uring_cqe.
type CQE struct {
	User  uint64
	Res   int32 // bytes, or -errno
	Flags uint32
}

// Buffer returns which buffer of its group a read went into.
func (c *CQE) Buffer() (id uint16, ok bool) {
	return uint16(c.Flags >> bufferShift), c.Flags&hasBuffer != 0
}

// Ring is one io_uring. Only the thread that made it may use it: lock the
// goroutine to it first.
type Ring struct {
	fd       int
	mem, sqm []byte

	sqes             []SQE
	sqHead, sqTail   *uint32
	sqMask           uint32
	queued           uint32 // SQEs not yet submitted
	cqes             []CQE
	cqHead, cqTail   *uint32
	cqMask           uint32
	arg              getEventsArg
	ts               unix.Timespec
	registeredGroups uint16
}

// getEventsArg is struct io_uring_getevents_arg.
type getEventsArg struct {
	sigmask   uint64
	sigmaskSz uint32
	_         uint32
	ts        uint64
}

// ErrUnsupported: the kernel has no io_uring, an old one, or forbids it.
var ErrUnsupported = errors.New("no io_uring that serves here")

// New makes a ring for so many requests and completions at a time, both powers
// of two. It wraps ErrUnsupported where the kernel lacks one of ops.
func New(entries, completions uint32, ops ...uint8) (_ *Ring, err error) {
	p := params{flags: setupCQSize | setupSingleIssuer | setupDeferTaskrun, cqEntries: completions}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		// ENOSYS, EPERM (sysctl kernel.io_uring_disabled, seccomp), EINVAL (before 6.1).
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, os.NewSyscallError("io_uring_setup", errno))
	}
	unix.CloseOnExec(int(fd))
	r := &Ring{fd: int(fd)}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err := r.probe(ops); err != nil {
		return nil, err
	}
	size := max(int(p.sqOff.array)+int(p.sqEntries)*4, int(p.cqOff.cqes)+int(p.cqEntries)*int(unsafe.Sizeof(CQE{})))
	if r.mem, err = unix.Mmap(r.fd, offSQRing, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, os.NewSyscallError("mmap io_uring", err)
	}
	if r.sqm, err = unix.Mmap(r.fd, offSQEs, int(p.sqEntries)*int(unsafe.Sizeof(SQE{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		return nil, os.NewSyscallError("mmap io_uring", err)
	}
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[off])) }
	r.sqHead, r.sqTail, r.sqMask = word(p.sqOff.head), word(p.sqOff.tail), *word(p.sqOff.mask)
	r.cqHead, r.cqTail, r.cqMask = word(p.cqOff.head), word(p.cqOff.tail), *word(p.cqOff.mask)
	for i := range unsafe.Slice(word(p.sqOff.array), p.sqEntries) {
		*word(p.sqOff.array + uint32(i)*4) = uint32(i)
	}
	r.sqes = unsafe.Slice((*SQE)(unsafe.Pointer(&r.sqm[0])), p.sqEntries)
	r.cqes = unsafe.Slice((*CQE)(unsafe.Pointer(&r.mem[p.cqOff.cqes])), p.cqEntries)
	return r, nil
}

// probe asks whether the kernel knows the requests.
func (r *Ring) probe(ops []uint8) error {
	var answer struct {
		lastOp, opsLen uint8
		_              uint16
		_              [3]uint32
		ops            [256]struct {
			op, _ uint8
			flags uint16
			_     uint32
		}
	}
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerProbe, uintptr(unsafe.Pointer(&answer)), uintptr(len(answer.ops)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("%w: %w", ErrUnsupported, os.NewSyscallError("io_uring_register", errno))
	}
	for _, op := range ops {
		if answer.ops[op].flags&probeSupported == 0 {
			return fmt.Errorf("%w: request %d is not known", ErrUnsupported, op)
		}
	}
	return nil
}

// Push queues a request for the next Enter; where the queue is full it submits
// first.
func (r *Ring) Push(e SQE) error {
	tail := atomic.LoadUint32(r.sqTail)
	if tail-atomic.LoadUint32(r.sqHead) == uint32(len(r.sqes)) {
		if err := r.enter(0, 0, nil); err != nil {
			return err
		}
	}
	r.sqes[tail&r.sqMask] = e
	atomic.StoreUint32(r.sqTail, tail+1)
	r.queued++
	return nil
}

// Submit hands over what was pushed. Requests that can be done at once are done
// when it returns, in the order of the pushes.
func (r *Ring) Submit() error { return r.enter(0, 0, nil) }

// Wait hands over what was pushed and waits for at least one completion, up to
// timeout; 0 only looks, negative waits for ever. With hold the scheduler is
// not told (see package eventloop): keep such waits short. A signal ends it
// early.
func (r *Ring) Wait(timeout time.Duration, hold bool) error {
	least := uint32(1)
	var ts *unix.Timespec
	switch {
	case timeout == 0:
		least = 0
	case timeout > 0:
		r.ts = unix.NsecToTimespec(timeout.Nanoseconds())
		ts = &r.ts
	}
	if hold || timeout == 0 {
		return r.enter(least, enterGetEvents, ts)
	}
	return r.enterBlocking(least, ts)
}

func (r *Ring) enter(least uint32, flags uintptr, ts *unix.Timespec) error {
	for {
		a, size := r.argument(&flags, ts)
		n, _, errno := unix.RawSyscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.queued), uintptr(least), flags, a, size)
		done, err := r.entered(n, errno)
		if done || err != nil || least > 0 {
			return err
		}
	}
}

func (r *Ring) enterBlocking(least uint32, ts *unix.Timespec) error {
	flags := uintptr(enterGetEvents)
	a, size := r.argument(&flags, ts)
	n, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.queued), uintptr(least), flags, a, size)
	_, err := r.entered(n, errno)
	return err
}

func (r *Ring) argument(flags *uintptr, ts *unix.Timespec) (arg, size uintptr) {
	if ts == nil {
		return 0, 0
	}
	*flags |= enterExtArg
	r.arg.ts = uint64(uintptr(unsafe.Pointer(ts)))
	return uintptr(unsafe.Pointer(&r.arg)), unsafe.Sizeof(r.arg)
}

// entered says whether everything was submitted.
func (r *Ring) entered(n uintptr, errno unix.Errno) (done bool, err error) {
	switch errno {
	case 0:
		r.queued -= min(uint32(n), r.queued)
		return r.queued == 0, nil
	case unix.ETIME:
		// Whatever was pushed went out before the waiting began.
		r.queued = atomic.LoadUint32(r.sqTail) - atomic.LoadUint32(r.sqHead)
		return true, nil
	case unix.EINTR:
		r.queued = atomic.LoadUint32(r.sqTail) - atomic.LoadUint32(r.sqHead)
		runtime.Gosched() // most often the scheduler wants the thread
		return true, nil
	case unix.EAGAIN, unix.EBUSY:
		return true, nil // completions are to be taken first
	}
	return true, os.NewSyscallError("io_uring_enter", errno)
}

// Next takes the oldest completion.
func (r *Ring) Next() (CQE, bool) {
	head := *r.cqHead
	if head == atomic.LoadUint32(r.cqTail) {
		return CQE{}, false
	}
	c := r.cqes[head&r.cqMask]
	atomic.StoreUint32(r.cqHead, head+1)
	return c, true
}

// Close ends the ring and all its requests.
func (r *Ring) Close() error {
	var errs []error
	for _, m := range [][]byte{r.sqm, r.mem} {
		if m != nil {
			errs = append(errs, os.NewSyscallError("munmap", unix.Munmap(m)))
		}
	}
	return errors.Join(append(errs, os.NewSyscallError("close", unix.Close(r.fd)))...)
}
