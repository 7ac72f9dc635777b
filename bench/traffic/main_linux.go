package traffic

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// patience is how long a job waits for its other end before it gives up.
const patience = 5 * time.Second

// Environment is what a process needs in its environment to run a job: signals
// that interrupt long-running goroutines would interrupt system calls that the
// scheduler knows nothing of.
func Environment() []string {
	return append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
}

// Main runs the job, given in JSON, in this process, and returns its exit
// status. It changes the process's scheduler for good.
func Main(text string, stdin io.Reader, stdout io.Writer) int {
	var job Job
	err := json.Unmarshal([]byte(text), &job)
	if err == nil {
		err = run(&job, stdin, stdout)
	}
	if err != nil {
		send(stdout, Message{Error: err.Error()})
		return 1
	}
	return 0
}

func send(w io.Writer, m Message) error {
	text, err := json.Marshal(m)
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	return err
}

func run(job *Job, stdin io.Reader, stdout io.Writer) error {
	// A thread inside a raw system call looks to the scheduler as if it
	// computed: it keeps its P, and could not be stopped for a collection.
	// So there are Ps to spare, and there is no collection.
	runtime.GOMAXPROCS(job.Streams + 4)
	debug.SetGCPercent(-1)
	listening := func(port uint16) error { return send(stdout, Message{Port: port}) }
	var result *Result
	var err error
	switch job.Role {
	case TCPReceive:
		result, err = tcpReceive(job, listening)
	case TCPSend:
		result, err = tcpSend(job)
	case UDPReceive:
		result, err = udpReceive(job, stdin, stdout)
	case UDPSend:
		result, err = udpSend(job, stdin)
	case Respond:
		result, err = respond(job, listening)
	case Request:
		result, err = request(job)
	case Ping:
		result, err = ping(job)
	default:
		return fmt.Errorf("no such role: %q", job.Role)
	}
	if err != nil {
		return fmt.Errorf("%s %v: %w", job.Role, job.Addr, err)
	}
	return send(stdout, Message{Result: result})
}

// errSilence says that the other end said nothing for too long.
var errSilence = errors.New("nothing arrived for 5 s")

// closed is closed when there is nothing more to read.
func closed(r io.Reader) <-chan struct{} {
	told := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, r)
		close(told)
	}()
	return told
}

// window measures one stretch of time: counters and processor time between its
// begin and its end.
func window(job *Job, count func() uint64) (counted uint64, r *Result, err error) {
	time.Sleep(job.Warmup)
	before, err := ReadCPU(job.Watch)
	if err != nil {
		return 0, nil, err
	}
	start, first := time.Now(), count()
	time.Sleep(job.Duration)
	seconds, last := time.Since(start).Seconds(), count()
	after, err := ReadCPU(job.Watch)
	if err != nil {
		return 0, nil, err
	}
	return last - first, &Result{Seconds: seconds, CPU: after.Sub(before)}, nil
}
