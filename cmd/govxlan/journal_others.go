//go:build !linux

package main

import (
	"errors"
	"os"
)

// fileID is for Linux, which has the journal.
func fileID(*os.File) (string, error) { return "", errors.ErrUnsupported }
