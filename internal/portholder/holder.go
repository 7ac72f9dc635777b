// Package portholder says who has a UDP port.
package portholder

import "fmt"

// Holder is who has a port.
type Holder struct {
	// Held is false where nobody has it, as far as this system tells.
	Held bool
	// Device is a vxlan device of the kernel, "" if it is none of this network
	// namespace.
	Device string
	// PID and Name of a process; 0 if none was found.
	PID  int
	Name string
	// Hidden: it may be a process that this user may not see.
	Hidden bool
}

func (h Holder) String() string {
	switch {
	case h.Device != "":
		return fmt.Sprintf("the kernel's vxlan device %s (see 'ip -d link show %s')", h.Device, h.Device)
	case h.PID != 0:
		return fmt.Sprintf("process %d (%s)", h.PID, h.Name)
	case h.Hidden:
		return "a process that this user may not see"
	case h.Held:
		// The device of this one may have been moved away.
		return "the kernel (a vxlan device of another network namespace, or a process of another process namespace)"
	}
	return "another program"
}
