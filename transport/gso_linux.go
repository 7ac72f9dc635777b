package transport

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// oldMaxSegments is UDP_MAX_SEGMENTS of kernels before 6.9.
const oldMaxSegments = 64

// probeGSO finds out, once for the process, how many segments a UDP_SEGMENT
// send may have, by sending so many to ourselves over loopback. No kernel
// tells the number, and it has changed (64 up to 6.8, 128 since).
var probeGSO = sync.OnceValue(func() int32 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return MaxSegments
	}
	defer unix.Close(fd)
	// Bound and connected to itself: what is sent ends in this very socket.
	// Where that fails (loopback is down in a new namespace), the first long
	// train finds out: see sendSome.
	if unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}) != nil {
		return MaxSegments
	}
	self, err := unix.Getsockname(fd)
	if err != nil || unix.Connect(fd, self) != nil {
		return MaxSegments
	}
	oob := make([]byte, unix.CmsgSpace(2))
	putSegment(oob, 1)
	if _, err := unix.SendmsgN(fd, make([]byte, MaxSegments), oob, nil, unix.MSG_DONTWAIT); err == unix.EINVAL {
		return oldMaxSegments
	}
	return MaxSegments
})

// putSegment writes the control message UDP_SEGMENT = size.
func putSegment(oob []byte, size uint16) int {
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(oob)))
	h.Level = unix.SOL_UDP
	h.Type = unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = size
	return unix.CmsgSpace(2)
}
