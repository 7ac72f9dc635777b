package membership

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// mostStreams TCP connections are served at once. What comes beside them, from
// members or strangers, is closed and counted.
const mostStreams = 128

// packetBytes is more than any packet of a member has.
const packetBytes = 2048

// network is memberlist's way to other members. Unlike the one that memberlist brings
// it takes memory for what a packet has, not 64 KB, bounds connections, and can be
// closed without waiting for anything.
type network struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	conns   chan net.Conn
	counts  *counts
	streams atomic.Int32
	done    chan struct{}
	once    sync.Once
	work    sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*network)(nil)

// listen opens both sockets. Port 0 is one that is free for both.
func listen(at netip.AddrPort, c *counts) (*network, error) {
	n := &network{packets: make(chan *memberlist.Packet, 64), conns: make(chan net.Conn), counts: c, done: make(chan struct{})}
	var err error
	for try := 0; ; try++ {
		if n.tcp, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)); err != nil {
			return nil, err
		}
		udp := netip.AddrPortFrom(at.Addr(), uint16(n.tcp.Addr().(*net.TCPAddr).Port))
		if n.udp, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(udp)); err == nil {
			break
		}
		if err = errors.Join(err, n.tcp.Close()); at.Port() != 0 || try == 9 {
			return nil, err
		}
	}
	n.udp.SetReadBuffer(1 << 20) // bursts; less will do
	n.work.Go(n.receive)
	n.work.Go(n.accept)
	return n, nil
}

func (n *network) receive() {
	b := make([]byte, packetBytes)
	for {
		size, from, err := n.udp.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || size == 0 {
			continue // an ICMP error about something sent
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), b[:size]...), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now()}
		select {
		case n.packets <- p:
		case <-n.done:
			return
		}
	}
}

func (n *network) accept() {
	for {
		c, err := n.tcp.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select { // no descriptors, for the time being
			case <-time.After(100 * time.Millisecond):
				continue
			case <-n.done:
				return
			}
		}
		if n.streams.Add(1) > mostStreams {
			n.streams.Add(-1)
			n.counts.refused.Add(1)
			c.Close()
			continue
		}
		select {
		case n.conns <- &stream{Conn: c, of: n}:
		case <-n.done:
			c.Close()
			return
		}
	}
}

// stream is a connection that counts until it is closed.
type stream struct {
	net.Conn
	of   *network
	once sync.Once
}

func (s *stream) Close() error {
	s.once.Do(func() { s.of.streams.Add(-1) })
	return s.Conn.Close()
}

func (n *network) addr() *net.UDPAddr { return n.udp.LocalAddr().(*net.UDPAddr) }

func (n *network) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip == "" {
		a := n.addr()
		if v4 := a.IP.To4(); v4 != nil {
			return v4, a.Port, nil
		}
		return a.IP, a.Port, nil
	}
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, 0, err
	}
	if port == 0 {
		port = n.addr().Port
	}
	return a.Unmap().AsSlice(), port, nil
}

func (n *network) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = n.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

func (n *network) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return n.WriteTo(b, a.Addr)
}

func (n *network) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	// From the address that others know, as the packets.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-n.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	d := net.Dialer{Timeout: timeout}
	if ip := n.addr().IP; !ip.IsUnspecified() {
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("TCP connection to %s: %w", addr, err)
	}
	return c, nil
}

func (n *network) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return n.DialTimeout(a.Addr, timeout)
}

func (n *network) PacketCh() <-chan *memberlist.Packet { return n.packets }
func (n *network) StreamCh() <-chan net.Conn           { return n.conns }

// Shutdown closes the sockets.
func (n *network) Shutdown() error {
	n.once.Do(func() {
		close(n.done)
		n.udp.Close()
		n.tcp.Close()
	})
	n.work.Wait()
	return nil
}
