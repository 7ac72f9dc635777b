//go:build !unix

package main

import "os"

// hangups never tells of one: there is no such signal here.
func hangups() (<-chan os.Signal, func()) { return nil, func() {} }
