//go:build !linux

package control

import (
	"fmt"
	"os"
	"path/filepath"
)

// DefaultPath is where the endpoint listens that owns the UDP port.
func DefaultPath(port uint16) (string, error) {
	return filepath.Join(os.TempDir(), fmt.Sprintf("govxlan-%d.sock", port)), nil
}

// Find returns the only socket of this host, whatever the port.
func Find() (string, error) {
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "govxlan-*.sock"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", ErrNotRunning
	}
	return found[0], nil
}

// FindPort returns the socket of the endpoint that owns the UDP port.
func FindPort(port uint16) (string, error) { return DefaultPath(port) }
