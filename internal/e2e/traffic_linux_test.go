package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// ping runs the real ping(8) inside ns until it was answered count times. It
// may send more: an answer that is late on a busy machine is not lost. ping
// fails when there are fewer within 10 s.
func ping(t *testing.T, ns *netlab.Namespace, to netip.Addr, count int, more ...string) {
	t.Helper()
	args := append([]string{"-n", "-q", "-i", "0.02", "-w", "10", "-c", fmt.Sprint(count)}, more...)
	out, err := ns.Command(t.Context(), "ping", append(args, to.String())...).CombinedOutput()
	if err != nil {
		t.Fatalf("ping %v %v: %v\n%s", more, to, err, out)
	}
}

// transfer opens a TCP connection over which both sides send size bytes at the
// same time, and compares what arrived.
func transfer(from, to *netlab.Namespace, at netip.Addr, size int64) error {
	listener, err := to.Listen("tcp", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		return err
	}
	defer listener.Close()
	client, err := from.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	defer server.Close()

	var tasks errgroup.Group
	for i, direction := range [][2]net.Conn{{client, server}, {server, client}} {
		deadline := time.Now().Add(3 * patience)
		must := []error{direction[0].SetDeadline(deadline), direction[1].SetDeadline(deadline)}
		if err := firstError(must...); err != nil {
			return err
		}
		seed := [32]byte{byte(i), byte(size)}
		want := make(chan []byte, 1)
		tasks.Go(func() error {
			sum := sha256.New()
			_, err := io.Copy(io.MultiWriter(sum, direction[0]), io.LimitReader(rand.NewChaCha8(seed), size))
			want <- sum.Sum(nil)
			if err != nil {
				return fmt.Errorf("send: %w", err)
			}
			return direction[0].(*net.TCPConn).CloseWrite()
		})
		tasks.Go(func() error {
			sum := sha256.New()
			n, err := io.Copy(sum, direction[1])
			if err != nil {
				return fmt.Errorf("receive: %w after %d bytes", err, n)
			}
			if n != size || !bytes.Equal(sum.Sum(nil), <-want) {
				return fmt.Errorf("%d bytes arrived of %d sent, or other ones", n, size)
			}
			return nil
		})
	}
	return tasks.Wait()
}

// stream opens a TCP connection and sends on it until finish is called, which
// compares what arrived with what was sent. A connection that stalls for too long
// is an error.
func stream(t *testing.T, from, to *netlab.Namespace, at netip.Addr) (finish func() error) {
	t.Helper()
	listener, err := to.Listen("tcp", netip.AddrPortFrom(at, 0).String())
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	client, err := from.Dial("tcp", listener.Addr().String())
	must(t, err)
	t.Cleanup(func() { client.Close() })
	server, err := listener.Accept()
	must(t, err)
	t.Cleanup(func() { server.Close() })

	var stop atomic.Bool
	var tasks errgroup.Group
	sent, arrived := sha256.New(), sha256.New()
	tasks.Go(func() error {
		random, b := rand.NewChaCha8([32]byte{1}), make([]byte, 64<<10)
		for !stop.Load() {
			if _, err := random.Read(b); err != nil {
				return err
			}
			sent.Write(b)
			if err := client.SetDeadline(time.Now().Add(patience)); err != nil {
				return err
			}
			if _, err := client.Write(b); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
		return client.(*net.TCPConn).CloseWrite()
	})
	tasks.Go(func() error {
		if n, err := io.Copy(arrived, server); err != nil {
			return fmt.Errorf("receive: %w after %d bytes", err, n)
		}
		return nil
	})
	return func() error {
		stop.Store(true)
		if err := tasks.Wait(); err != nil {
			return err
		}
		if !bytes.Equal(sent.Sum(nil), arrived.Sum(nil)) {
			return errors.New("other bytes arrived than were sent")
		}
		return nil
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// udpPath is a pair of UDP sockets, one at each end of the overlay.
type udpPath struct{ a, b *net.UDPConn }

// openUDP opens the two sockets.
func openUDP(t *testing.T, aNS *netlab.Namespace, a netip.Addr, bNS *netlab.Namespace, b netip.Addr) udpPath {
	t.Helper()
	open := func(ns *netlab.Namespace, at netip.Addr) *net.UDPConn {
		c, err := ns.ListenPacket("udp", netip.AddrPortFrom(at, 0).String())
		must(t, err)
		t.Cleanup(func() { c.Close() })
		u := c.(*net.UDPConn)
		raw, err := u.SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
		}))
		must(t, err)
		return u
	}
	return udpPath{open(aNS, a), open(bNS, b)}
}

// reverse is the path seen from its other end.
func (p udpPath) reverse() udpPath { return udpPath{p.b, p.a} }

// datagram is one of size bytes that follow from its number.
func datagram(number uint32, size int) []byte {
	d := binary.BigEndian.AppendUint32(nil, number)
	random := rand.New(rand.NewPCG(uint64(number), uint64(size)))
	for len(d) < size {
		d = append(d, byte(random.Uint32()))
	}
	return d[:size]
}

// carry sends datagrams of these sizes from a to b, which must arrive as they
// were sent, each once: the window is smaller than any queue on the way. Their
// order is not looked at: on a busy machine a veth pair does not keep it, when
// the sender moves to another CPU.
func (p udpPath) carry(sizes []int) error {
	const window = 32
	for first := 0; first < len(sizes); first += window {
		now := sizes[first:min(first+window, len(sizes))]
		var sent [][]byte
		for i, size := range now {
			d := datagram(uint32(first+i), size)
			if _, err := p.a.WriteTo(d, p.b.LocalAddr()); err != nil {
				return fmt.Errorf("send %d bytes: %w", size, err)
			}
			sent = append(sent, d)
		}
		if err := p.arrive(sent); err != nil {
			return err
		}
	}
	return nil
}

// arrive receives datagrams at b that must be these.
func (p udpPath) arrive(sent [][]byte) error {
	missing := make(map[string]int)
	for _, d := range sent {
		missing[string(d)]++
	}
	if err := p.b.SetReadDeadline(deadline()); err != nil {
		return err
	}
	buf := make([]byte, 65536)
	for range sent {
		n, err := p.b.Read(buf)
		if err != nil {
			for d := range missing {
				return fmt.Errorf("%d datagrams are missing, one of %d bytes: %w", len(missing), len(d), err)
			}
		}
		d := string(buf[:n])
		switch missing[d] {
		case 0:
			return fmt.Errorf("%d bytes arrived that were not sent, or sent once and came twice", n)
		case 1:
			delete(missing, d)
		default:
			missing[d]--
		}
	}
	return nil
}

// carrySegments sends one buffer of total bytes as datagrams of size bytes by
// UDP_SEGMENT, which must arrive as such.
func (p udpPath) carrySegments(total, size int) error {
	sent := datagram(uint32(total), total)
	if err := p.setSegment(size); err != nil {
		return err
	}
	if _, err := p.a.WriteTo(sent, p.b.LocalAddr()); err != nil {
		return fmt.Errorf("send %d bytes in segments of %d: %w", total, size, err)
	}
	if err := p.setSegment(0); err != nil {
		return err
	}
	return p.arrive(slices.Collect(slices.Chunk(sent, size)))
}

// setSegment sets the size of datagrams that one write is cut into.
func (p udpPath) setSegment(size int) error {
	raw, err := p.a.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size)
	})
	return firstError(err, failed)
}
