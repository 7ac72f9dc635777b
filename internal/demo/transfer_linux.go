package demo

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"golang.org/x/sys/unix"
)

// castagnoli is the CRC that processors compute in hardware: the check costs
// the transfer next to nothing.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const chunkBytes = 256 << 10

// transfer sends over one TCP connection for as long as it is told to, and
// compares the checksums of what went in and what came out.
func transfer(ctx context.Context, from, to *netlab.Namespace, dst netip.Addr, length time.Duration) (Transfer, error) {
	l, err := to.Listen("tcp", netip.AddrPortFrom(dst, 0).String())
	if err != nil {
		return Transfer{}, err
	}
	defer l.Close()
	type result struct {
		bytes int64
		crc   uint32
		end   time.Time
		err   error
	}
	received := make(chan result, 1)
	go func() {
		var r result
		r.bytes, r.crc, r.err = receive(l)
		r.end = time.Now()
		received <- r
	}()
	conn, err := from.Dial("tcp", l.Addr().String())
	if err != nil {
		return Transfer{}, err
	}
	defer conn.Close()
	// Closing both ends is what makes a cancelled context heard.
	defer context.AfterFunc(ctx, func() { l.Close(); conn.Close() })()
	// An overlay that swallows packets must end the demo, not stop it.
	_ = conn.SetDeadline(time.Now().Add(length + 5*time.Second))

	start := time.Now()
	sent, crc, err := send(conn.(*net.TCPConn), start.Add(length))
	if err != nil {
		return Transfer{}, cause(ctx, err)
	}
	var r result
	select {
	case r = <-received:
	case <-time.After(5 * time.Second):
		r.err = errors.New("the end of the stream did not arrive")
	case <-ctx.Done():
	}
	if err := cause(ctx, r.err); err != nil {
		return Transfer{}, err
	}
	t := Transfer{
		Bytes: r.bytes, Seconds: r.end.Sub(start).Seconds(),
		Sent: fmt.Sprintf("%08x", crc), Received: fmt.Sprintf("%08x", r.crc),
	}
	t.BitsPerSecond = float64(t.Bytes) * 8 / t.Seconds
	if t.Retransmitted, err = retransmitted(conn.(*net.TCPConn)); err != nil {
		return t, err
	}
	if sent != r.bytes || crc != r.crc {
		return t, fmt.Errorf("%d bytes with CRC-32C %08x were sent, %d bytes with %08x arrived", sent, crc, r.bytes, r.crc)
	}
	return t, nil
}

// cause is why something failed: the end of the context where there is one.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func send(conn *net.TCPConn, until time.Time) (sent int64, crc uint32, err error) {
	chunk := make([]byte, chunkBytes)
	random := rand.NewChaCha8([32]byte([]byte(payload)))
	_, _ = random.Read(chunk)
	for i := 0; time.Now().Before(until); i++ {
		// No two chunks are alike: one that got lost, or came twice, shows.
		chunk[0], chunk[1], chunk[2], chunk[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
		n, err := conn.Write(chunk)
		sent += int64(n)
		crc = crc32.Update(crc, castagnoli, chunk[:n])
		if err != nil {
			return sent, crc, err
		}
	}
	return sent, crc, conn.CloseWrite()
}

func receive(l net.Listener) (received int64, crc uint32, err error) {
	conn, err := l.Accept()
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	chunk := make([]byte, chunkBytes)
	for {
		n, err := conn.Read(chunk)
		received += int64(n)
		crc = crc32.Update(crc, castagnoli, chunk[:n])
		if err == io.EOF {
			return received, crc, nil
		}
		if err != nil {
			return received, crc, err
		}
	}
}

// retransmitted asks the kernel how many segments were sent again.
func retransmitted(conn *net.TCPConn) (segments uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var state *unix.TCPInfo
		if state, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			segments = state.Total_retrans
		}
	})
	return segments, errors.Join(cerr, os.NewSyscallError("getsockopt TCP_INFO", err))
}
