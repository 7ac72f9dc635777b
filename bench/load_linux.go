package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/bench/traffic"
	"github.com/govxlan/govxlan/internal/netlab"
)

// worker is a process that does a job.
type worker struct {
	cmd   *netlab.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

// employ starts a job on a host.
func (r *runner) employ(ctx context.Context, h *host, job traffic.Job) (*worker, error) {
	text, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: h.Command(ctx, r.Program, "bench", "traffic", string(text))}
	w.cmd.Args[0] = programName
	w.cmd.Env = traffic.Environment()
	if w.stdin, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.lines = bufio.NewScanner(stdout)
	return w, w.cmd.Start()
}

// next reads what the worker has to say next.
func (w *worker) next() (traffic.Message, error) {
	var m traffic.Message
	if !w.lines.Scan() {
		return m, errors.Join(errors.New("the generator ended without a result"), w.lines.Err())
	}
	if err := json.Unmarshal(w.lines.Bytes(), &m); err != nil {
		return m, fmt.Errorf("the generator said %q: %w", w.lines.Text(), err)
	}
	if m.Error != "" {
		return m, errors.New(m.Error)
	}
	return m, nil
}

// port waits until the worker listens.
func (w *worker) port() (uint16, error) {
	m, err := w.next()
	if err == nil && m.Port == 0 {
		err = errors.New("the generator has no port")
	}
	return m.Port, err
}

// result waits for the end of the work.
func (w *worker) result() (*traffic.Result, error) {
	m, err := w.next()
	if err == nil && m.Result == nil {
		err = errors.New("the generator has no result")
	}
	return m.Result, err
}

// dismiss ends the process if it still runs.
func (w *worker) dismiss() {
	w.stdin.Close()
	w.cmd.Stop()
}

// once does a job that needs no server.
func (r *runner) once(ctx context.Context, h *host, job traffic.Job) (*traffic.Result, error) {
	w, err := r.employ(ctx, h, job)
	if err != nil {
		return nil, err
	}
	defer w.dismiss()
	return w.result()
}

// join starts a server on host "to" and a client on host "from".
func (r *runner) join(ctx context.Context, from, to *host, server, client traffic.Job) (s, c *worker, err error) {
	server.Addr = netip.AddrPortFrom(to.over, 0)
	if s, err = r.employ(ctx, to, server); err != nil {
		return nil, nil, err
	}
	port, err := s.port()
	if err == nil {
		client.Addr = netip.AddrPortFrom(to.over, port)
		c, err = r.employ(ctx, from, client)
	}
	if err != nil {
		s.dismiss()
		return nil, nil, err
	}
	return s, c, nil
}

// warmup is how long a stream may take to reach its speed before it is measured.
func (r *runner) warmup() time.Duration { return min(r.Window/4, 300*time.Millisecond) }

// stream sends over TCP for one window.
func (r *runner) stream(ctx context.Context, p *pair, from, to *host, streams int) (*traffic.Result, error) {
	watch, err := p.pids()
	if err != nil {
		return nil, err
	}
	s, c, err := r.join(ctx, from, to,
		traffic.Job{Role: traffic.TCPReceive, Streams: streams, Warmup: r.warmup(), Duration: r.Window, Watch: watch},
		traffic.Job{Role: traffic.TCPSend, Streams: streams})
	if err != nil {
		return nil, err
	}
	defer c.dismiss()
	defer s.dismiss()
	result, err := s.result()
	if err != nil {
		return nil, errors.Join(err, complaint(c))
	}
	if result.Bytes == 0 {
		return nil, errors.New("TCP: nothing arrived")
	}
	return result, nil
}

// complaint is what the client says after the server gave up: it ends by itself,
// its connection being gone, or its own patience.
func complaint(c *worker) error {
	_, err := c.result()
	return err
}

// datagrams is the outcome of a UDP test.
type datagrams struct {
	rate float64 // received in a second
	sent float64 // sent in a second
	loss float64 // 0 to 1
	cpu  traffic.CPU
}

