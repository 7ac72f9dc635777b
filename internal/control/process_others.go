//go:build !linux

package control

import "github.com/govxlan/govxlan/vtep"

// cost is told on Linux only.
func cost() (cpu vtep.Seconds, memory uint64) { return 0, 0 }
