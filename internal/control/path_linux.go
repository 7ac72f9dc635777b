package control

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/govxlan/govxlan/internal/namespace"
)

// Directory holds the sockets of all endpoints of this host.
const Directory = "/run/govxlan"

// DefaultPath is where the endpoint of this network namespace listens that
// owns the UDP port.
func DefaultPath(port uint16) (string, error) {
	here, err := namespace.Here()
	if err != nil {
		return "", err
	}
	return filepath.Join(Directory, fmt.Sprintf("%d-%d.sock", port, here.Ino)), nil
}

// Find returns the only socket of this network namespace, whatever the port.
func Find() (string, error) {
	found, err := All()
	if err != nil {
		return "", err
	}
	if len(found) > 1 {
		// Those of processes that were killed do not count.
		found = slices.DeleteFunc(found, func(path string) bool {
			conn, err := net.Dial("unix", path)
			if err == nil {
				conn.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED)
		})
	}
	switch len(found) {
	case 0:
		return "", ErrNotRunning
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d endpoints run in this network namespace: choose one with --control: %v", len(found), found)
}

// sockets are those whose names are like a pattern: of root, and of users that
// endpoints changed to.
func sockets(pattern string) (found []string, err error) {
	for _, dir := range []string{Directory, filepath.Join(Directory, "*")} {
		some, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	return found, nil
}

// FindPort returns the socket of the endpoint of this network namespace that owns
// the UDP port, as far as it is at a usual place.
func FindPort(port uint16) (string, error) {
	path, err := DefaultPath(port)
	if err != nil {
		return "", err
	}
	if found, err := sockets(filepath.Base(path)); err == nil && len(found) > 0 {
		path = found[0]
	}
	return path, nil
}

// All are the sockets at usual places of the endpoints of this network namespace.
func All() ([]string, error) {
	here, err := namespace.Here()
	if err != nil {
		return nil, err
	}
	return sockets(fmt.Sprintf("*-%d.sock", here.Ino))
}
