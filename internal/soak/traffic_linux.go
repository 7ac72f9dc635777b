package soak

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	pairEvery      = 4 * time.Millisecond  // between datagrams of a stream
	broadcastEvery = 20 * time.Millisecond // the same
	firstPort      = 20000
	broadcastPort  = 19999
)

// flow is a stream at work: its sockets.
type flow struct {
	stream   *stream
	every    time.Duration
	from, to *net.UDPConn
	at       netip.AddrPort
}

// traffic is all that flows.
type traffic struct {
	begun time.Time
	flows []*flow
	tcp   []*transfer
}

func (t *traffic) now() time.Duration { return time.Since(t.begun) }

// transfer is TCP from one host to another: one connection after the other, each with a
// checksum at its end.
type transfer struct {
	name     string
	from, to *host
	bytes    atomic.Uint64
	whole    atomic.Uint64 // connections that arrived whole
	cut      atomic.Uint64 // connections that made no progress for too long, or were not made

	mu    sync.Mutex
	wrong []string
}

// newTraffic opens the sockets: a stream for each ordered pair of hosts, IPv4 and IPv6,
// and a broadcast stream from each host to each other.
func newTraffic(s *site) (t *traffic, err error) {
	t = &traffic{begun: time.Now()}
	port := uint16(firstPort)
	for _, a := range s.hosts {
		for _, b := range s.hosts {
			if a == b {
				continue
			}
			for _, v6 := range []bool{false, true} {
				from, to, family := a.inner4(), b.inner4(), "IPv4"
				if v6 {
					from, to, family = a.inner6(), b.inner6(), "IPv6"
				}
				f := &flow{stream: &stream{name: fmt.Sprintf("%s to %s, %s", a.name(), b.name(), family), from: a.number, to: b.number}, every: pairEvery}
				if f.to, err = b.socket(to, port); err != nil {
					return nil, err
				}
				if f.from, err = a.socket(from, 0); err != nil {
					return nil, err
				}
				f.at = netip.AddrPortFrom(to, port)
				t.flows = append(t.flows, f)
				port++
			}
			f := &flow{stream: &stream{name: fmt.Sprintf("%s to %s, broadcast", a.name(), b.name()), from: a.number, to: b.number}, every: broadcastEvery}
			at := uint16(broadcastPort - 10*a.number - b.number)
			if f.to, err = b.socket(netip.IPv4Unspecified(), at); err != nil {
				return nil, err
			}
			if f.from, err = a.socket(a.inner4(), 0); err != nil {
				return nil, err
			}
			f.at = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, 255}), at)
			t.flows = append(t.flows, f)
		}
	}
	for _, pair := range [][2]int{{0, 1}, {1, kernel}, {kernel, 0}} {
		a, b := s.hosts[pair[0]], s.hosts[pair[1]]
		t.tcp = append(t.tcp, &transfer{name: fmt.Sprintf("%s to %s", a.name(), b.name()), from: a, to: b})
	}
	return t, nil
}

// run sends until sending ends, and receives until receiving ends.
func (t *traffic) run(sending, receiving context.Context) error {
	var tasks errgroup.Group
	for _, f := range t.flows {
		tasks.Go(func() error { return f.send(sending, t) })
		tasks.Go(func() error { return f.receive(receiving, t) })
	}
	for _, c := range t.tcp {
		tasks.Go(func() error { c.run(sending); return nil })
	}
	return tasks.Wait()
}

func (f *flow) send(ctx context.Context, t *traffic) error {
	defer f.from.Close()
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	var b []byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		b = appendDatagram(b[:0], f.stream.next())
		at := t.now()
		if _, err := f.from.WriteToUDPAddrPort(b, f.at); err != nil {
			f.stream.refuse()
			continue
		}
		f.stream.send(at)
	}
}

func (f *flow) receive(ctx context.Context, t *traffic) error {
	defer context.AfterFunc(ctx, func() { f.to.Close() })()
	b := make([]byte, 65536)
	for {
		n, _, err := f.to.ReadFromUDPAddrPort(b)
		switch {
		case err == nil:
			f.stream.arrive(b[:n], t.now())
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
			// An ICMP error for something that was sent is none of the receiver's.
		}
	}
}

const (
	transferSize = 4 << 20
	chunkSize    = 256 << 10
	chunkEvery   = 25 * time.Millisecond
	// stall is how long a connection may make no progress before it counts as cut.
	stall = 15 * time.Second
)

// run makes one connection after the other.
func (c *transfer) run(ctx context.Context) {
	for ctx.Err() == nil {
		switch err := c.once(ctx); {
		case err == nil:
			c.whole.Add(1)
		case errors.Is(err, errAltered):
			c.mu.Lock()
			c.wrong = append(c.wrong, err.Error())
			c.mu.Unlock()
		case ctx.Err() == nil:
			c.cut.Add(1)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

var errAltered = errors.New("other bytes arrived than were sent")

// once is one connection. What it sends goes in chunks, so that superframes leave but
// the machine has time for the others.
func (c *transfer) once(ctx context.Context) error {
	listener, err := c.to.Listen("tcp", netip.AddrPortFrom(c.to.inner4(), 0).String())
	if err != nil {
		return err
	}
	defer listener.Close()
	type received struct {
		sum [32]byte
		n   int64
		err error
	}
	result := make(chan received, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			result <- received{err: err}
			return
		}
		defer conn.Close()
		sum := sha256.New()
		b := make([]byte, 128<<10)
		var r received
		for {
			if r.err = conn.SetReadDeadline(time.Now().Add(stall)); r.err != nil {
				break
			}
			n, err := conn.Read(b)
			sum.Write(b[:n])
			r.n += int64(n)
			c.bytes.Add(uint64(n))
			if err != nil {
				if !errors.Is(err, io.EOF) {
					r.err = err
				}
				break
			}
		}
		r.sum = [32]byte(sum.Sum(nil))
		result <- r
	}()
	conn, err := c.from.Dial("tcp", listener.Addr().String())
	if err != nil {
		listener.Close()
		<-result
		return err
	}
	defer conn.Close()
	sum := sha256.New()
	sent := int64(0)
	send := func() error {
		chunk := make([]byte, chunkSize)
		for sent < transferSize && ctx.Err() == nil {
			for i := range chunk {
				chunk[i] = byte(i*7) + byte(sent>>18)
			}
			if err := conn.SetWriteDeadline(time.Now().Add(stall)); err != nil {
				return err
			}
			n, err := conn.Write(chunk)
			sum.Write(chunk[:n])
			sent += int64(n)
			if err != nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(chunkEvery):
			}
		}
		return conn.(*net.TCPConn).CloseWrite()
	}
	err = send()
	if err != nil {
		conn.Close()
	}
	r := <-result
	switch {
	case err != nil:
		return err
	case r.err != nil:
		return r.err
	case r.n != sent || !slices.Equal(r.sum[:], sum.Sum(nil)):
		return fmt.Errorf("%w: %d bytes of %d", errAltered, r.n, sent)
	}
	return nil
}
