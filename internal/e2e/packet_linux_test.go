package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"golang.org/x/sys/unix"
)

// packetPort is a packet socket on one device: it sends frames as the host
// would, and sees those that arrive.
type packetPort struct {
	t   *testing.T
	fd  int
	buf []byte
	oob []byte
}

// openPort opens a packet socket for what arrives on a device; with outgoing,
// for what leaves it too.
func openPort(t *testing.T, ns *netlab.Namespace, device string, outgoing bool) *packetPort {
	t.Helper()
	p := &packetPort{t: t, buf: make([]byte, 1<<17), oob: make([]byte, 128)}
	must(t, ns.Do(func() error {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		// Protocol 0 receives nothing until bind names device and protocol.
		p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(p.fd) })
		ignore := 1
		if outgoing {
			ignore = 0
		}
		for _, o := range []struct{ level, name, value int }{
			{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32 << 20},
			{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, ignore},
			{unix.SOL_PACKET, unix.PACKET_AUXDATA, 1},
		} {
			if err := unix.SetsockoptInt(p.fd, o.level, o.name, o.value); err != nil {
				return fmt.Errorf("packet socket on %s: option %d: %w", device, o.name, err)
			}
		}
		promiscuous := unix.PacketMreq{Ifindex: int32(link.Index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(p.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &promiscuous); err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}) // in network order
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
	}))
	return p
}

// send sends one frame.
func (p *packetPort) send(frame []byte) {
	p.t.Helper()
	if err := p.trySend(frame); err != nil {
		p.t.Fatalf("send a frame of %d bytes: %v", len(frame), err)
	}
}

func (p *packetPort) trySend(frame []byte) error {
	for {
		_, err := unix.Write(p.fd, frame)
		if err == unix.EAGAIN || err == unix.ENOBUFS {
			// The device's queue is full: whoever empties it wants the CPU.
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLOUT}}, 10); err != nil && err != unix.EINTR {
				return err
			}
			continue
		}
		if err != unix.EINTR {
			return err
		}
	}
}

// recv returns the next frame, with its VLAN tags where they were on the wire,
// or nil when none arrives until the deadline. It is valid until the next recv.
func (p *packetPort) recv(deadline time.Time) []byte {
	p.t.Helper()
	for {
		n, oobn, _, _, err := unix.Recvmsg(p.fd, p.buf[4:], p.oob, 0)
		switch err {
		case nil:
			return p.untouched(n, p.oob[:oobn])
		case unix.EINTR, unix.ENETDOWN:
			continue
		case unix.EAGAIN:
		default:
			p.t.Fatalf("packet socket: %v", err)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(left/time.Millisecond)+1)
		if err != nil && err != unix.EINTR {
			p.t.Fatalf("packet socket: %v", err)
		}
	}
}

// untouched puts the tag back that the kernel took out of the n bytes read to
// p.buf[4:].
func (p *packetPort) untouched(n int, oob []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	must(p.t, err)
	for _, m := range messages {
		// struct tpacket_auxdata: status, len, snaplen (4 each), mac, net,
		// vlan_tci, vlan_tpid (2 each).
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < 20 {
			continue
		}
		if binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		copy(p.buf, p.buf[4:16])
		binary.BigEndian.PutUint16(p.buf[12:], binary.NativeEndian.Uint16(m.Data[18:]))
		binary.BigEndian.PutUint16(p.buf[14:], binary.NativeEndian.Uint16(m.Data[16:]))
		return p.buf[:4+n]
	}
	return p.buf[4 : 4+n]
}

// lost says how many packets the socket could not keep.
func (p *packetPort) lost() uint32 {
	p.t.Helper()
	stats, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	must(p.t, err)
	return stats.Drops
}

// drain forgets what has arrived so far.
func (p *packetPort) drain() {
	p.t.Helper()
	for p.recv(time.Time{}) != nil {
	}
}
