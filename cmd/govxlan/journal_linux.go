package main

import (
	"fmt"
	"os"
	"syscall"
)

// fileID is the device and inode of a file, as in JOURNAL_STREAM.
func fileID(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", os.ErrInvalid
	}
	return fmt.Sprintf("%d:%d", s.Dev, s.Ino), nil
}
