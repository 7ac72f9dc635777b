package traffic

import (
	"bufio"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// jobVariable makes the test binary do the job in it.
const jobVariable = "TRAFFIC_TEST_JOB"

func TestMain(m *testing.M) {
	if job := os.Getenv(jobVariable); job != "" {
		os.Exit(Main(job, os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// running is a job in a process of its own.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

func start(t *testing.T, job Job) *running {
	t.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, cmd: exec.Command("/proc/self/exe")}
	r.cmd.Env = append(Environment(), jobVariable+"="+string(text))
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.lines = bufio.NewScanner(stdout)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	})
	return r
}

func (r *running) next() (m Message) {
	r.t.Helper()
	if !r.lines.Scan() {
		r.t.Fatalf("no message: %v", r.lines.Err())
	}
	if err := json.Unmarshal(r.lines.Bytes(), &m); err != nil {
		r.t.Fatalf("%q: %v", r.lines.Text(), err)
	}
	return m
}

func (r *running) result() *Result {
	r.t.Helper()
	m := r.next()
	if m.Result == nil {
		r.t.Fatalf("message %+v, want a result", m)
	}
	return m.Result
}

// at is where a server listens.
func (r *running) at() netip.AddrPort {
	r.t.Helper()
	m := r.next()
	if m.Port == 0 {
		r.t.Fatalf("message %+v, want a port", m)
	}
	return netip.AddrPortFrom(loopback, m.Port)
}

// counted waits until a UDPReceive has counted.
func (r *running) counted() {
	r.t.Helper()
	if m := r.next(); !m.Counted {
		r.t.Fatalf("message %+v, want that it has counted", m)
	}
}

var loopback = netip.MustParseAddr("127.0.0.1")

var anyPort = netip.AddrPortFrom(loopback, 0)

const short = 150 * time.Millisecond

func TestTCP(t *testing.T) {
	for _, streams := range []int{1, 4} {
		server := start(t, Job{Role: TCPReceive, Addr: anyPort, Streams: streams, Warmup: short / 3, Duration: short})
		client := start(t, Job{Role: TCPSend, Addr: server.at(), Streams: streams})
		got := server.result()
		if got.Bytes < 1<<20 || got.Seconds < short.Seconds() || got.CPU.Machine <= 0 {
			t.Errorf("%d streams: %+v", streams, got)
		}
		client.result() // it ends by itself, and not with an error
	}
}

func TestUDP(t *testing.T) {
	server := start(t, Job{Role: UDPReceive, Addr: anyPort, Bytes: 64, Warmup: short / 3, Duration: short})
	client := start(t, Job{Role: UDPSend, Addr: server.at(), Bytes: 64, Duration: time.Minute})
	server.counted()
	client.stdin.Close()
	sent := client.result()
	server.stdin.Close()
	got := server.result()
	if got.Datagrams == 0 || got.Bytes != 64*got.Datagrams || got.Total < got.Datagrams || sent.Total < got.Total {
		t.Errorf("sent %+v, got %+v", sent, got)
	}
}

// A rate is never exceeded, and what any machine can keep arrives. A busy machine
// sends less: what is due in the last moment is not made good.
func TestUDPWithRate(t *testing.T) {
	server := start(t, Job{Role: UDPReceive, Addr: anyPort, Bytes: 64, Duration: short})
	client := start(t, Job{Role: UDPSend, Addr: server.at(), Bytes: 64, Rate: 2000, Duration: 2 * short})
	sent := client.result()
	server.counted()
	server.stdin.Close()
	got := server.result()
	want := uint64(2000 * 2 * short.Seconds())
	// What is sent while the receiver counts is less than what is sent in all
	// where the machine has other things to do.
	if sent.Total > want || sent.Total < want/10 || got.Total > sent.Total || got.Total < sent.Total/2 {
		t.Errorf("sent %d, want up to %d; got %d, want at least half", sent.Total, want, got.Total)
	}
}

func TestUDPNothingArrives(t *testing.T) {
	server := start(t, Job{Role: UDPReceive, Addr: anyPort, Bytes: 64, Duration: short})
	server.at()
	server.stdin.Close()
	server.counted()
	if got := server.result(); got.Total != 0 || got.Datagrams != 0 {
		t.Errorf("%+v", got)
	}
}

func TestRequestResponse(t *testing.T) {
	server := start(t, Job{Role: Respond, Addr: anyPort})
	client := start(t, Job{Role: Request, Addr: server.at(), Warmup: short / 3, Duration: short})
	got := client.result()
	l := got.Latency
	if got.Total < 10 || int(got.Total) != l.Count || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max {
		t.Errorf("%+v, latency %+v", got, l)
	}
	if answered := server.result().Total; answered < got.Total {
		t.Errorf("%d answers to %d requests", answered, got.Total)
	}
}

func TestPing(t *testing.T) {
	netlabtest.Root(t)
	client := start(t, Job{Role: Ping, Addr: anyPort, Interval: 10 * time.Millisecond, Duration: short})
	l := client.result().Latency
	if l.Count < 5 || l.Count > 15 || l.Lost != 0 || l.P50 <= 0 || l.P50 > 1e5 {
		t.Errorf("%+v", l)
	}
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		job  Job
		want string
	}{
		"no such role":      {Job{Role: "dance"}, `"dance"`},
		"nobody listens":    {Job{Role: Request, Addr: netip.MustParseAddrPort("127.0.0.1:9")}, "connection refused"},
		"not our address":   {Job{Role: Respond, Addr: netip.MustParseAddrPort("192.0.2.1:0")}, "bind"},
		"ping over IPv6":    {Job{Role: Ping, Addr: netip.MustParseAddrPort("[::1]:0")}, "IPv4"},
		"UDP, nobody there": {Job{Role: UDPSend, Addr: netip.MustParseAddrPort("127.0.0.1:9"), Bytes: 64, Duration: short}, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, c.job)
			m := r.next()
			if !strings.Contains(m.Error, c.want) {
				t.Errorf("message %+v, want an error with %q", m, c.want)
			}
			if err := r.cmd.Wait(); r.cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("it ended with %v, want status 1", err)
			}
		})
	}
}
