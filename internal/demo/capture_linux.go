package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"golang.org/x/sys/unix"
)

// snapBytes is as much of a packet as is captured; what the demo follows is far
// shorter.
const snapBytes = 2048

// capture listens at all stations at once.
type capture struct {
	sockets []*os.File
	readers sync.WaitGroup

	mu      sync.Mutex
	events  []event
	err     error
	stopped bool
}

// startCapture opens a packet socket on the device of each station. From its
// return on nothing is missed.
func startCapture(stations []Station, in func(Station) *netlab.Namespace) (_ *capture, err error) {
	c := new(capture)
	defer func() {
		if err != nil {
			_, _ = c.stop()
		}
	}()
	if err := in(stations[0]).Do(c.stampEarly); err != nil {
		return nil, fmt.Errorf("time stamps of the kernel: %w", err)
	}
	for i, s := range stations {
		var f *os.File
		err := in(s).Do(func() (err error) {
			f, err = packetSocket(s.Device)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("capture on %s in %s: %w", s.Device, s.Namespace, err)
		}
		c.sockets = append(c.sockets, f)
		raw, err := f.SyscallConn()
		if err != nil {
			return nil, err
		}
		c.readers.Go(func() { c.read(i, raw) })
	}
	return c, nil
}

// stampEarly returns when the kernel stamps packets as they pass. It begins to
// do so a while after the first socket has asked for it; until then a packet
// gets the time at which it is read, which is later, and says nothing of the
// order of things. The socket that is kept open here keeps it that way.
func (c *capture) stampEarly() (err error) {
	const early = time.Millisecond
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	c.sockets = append(c.sockets, os.NewFile(uintptr(fd), "time stamps"))
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return os.NewSyscallError("setsockopt SO_TIMESTAMPNS", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	packet, control := make([]byte, 1), make([]byte, 128)
	for range 1000 {
		if err := unix.Sendto(fd, packet, 0, self); err != nil {
			return os.NewSyscallError("sendto", err)
		}
		sent := time.Now()
		time.Sleep(2 * early)
		_, n, _, _, err := unix.Recvmsg(fd, packet, control, 0)
		if err != nil {
			return os.NewSyscallError("recvmsg", err)
		}
		// The datagram to itself arrived before Sendto returned.
		if stamp := timeStamp(control[:n]); !stamp.IsZero() && stamp.Before(sent.Add(early)) {
			return nil
		}
	}
	return errors.New("packets get none as they pass")
}

// packetSocket opens a packet socket for all that passes a device of the
// calling thread's network namespace.
func packetSocket(device string) (_ *os.File, err error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	// Protocol 0 receives nothing until bind names protocol and device both:
	// otherwise packets of other devices would slip in before.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt SO_TIMESTAMPNS", err)
	}
	// A bridge shows frames that it forwards from port to port only to
	// listeners that make it promiscuous.
	promiscuous := unix.PacketMreq{Ifindex: int32(dev.Index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &promiscuous); err != nil {
		return nil, os.NewSyscallError("setsockopt PACKET_ADD_MEMBERSHIP", err)
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), device), nil
}

// read collects until the socket is closed.
func (c *capture) read(station int, raw syscall.RawConn) {
	packet, control := make([]byte, snapBytes), make([]byte, 128)
	for {
		var n, nc int
		var from unix.Sockaddr
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			for {
				n, nc, _, from, rerr = unix.Recvmsg(int(fd), packet, control, 0)
				if rerr != unix.EINTR {
					return rerr != unix.EAGAIN
				}
			}
		})
		if err == nil {
			err = os.NewSyscallError("recvmsg", rerr)
		}
		if err != nil {
			c.mu.Lock()
			if !c.stopped {
				c.err = errors.Join(c.err, err)
			}
			c.mu.Unlock()
			return
		}
		e := event{station: station, direction: In, raw: slices.Clone(packet[:n]), time: timeStamp(control[:nc])}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && link.Pkttype == unix.PACKET_OUTGOING {
			e.direction = Out
		}
		c.mu.Lock()
		c.events = append(c.events, e)
		c.mu.Unlock()
	}
}

// timeStamp finds the kernel's time stamp among control messages.
func timeStamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPNS {
			continue
		}
		var ts unix.Timespec
		if n, err := binary.Decode(m.Data, binary.NativeEndian, &ts); err == nil && n > 0 {
			return time.Unix(ts.Unix())
		}
	}
	return time.Time{}
}

// snapshot returns what was captured so far.
func (c *capture) snapshot() []event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// stop ends the capture and returns all of it. A second stop is harmless.
func (c *capture) stop() ([]event, error) {
	c.mu.Lock()
	c.stopped = true
	c.mu.Unlock()
	for _, f := range c.sockets {
		f.Close()
	}
	c.readers.Wait()
	c.sockets = nil
	return c.events, c.err
}
