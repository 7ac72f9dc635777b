//go:build !linux

package transport

// ListenPacket is for Linux only; it returns an error that wraps
// errors.ErrUnsupported.
func ListenPacket(PacketConfig) (Conn, error) {
	return nil, &unsupportedError{}
}
