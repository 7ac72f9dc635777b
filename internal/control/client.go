package control

import (
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

// Status returns the endpoint's status.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.get(ctx, "/v1/status", nil, &s)
}

// FDB returns the tables of all VNIs, or of some.
func (c *Client) FDB(ctx context.Context, only ...vxlan.VNI) (entries []vtep.EntryStatus, err error) {
	q := url.Values{}
	for _, v := range only {
		q.Add("vni", v.String())
	}
	return entries, c.get(ctx, "/v1/fdb", q, &entries)
}

// get asks and decodes the answer.
func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	u := url.URL{Scheme: "http", Host: "govxlan", Path: path, RawQuery: q.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("control socket %s: %w", c.path, ErrNotRunning)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("control socket %s: only the user who runs the endpoint may ask it: run this as root", c.path)
	case err != nil:
		return fmt.Errorf("control socket %s: %w", c.path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if err != nil {
			return err
		}
		return errors.New(strings.TrimSpace(string(text)))
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("control socket %s: answer: %w", c.path, err)
	}
	return nil
}
