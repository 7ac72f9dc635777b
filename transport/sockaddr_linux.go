package transport

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/govxlan/govxlan/internal/namespace"
	"golang.org/x/sys/unix"
)

// rawAddr holds a socket address of either family as the kernel takes it.
// RawSockaddrInet6 is the longer one, and the port lies alike in both.
type rawAddr = unix.RawSockaddrInet6

// zones turns the zones of IPv6 addresses into interface indices and back, as
// they are in the namespace of the sockets. It remembers them: the packet path
// must not ask the kernel each time.
type zones struct {
	netns string
	mu    sync.Mutex
	known atomic.Pointer[[]zone]
}

type zone struct {
	name  string
	index uint32
}

// all are the zones known so far: few.
func (z *zones) all() []zone {
	if p := z.known.Load(); p != nil {
		return *p
	}
	return nil
}

// index returns 0 for a device that is not there.
func (z *zones) index(name string) uint32 {
	if name == "" {
		return 0
	}
	for _, k := range z.all() {
		if k.name == name {
			return k.index
		}
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n)
	}
	return z.ask(func() (*net.Interface, error) { return net.InterfaceByName(name) }).index
}

// name returns the number itself for a device that is not there.
func (z *zones) name(index uint32) string {
	for _, k := range z.all() {
		if k.index == index {
			return k.name
		}
	}
	k := z.ask(func() (*net.Interface, error) { return net.InterfaceByIndex(int(index)) })
	if k.name == "" {
		return strconv.FormatUint(uint64(index), 10)
	}
	return k.name
}

// ask asks the kernel, and remembers what it says.
func (z *zones) ask(which func() (*net.Interface, error)) (k zone) {
	err := namespace.Do(z.netns, func() error {
		link, err := which()
		if err == nil {
			k = zone{link.Name, uint32(link.Index)}
		}
		return err
	})
	if err != nil {
		return zone{}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	known := append(slices.Clone(z.all()), k)
	z.known.Store(&known)
	return k
}

// forget lets all be asked anew: a device that is made again has another index.
func (z *zones) forget() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.known.Store(nil)
}

// putAddr writes addr into raw and returns its length.
func putAddr(raw *rawAddr, addr netip.AddrPort, z *zones) uint32 {
	port := (*[2]byte)(unsafe.Pointer(&raw.Port))
	binary.BigEndian.PutUint16(port[:], addr.Port())
	if ip := addr.Addr().Unmap(); ip.Is4() {
		raw4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		raw4.Family = unix.AF_INET
		raw4.Addr = ip.As4()
		return unix.SizeofSockaddrInet4
	} else {
		raw.Family = unix.AF_INET6
		raw.Flowinfo = 0
		raw.Addr = ip.As16()
		raw.Scope_id = z.index(ip.Zone())
		return unix.SizeofSockaddrInet6
	}
}

// addr reads what the kernel wrote. IPv4 addresses mapped into IPv6 come out
// as IPv4.
func addr(raw *rawAddr, z *zones) netip.AddrPort {
	p := (*[2]byte)(unsafe.Pointer(&raw.Port))
	port := binary.BigEndian.Uint16(p[:])
	if raw.Family == unix.AF_INET {
		raw4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		return netip.AddrPortFrom(netip.AddrFrom4(raw4.Addr), port)
	}
	ip := netip.AddrFrom16(raw.Addr).Unmap()
	if raw.Scope_id != 0 {
		ip = ip.WithZone(z.name(raw.Scope_id))
	}
	return netip.AddrPortFrom(ip, port)
}
