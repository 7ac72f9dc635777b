package transport

import (
	"encoding/binary"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Offsets that a socket filter resolves itself (include/uapi/linux/filter.h).
const (
	skfNet     = -0x100000          // + offset: from the IP header on, whatever is before it
	skfPktType = -0x1000 + 4        // whom the link says that the packet is for
	skfIfIndex = -0x1000 + 8        // the device that it came by
	skfAll     = 0x40000            // what to keep of a packet: everything
	arrives    = unix.PACKET_HOST   // for this host, by its MAC address
	fragmented = 0x1FFF | 0x2000    // offset and MF of IPv4
	udpAddrs   = maxFilterLen/9 - 4 // addresses that a filter holds for certain

	maxFilterLen = 4096 // BPF_MAXINSNS
)

// classic is a socket filter in the making.
type classic []unix.SockFilter

func (c *classic) load(size uint16, offset int32) {
	*c = append(*c, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: uint32(offset)})
}

// unless ends the packet here when the test of what was loaded fails.
func (c *classic) unless(test uint16, value uint32) {
	*c = append(*c,
		unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: value, Jt: 1},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
}

// udpFilter passes unfragmented UDP packets to one of the addresses, all of
// one family, and to the port, that a link brought to this host: the one of a
// device, unless device is 0. What is not UDP is out at once.
func udpFilter(addrs []netip.Addr, v6 bool, port uint16, device int) []unix.SockFilter {
	var c classic
	protocol, dst, words := int32(9), int32(16), 1
	if v6 {
		protocol, dst, words = 6, 24, 4
	}
	c.load(unix.BPF_B, skfNet+protocol)
	c.unless(unix.BPF_JEQ, unix.IPPROTO_UDP)
	c.load(unix.BPF_B, skfPktType)
	c.unless(unix.BPF_JEQ, arrives)
	if device != 0 {
		c.load(unix.BPF_W, skfIfIndex)
		c.unless(unix.BPF_JEQ, uint32(device))
	}

	if len(addrs) > udpAddrs {
		addrs = addrs[:udpAddrs]
	}
	var found []int // jumps to where the address was found
	for _, a := range addrs {
		b := a.AsSlice()
		for w := range words {
			c.load(unix.BPF_W, skfNet+dst+int32(4*w))
			value := binary.BigEndian.Uint32(b[4*w:])
			if w < words-1 {
				// To the next address: behind what is left of this one.
				left := 2 * (words - 1 - w)
				c = append(c, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: uint8(left + 1)})
				continue
			}
			c = append(c, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: 1})
			found = append(found, len(c))
			c = append(c, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA})
		}
	}
	c = append(c, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
	for _, at := range found {
		c[at].K = uint32(len(c) - at - 1)
	}

	if v6 {
		c.load(unix.BPF_H, skfNet+40+2)
	} else {
		c.load(unix.BPF_H, skfNet+6)
		c = append(c,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: fragmented, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
			unix.SockFilter{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: offset(skfNet)},
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: offset(skfNet + 2)})
	}
	c.unless(unix.BPF_JEQ, uint32(port))
	return append(c, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: skfAll})
}

func offset(n int32) uint32 { return uint32(n) }

// attachFilter puts a filter on a socket, in place of the one before.
func attachFilter(fd int, filter []unix.SockFilter) error {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
	runtime.KeepAlive(filter)
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
}
