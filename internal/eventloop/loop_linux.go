// Package eventloop waits for many descriptors with one thread, for the few
// goroutines that move packets.
//
// Go's own poller is made for programs with many goroutines: whoever becomes
// ready is queued, other threads are woken to help, and each of them looks for
// work before it sleeps again. For a packet path that is a fifth of the whole
// CPU time (docs/performance.md).
package eventloop

import (
	"errors"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// awake is how long a loop that just had something to do waits with its
	// thread held, out of the scheduler's sight: what is expected in this time
	// is the next packet of something under way. Beyond it the goroutine
	// blocks as any system call does, and costs nothing until it is woken.
	awake = 2 * time.Millisecond
	// wakeup is the id of the descriptor that ends a wait, and is among those
	// that Wait returns then.
	wakeup = -1
	// maxEvents is how many descriptors one Wait reports.
	maxEvents = 64
)

// Loop waits for descriptors to become readable. All methods but Wake belong to
// one goroutine.
type Loop interface {
	// Add reports id, which is not negative, whenever there is something to
	// read from fd, or it has failed.
	Add(fd int, id int32) error
	// Pause reports id no more, until Resume.
	Pause(fd int, id int32)
	Resume(fd int, id int32)
	// Del forgets id. Call it before fd is closed.
	Del(fd int, id int32)
	// Wait returns the ids of what is ready, at once if something is, with a
	// negative one among them after Wake, and none after timeout; a negative
	// timeout never ends. The slice is valid until the next Wait.
	Wait(timeout time.Duration) ([]int32, error)
	// Wake ends a Wait under way, or the next one. Any goroutine may call it,
	// also after Close.
	Wake()
	Close() error
}

var (
	_ Loop = (*Epoll)(nil)
	_ Loop = (*Ring)(nil)
)

// Epoll is a Loop on epoll.
type Epoll struct {
	fd     int
	event  *event
	busy   time.Duration
	events [maxEvents]unix.EpollEvent
	ready  []int32
}

// NewEpoll returns an empty loop. busy is how long it polls before it sleeps.
func NewEpoll(busy time.Duration) (*Epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	l := &Epoll{fd: fd, busy: busy, ready: make([]int32, 0, maxEvents)}
	if l.event, err = newEvent(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := l.control(unix.EPOLL_CTL_ADD, l.event.fd, wakeup, unix.EPOLLIN); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Epoll) control(op, fd int, id int32, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.fd, op, fd, &unix.EpollEvent{Events: events, Fd: id}))
}

func (l *Epoll) Add(fd int, id int32) error {
	return l.control(unix.EPOLL_CTL_ADD, fd, id, unix.EPOLLIN)
}

// The descriptors of these three are in the set: nothing can fail, but for one
// that was closed, and so left it.
func (l *Epoll) Pause(fd int, id int32)  { _ = l.control(unix.EPOLL_CTL_MOD, fd, id, 0) }
func (l *Epoll) Resume(fd int, id int32) { _ = l.control(unix.EPOLL_CTL_MOD, fd, id, unix.EPOLLIN) }
func (l *Epoll) Del(fd int, id int32)    { _ = l.control(unix.EPOLL_CTL_DEL, fd, id, 0) }

func (l *Epoll) Wake() { l.event.set() }

func (l *Epoll) Wait(timeout time.Duration) ([]int32, error) {
	n := 0
	err := inStages(timeout, l.busy, func(timeout time.Duration, hold bool) (_ bool, err error) {
		if hold {
			n, err = l.poll(timeout)
		} else {
			n, err = l.block(timeout)
		}
		return n > 0, err
	})
	if err != nil {
		return nil, err
	}
	l.ready = l.ready[:0]
	for i := range l.events[:n] {
		id := l.events[i].Fd
		if id == wakeup {
			l.event.clear()
		}
		l.ready = append(l.ready, id)
	}
	return l.ready, nil
}

// inStages waits with look, which says whether there is something: polling for
// busy first, then with the thread held, then as every blocking call.
func inStages(timeout, busy time.Duration, look func(timeout time.Duration, hold bool) (bool, error)) error {
	if timeout == 0 {
		_, err := look(0, true)
		return err
	}
	if busy > 0 {
		for since := time.Now(); time.Since(since) < busy; {
			if ok, err := look(0, true); ok || err != nil {
				return err
			}
		}
	}
	if timeout > 0 && timeout <= awake {
		_, err := look(timeout, true)
		return err
	}
	if ok, err := look(awake, true); ok || err != nil {
		return err
	}
	if timeout > 0 {
		timeout -= awake
	}
	_, err := look(timeout, false)
	return err
}

// block waits as every blocking call; a negative timeout never ends.
func (l *Epoll) block(timeout time.Duration) (int, error) {
	ms := -1
	if timeout > 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.EpollWait(l.fd, l.events[:], ms)
	if err == unix.EINTR {
		return 0, nil
	}
	return max(n, 0), os.NewSyscallError("epoll_wait", err)
}

// poll waits without telling the scheduler: entering and leaving a system call
// under its eyes costs more than most of them take, and its monitor takes the
// processor away from a thread that stays longer than 20 us, which makes
// coming back slow. A stop of the world interrupts the wait by a signal.
func (l *Epoll) poll(timeout time.Duration) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])),
			maxEvents, uintptr(timeout/time.Millisecond), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			// Most often the scheduler, which wants this thread for a moment.
			runtime.Gosched()
			if timeout > 0 {
				return 0, nil
			}
		default:
			return 0, os.NewSyscallError("epoll_pwait", errno)
		}
	}
}

func (l *Epoll) Close() error {
	return errors.Join(l.event.close(), os.NewSyscallError("close", unix.Close(l.fd)))
}
