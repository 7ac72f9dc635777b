//go:build !linux

package main

import "context"

// run has nothing to listen to here.
func (f *follower) run(context.Context) error { return nil }
