package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/govxlan/govxlan/internal/control"
	"golang.org/x/sys/unix"
)

// lock keeps other calls from making and removing bridges and VNIs meanwhile. The
// kernel takes it back from a process that ends, however it does.
func lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(control.Directory, 0o755); err != nil {
		return nil, fail(types.ErrIOFailure, "%v", err)
	}
	f, err := os.OpenFile(filepath.Join(control.Directory, "cni.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fail(types.ErrIOFailure, "%v", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fail(types.ErrIOFailure, "%v", fmt.Errorf("lock %s: %w", f.Name(), err))
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fail(types.ErrTryAgainLater, "lock %s: other calls of the plugin have held it for %v", f.Name(), patience)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
