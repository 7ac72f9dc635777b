//go:build !linux

// Package dockerlab is for Linux alone.
package dockerlab
