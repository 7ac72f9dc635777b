package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/internal/ping"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// ProbeEndpoint is what a Server sends probes with.
type ProbeEndpoint interface {
	NewProber(vxlan.VNI, netip.AddrPort) (*vtep.Prober, error)
}

// Ping is a wish to probe a VTEP.
type Ping struct {
	// VNI may be nil where the endpoint has one VNI.
	VNI  *vxlan.VNI `json:"vni,omitempty"`
	VTEP netip.Addr `json:"vtep"`
	Port uint16     `json:"port,omitempty"` // 0: where its frames go to

	// Count of probes; 0: until the client goes away. -1: none.
	Count      int     `json:"count"`
	Interval   float64 `json:"interval_ms"`
	Wait       float64 `json:"wait_ms,omitempty"` // 0: a second
	Size       int     `json:"size"`
	AnswerSize int     `json:"answer_size,omitempty"` // 0: size

	// MostMTU, above 0, has the path's MTU found, up to so many bytes.
	MostMTU int `json:"most_mtu,omitempty"`
	// Burst, above 0, has so many probes of Size sent as one superframe.
	Burst int `json:"burst,omitempty"`
}

// PingEvent is one line of the answer.
type PingEvent struct {
	// Start is the first.
	Start *PingStart `json:"start,omitempty"`
	// Probe: what became of one.
	Probe *ping.Event `json:"probe,omitempty"`
	// Summary, MTU and Burst (how many were answered) come last, if they were
	// asked for.
	Summary *ping.Summary `json:"summary,omitempty"`
	MTU     *ping.MTU     `json:"mtu,omitempty"`
	Burst   *int          `json:"burst,omitempty"`
}

// PingStart says what is probed.
type PingStart struct {
	VTEP netip.Addr `json:"vtep"`
	Port uint16     `json:"port"`
	VNI  vxlan.VNI  `json:"vni"`
}

// Limits of a Ping.
const (
	leastInterval = 5 * time.Millisecond
	mostWait      = 10 * time.Second
)

func (p *Ping) check() error {
	switch {
	case !p.VTEP.IsValid() || p.VTEP.IsMulticast():
		return fmt.Errorf("vtep %v: give the address of one VTEP", p.VTEP)
	case p.Count < -1:
		return fmt.Errorf("count %d: give how many, or 0 for no end", p.Count)
	case p.Size < vtep.MinProbe || p.Size > vtep.MaxProbe:
		return fmt.Errorf("size %d: give %d to %d bytes", p.Size, vtep.MinProbe, vtep.MaxProbe)
	case p.AnswerSize < 0 || p.AnswerSize > p.Size:
		return fmt.Errorf("answer_size %d: give 0 to the %d bytes of size", p.AnswerSize, p.Size)
	case p.Count >= 0 && !(milliseconds(p.Interval) >= leastInterval && p.Interval <= 3600e3):
		return fmt.Errorf("interval_ms %v: give at least %v", p.Interval, leastInterval)
	case !(p.Wait >= 0 && p.Wait <= float64(mostWait/time.Millisecond)):
		return fmt.Errorf("wait_ms %v: give %v at most", p.Wait, mostWait)
	case p.MostMTU < 0 || p.MostMTU > 65535+vxlan.IPv6Len:
		return fmt.Errorf("most_mtu %d: give the length of an IP packet", p.MostMTU)
	case p.Burst < 0 || p.Burst > 64:
		return fmt.Errorf("burst %d: give 1 to 64", p.Burst)
	}
	return nil
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

func (s *Server) pingRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/ping", s.ping)
}

// ping answers with one JSON object a line, until all that was asked for is
// known or the client has gone.
func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	var wish Ping
	if err := readWish(w, r, &wish); err != nil {
		http.Error(w, "request: "+err.Error(), http.StatusBadRequest)
		return
	}
	if err := wish.check(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, done, ok := s.stream(w, r)
	if !ok {
		return
	}
	defer done()
	vni, err := s.only(wish.VNI)
	if err != nil {
		http.Error(w, plain(err), statusOf(err))
		return
	}
	p, err := s.endpoint.NewProber(vni, netip.AddrPortFrom(wish.VTEP, wish.Port))
	if err != nil {
		http.Error(w, plain(err), statusOf(err))
		return
	}
	defer p.Close()
	rc := http.NewResponseController(w)
	if rc.SetReadDeadline(time.Time{}) != nil {
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := json.NewEncoder(w)
	// What the endpoint's end cuts short has no summary, and no good end.
	whole := func() {
		if s.ending.Err() != nil {
			panic(http.ErrAbortHandler)
		}
	}
	tell := func(e PingEvent) {
		whole()
		if rc.SetWriteDeadline(time.Now().Add(watchPatience)) != nil || lines.Encode(e) != nil || rc.Flush() != nil {
			cancel()
		}
	}
	tell(PingEvent{Start: &PingStart{p.To().Addr(), p.To().Port(), vni}})
	wish.do(ctx, p, tell)
	whole()
}

// do does what is wished for.
func (p *Ping) do(ctx context.Context, line ping.Line, tell func(PingEvent)) {
	wait := milliseconds(p.Wait)
	if wait == 0 {
		wait = time.Second
	}
	if p.Count >= 0 {
		s := ping.Run(ctx, line, ping.Plan{
			Count: p.Count, Interval: milliseconds(p.Interval), Wait: wait,
			Size: p.Size, AnswerSize: p.AnswerSize,
		}, func(e ping.Event) { tell(PingEvent{Probe: &e}) })
		tell(PingEvent{Summary: &s})
		if s.RTT != nil {
			wait = ping.Patience(s.RTT.Max, wait)
		}
	}
	if p.MostMTU > 0 && ctx.Err() == nil {
		m := ping.FindMTU(ctx, line, ping.Overhead(p.VTEP), p.MostMTU, wait, false)
		tell(PingEvent{MTU: &m})
	}
	if p.Burst > 0 && ctx.Err() == nil {
		n, _ := ping.Burst(ctx, line, p.Burst, p.Size, wait)
		tell(PingEvent{Burst: &n})
	}
}

// DoPing does the same over a Line that needs no endpoint.
func DoPing(ctx context.Context, p Ping, line ping.Line, each func(PingEvent)) { p.do(ctx, line, each) }

// Ping has the endpoint probe a VTEP, and calls each with what comes of it.
func (c *Client) Ping(ctx context.Context, wish Ping, each func(PingEvent)) error {
	body, err := json.Marshal(wish)
	if err != nil {
		return err
	}
	endless := c.http
	endless.Timeout = 0
	resp, err := c.do(ctx, &endless, http.MethodPost, "/v1/ping", nil, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var e PingEvent
		err := d.Decode(&e)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("control socket %s: %w", c.path, ErrEnded)
		case err != nil:
			return fmt.Errorf("control socket %s: %w", c.path, err)
		}
		each(e)
	}
}
