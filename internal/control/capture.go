package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/pcapng"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// CaptureEndpoint is what a Server captures from.
type CaptureEndpoint interface {
	Capture(vtep.CaptureConfig) (*vtep.Capture, error)
}

// CaptureWish says what is to be captured.
type CaptureWish struct {
	vtep.CaptureConfig
	// Count ends the capture after so many frames. 0 = never.
	Count uint64
	// Notes has a CaptureNote with each packet, for programs of ours.
	Notes bool
}

// CaptureNote is what pcapng has no place for.
type CaptureNote struct {
	VNI     *vxlan.VNI     `json:"vni,omitempty"`
	Device  string         `json:"device,omitempty"`
	Peer    netip.AddrPort `json:"peer,omitzero"`
	Verdict string         `json:"verdict"`
	Dropped bool           `json:"dropped,omitempty"`
	Outer   bool           `json:"outer,omitempty"`
}

// underlayName and underlayDescription are those of the interface of outer
// packets.
const (
	underlayName        = "underlay"
	underlayDescription = "packets of the VTEP; their outer Ethernet, IP and UDP headers are made up of what it knows: " +
		"MAC addresses, IPv4 identification, and TTL of what arrives may be 0, checksums are computed"
)

// values are the parameters of a wish; what is left to its default is left out.
func (w *CaptureWish) values() url.Values {
	q := vniQuery(w.VNIs)
	text := func(name, value string, given bool) {
		if given {
			q.Set(name, value)
		}
	}
	text("peer", w.Peer.String(), w.Peer.IsValid())
	text("mac", w.MAC.String(), !w.MAC.IsZero())
	text("ip", w.IP.String(), w.IP.IsValid())
	text("direction", w.Direction.String(), w.Direction != vtep.Both)
	text("drops", "true", w.Drops)
	text("inner", "true", w.Inner)
	text("notes", "true", w.Notes)
	text("snaplen", strconv.Itoa(w.SnapLen), w.SnapLen != 0)
	text("buffer", strconv.Itoa(w.Buffer), w.Buffer != 0)
	text("count", strconv.FormatUint(w.Count, 10), w.Count != 0)
	return q
}

// parseCapture is the reverse of values.
func parseCapture(q url.Values) (w CaptureWish, err error) {
	parse := map[string]func(string) error{
		"vni": func(s string) error {
			v, err := vxlan.ParseVNI(s)
			w.VNIs = append(w.VNIs, v)
			return err
		},
		"peer":      func(s string) (err error) { w.Peer, err = netip.ParseAddr(s); return err },
		"mac":       func(s string) error { return w.MAC.UnmarshalText([]byte(s)) },
		"ip":        func(s string) (err error) { w.IP, err = netip.ParsePrefix(s); return err },
		"direction": func(s string) (err error) { w.Direction, err = vtep.ParseDirection(s); return err },
		"drops":     func(s string) (err error) { w.Drops, err = strconv.ParseBool(s); return err },
		"inner":     func(s string) (err error) { w.Inner, err = strconv.ParseBool(s); return err },
		"notes":     func(s string) (err error) { w.Notes, err = strconv.ParseBool(s); return err },
		"snaplen":   func(s string) (err error) { w.SnapLen, err = strconv.Atoi(s); return err },
		"buffer":    func(s string) (err error) { w.Buffer, err = strconv.Atoi(s); return err },
		"count":     func(s string) (err error) { w.Count, err = strconv.ParseUint(s, 10, 64); return err },
	}
	for name, values := range q {
		f := parse[name]
		switch {
		case f == nil:
			return w, fmt.Errorf("there is no parameter %q here", name)
		case len(values) > 1 && name != "vni":
			return w, fmt.Errorf("parameter %s comes %d times", name, len(values))
		}
		for _, s := range values {
			if err := f(s); err != nil {
				return w, fmt.Errorf("parameter %s=%q: %w", name, s, err)
			}
		}
	}
	return w, nil
}

// capture answers with a pcapng that goes on until the client closes its side of
// the connection: then comes what was captured before, and how many frames were
// missed. A client that does not read is waited for as long as it is there; it
// is its own captures that are missed.
func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	wish, err := parseCapture(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, done, ok := s.stream(w, r)
	if !ok {
		return
	}
	defer done()
	c, err := s.endpoint.Capture(wish.CaptureConfig)
	switch {
	case errors.Is(err, vtep.ErrCaptures), errors.Is(err, vtep.ErrClosed):
		http.Error(w, plain(err), http.StatusServiceUnavailable)
		return
	case err != nil:
		http.Error(w, plain(err), http.StatusBadRequest)
		return
	}
	defer c.Stop()
	defer context.AfterFunc(ctx, c.Stop)()
	rc := http.NewResponseController(w)
	// The timeouts of the server are for answers that end.
	if rc.SetReadDeadline(time.Time{}) != nil || rc.SetWriteDeadline(time.Time{}) != nil {
		return
	}
	w.Header().Set("Content-Type", "application/x-pcapng")
	w.WriteHeader(http.StatusOK)
	out := bufio.NewWriterSize(w, 64<<10)
	flush := func() error { return errors.Join(out.Flush(), rc.Flush()) }
	// The client is gone when this fails; nobody is left to be told.
	_ = writeCapture(c, &wish, out, flush, "govxlan "+s.version)
}

