package ping

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// Knock sends one VXLAN packet with a probe that wants no answer to a VTEP, from
// a port of its own, and waits for ICMP to come back. local may be the zero
// Addr.
func Knock(local netip.Addr, to netip.AddrPort, vni vxlan.VNI, wait time.Duration) (Knocked, error) {
	none := Knocked{State: Untried}
	fd, err := udpSocket(local, to)
	if err != nil {
		if s := stateOf(err); s != "" {
			return Knocked{State: s}, nil
		}
		return none, err
	}
	defer unix.Close(fd)
	d := datagram(vni, probe.Frame{Kind: probe.Silent}, vtep.MinProbe)
	if err := unix.Send(fd, d, 0); err != nil {
		if s := stateOf(err); s != "" {
			return Knocked{State: s}, nil
		}
		return none, os.NewSyscallError("send", err)
	}
	deadline := time.Now().Add(wait)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return Knocked{State: NotRefused}, nil
		}
		// What is in the error queue shows as POLLERR, which is always waited for.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, int(left/time.Millisecond)+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return none, os.NewSyscallError("poll", err)
		}
		if n > 0 {
			if k, ok := readError(fd); ok {
				return k, nil
			}
		}
	}
}

// udpSocket is connected, so that only what is about its own datagrams comes.
func udpSocket(local netip.Addr, to netip.AddrPort) (_ int, err error) {
	domain, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR
	if to.Addr().Is6() {
		domain, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return -1, os.NewSyscallError("setsockopt RECVERR", err)
	}
	if local.IsValid() && !local.IsUnspecified() {
		if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(local, 0))); err != nil {
			return -1, fmt.Errorf("bind %v: %w", local, err)
		}
	}
	if err := unix.Connect(fd, sockaddr(to)); err != nil {
		return -1, fmt.Errorf("connect to %v: %w", to, err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: zone(a.Addr().Zone())}
}

// stateOf is what an error of connect or send says, "" for nothing.
func stateOf(err error) string {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return Refused
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETDOWN):
		return Unreachable
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return Prohibited
	}
	return ""
}

// readError reads one entry of the error queue.
func readError(fd int) (k Knocked, ok bool) {
	var data [64]byte
	var oob [512]byte
	_, n, _, _, err := unix.Recvmsg(fd, data[:], oob[:], unix.MSG_ERRQUEUE)
	if err != nil {
		return k, false
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return k, false
	}
	for _, m := range messages {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		const size = int(unsafe.Sizeof(unix.SockExtendedErr{}))
		if !v4 && !v6 || len(m.Data) < size {
			continue
		}
		e := (*unix.SockExtendedErr)(unsafe.Pointer(&m.Data[0]))
		k.By = offender(m.Data[size:])
		switch {
		case e.Errno == uint32(unix.ECONNREFUSED):
			k.State = Refused
		case v4 && e.Origin == unix.SO_EE_ORIGIN_ICMP && e.Type == 3 && (e.Code == 9 || e.Code == 10 || e.Code == 13),
			v6 && e.Origin == unix.SO_EE_ORIGIN_ICMP6 && e.Type == 1 && (e.Code == 1 || e.Code == 5 || e.Code == 6):
			// RFC 1812 section 5.2.7.1; RFC 4443 section 3.1.
			k.State = Prohibited
		case e.Errno == uint32(unix.EHOSTUNREACH), e.Errno == uint32(unix.ENETUNREACH):
			k.State = Unreachable
		default:
			continue
		}
		return k, true
	}
	return k, false
}

// offender is the address behind an extended error: a sockaddr of who sent the
// ICMP.
func offender(b []byte) netip.Addr {
	if len(b) < 8 {
		return netip.Addr{}
	}
	switch family := *(*uint16)(unsafe.Pointer(&b[0])); {
	case family == unix.AF_INET:
		return netip.AddrFrom4([4]byte(b[4:8]))
	case family == unix.AF_INET6 && len(b) >= 24:
		return netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	}
	return netip.Addr{}
}
