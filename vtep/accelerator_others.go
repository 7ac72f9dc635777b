//go:build !linux

package vtep

import (
	"errors"
	"net/netip"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vxlan"
)

// accelerator is for Linux.
type accelerator struct{}

func newAccelerator(*Endpoint) (*accelerator, error) {
	return nil, errors.New("it needs Linux")
}

func (*accelerator) close() error                     { return nil }
func (*accelerator) suits(*VNIConfig) error           { return nil }
func (*accelerator) add(*overlay) error               { return nil }
func (*accelerator) remove(*overlay)                  {}
func (*accelerator) note(*overlay, *fdb.Event)        {}
func (*accelerator) again(*overlay, vxlan.MAC)        {}
func (*accelerator) admit(*overlay, *peer)            {}
func (*accelerator) dismiss(*overlay, *peer)          {}
func (*accelerator) rerouted(netip.Addr)              {}
func (*accelerator) descriptors() []int               { return nil }
func (*accelerator) leave()                           {}
func (*accelerator) heldBack() string                 { return "" }
func (*accelerator) capture(bool)                     {}
func (*accelerator) changed(*overlay)                 {}
func (*accelerator) order() []ProgramsStatus          { return nil }
func (*accelerator) count()                           {}
func (*accelerator) refresh(func(vxlan.VNI) *overlay) {}
