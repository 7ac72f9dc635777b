package traffic

import (
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a blocking socket. Its calls keep the thread, and the scheduler is
// not told. None takes longer than patience.
type socket int

// open makes a socket of the address's family.
func open(addr netip.AddrPort, kind, proto int) (socket, error) {
	domain := unix.AF_INET
	if addr.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	s := socket(fd)
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := s.setTimeout(option, patience); err != nil {
			return 0, err
		}
	}
	return s, nil
}

func (s socket) setTimeout(option int, d time.Duration) error {
	tv := unix.NsecToTimeval(int64(d))
	return os.NewSyscallError("setsockopt", unix.SetsockoptTimeval(int(s), unix.SOL_SOCKET, option, &tv))
}

func (s socket) close() { unix.Close(int(s)) }

func sockaddr(addr netip.AddrPort) unix.Sockaddr {
	if addr.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
}

// connect connects a new socket.
func connect(addr netip.AddrPort, kind int) (socket, error) {
	s, err := open(addr, kind, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(int(s), sockaddr(addr)); err != nil {
		s.close()
		return 0, os.NewSyscallError("connect", err)
	}
	return s, nil
}

// bind makes a socket with an address and returns its port.
func bind(addr netip.AddrPort, kind int) (socket, uint16, error) {
	s, err := open(addr, kind, 0)
	if err != nil {
		return 0, 0, err
	}
	if err := unix.Bind(int(s), sockaddr(addr)); err != nil {
		s.close()
		return 0, 0, os.NewSyscallError("bind", err)
	}
	sa, err := unix.Getsockname(int(s))
	if err != nil {
		s.close()
		return 0, 0, os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return s, uint16(sa.Port), nil
	case *unix.SockaddrInet6:
		return s, uint16(sa.Port), nil
	}
	return s, 0, nil
}

// listen makes a listening TCP socket.
func listen(addr netip.AddrPort, listening func(uint16) error) (socket, error) {
	s, port, err := bind(addr, unix.SOCK_STREAM)
	if err != nil {
		return 0, err
	}
	if err := unix.Listen(int(s), 16); err != nil {
		s.close()
		return 0, os.NewSyscallError("listen", err)
	}
	return s, listening(port)
}

// accept takes one connection.
func (s socket) accept() (socket, error) {
	fd, _, err := unix.Accept4(int(s), unix.SOCK_CLOEXEC)
	if err == unix.EAGAIN {
		return 0, errSilence
	}
	if err != nil {
		return 0, os.NewSyscallError("accept", err)
	}
	c := socket(fd)
	if err := c.setTimeout(unix.SO_RCVTIMEO, patience); err != nil {
		return 0, err
	}
	return c, c.setTimeout(unix.SO_SNDTIMEO, patience)
}

// read and write are read(2) and write(2), again when a signal interrupts.
func (s socket) read(b []byte) (int, error)  { return s.call(unix.SYS_READ, b) }
func (s socket) write(b []byte) (int, error) { return s.call(unix.SYS_WRITE, b) }

func (s socket) call(trap uintptr, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(trap, uintptr(s), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// readable waits until there is something to read, or the time is over.
func (s socket) readable(timeout time.Duration) (bool, error) {
	for {
		fds := [1]unix.PollFd{{Fd: int32(s), Events: unix.POLLIN}}
		ts := unix.NsecToTimespec(int64(timeout))
		n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		switch errno {
		case 0:
			return n > 0, nil
		case unix.EINTR:
		default:
			return false, errno
		}
	}
}

// recv reads one datagram and does not wait for it.
func (s socket) recv(b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}
