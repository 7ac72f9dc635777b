package transport

import (
	"bytes"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/govxlan/govxlan/internal/descriptor"
	"github.com/govxlan/govxlan/internal/namespace"
	"golang.org/x/sys/unix"
)

var _ PathConn = (*packetConn)(nil)

// words are what routers said since somebody sent: no UDP socket has the ports
// that they are about, so that ICMP is read by sockets of its own.
type words struct {
	hear    atomic.Pointer[func(*TooBig)]
	pending atomic.Bool
	mu      sync.Mutex
	list    []TooBig // at most mostErrors
	sockets []*descriptor.FD
	readers sync.WaitGroup
}

// HearTooBig opens the sockets for ICMP. Where that fails, only this host is
// heard.
func (c *packetConn) HearTooBig(hear func(*TooBig)) {
	w := &c.words
	_ = namespace.Do(c.zones.netns, func() error {
		for _, at := range c.locals {
			v6 := at.Addr().Is6()
			fd, err := icmpSocket(v6)
			if err != nil {
				return err
			}
			s := descriptor.New(fd, "icmp")
			w.sockets = append(w.sockets, s)
			w.readers.Go(func() { c.readICMP(s, v6) })
		}
		return nil
	})
	w.hear.Store(&hear)
}

// icmpSocket opens a socket that gets the one kind of message.
func icmpSocket(v6 bool) (fd int, err error) {
	domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if v6 {
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err = unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket ICMP", err)
	}
	if v6 {
		var filter unix.ICMPv6Filter // a bit set: not for us
		for i := range filter.Data {
			filter.Data[i] = ^uint32(0)
		}
		filter.Data[0] &^= 1 << icmpv6PacketTooBig
		err = unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
	} else {
		const solRaw, icmpFilter = 255, 1 // linux/icmp.h
		mask := ^uint32(1 << icmpUnreachable)
		err = unix.SetsockoptInt(fd, solRaw, icmpFilter, int(int32(mask)))
	}
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt ICMP filter", err)
	}
	return fd, nil
}

// readICMP keeps what routers say about our datagrams, for senders to tell,
// until Close.
func (c *packetConn) readICMP(s *descriptor.FD, v6 bool) {
	b := make([]byte, 9<<10) // whole: its checksum is to be verified
	var raw rawAddr
	for {
		var n, size uintptr
		var errno unix.Errno
		if s.Read(func(fd uintptr) bool {
			size = unsafe.Sizeof(raw)
			n, _, errno = unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
				unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)))
			return errno != unix.EAGAIN
		}) != nil {
			return
		}
		if errno != 0 {
			continue
		}
		icmp := b[:n]
		if !v6 {
			// From the IP header on, which the kernel has checked.
			if header := int(b[0]&15) * 4; header <= len(icmp) {
				icmp = icmp[header:]
			}
		}
		w, from, ok := quoteOf(icmp, v6)
		if !ok || !c.isOurs(from) {
			continue
		}
		w.From = addr(&raw, &c.zones).Addr().WithZone("")
		w.Datagram = bytes.Clone(w.Datagram[:min(len(w.Datagram), quoteBytes)])
		c.words.keep(w)
	}
}

// isOurs says whether we could have sent from there.
func (c *packetConn) isOurs(from netip.AddrPort) bool {
	if from.Port() < c.ports.Lo || from.Port() > c.ports.Hi {
		return false
	}
	for _, at := range c.locals {
		if at.Addr().WithZone("") == from.Addr() || at.Addr().IsUnspecified() && at.Addr().Is4() == from.Addr().Is4() {
			return true
		}
	}
	return false
}

func (w *words) keep(word TooBig) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) < mostErrors {
		w.list = append(w.list, word)
		w.pending.Store(true)
	}
}

// tell has the hearer called for what was kept.
func (w *words) tell() {
	w.mu.Lock()
	list := w.list
	w.list = nil
	w.pending.Store(false)
	w.mu.Unlock()
	if hear := w.hear.Load(); hear != nil {
		for i := range list {
			(*hear)(&list[i])
		}
	}
}

// close ends the reading.
func (w *words) close() {
	for _, s := range w.sockets {
		s.Close()
	}
	w.readers.Wait()
}
