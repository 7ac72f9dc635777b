//go:build !linux

package cni

import (
	"errors"
	"runtime"

	"github.com/containernetworking/cni/pkg/types"
)

// Main serves one call as a plugin: on Linux alone.
func Main(string) int {
	_ = fail(types.ErrInternal, "containers are joined to a VNI on Linux alone, not on %s", runtime.GOOS).Print()
	return 1
}

// MakeBridge makes a bridge: on Linux alone.
func MakeBridge(string) (made bool, err error) {
	return false, errors.ErrUnsupported
}
