package ping

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Line sends probes to one VTEP and takes the answers; *vtep.Prober is one. The
// channel is closed when no more can come.
type Line interface {
	Send(...vtep.Probe) (time.Time, error)
	Answers() <-chan vtep.ProbeAnswer
	Close()
}

var _ Line = (*vtep.Prober)(nil)

// Overhead is how much longer the outer IP packet to a VTEP is than the frame in
// it.
func Overhead(to netip.Addr) int {
	if to.Unmap().Is4() {
		return vxlan.OverheadIPv4 - vxlan.EthernetLen
	}
	return vxlan.OverheadIPv6 - vxlan.EthernetLen
}

// Plan is what Run does.
type Plan struct {
	// Count of probes; 0 = until the context is done.
	Count int
	// Interval from one to the next.
	Interval time.Duration
	// Wait for an answer; what comes later counts as lost. 0 = 1 s.
	Wait time.Duration
	// Size and AnswerSize of frames; AnswerSize 0 = Size.
	Size, AnswerSize int
}

// Event is what became of one probe.
type Event struct {
	Seq uint32 `json:"seq"`
	// RTT in milliseconds; nil when no answer came.
	RTT *float64 `json:"rtt_ms,omitempty"`
	// Came and Size are how long the frames of probe and answer were when they
	// arrived.
	Came int `json:"came,omitempty"`
	Size int `json:"size,omitempty"`
	// Error says why it was not sent.
	Error string `json:"error,omitempty"`
}

// Summary is what became of all.
type Summary struct {
	Sent       int `json:"sent"`
	Received   int `json:"received"`
	Duplicates int `json:"duplicates"`
	// Unsent probes were refused by this host.
	Unsent int     `json:"unsent"`
	Loss   float64 `json:"loss_percent"`
	// RTT is nil when nothing was received.
	RTT *RTT `json:"rtt_ms,omitempty"`
	// Error is that of the last probe that was not sent.
	Error string `json:"error,omitempty"`
}

// RTT are round-trip times in milliseconds. P50 and P99 are of the last 65536.
type RTT struct {
	Min float64 `json:"min"`
	Avg float64 `json:"avg"`
	Max float64 `json:"max"`
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// mostTimes bounds the round-trip times that are kept.
const mostTimes = 1 << 16

// Milliseconds is a duration as JSON shows it, to the microsecond.
func Milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// Tally makes a Summary of events.
type Tally struct {
	s     Summary
	sum   float64
	times []float64
}

// Count takes one event in.
func (t *Tally) Count(e Event) {
	if e.Error != "" {
		t.s.Unsent++
		t.s.Error = e.Error
		return
	}
	t.s.Sent++
	if e.RTT == nil {
		return
	}
	ms := *e.RTT
	if t.s.RTT == nil {
		t.s.RTT = &RTT{Min: ms, Max: ms}
	}
	t.s.RTT.Min, t.s.RTT.Max = min(t.s.RTT.Min, ms), max(t.s.RTT.Max, ms)
	if len(t.times) < mostTimes {
		t.times = append(t.times, ms)
	} else {
		t.times[t.s.Received%mostTimes] = ms
	}
	t.sum += ms
	t.s.Received++
}

// Summary is that of the events so far.
func (t *Tally) Summary() Summary {
	s := t.s
	if s.Sent > 0 {
		s.Loss = 100 * float64(s.Sent-s.Received) / float64(s.Sent)
	}
	if s.RTT != nil {
		rtt := *s.RTT
		sorted := slices.Sorted(slices.Values(t.times))
		rtt.Avg = math.Round(t.sum/float64(s.Received)*1000) / 1000
		rtt.P50 = sorted[(len(sorted)*50+99)/100-1]
		rtt.P99 = sorted[(len(sorted)*99+99)/100-1]
		s.RTT = &rtt
	}
	return s
}

// waiting is a probe without an answer.
type waiting struct {
	seq  uint32
	sent time.Time
}

// Run sends probes as planned and calls each with what became of them: as the
// answers come, and of lost ones when they were waited for long enough. It ends
// when all are accounted for or the context is done; probes that were then not
// waited for long enough are not counted as sent. Each probe is a flow of its own,
// so that all paths of the underlay are tried.
func Run(ctx context.Context, line Line, plan Plan, each func(Event)) Summary {
	if plan.Wait <= 0 {
		plan.Wait = time.Second
	}
	if plan.AnswerSize == 0 {
		plan.AnswerSize = plan.Size
	}
	var t Tally
	tell := func(e Event) {
		t.Count(e)
		each(e)
	}
	var open []waiting // by time
	next := uint32(1)
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for {
		more := plan.Count == 0 || int(next) <= plan.Count
		now := time.Now()
		for len(open) > 0 && now.Sub(open[0].sent) >= plan.Wait {
			tell(Event{Seq: open[0].seq})
			open = open[1:]
		}
		if more && !now.Before(due) {
			sent, err := line.Send(vtep.Probe{Seq: next, Size: plan.Size, AnswerSize: plan.AnswerSize, Flow: next})
			if err != nil {
				tell(Event{Seq: next, Error: Explain(err)})
			} else {
				open = append(open, waiting{next, sent})
			}
			next++
			due = due.Add(plan.Interval)
			if due.Before(now) {
				due = now // no bursts to catch up
			}
			continue
		}
		if !more && len(open) == 0 {
			return t.Summary()
		}
		until := due
		if !more || len(open) > 0 && open[0].sent.Add(plan.Wait).Before(due) {
			until = open[0].sent.Add(plan.Wait)
		}
		timer.Reset(max(time.Until(until), 0))
		select {
		case <-ctx.Done():
			return t.Summary()
		case <-timer.C:
		case a, ok := <-line.Answers():
			if !ok {
				t.s.Error = Ended
				return t.Summary()
			}
			i := slices.IndexFunc(open, func(w waiting) bool { return w.seq == a.Seq })
			if i < 0 {
				if a.Seq < next { // or late, which is as good as lost
					t.s.Duplicates++
				}
				continue
			}
			ms := Milliseconds(a.At.Sub(open[i].sent))
			open = slices.Delete(open, i, i+1)
			tell(Event{Seq: a.Seq, RTT: &ms, Came: a.Came, Size: a.Size})
		}
	}
}

// tooLong says whether a probe was refused by this host for its length.
func tooLong(err error) bool {
	return errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, transport.ErrTooLong)
}

// Ended is Summary.Error when the Line ended first.
const Ended = "the endpoint has ended"

// Explain says why a probe was not sent.
func Explain(err error) string {
	switch {
	case tooLong(err):
		return "longer than the underlay device here carries"
	case errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "the host cannot be reached"
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return "this host's firewall does not let it out"
	case errors.Is(err, syscall.ENETDOWN):
		return "the underlay device is down"
	}
	return err.Error()
}
