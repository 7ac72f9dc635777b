package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/privilege"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Endpoint is what a Server tells about and changes; *vtep.Endpoint is one.
type Endpoint interface {
	FDBEndpoint
	NeighbourEndpoint
	ProbeEndpoint
	CaptureEndpoint
	Status(only ...vxlan.VNI) vtep.Status
	Stats(only ...vxlan.VNI) (vtep.Stats, error)
	FDB(only ...vxlan.VNI) []vtep.EntryStatus
}

// Status is vtep.Status with what only the program knows.
type Status struct {
	Version string `json:"version"`
	// Process is the one that answers.
	Process Cost `json:"process"`
	// Privileges are what it has of the host's.
	Privileges privilege.Status `json:"privileges"`
	vtep.Status
}

// Server answers on a control socket.
type Server struct {
	endpoint Endpoint
	version  string
	listener net.Listener
	socket   *net.UnixListener
	http     http.Server
	streams  chan struct{}   // takes one for each answer without end
	ending   context.Context // done when those are to end
	end      context.CancelFunc
}

// Listen makes the socket, for its owner only. A socket that a dead process
// left behind is replaced; one that somebody answers on is not, and neither is
// what is no socket.
func Listen(path string, endpoint Endpoint, version string) (*Server, error) {
	listener, err := bind(path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w (choose another place with --control)", path, err)
	}
	return newServer(listener, endpoint, version), nil
}

// newServer makes a server on a socket.
func newServer(socket *net.UnixListener, endpoint Endpoint, version string) *Server {
	s := &Server{endpoint: endpoint, version: version, listener: newDoor(socket), socket: socket, streams: make(chan struct{}, mostStreams)}
	s.ending, s.end = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/stats", s.stats)
	mux.HandleFunc("GET /v1/fdb", s.fdb)
	s.fdbRoutes(mux)
	s.neighbourRoutes(mux)
	s.pingRoutes(mux)
	mux.HandleFunc("GET /v1/capture", s.capture)
	if p, ok := endpoint.(Process); ok {
		s.processRoutes(mux, p)
		s.memberRoutes(mux, p)
		s.takeoverRoutes(mux, p)
	}
	s.http = http.Server{
		Handler:        s.guard(mux),
		ConnContext:    introduce,
		ReadTimeout:    5 * time.Second,
		WriteTimeout:   30 * time.Second,
		IdleTimeout:    10 * time.Second,
		MaxHeaderBytes: 16 << 10,
		// What clients do wrong they are told; it is no news for the log.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return s
}

// bind makes the socket file and listens on it.
func bind(path string) (*net.UnixListener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// Two that begin at once both find the socket of a dead one: the second must
	// not take that of the first for it.
	defer lockDirectory(dir)()
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("there is something that is no socket, and it stays")
	default:
		if err := removeDead(path); err != nil {
			return nil, err
		}
	}
	return listenUnix(path)
}

// removeDead removes a socket that nobody listens on.
func removeDead(path string) error {
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		return errors.New("another process answers there")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil // it has just gone
	}
	return fmt.Errorf("another process seems to answer there: %w", err)
}

// Serve answers until ctx is done, then removes the socket.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.endStreams()
		s.http.Close()
	})
	defer stop()
	defer s.end()
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("control socket: %w", err)
}

// Close removes the socket of a server that never served.
func (s *Server) Close() error { return s.listener.Close() }

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if only, ok := s.knownVNIs(w, r); ok {
		answer(w, Status{Version: s.version, Process: thisProcess(), Privileges: privilege.Current(), Status: s.endpoint.Status(only...)})
	}
}

func (s *Server) stats(w http.ResponseWriter, r *http.Request) {
	only, ok := chosenVNIs(w, r)
	if !ok {
		return
	}
	stats, err := s.endpoint.Stats(only...)
	if err != nil {
		http.Error(w, plain(err), statusOf(err))
		return
	}
	answer(w, stats)
}

func (s *Server) fdb(w http.ResponseWriter, r *http.Request) {
	if only, ok := s.knownVNIs(w, r); ok {
		answer(w, s.endpoint.FDB(only...))
	}
}

// chosenVNIs are those that a request is about, by its parameters vni; none
// stands for all of them. It answers itself when the request is wrong.
func chosenVNIs(w http.ResponseWriter, r *http.Request) (only []vxlan.VNI, ok bool) {
	for name, values := range r.URL.Query() {
		if name != "vni" {
			http.Error(w, fmt.Sprintf("there is no parameter %q here, only vni", name), http.StatusBadRequest)
			return nil, false
		}
		for _, v := range values {
			vni, err := vxlan.ParseVNI(v)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return nil, false
			}
			only = append(only, vni)
		}
	}
	return only, true
}

// knownVNIs is chosenVNIs for what only VNIs that are here can tell.
func (s *Server) knownVNIs(w http.ResponseWriter, r *http.Request) (only []vxlan.VNI, ok bool) {
	if only, ok = chosenVNIs(w, r); !ok || len(only) == 0 {
		return only, ok
	}
	if _, err := s.endpoint.Stats(only...); err != nil {
		http.Error(w, plain(err), statusOf(err))
		return nil, false
	}
	return only, true
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// The client is gone when this fails; nobody is left to be told.
	_ = json.NewEncoder(w).Encode(v)
}
