package traffic

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// chunkBytes is what one read or write takes, as in iperf3.
const chunkBytes = 128 << 10

// counter has a cache line of its own: each thread counts in its own.
type counter struct {
	n atomic.Uint64
	_ [56]byte
}

func tcpReceive(job *Job, listening func(uint16) error) (*Result, error) {
	l, err := listen(job.Addr, listening)
	if err != nil {
		return nil, err
	}
	defer l.close()
	counters := make([]counter, job.Streams)
	failed := make(chan error, job.Streams)
	for i := range counters {
		c, err := l.accept()
		if err != nil {
			return nil, err
		}
		go func() { failed <- drain(c, &counters[i].n) }()
	}
	bytes, r, err := window(job, func() (sum uint64) {
		for i := range counters {
			sum += counters[i].n.Load()
		}
		return sum
	})
	if err != nil {
		return nil, err
	}
	select {
	case err := <-failed:
		// The window is over and nobody has told the senders to stop.
		return nil, errors.Join(errors.New("a stream ended too early"), err)
	default:
	}
	r.Bytes = bytes
	return r, nil
}

// drain reads until the stream ends.
func drain(c socket, count *atomic.Uint64) error {
	runtime.LockOSThread()
	b := make([]byte, chunkBytes)
	for {
		n, err := c.read(b)
		if err == unix.EAGAIN {
			return errSilence
		}
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		if n == 0 {
			return nil
		}
		count.Add(uint64(n))
	}
}

func tcpSend(job *Job) (*Result, error) {
	var streams sync.WaitGroup
	errs := make([]error, job.Streams)
	for i := range job.Streams {
		c, err := connect(job.Addr, unix.SOCK_STREAM)
		if err != nil {
			return nil, err
		}
		streams.Go(func() { errs[i] = fill(c) })
	}
	streams.Wait()
	return &Result{}, errors.Join(errs...)
}

// fill writes until the other end has closed the connection.
func fill(c socket) error {
	runtime.LockOSThread()
	b := make([]byte, chunkBytes)
	for {
		_, err := c.write(b)
		switch err {
		case nil:
		case unix.EPIPE, unix.ECONNRESET:
			return nil
		case unix.EAGAIN:
			return errors.New("nothing could be sent for 5 s")
		default:
			return os.NewSyscallError("write", err)
		}
	}
}
