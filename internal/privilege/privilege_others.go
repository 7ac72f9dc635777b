//go:build !linux

package privilege

import (
	"errors"
	"os"
)

// Drop is for Linux only; where there is nothing to change to, it does nothing.
func Drop(w Wish) error {
	if w.User != nil {
		return errors.New("changing the user is for Linux only")
	}
	return nil
}

// MayBecome is for Linux only.
func MayBecome(*User) error { return errors.New("changing the user is for Linux only") }

// Current knows only the user here.
func Current() Status {
	s := Status{Capabilities: []string{}, UID: os.Geteuid(), GID: os.Getegid()}
	s.User = userName(s.UID)
	return s
}
