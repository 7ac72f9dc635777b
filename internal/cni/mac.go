package cni

import (
	"crypto/sha256"
	"net"
)

// macOf is the MAC address of a container by its IP address: 02:42 and the four
// bytes of IPv4, as Docker has it, or bytes of a digest. So whoever has the
// address next has the MAC that its neighbours know already.
func macOf(ip net.IP) net.HardwareAddr {
	mac := net.HardwareAddr{0x02, 0x42, 0, 0, 0, 0}
	if ip4 := ip.To4(); ip4 != nil {
		copy(mac[2:], ip4)
		return mac
	}
	sum := sha256.Sum256(ip.To16())
	copy(mac[2:], sum[:])
	return mac
}
