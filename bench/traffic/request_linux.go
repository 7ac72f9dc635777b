package traffic

import (
	"errors"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostTimes bounds what is remembered of one job: 8 MB, 17 s at 60,000 round
// trips a second.
const mostTimes = 1 << 20

func respond(job *Job, listening func(uint16) error) (*Result, error) {
	l, err := listen(job.Addr, listening)
	if err != nil {
		return nil, err
	}
	defer l.close()
	c, err := l.accept()
	if err != nil {
		return nil, err
	}
	if err := c.noDelay(); err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	var answered uint64
	b := make([]byte, 1)
	for {
		n, err := c.read(b)
		if err == nil && n == 0 {
			return &Result{Total: answered}, nil
		}
		if err == nil {
			_, err = c.write(b)
		}
		switch err {
		case nil:
			answered++
		case unix.EAGAIN:
			return nil, errSilence
		default:
			return nil, os.NewSyscallError("read or write", err)
		}
	}
}

func (s socket) noDelay() error {
	return os.NewSyscallError("setsockopt TCP_NODELAY", unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
}

func request(job *Job) (*Result, error) {
	c, err := connect(job.Addr, unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.noDelay(); err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	b := make([]byte, 1)
	turn := func() error {
		if _, err := c.write(b); err != nil {
			return os.NewSyscallError("write", err)
		}
		n, err := c.read(b)
		switch {
		case err == unix.EAGAIN:
			return errSilence
		case err != nil:
			return os.NewSyscallError("read", err)
		case n == 0:
			return errors.New("the connection was closed")
		}
		return nil
	}
	for begin := time.Now(); time.Since(begin) < job.Warmup; {
		if err := turn(); err != nil {
			return nil, err
		}
	}
	times := make([]time.Duration, 0, mostTimes)
	before, err := ReadCPU(job.Watch)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	var at time.Duration
	for at < job.Duration && len(times) < mostTimes {
		if err := turn(); err != nil {
			return nil, err
		}
		now := time.Since(begin)
		times = append(times, now-at)
		at = now
	}
	after, err := ReadCPU(job.Watch)
	if err != nil {
		return nil, err
	}
	return &Result{Seconds: at.Seconds(), Total: uint64(len(times)), CPU: after.Sub(before), Latency: latency(times, 0)}, nil
}

// sleep keeps the thread.
func sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}
