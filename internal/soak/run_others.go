//go:build !linux

package soak

import (
	"context"
	"errors"
)

// Run needs Linux: network namespaces and the kernel's vxlan.
func Run(context.Context, Config) (*Report, error) {
	return nil, errors.New("a soak needs Linux: network namespaces and the kernel's vxlan device")
}
