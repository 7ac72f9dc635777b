package traffic

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/govxlan/govxlan/internal/checksum"
	"golang.org/x/sys/unix"
)

const (
	echoRequest = 8 // RFC 792
	echoReply   = 0
	echoHeader  = 8
	// echoBytes is the payload that ping(8) sends.
	echoBytes = 56
	// echoTimeout is when a reply counts as lost.
	echoTimeout = 500 * time.Millisecond
	// fewestEchoes are sent at least: one lost early must not be all there is.
	fewestEchoes = 5
)

// ping measures as ping(8) does: from just before the request is sent until the
// kernel has the reply. How long this process then takes to wake up is not the
// network's doing.
func ping(job *Job) (*Result, error) {
	if !job.Addr.Addr().Is4() {
		return nil, fmt.Errorf("want an IPv4 address")
	}
	target := netip.AddrPortFrom(job.Addr.Addr(), 0)
	s, err := open(target, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if err := unix.Connect(int(s), sockaddr(target)); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	if err := unix.SetsockoptInt(int(s), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return nil, os.NewSyscallError("setsockopt SO_TIMESTAMPNS", err)
	}
	if err := s.setTimeout(unix.SO_RCVTIMEO, echoTimeout); err != nil {
		return nil, err
	}
	runtime.LockOSThread()

	var times []time.Duration
	lost := 0
	before, err := ReadCPU(job.Watch)
	if err != nil {
		return nil, err
	}
	p := pinger{socket: s, id: uint16(os.Getpid())}
	begin := time.Now()
	for next := begin; time.Since(begin) < job.Duration || len(times)+lost < fewestEchoes; {
		t, err := p.turn()
		switch err {
		case nil:
			times = append(times, t)
		case unix.EAGAIN:
			lost++
		default:
			return nil, err
		}
		next = next.Add(job.Interval)
		if wait := time.Until(next); wait > 0 {
			sleep(wait)
		} else {
			next = time.Now() // never a burst to catch up
		}
	}
	after, err := ReadCPU(job.Watch)
	if err != nil {
		return nil, err
	}
	return &Result{
		Seconds: time.Since(begin).Seconds(), Total: uint64(len(times) + lost),
		CPU: after.Sub(before), Latency: latency(times, lost),
	}, nil
}

// pinger has one echo request on its way at a time.
type pinger struct {
	socket
	id, seq uint16
	in      [1500]byte
	control [128]byte
}

// turn sends a request and returns the time to its reply. unix.EAGAIN: lost.
func (p *pinger) turn() (time.Duration, error) {
	p.seq++
	var out [echoHeader + echoBytes]byte
	out[0] = echoRequest
	binary.BigEndian.PutUint16(out[4:], p.id)
	binary.BigEndian.PutUint16(out[6:], p.seq)
	binary.BigEndian.PutUint16(out[2:], checksum.Checksum(out[:], 0))
	sent := time.Now()
	if _, err := p.write(out[:]); err != nil {
		if err == unix.ENOBUFS {
			return 0, unix.EAGAIN
		}
		return 0, os.NewSyscallError("send echo request", err)
	}
	for time.Since(sent) < echoTimeout {
		n, controlLen, _, _, err := unix.Recvmsg(int(p.socket), p.in[:], p.control[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return 0, err
		}
		if err != nil {
			return 0, os.NewSyscallError("receive echo reply", err)
		}
		if !p.isReply(p.in[:n]) {
			continue // other ICMP, or a reply that was given up
		}
		at, err := arrival(p.control[:controlLen])
		return at.Sub(sent.Round(0)), err
	}
	return 0, unix.EAGAIN
}

// isReply looks at an IPv4 packet, header and all.
func (p *pinger) isReply(b []byte) bool {
	if len(b) < 1 {
		return false
	}
	header := int(b[0]&0xF) * 4
	if len(b) < header+echoHeader {
		return false
	}
	icmp := b[header:]
	return icmp[0] == echoReply && binary.BigEndian.Uint16(icmp[4:]) == p.id && binary.BigEndian.Uint16(icmp[6:]) == p.seq
}

// arrival finds the kernel's time stamp among the control messages.
func arrival(control []byte) (time.Time, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}, fmt.Errorf("control message: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))), nil
		}
	}
	return time.Time{}, fmt.Errorf("the kernel gave no time stamp")
}
