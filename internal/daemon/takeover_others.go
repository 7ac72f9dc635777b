//go:build !linux

package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/govxlan/govxlan/internal/control"
)

// claim is for Linux only.
func claim(context.Context, string, string) (*heritage, error) {
	return nil, fmt.Errorf("take over: %w", errors.ErrUnsupported)
}

// kept finds nothing: no service manager keeps descriptors here.
func kept() (*heritage, error) { return nil, nil }

func keeps() bool { return false }

func (*Daemon) keep() error { return errors.ErrUnsupported }

func (*Daemon) TakeOver(control.Takeover) (control.TakenOver, error) {
	return control.TakenOver{}, errors.ErrUnsupported
}

func (*heritage) listen(string, control.Endpoint, string) (*control.Server, error) { return nil, nil }

func (*heritage) close() {}
