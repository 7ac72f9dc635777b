package dockerplugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	api "github.com/docker/go-plugins-helpers/network"
)

const (
	// afterlife is how long what a killed process had may stay.
	afterlife = 2 * time.Second
	pause     = 20 * time.Millisecond
)

// Listen opens the socket that Docker finds the driver by. One that a killed
// process left is replaced.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("plugin socket: %w", err)
	}
	// One that was killed a moment ago is connected to until the kernel has closed
	// all that it had open.
	conn, err := net.Dial("unix", path)
	for deadline := time.Now().Add(afterlife); err == nil && time.Now().Before(deadline); conn, err = net.Dial("unix", path) {
		conn.Close()
		time.Sleep(pause)
	}
	if err == nil {
		conn.Close()
		return nil, fmt.Errorf("plugin socket %s: another driver answers there: stop it, or choose another name with --name", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("plugin socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("plugin socket: %w", err)
	}
	// Whoever may speak to the driver is root, as Docker is.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("plugin socket: %w", err)
	}
	return l, nil
}

// Serve answers Docker until ctx is done. The listener is closed then, and its
// file removed.
func (d *Driver) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	err := api.NewHandler(remote{d}).Serve(l)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("plugin socket: %w", err)
}
