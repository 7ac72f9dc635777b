//go:build !linux

package main

import (
	"context"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// forgetWhenDown does nothing here: what was learned ages.
func forgetWhenDown(context.Context, *vtep.Endpoint, []vxlan.VNI, tap.Config, *zap.Logger) error {
	return nil
}
