//go:build !linux

package transport

import "errors"

// ListenUDP is for Linux only so far; it returns an error that wraps
// errors.ErrUnsupported.
func ListenUDP(UDPConfig) (Conn, error) {
	return nil, &unsupportedError{}
}

// InheritUDP is for Linux only; it returns an error that wraps
// errors.ErrUnsupported.
func InheritUDP(UDPConfig, Handover, []int) (Conn, error) {
	return nil, &unsupportedError{}
}

type unsupportedError struct{}

func (*unsupportedError) Error() string {
	return "UDP transport: not on this system yet; transport.Network works everywhere"
}

func (*unsupportedError) Unwrap() error { return errors.ErrUnsupported }
