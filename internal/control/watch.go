package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// ErrEnded: the endpoint that was watched has ended.
var ErrEnded = errors.New("the endpoint has ended")

// watchPatience is how long a client may take to accept one event.
const watchPatience = 10 * time.Second

// watch answers with one JSON object a line, an event each, for as long as the
// client listens.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	only, ok := chosenVNIs(w, r)
	if !ok {
		return
	}
	ctx, done, ok := s.stream(w, r)
	if !ok {
		return
	}
	defer done()
	events, err := s.endpoint.Watch(0, only...)
	if err != nil {
		http.Error(w, plain(err), http.StatusServiceUnavailable)
		return
	}
	defer events.Close()
	rc := http.NewResponseController(w)
	// The timeouts of the server are for answers that end.
	if rc.SetReadDeadline(time.Time{}) != nil || rc.SetWriteDeadline(time.Now().Add(watchPatience)) != nil {
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return
	}
	lines := json.NewEncoder(w)
	for {
		e, err := events.Next(ctx)
		if err != nil {
			return
		}
		if rc.SetWriteDeadline(time.Now().Add(watchPatience)) != nil || lines.Encode(e) != nil || rc.Flush() != nil {
			return
		}
	}
}

// Events is a stream of events.
type Events struct {
	client *Client
	body   io.ReadCloser
	lines  *json.Decoder
}

// Watch subscribes to the changes in the FDBs of all VNIs, or of some. What
// happens after it has returned is in the stream. ctx ends the stream too.
func (c *Client) Watch(ctx context.Context, only ...vxlan.VNI) (*Events, error) {
	endless := c.http
	endless.Timeout = 0
	resp, err := c.do(ctx, &endless, http.MethodGet, "/v1/watch", vniQuery(only), nil)
	if err != nil {
		return nil, err
	}
	return &Events{c, resp.Body, json.NewDecoder(resp.Body)}, nil
}

// Next waits for the next event. It returns ErrEnded when the endpoint has
// ended, and the context's error when that is done.
func (e *Events) Next() (event vtep.Event, err error) {
	err = e.lines.Decode(&event)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return event, fmt.Errorf("control socket %s: %w", e.client.path, ErrEnded)
	case err != nil:
		return event, fmt.Errorf("control socket %s: %w", e.client.path, err)
	}
	return event, nil
}

// Close ends the stream.
func (e *Events) Close() error { return e.body.Close() }
