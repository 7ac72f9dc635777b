package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// ErrNotRunning: no endpoint listens where it was looked for.
var ErrNotRunning = errors.New("no endpoint runs in this network namespace: start one with 'govxlan up', or name its socket with --control")

// Client asks one endpoint.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client of the endpoint that listens at path.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
		Timeout:   10 * time.Second,
	}}
}

// Status returns the endpoint's status, with all VNIs or with some.
func (c *Client) Status(ctx context.Context, only ...vxlan.VNI) (s Status, err error) {
	return s, c.get(ctx, "/v1/status", vniQuery(only), &s)
}

// Stats returns the counters of all VNIs, or of some.
func (c *Client) Stats(ctx context.Context, only ...vxlan.VNI) (s vtep.Stats, err error) {
	return s, c.get(ctx, "/v1/stats", vniQuery(only), &s)
}

// FDB returns the tables of all VNIs, or of some.
func (c *Client) FDB(ctx context.Context, only ...vxlan.VNI) (entries []vtep.EntryStatus, err error) {
	return entries, c.get(ctx, "/v1/fdb", vniQuery(only), &entries)
}

// get asks and decodes the answer.
func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	return c.ask(ctx, http.MethodGet, path, q, nil, into)
}

// post has something done, and decodes the answer.
func (c *Client) post(ctx context.Context, path string, wish, into any) error {
	body, err := json.Marshal(wish)
	if err != nil {
		return err
	}
	return c.ask(ctx, http.MethodPost, path, nil, body, into)
}

func (c *Client) ask(ctx context.Context, method, path string, q url.Values, body []byte, into any) error {
	resp, err := c.do(ctx, &c.http, method, path, q, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("control socket %s: answer: %w", c.path, err)
	}
	return nil
}

// do asks and returns the answer if it is a good one; its body is the caller's
// to close.
func (c *Client) do(ctx context.Context, by *http.Client, method, path string, q url.Values, body []byte) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: "govxlan", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := by.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("control socket %s: %w", c.path, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("control socket %s: only the user who runs the endpoint may ask it: run this as root", c.path)
	case err != nil:
		return nil, fmt.Errorf("control socket %s: %w", c.path, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, failure(resp)
	}
	return resp, nil
}

// failure is what an answer that is no success says.
func failure(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	var f Failure
	if json.Unmarshal(text, &f) == nil && f.Error != "" {
		return errors.New(f.Error)
	}
	// Not from a Server, or before one looked at the request.
	return fmt.Errorf("control socket: %s: %s", resp.Status, strings.TrimSpace(string(text)))
}
