//go:build !linux

package control

import "errors"

// PathOf is for Linux only.
func PathOf(uint16, int) (string, error) {
	return "", errors.New("changing the user is for Linux only")
}

// Path of the socket.
func (s *Server) Path() string { return s.listener.Addr().String() }

// ListenFor is for Linux only.
func ListenFor(int, int, string, Endpoint, string) (*Server, error) {
	return nil, errors.New("changing the user is for Linux only")
}
