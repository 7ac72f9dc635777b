//go:build !linux

package control

import "net"

// admit leaves it to the mode of the socket who may ask, which is all that every
// system has.
func admit(net.Conn) error { return nil }
