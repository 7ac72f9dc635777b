package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/govxlan/govxlan/bench/traffic"
)

// test runs one test on one system and returns the figures of its measures, in
// their order.
func (r *runner) test(ctx context.Context, p *pair, name string) ([]float64, error) {
	a, b := p.hosts[0], p.hosts[1]
	switch name {
	case "tcp1":
		return r.tcp(ctx, p, a, b, 1)
	case "tcp1-rev":
		return r.tcp(ctx, p, b, a, 1)
	case "tcp4":
		return r.tcp(ctx, p, a, b, 4)
	case "tcp4-rev":
		return r.tcp(ctx, p, b, a, 4)
	case "udp64":
		d, err := r.udp(ctx, p, 64)
		return figures(err, d.rate/1e3, d.loss*100)
	case "udp64-max":
		rate, err := r.highest(ctx, p, 64)
		return figures(err, rate/1e3)
	case "udp1400":
		d, err := r.udp(ctx, p, 1400)
		return figures(err, d.rate*1400*8/1e9, d.loss*100)
	case "ping":
		result, err := r.echo(ctx, p, r.Window)
		return pingFigures(result, err)
	case "ping-load":
		result, err := r.echoUnderLoad(ctx, p)
		return pingFigures(result, err)
	case "rr":
		result, err := r.converse(ctx, p)
		if err != nil {
			return nil, err
		}
		return []float64{float64(result.Total) / result.Seconds, result.Latency.P50, result.Latency.P99}, nil
	case "idle":
		return r.idle(ctx, p)
	case "memory":
		return r.memory(p)
	}
	return nil, fmt.Errorf("no test is called %q", name)
}

func figures(err error, values ...float64) ([]float64, error) {
	if err != nil {
		return nil, err
	}
	return values, nil
}

func pingFigures(result *traffic.Result, err error) ([]float64, error) {
	if err != nil {
		return nil, err
	}
	l := result.Latency
	return []float64{l.Mean, l.P50, l.P99, 100 * float64(l.Lost) / float64(l.Count+l.Lost)}, nil
}

func (r *runner) tcp(ctx context.Context, p *pair, from, to *host, streams int) ([]float64, error) {
	if r.Generator == Iperf3 {
		return r.iperfTCP(ctx, p, from, to, streams)
	}
	result, err := r.stream(ctx, p, from, to, streams)
	if err != nil {
		return nil, err
	}
	return tcpFigures(float64(result.Bytes), result.Seconds, result.CPU), nil
}

func tcpFigures(bytes, seconds float64, cpu traffic.CPU) []float64 {
	return []float64{bytes * 8 / seconds / 1e9, cpu.Machine / (bytes / 1e9), cpu.Watched / (bytes / 1e9)}
}

func (r *runner) udp(ctx context.Context, p *pair, bytes int) (datagrams, error) {
	if r.Generator == Iperf3 {
		return r.iperfUDP(ctx, p, bytes)
	}
	return r.flood(ctx, p, bytes, 0, r.warmup(), r.Window)
}

// echoUnderLoad pings while a TCP stream runs the same way.
func (r *runner) echoUnderLoad(ctx context.Context, p *pair) (*traffic.Result, error) {
	type outcome struct {
		result *traffic.Result
		err    error
	}
	bulk := make(chan outcome, 1)
	go func() {
		result, err := r.stream(ctx, p, p.hosts[0], p.hosts[1], 1)
		bulk <- outcome{result, err}
	}()
	// The stream's own window begins after the warm-up; stay inside it.
	select {
	case <-time.After(r.warmup()):
	case <-ctx.Done():
	}
	result, err := r.echo(ctx, p, r.Window*9/10)
	if o := <-bulk; err == nil && o.err != nil {
		err = fmt.Errorf("the stream beside it: %w", o.err)
	}
	return result, err
}

// idle watches the endpoints while nothing goes on.
func (r *runner) idle(ctx context.Context, p *pair) ([]float64, error) {
	pids, err := p.pids()
	if err != nil {
		return nil, err
	}
	count := func() (woken uint64, cpu float64, err error) {
		for _, pid := range pids {
			n, err := wakeups(pid)
			if err != nil {
				return 0, 0, err
			}
			woken += n
		}
		used, err := traffic.ReadCPU(pids)
		return woken, used.Watched, err
	}
	begin := time.Now()
	woken, cpu, err := count()
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(r.Window):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	woken2, cpu2, err := count()
	if err != nil {
		return nil, err
	}
	seconds := time.Since(begin).Seconds()
	return []float64{float64(woken2-woken) / seconds / 2, (cpu2 - cpu) / seconds * 100 / 2}, nil
}

// memory is the mean of the two hosts.
func (r *runner) memory(p *pair) ([]float64, error) {
	pids, err := p.pids()
	if err != nil {
		return nil, err
	}
	var sum uint64
	for _, pid := range pids {
		bytes, err := resident(pid)
		if err != nil {
			return nil, err
		}
		sum += bytes
	}
	return []float64{float64(sum) / 2 / 1e6}, nil
}
