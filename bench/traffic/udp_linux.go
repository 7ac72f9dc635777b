package traffic

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// drainTime is how long the last datagrams may be on their way.
const drainTime = 100 * time.Millisecond

func udpReceive(job *Job, stdin io.Reader, stdout io.Writer) (*Result, error) {
	s, port, err := bind(job.Addr, unix.SOCK_DGRAM)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var arrived counter
	var stop atomic.Bool
	done := make(chan error, 1)
	go func() { done <- receive(s, &arrived.n, &stop) }()
	if err := send(stdout, Message{Port: port}); err != nil {
		return nil, err
	}
	told := closed(stdin)
	r := &Result{}
	var datagrams uint64
	if err := first(&arrived.n, told, done); err == nil {
		if datagrams, r, err = window(job, arrived.n.Load); err != nil {
			return nil, err
		}
	} else if err != errSilence {
		return nil, err
	}
	if err := send(stdout, Message{Counted: true}); err != nil {
		return nil, err
	}
	<-told
	stop.Store(true)
	if err := <-done; err != nil {
		return nil, err
	}
	r.Datagrams, r.Bytes, r.Total = datagrams, datagrams*uint64(job.Bytes), arrived.n.Load()
	return r, nil
}

// first waits for the first datagram. errSilence: none came, which is a result
// too, all was lost.
func first(arrived *atomic.Uint64, told <-chan struct{}, done <-chan error) error {
	late := time.After(patience)
	for arrived.Load() == 0 {
		select {
		case <-told:
			return errSilence
		case <-late:
			return errSilence
		case err := <-done:
			return err
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// receive counts datagrams; after stop, until none has come for drainTime. It
// waits for each with poll(2), as programs with an event loop do, iperf3 among
// them. A receiver that blocks in recv(2) alone is faster than a sender on the same
// machine, sleeps after each datagram, and makes the sender pay for waking it up:
// fewer datagrams cross, and more are lost.
func receive(s socket, count *atomic.Uint64, stop *atomic.Bool) error {
	runtime.LockOSThread()
	b := make([]byte, 64<<10)
	for {
		ready, err := s.readable(drainTime)
		if err != nil {
			return os.NewSyscallError("poll", err)
		}
		if !ready {
			if stop.Load() {
				return nil
			}
			continue
		}
		switch _, err := s.recv(b); err {
		case nil:
			count.Add(1)
		case unix.EAGAIN: // its checksum was wrong
		default:
			return os.NewSyscallError("recv", err)
		}
	}
}

// pace is how often a sender with a given rate wakes up to send what is due. A
// sender that spins instead would take a core from the tunnel it measures.
const pace = 50 * time.Microsecond

func udpSend(job *Job, stdin io.Reader) (*Result, error) {
	s, err := connect(job.Addr, unix.SOCK_DGRAM)
	if err != nil {
		return nil, err
	}
	defer s.close()
	runtime.LockOSThread()
	if job.Rate > 0 {
		// Timers of this thread are otherwise up to 50 us late on purpose.
		if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
			return nil, os.NewSyscallError("prctl PR_SET_TIMERSLACK", err)
		}
	}
	var stop atomic.Bool
	go func() {
		<-closed(stdin)
		stop.Store(true)
	}()
	b := make([]byte, job.Bytes)
	var sent uint64
	start := time.Now()
	now := time.Duration(0)
	for now < job.Duration && !stop.Load() {
		burst := uint64(16) // between two looks at the clock
		if job.Rate > 0 {
			due := uint64(now.Seconds() * job.Rate)
			if due <= sent {
				sleep(pace)
				now = time.Since(start)
				continue
			}
			burst = min(burst, due-sent)
		}
		for range burst {
			binary.BigEndian.PutUint64(b, sent)
			if _, err := s.write(b); err != nil && err != unix.ENOBUFS {
				if err == unix.EAGAIN {
					return nil, errors.New("nothing could be sent for 5 s")
				}
				return nil, os.NewSyscallError("write", err)
			}
			sent++
		}
		now = time.Since(start)
	}
	return &Result{Seconds: now.Seconds(), Total: sent, Datagrams: sent, Bytes: sent * uint64(job.Bytes)}, nil
}
