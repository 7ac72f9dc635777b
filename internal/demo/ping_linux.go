package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"time"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/internal/netlab"
	"golang.org/x/sys/unix"
)

// errNoAnswer: an echo request was not answered in time.
var errNoAnswer = errors.New("no answer")

// pinger sends ICMP echo requests from one container.
type pinger struct {
	fd  int
	id  uint16
	dst [4]byte
}

func newPinger(from *netlab.Namespace, dst netip.Addr) (*pinger, error) {
	p := &pinger{id: uint16(os.Getpid()), dst: dst.As4()}
	err := from.Do(func() (err error) {
		p.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, fmt.Errorf("ping from %s: %w", from.Name(), err)
	}
	// Short waits, so that a cancelled context is noticed.
	wait := unix.NsecToTimeval(int64(50 * time.Millisecond))
	if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		p.close()
		return nil, os.NewSyscallError("setsockopt SO_RCVTIMEO", err)
	}
	return p, nil
}

func (p *pinger) close() { unix.Close(p.fd) }

// keys are those of an echo and its reply.
func (p *pinger) keys(seq uint16) (request, reply key) {
	return key{kind: echoRequest, id: p.id, seq: seq}, key{kind: echoReply, id: p.id, seq: seq}
}

// echo sends one request and waits for its reply, which must carry what the
// request did. System calls that block, and not the runtime's poller, keep what
// is measured close to what ping(8) measures.
func (p *pinger) echo(ctx context.Context, seq uint16, timeout time.Duration) (time.Duration, error) {
	request := make([]byte, 8, 8+len(payload))
	request[0] = 8 // echo request; the reply has type 0
	binary.BigEndian.PutUint16(request[4:], p.id)
	binary.BigEndian.PutUint16(request[6:], seq)
	request = append(request, payload...)
	binary.BigEndian.PutUint16(request[2:], checksum.Checksum(request, 0))

	start := time.Now()
	if err := unix.Sendto(p.fd, request, 0, &unix.SockaddrInet4{Addr: p.dst}); err != nil {
		return 0, os.NewSyscallError("sendto", err)
	}
	packet := make([]byte, snapBytes)
	for {
		n, _, err := unix.Recvfrom(p.fd, packet, 0)
		rtt := time.Since(start)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case err != nil && err != unix.EAGAIN && err != unix.EINTR:
			return 0, os.NewSyscallError("recvfrom", err)
		case err == nil && p.answers(packet[:n], request):
			return rtt, nil
		case rtt > timeout:
			return 0, errNoAnswer
		}
	}
}

// answers reports whether an IPv4 packet is the reply to an ICMP request.
func (p *pinger) answers(packet, request []byte) bool {
	if len(packet) < 20 {
		return false
	}
	header := int(packet[0]&0x0f) * 4
	if len(packet) < header+8 || [4]byte(packet[12:16]) != p.dst {
		return false
	}
	icmp := packet[header:]
	return icmp[0] == 0 && bytes.Equal(icmp[4:], request[4:])
}

// statistics are those of ping(8).
func statistics(sent int, rtts []time.Duration) RTT {
	r := RTT{Sent: sent, Received: len(rtts)}
	if len(rtts) == 0 {
		return r
	}
	r.Min = Micros(math.Inf(1))
	var sum, squares Micros
	for _, d := range rtts {
		m := micros(d)
		r.Min, r.Max = min(r.Min, m), max(r.Max, m)
		sum += m
	}
	r.Avg = sum / Micros(len(rtts))
	for _, d := range rtts {
		squares += (micros(d) - r.Avg) * (micros(d) - r.Avg)
	}
	r.StdDev = Micros(math.Sqrt(float64(squares) / float64(len(rtts))))
	return r
}
