package ping

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Stations are those that this host has in its table of neighbours, on a device
// or on the bridge that it is a port of, with an IPv4 address and a MAC that is
// wanted.
func Stations(device string, wanted func(vxlan.MAC) bool) []Station {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return nil
	}
	var found []Station
	for _, index := range []int{link.Attrs().Index, link.Attrs().MasterIndex} {
		if index == 0 {
			continue
		}
		neighbours, err := netlink.NeighList(index, netlink.FAMILY_V4)
		if err != nil {
			continue
		}
		for _, n := range neighbours {
			ip, ok := netip.AddrFromSlice(n.IP)
			if ok && len(n.HardwareAddr) == 6 && wanted(vxlan.MAC(n.HardwareAddr)) {
				found = append(found, Station{ip.Unmap(), vxlan.MAC(n.HardwareAddr)})
			}
		}
	}
	slices.SortFunc(found, func(a, b Station) int { return a.IP.Compare(b.IP) })
	return found
}

const (
	arpLen     = vxlan.EthernetLen + 28
	etherARP   = 0x0806
	arpRequest = 1
	arpReply   = 2
)

// AskStation sends an ARP request to one station, as a host on the device would,
// and returns how long the answer took, or ErrNoAnswer. The request has no sender
// address (RFC 5227 section 2.1.1), so that nobody notes anything of it. It needs
// CAP_NET_RAW.
func AskStation(device string, s Station, wait time.Duration) (time.Duration, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return 0, fmt.Errorf("device %s: %w", device, err)
	}
	// All protocols, or a bridge would take the answer first.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return 0, os.NewSyscallError("packet socket", err)
	}
	defer unix.Close(fd)
	at := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index}
	if err := unix.Bind(fd, &at); err != nil {
		return 0, os.NewSyscallError("bind to "+device, err)
	}
	b := make([]byte, arpLen)
	copy(b, s.MAC[:])
	copy(b[6:], link.Attrs().HardwareAddr)
	copy(b[12:], []byte{etherARP >> 8, etherARP & 0xFF, 0, 1, 8, 0, 6, 4, 0, arpRequest})
	copy(b[22:], link.Attrs().HardwareAddr)
	copy(b[32:], s.MAC[:])
	copy(b[38:], s.IP.AsSlice())
	start := time.Now()
	if err := unix.Sendto(fd, b, 0, &at); err != nil {
		return 0, os.NewSyscallError("send by "+device, err)
	}
	in := make([]byte, 1<<16)
	for {
		left := wait - time.Since(start)
		if left <= 0 {
			return 0, ErrNoAnswer
		}
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("poll", err)
		}
		n, _, err := unix.Recvfrom(fd, in, 0)
		if err == nil && n >= arpLen && binary.BigEndian.Uint16(in[12:]) == etherARP && in[21] == arpReply &&
			bytes.Equal(in[22:28], s.MAC[:]) && bytes.Equal(in[28:32], s.IP.AsSlice()) {
			return time.Since(start), nil
		}
	}
}

// htons is a number in network order, as the kernel's structures want it.
func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
