//go:build !linux

package daemon

import "context"

// follow has nothing to listen to here.
func (d *Daemon) follow(context.Context) error { return nil }
