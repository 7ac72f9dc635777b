package dockerplugin

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/internal/neighbour"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// announce sends an ARP announcement into the cable of a device, as if the container
// had said it: all who hear it learn where the MAC is from now on, and whose the
// address is.
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
		frame := neighbour.AppendAnnouncement(make([]byte, 0, 60), ip.Addr(), e.MAC)[:60] // Ethernet's least
		return os.NewSyscallError("sendto", unix.Sendto(fd, frame, 0, to))
	})
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", ip.Addr(), device, err)
	}
	return nil
}
