package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Endpoint is what a Server tells about and changes; *vtep.Endpoint is one.
type Endpoint interface {
	FDBEndpoint
	NeighbourEndpoint
	Status() vtep.Status
	FDB(only ...vxlan.VNI) []vtep.EntryStatus
}

// Status is vtep.Status with what only the program knows.
type Status struct {
	Version string `json:"version"`
	vtep.Status
}

// Server answers on a control socket.
type Server struct {
	endpoint Endpoint
	version  string
	listener net.Listener
	socket   *net.UnixListener
	takeover func(Takeover) (TakenOver, error)
	http     http.Server
}

// Listen makes the socket, for its owner only. A socket that a dead process
// left behind is replaced; one that somebody answers on is not.
func Listen(path string, endpoint Endpoint, version string) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w (choose another place with --control)", err)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("control socket %s: another process answers there: choose another with --control", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w (choose another place with --control)", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return newServer(listener.(*net.UnixListener), endpoint, version), nil
}

// newServer makes a server on a socket.
func newServer(socket *net.UnixListener, endpoint Endpoint, version string) *Server {
	s := &Server{endpoint: endpoint, version: version, listener: socket, socket: socket}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/fdb", s.fdb)
	s.fdbRoutes(mux)
	s.neighbourRoutes(mux)
	s.takeoverRoutes(mux)
	if p, ok := endpoint.(Process); ok {
		s.processRoutes(mux, p)
	}
	s.http = http.Server{
		Handler:        mux,
		ReadTimeout:    5 * time.Second,
		WriteTimeout:   30 * time.Second,
		MaxHeaderBytes: 16 << 10,
	}
	return s
}

// Serve answers until ctx is done, then removes the socket.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("control socket: %w", err)
}

// Close removes the socket of a server that never served.
func (s *Server) Close() error { return s.listener.Close() }

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, Status{Version: s.version, Status: s.endpoint.Status()})
}

func (s *Server) fdb(w http.ResponseWriter, r *http.Request) {
	if only, ok := chosenVNIs(w, r); ok {
		answer(w, s.endpoint.FDB(only...))
	}
}

// chosenVNIs are those that a request is about, none for all of them. It
// answers itself when they are none.
func chosenVNIs(w http.ResponseWriter, r *http.Request) (only []vxlan.VNI, ok bool) {
	for _, v := range r.URL.Query()["vni"] {
		vni, err := vxlan.ParseVNI(v)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return nil, false
		}
		only = append(only, vni)
	}
	return only, true
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// The client is gone when this fails; nobody is left to be told.
	_ = json.NewEncoder(w).Encode(v)
}
