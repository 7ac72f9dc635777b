package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/govxlan/govxlan/bench/traffic"
)

// iperfReport is what matters of the JSON that iperf3 writes.
type iperfReport struct {
	Error string `json:"error"`
	End   struct {
		SumReceived struct {
			Seconds float64 `json:"seconds"`
			Bytes   float64 `json:"bytes"`
		} `json:"sum_received"`
		Sum struct {
			Seconds     float64 `json:"seconds"`
			Packets     float64 `json:"packets"`
			LostPackets float64 `json:"lost_packets"`
		} `json:"sum"`
	} `json:"end"`
}

// iperf runs iperf3 from one host to the other. Processor time is that of the
// whole of its run, start and end included.
func (r *runner) iperf(ctx context.Context, p *pair, from, to *host, args ...string) (*iperfReport, traffic.CPU, error) {
	tool, err := findTool("iperf3")
	if err != nil {
		return nil, traffic.CPU{}, errors.New("iperf3 is not installed (Debian: apt install iperf3)")
	}
	watch, err := p.pids()
	if err != nil {
		return nil, traffic.CPU{}, err
	}
	server := to.Command(ctx, tool, "-s", "-1", "--forceflush", "-B", to.over.String())
	listening := make(chan struct{})
	server.Stdout = &watcher{text: "listening on", seen: listening}
	if err := server.Start(); err != nil {
		return nil, traffic.CPU{}, err
	}
	defer server.Stop()
	select {
	case <-listening:
	case <-server.Exited():
		return nil, traffic.CPU{}, errors.New("the iperf3 server ended")
	case <-ctx.Done():
		return nil, traffic.CPU{}, context.Cause(ctx)
	}
	before, err := traffic.ReadCPU(watch)
	if err != nil {
		return nil, traffic.CPU{}, err
	}
	seconds := strconv.FormatFloat(max(r.Window.Seconds(), 1), 'f', 0, 64) // whole ones only
	client := from.Command(ctx, tool, append([]string{"-J", "-c", to.over.String(), "-t", seconds}, args...)...)
	text, runErr := client.Output()
	after, err := traffic.ReadCPU(watch)
	if err != nil {
		return nil, traffic.CPU{}, err
	}
	var got iperfReport
	if err := json.Unmarshal(text, &got); err != nil {
		return nil, traffic.CPU{}, errors.Join(runErr, fmt.Errorf("iperf3: %w", err))
	}
	if got.Error != "" {
		return nil, traffic.CPU{}, fmt.Errorf("iperf3: %s", got.Error)
	}
	return &got, after.Sub(before), runErr
}

func (r *runner) iperfTCP(ctx context.Context, p *pair, from, to *host, streams int) ([]float64, error) {
	got, cpu, err := r.iperf(ctx, p, from, to, "-P", strconv.Itoa(streams))
	if err != nil {
		return nil, err
	}
	sum := got.End.SumReceived
	if sum.Bytes == 0 || sum.Seconds == 0 {
		return nil, errors.New("iperf3: nothing arrived")
	}
	return tcpFigures(sum.Bytes, sum.Seconds, cpu), nil
}

func (r *runner) iperfUDP(ctx context.Context, p *pair, size int) (datagrams, error) {
	got, cpu, err := r.iperf(ctx, p, p.hosts[0], p.hosts[1], "-u", "-b", "0", "-l", strconv.Itoa(size))
	if err != nil {
		return datagrams{}, err
	}
	sum := got.End.Sum
	if sum.Packets == 0 || sum.Seconds == 0 {
		return datagrams{}, errors.New("iperf3: nothing was sent")
	}
	return datagrams{
		rate: (sum.Packets - sum.LostPackets) / sum.Seconds, sent: sum.Packets / sum.Seconds,
		loss: sum.LostPackets / sum.Packets, cpu: cpu,
	}, nil
}

// watcher closes seen when text has been written to it.
type watcher struct {
	text string
	seen chan struct{}
	have bytes.Buffer
	told bool
}

func (w *watcher) Write(b []byte) (int, error) {
	if !w.told {
		w.have.Write(b)
		if strings.Contains(w.have.String(), w.text) {
			w.told = true
			close(w.seen)
		}
	}
	return len(b), nil
}