// writeCapture writes a capture until it ends.
func writeCapture(c *vtep.Capture, wish *CaptureWish, out io.Writer, flush func() error, application string) error {
	p, err := pcapng.NewWriter(out, application)
	if err != nil {
		return err
	}
	// The interface of the underlay is there from the beginning, to have
	// statistics.
	places := map[capturePlace]uint32{}
	if _, err = p.AddInterface(pcapng.Interface{Name: underlayName, Description: underlayDescription, SnapLen: uint32(wish.SnapLen)}); err != nil {
		return err
	}
	begun := time.Now()
	var count, told uint64
	statistics := func() error {
		now := time.Now()
		told = c.Missed()
		return p.WriteStatistics(&pcapng.Statistics{
			Time: now, Start: begun, End: now, Delivered: count, Missed: told,
		})
	}
	for {
		if !c.Pending() {
			if c.Missed() != told {
				if err := statistics(); err != nil {
					return err
				}
			}
			if err := flush(); err != nil {
				return err
			}
		}
		f, err := c.Next(context.Background())
		if err != nil {
			break // the capture has ended
		}
		number := uint32(0)
		if !f.Outer {
			at := capturePlace{f.Device, f.VNI, f.Known}
			var ok bool
			if number, ok = places[at]; !ok {
				i := at.describe()
				i.SnapLen = uint32(wish.SnapLen)
				if number, err = p.AddInterface(i); err != nil {
					return err
				}
				places[at] = number
			}
		}
		k := pcapng.Packet{Interface: number, Time: f.Time, Direction: pcapng.Inbound, Bytes: f.Bytes, Length: f.Length, Comment: f.Comment()}
		if f.Direction == vtep.Out {
			k.Direction = pcapng.Outbound
		}
		if wish.Notes {
			if k.Note, err = json.Marshal(note(f)); err != nil {
				return err
			}
		}
		if err := p.WritePacket(&k); err != nil {
			return err
		}
		if count++; count == wish.Count {
			c.Stop()
			break
		}
	}
	return errors.Join(statistics(), flush())
}

// capturePlace is where a frame without outer headers was seen.
type capturePlace struct {
	device string
	vni    vxlan.VNI
	known  bool // vni is
}

func (p capturePlace) describe() pcapng.Interface {
	switch {
	case !p.known:
		return pcapng.Interface{Name: p.device, Description: "frames of no VNI"}
	case p.device == "":
		return pcapng.Interface{Name: "vni" + p.vni.String(), Description: fmt.Sprintf("frames of VNI %v, which is not here", p.vni)}
	}
	return pcapng.Interface{Name: p.device, Description: fmt.Sprintf("frames of VNI %v", p.vni)}
}

func note(f *vtep.CapturedFrame) CaptureNote {
	n := CaptureNote{Device: f.Device, Peer: f.Peer, Verdict: f.Verdict.String(), Dropped: f.Verdict.Dropped(), Outer: f.Outer}
	if f.Known {
		n.VNI = &f.VNI
	}
	return n
}

// CaptureStream is a capture as it comes from the endpoint.
type CaptureStream struct {
	client  *Client
	body    io.ReadCloser
	conn    *net.UnixConn
	reader  *pcapng.Reader
	count   uint64 // of the wish
	stopped atomic.Bool

	// Delivered and Missed frames, as far as the blocks that were read tell.
	Delivered, Missed uint64
}

// Capture begins a capture. What passes after it has returned is in the stream.
// ctx ends the stream at once; see Stop.
func (c *Client) Capture(ctx context.Context, wish CaptureWish) (*CaptureStream, error) {
	s := &CaptureStream{client: c, count: wish.Count}
	// A connection of its own, of which one half can be closed.
	by := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", c.path)
			if err != nil {
				return nil, err
			}
			s.conn = conn.(*net.UnixConn)
			return conn, nil
		},
	}}
	resp, err := c.do(ctx, &by, http.MethodGet, "/v1/capture", wish.values(), nil)
	if err != nil {
		return nil, err
	}
	s.body, s.reader = resp.Body, pcapng.NewReader(resp.Body)
	return s, nil
}

// Stop has the endpoint end the capture: Next goes on with what was captured
// before. Any goroutine may call it.
func (s *CaptureStream) Stop() error {
	s.stopped.Store(true)
	return s.conn.CloseWrite()
}

// Close ends the stream.
func (s *CaptureStream) Close() error { return s.body.Close() }

// Ready says whether Next has a block without waiting.
func (s *CaptureStream) Ready() bool { return s.reader.Ready() }

// Next waits for the next block, which is valid until the next Next. Behind the
// last one it returns io.EOF when the capture was stopped or has its count, and
// an error that wraps ErrEnded when the endpoint has ended.
func (s *CaptureStream) Next() (*pcapng.Block, error) {
	b, err := s.reader.Next()
	switch {
	case err == nil:
	case errors.Is(err, io.EOF) && (s.stopped.Load() || s.count > 0 && s.Delivered >= s.count):
		return nil, io.EOF
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return nil, fmt.Errorf("control socket %s: %w", s.client.path, ErrEnded)
	default:
		return nil, fmt.Errorf("control socket %s: %w", s.client.path, err)
	}
	switch b.Type {
	case pcapng.TypePacket:
		s.Delivered++
	case pcapng.TypeStatistics:
		s.Missed = b.Statistics.Missed
	}
	return b, nil
}
