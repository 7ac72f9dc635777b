//go:build !linux

package portholder

// Of knows of nobody on this system.
func Of(uint16) Holder { return Holder{} }
