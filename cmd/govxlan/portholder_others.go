//go:build !linux

package main

// portHolder cannot tell on this system.
func portHolder(uint16) string { return "another program" }
