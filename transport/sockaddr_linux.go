package transport

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawAddr holds a socket address of either family as the kernel takes it.
// RawSockaddrInet6 is the longer one, and the port lies alike in both.
type rawAddr = unix.RawSockaddrInet6

// zones remembers the interface index of each IPv6 zone and back: the packet
// path must not ask the kernel each time.
var zones sync.Map // string -> uint32 and uint32 -> string

func zoneIndex(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if v, ok := zones.Load(zone); ok {
		return v.(uint32)
	}
	index := uint32(0)
	if link, err := net.InterfaceByName(zone); err == nil {
		index = uint32(link.Index)
	} else if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		index = uint32(n)
	}
	zones.Store(zone, index)
	return index
}

func zoneName(index uint32) string {
	if index == 0 {
		return ""
	}
	if v, ok := zones.Load(index); ok {
		return v.(string)
	}
	name := strconv.FormatUint(uint64(index), 10)
	if link, err := net.InterfaceByIndex(int(index)); err == nil {
		name = link.Name
	}
	zones.Store(index, name)
	return name
}

// putAddr writes addr into raw and returns its length.
func putAddr(raw *rawAddr, addr netip.AddrPort) uint32 {
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
		raw.Scope_id = zoneIndex(ip.Zone())
		return unix.SizeofSockaddrInet6
	}
}

// addr reads what the kernel wrote. IPv4 addresses mapped into IPv6 come out
// as IPv4.
func addr(raw *rawAddr) netip.AddrPort {
	p := (*[2]byte)(unsafe.Pointer(&raw.Port))
	port := binary.BigEndian.Uint16(p[:])
	if raw.Family == unix.AF_INET {
		raw4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		return netip.AddrPortFrom(netip.AddrFrom4(raw4.Addr), port)
	}
	ip := netip.AddrFrom16(raw.Addr).Unmap()
	if raw.Scope_id != 0 {
		ip = ip.WithZone(zoneName(raw.Scope_id))
	}
	return netip.AddrPortFrom(ip, port)
}
