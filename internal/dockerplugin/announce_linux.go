package dockerplugin

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// announcement is an ARP announcement (RFC 5227 section 3): all who hear it learn
// where the MAC is from now on, and whose the address is.
func announcement(mac vxlan.MAC, ip netip.Addr) []byte {
	b := make([]byte, 0, 60)
	b = append(b, vxlan.Broadcast[:]...)
	b = append(b, mac[:]...)
	b = append(b, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
	a := ip.As4()
	b = append(append(b, mac[:]...), a[:]...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), a[:]...)
	return b[:60]
}

// announce sends one into the cable of a device, as if the container had said it.
func announce(netns, device string, e *endpoint) error {
	ip, err := netip.ParsePrefix(e.IPv4)
	if err != nil || !ip.Addr().Is4() {
		return nil // IPv6 announces itself, by duplicate address detection
	}
	err = namespace.Do(netns, func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16([]byte{0x08, 0x06}), Ifindex: link.Attrs().Index, Halen: 6}
		copy(to.Addr[:], vxlan.Broadcast[:])
		return os.NewSyscallError("sendto", unix.Sendto(fd, announcement(e.MAC, ip.Addr()), 0, to))
	})
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", ip.Addr(), device, err)
	}
	return nil
}
