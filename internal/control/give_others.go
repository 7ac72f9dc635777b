//go:build !linux

package control

import "errors"

// PathOf is for Linux only.
func PathOf(uint16, int) (string, error) {
	return "", errors.New("changing the user is for Linux only")
}

// ListenFor is for Linux only.
func ListenFor(int, int, string, Endpoint, string) (*Server, error) {
	return nil, errors.New("changing the user is for Linux only")
}
