package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/bench/traffic"
	"golang.org/x/sys/unix"
)

// checkTime is how long the check's TCP stream lasts in each direction.
const checkTime = 150 * time.Millisecond

// check waits for the tunnel to come up, sends TCP both ways through it, and sees
// what crosses the underlay meanwhile. What it captures it does not measure: a
// capture costs the kernel a copy of each packet's description.
func (r *runner) check(ctx context.Context, p *pair) error {
	if err := r.reach(ctx, p); err != nil {
		return err
	}
	for _, settled := range p.settled {
		if err := settled(ctx); err != nil {
			return err
		}
	}
	var sniffers [2]*sniffer
	for i, h := range p.hosts {
		s, err := sniff(h)
		if err != nil {
			return fmt.Errorf("capture on host %s: %w", h.letter, err)
		}
		defer s.close()
		sniffers[i] = s
	}
	for _, from := range p.hosts {
		to := p.far(from)
		s, c, err := r.join(ctx, from, to,
			traffic.Job{Role: traffic.TCPReceive, Streams: 1, Duration: checkTime},
			traffic.Job{Role: traffic.TCPSend, Streams: 1})
		if err != nil {
			return err
		}
		result, err := s.result()
		if err != nil {
			err = errors.Join(err, complaint(c))
		} else if result.Bytes == 0 {
			err = fmt.Errorf("host %s reaches %s, but no TCP data arrives", from.letter, to.letter)
		}
		s.dismiss()
		c.dismiss()
		if err != nil {
			return err
		}
	}
	for _, s := range sniffers {
		if err := s.close(); err != nil {
			return fmt.Errorf("capture: %w", err)
		}
		p.largest = max(p.largest, int(s.largest.Load()))
	}
	if p.largest == 0 {
		return errors.New("nothing crossed the underlay while data crossed the tunnel")
	}
	if p.mode == ModeWire && p.largest > wireBytes {
		return fmt.Errorf("a frame of %d bytes crossed the underlay, where a wire carries %d: the kernel did not switch all offloads off", p.largest, wireBytes)
	}
	return nil
}

// sniffer finds the longest frame on an underlay device, both directions.
type sniffer struct {
	file    *os.File
	largest atomic.Int64
	done    chan struct{}
	err     error
	once    sync.Once
}

func sniff(h *host) (s *sniffer, err error) {
	s = &sniffer{done: make(chan struct{})}
	err = h.Do(func() error {
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		// Protocol 0 first: nothing arrives before it is bound to its device.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		s.file = os.NewFile(uintptr(fd), "packet")
		link, err := net.InterfaceByName(underlayDev)
		if err != nil {
			return err
		}
		if err := longerThan(fd, 0); err != nil {
			return err
		}
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
	})
	if err != nil {
		if s.file != nil {
			s.file.Close()
		}
		return nil, err
	}
	raw, err := s.file.SyscallConn()
	if err != nil {
		s.file.Close()
		return nil, err
	}
	go func() {
		defer close(s.done)
		// Read's own error is that the file was closed: the end of the capture.
		_ = raw.Read(func(fd uintptr) bool {
			for {
				n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_TRUNC)
				switch {
				case err == unix.EAGAIN:
					return false
				case err == unix.EINTR:
				case err != nil:
					s.err = os.NewSyscallError("recvfrom", err)
					return true
				case int64(n) > s.largest.Load():
					s.largest.Store(int64(n))
					// From now on only longer ones: few, so none gets lost.
					if s.err = longerThan(int(fd), uint32(n)); s.err != nil {
						return true
					}
				}
			}
		})
	}()
	return s, nil
}

// longerThan lets only longer frames through to a packet socket.
func longerThan(fd int, bytes uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: bytes, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xFFFF},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog))
}

// close ends the capture; a second call only repeats the first one's verdict.
func (s *sniffer) close() error {
	s.once.Do(func() {
		s.file.Close()
		<-s.done
	})
	return s.err
}
