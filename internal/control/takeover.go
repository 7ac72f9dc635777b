package control

import (
	"context"
	"net"
	"net/http"
)

// Takeover is the wish of another process to go on in place of this one.
type Takeover struct {
	// Door is the name of a Unix socket at which it waits for the descriptors.
	Door string `json:"door"`
	// Version and Process say who it is.
	Version string `json:"version"`
	Process int    `json:"pid"`
}

// TakenOver is who will hand over.
type TakenOver struct {
	Version string `json:"version"`
	Process int    `json:"pid"`
}

func (s *Server) takeoverRoutes(mux *http.ServeMux, p Process) {
	mux.HandleFunc("POST /v1/takeover", func(w http.ResponseWriter, r *http.Request) { change(s, w, r, p.TakeOver) })
}

// TakeOver asks the endpoint to hand over.
func (c *Client) TakeOver(ctx context.Context, wish Takeover) (t TakenOver, err error) {
	return t, c.post(ctx, "/v1/takeover", wish, &t)
}

// Path is where the server listens.
func (s *Server) Path() string { return s.socket.Addr().String() }

// Socket calls f with the descriptor of the socket, for another process to
// listen on (Inherit).
func (s *Server) Socket(f func(fd int)) error {
	raw, err := s.socket.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// Keep says whether the socket is this server's to remove in the end.
func (s *Server) Keep(yes bool) { s.socket.SetUnlinkOnClose(yes) }

// Inherit is Listen on a socket that another process listens on. Until Keep(true)
// it is left to that one.
func Inherit(socket *net.UnixListener, endpoint Endpoint, version string) *Server {
	socket.SetUnlinkOnClose(false)
	return newServer(socket, endpoint, version)
}