// flood sends datagrams for one window; rate 0: as many as the sender can.
func (r *runner) flood(ctx context.Context, p *pair, bytes int, rate float64, warmup, length time.Duration) (datagrams, error) {
	from, to := p.hosts[0], p.hosts[1]
	watch, err := p.pids()
	if err != nil {
		return datagrams{}, err
	}
	s, c, err := r.join(ctx, from, to,
		traffic.Job{Role: traffic.UDPReceive, Bytes: bytes, Warmup: warmup, Duration: length, Watch: watch},
		// It is told to stop when the receiver has counted.
		traffic.Job{Role: traffic.UDPSend, Bytes: bytes, Rate: rate, Duration: warmup + length + patience})
	if err != nil {
		return datagrams{}, err
	}
	defer c.dismiss()
	defer s.dismiss()
	if m, err := s.next(); err != nil || !m.Counted {
		return datagrams{}, errors.Join(errors.New("UDP: the receiver did not count"), err)
	}
	c.stdin.Close()
	sent, err := c.result()
	if err != nil {
		return datagrams{}, err
	}
	s.stdin.Close()
	got, err := s.result()
	if err != nil {
		return datagrams{}, err
	}
	if sent.Total == 0 {
		return datagrams{}, errors.New("UDP: nothing was sent")
	}
	d := datagrams{sent: float64(sent.Total) / sent.Seconds, cpu: got.CPU}
	d.loss = 1 - float64(min(got.Total, sent.Total))/float64(sent.Total)
	if got.Datagrams > 0 {
		d.rate = float64(got.Datagrams) / got.Seconds
	}
	return d, nil
}

// mostLoss is what udp64-max allows.
const mostLoss = 0.01

// searchSteps halve the interval in which the highest rate lies: to 3 % of it.
const searchSteps = 5

// highest looks for the highest rate that loses at most mostLoss, and returns
// the datagrams received in a second at that rate.
func (r *runner) highest(ctx context.Context, p *pair, bytes int) (float64, error) {
	length := max(r.Window/5, 100*time.Millisecond)
	warmup := length / 5
	try := func(rate float64) (datagrams, bool, error) {
		for attempt := 0; ; attempt++ {
			d, err := r.flood(ctx, p, bytes, rate, warmup, length)
			if err != nil || d.loss <= mostLoss || attempt == 1 {
				return d, d.loss <= mostLoss && d.rate > 0, err
			}
			// Once more: it may have been a disturbance from outside.
		}
	}
	d, good, err := try(0)
	if err != nil || good {
		return d.rate, err
	}
	low, high, best := 0.0, d.sent, 0.0
	rate := min(d.rate, high/2) // what got through is the best first guess
	for range searchSteps {
		if rate < 100 {
			break
		}
		d, good, err := try(rate)
		if err != nil {
			return 0, err
		}
		if good {
			low, best = rate, max(best, d.rate)
		} else {
			high = rate
		}
		if good && d.sent < rate*0.9 {
			break // the sender cannot do more at this load
		}
		rate = (low + high) / 2
	}
	return best, nil
}

// converse exchanges single bytes for one window.
func (r *runner) converse(ctx context.Context, p *pair) (*traffic.Result, error) {
	watch, err := p.pids()
	if err != nil {
		return nil, err
	}
	s, c, err := r.join(ctx, p.hosts[0], p.hosts[1],
		traffic.Job{Role: traffic.Respond},
		traffic.Job{Role: traffic.Request, Warmup: r.warmup(), Duration: r.Window, Watch: watch})
	if err != nil {
		return nil, err
	}
	defer s.dismiss()
	defer c.dismiss()
	result, err := c.result()
	if err == nil && result.Latency.Count == 0 {
		err = errors.New("request/response: no answer")
	}
	return result, err
}

// pingInterval leaves a tunnel time to fall asleep between two packets.
const pingInterval = 10 * time.Millisecond

// echo pings through the tunnel for one window.
func (r *runner) echo(ctx context.Context, p *pair, length time.Duration) (*traffic.Result, error) {
	result, err := r.once(ctx, p.hosts[0], traffic.Job{
		Role: traffic.Ping, Addr: netip.AddrPortFrom(p.hosts[1].over, 0), Interval: pingInterval, Duration: length,
	})
	if err == nil && result.Latency.Count == 0 {
		err = errors.New("ping: no reply")
	}
	return result, err
}
