//go:build !linux

package fdb

// adviseHugePages is for Linux.
func adviseHugePages([]slot) {}
