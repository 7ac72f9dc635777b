package transport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"

	"github.com/govxlan/govxlan/vxlan"
)

// networkQueue bounds the datagrams that wait at one Conn of a Network; more
// are lost, as in a full socket buffer.
const networkQueue = 8192

// NetworkConfig says how bad a Network is. The zero value loses nothing.
type NetworkConfig struct {
	// Loss, Duplicate and Reorder are probabilities from 0 to 1 for each
	// datagram. One that is reordered arrives behind the next to the same VTEP.
	Loss, Duplicate, Reorder float64
	// Corrupt is the probability that one bit of a datagram is flipped, as a
	// link without checksums would.
	Corrupt float64
	// Seed makes a run repeatable.
	Seed uint64
	// MTU is the longest datagram (UDP payload) in bytes that is carried;
	// sending a longer one fails with ErrTooLong. 0 = no limit.
	MTU int
	// PathMTU is that of a router in the middle: a longer datagram is lost, and
	// its sender hears so (PathConn), in the terms of IPv4. 0 = none.
	PathMTU int
}

// Network is an underlay in memory that joins Conns of the same process: for
// tests, examples and simulations. It builds on every system.
type Network struct {
	mu     sync.Mutex
	config NetworkConfig
	rand   *rand.Rand
	conns  map[netip.AddrPort]*networkConn
	groups map[netip.AddrPort][]*networkGroup
}

// ErrTooLong: a datagram is longer than the Network's MTU.
var ErrTooLong = errors.New("datagram is longer than the underlay's MTU")

// NewNetwork returns a network without any VTEP.
func NewNetwork(cfg NetworkConfig) *Network {
	return &Network{
		config: cfg,
		rand:   rand.New(rand.NewPCG(cfg.Seed, 1)),
		conns:  make(map[netip.AddrPort]*networkConn),
		groups: make(map[netip.AddrPort][]*networkGroup),
	}
}

// errPath: the router in the middle does not let it through.
var errPath = errors.New("datagram is longer than the path's MTU")

// SetConfig changes how bad the network is, for what is sent from now on. The
// Seed has no effect any more.
func (n *Network) SetConfig(cfg NetworkConfig) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.config = cfg
}

// Listen returns a Conn at the address, or ErrPortInUse.
func (n *Network) Listen(at netip.AddrPort) (Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.conns[at]; ok {
		return nil, fmt.Errorf("listen on %v: %w", at, ErrPortInUse)
	}
	c := &networkConn{network: n, local: at, inbox: newInbox()}
	n.conns[at] = c
	return c, nil
}

// parcel is one datagram under way.
type parcel struct {
	from netip.AddrPort
	tos  uint8
	b    []byte
}

// inbox is what waits for one receiver.
type inbox struct {
	queue  chan parcel
	late   *parcel // guarded by network.mu
	once   sync.Once
	closed chan struct{}
}

func newInbox() *inbox {
	return &inbox{queue: make(chan parcel, networkQueue), closed: make(chan struct{})}
}

// push hands a datagram over, or loses it when nobody receives.
func (b *inbox) push(p parcel) {
	select {
	case b.queue <- p:
	default:
	}
}

// carry delivers one datagram, or does to it what the config says.
func (n *Network) carry(from, to netip.AddrPort, tos uint8, b []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.config.MTU > 0 && len(b) > n.config.MTU {
		return ErrTooLong
	}
	if n.config.PathMTU > 0 && len(b) > n.config.PathMTU {
		return errPath
	}
	if to.Addr().IsMulticast() {
		for _, g := range n.groups[to] {
			if g.c.local != from {
				n.deliver(g.inbox, from, tos, b)
			}
		}
		return nil
	}
	if dst, ok := n.conns[to]; ok { // else nobody is there: UDP does not tell
		n.deliver(dst.inbox, from, tos, b)
	}
	return nil
}

// deliver brings one datagram to one receiver, if it gets there. mu is held.
func (n *Network) deliver(dst *inbox, from netip.AddrPort, tos uint8, b []byte) {
	if n.chance(n.config.Loss) {
		return
	}
	p := parcel{from: from, tos: tos, b: append([]byte(nil), b...)}
	if n.chance(n.config.Corrupt) {
		bit := n.rand.IntN(len(p.b) * 8)
		p.b[bit/8] ^= 1 << (bit % 8)
	}
	if dst.late == nil && n.chance(n.config.Reorder) {
		dst.late = &p
		return
	}
	copies := 1
	if n.chance(n.config.Duplicate) {
		copies = 2
	}
	for range copies {
		// Each copy has its own bytes: the receiver may write to them.
		dst.push(parcel{from: p.from, tos: p.tos, b: append([]byte(nil), p.b...)})
	}
	if dst.late != nil {
		dst.push(*dst.late)
		dst.late = nil
	}
}

func (n *Network) chance(p float64) bool { return p > 0 && n.rand.Float64() < p }

// networkConn is a Conn of a Network.
type networkConn struct {
	network *Network
	local   netip.AddrPort
	hear    func(*TooBig) // HearTooBig
	*inbox
}

var (
	_ PathConn  = (*networkConn)(nil)
	_ OuterConn = (*networkConn)(nil)
)

// Outer: see OuterConn. A Network has one source port.
func (c *networkConn) Outer(t *Train) vxlan.Outer {
	o := t.outer()
	o.Src, o.SrcPort = c.local.Addr().Unmap().WithZone(""), c.local.Port()
	return o
}

// HearTooBig: see PathConn.
func (c *networkConn) HearTooBig(hear func(*TooBig)) { c.hear = hear }

func (c *networkConn) Locals() []netip.AddrPort { return []netip.AddrPort{c.local} }
func (c *networkConn) Limits() Limits           { return Limits{Segments: MaxSegments, Flows: 1} }
func (c *networkConn) Receivers() []Receiver    { return []Receiver{(*networkReceiver)(c.inbox)} }
func (c *networkConn) NewSender() Sender        { return (*networkSender)(c) }

func (c *networkConn) Close() error {
	c.once.Do(func() {
		c.network.mu.Lock()
		delete(c.network.conns, c.local)
		groups := c.network.leaveAll(c)
		c.network.mu.Unlock()
		for _, g := range groups {
			g.end()
		}
		close(c.closed)
	})
	return nil
}

type networkSender networkConn

// TrySend is Send: a Network never makes anybody wait.
func (s *networkSender) TrySend(trains []Train) (int, error) { return s.Send(trains) }

func (s *networkSender) Send(trains []Train) (int, error) {
	for i := range trains {
		select {
		case <-s.closed:
			return i, net.ErrClosed
		default:
		}
		t := &trains[i]
		for d := range t.Len() {
			err := s.network.carry(s.local, t.Addr, t.TOS, t.Datagram(d))
			if err == errPath {
				s.tell(t.Addr, t.Datagram(d))
			} else if err != nil {
				return i, err
			}
		}
	}
	return len(trains), nil
}

// tell has the router answer as one of today's.
func (s *networkSender) tell(to netip.AddrPort, b []byte) {
	const router, headers, quote = "192.0.2.1", 28, 548
	if s.hear == nil {
		return
	}
	s.network.mu.Lock()
	mtu := s.network.config.PathMTU + headers
	s.network.mu.Unlock()
	s.hear(&TooBig{To: to, From: netip.MustParseAddr(router), MTU: mtu, Datagram: b[:min(len(b), quote-headers)]})
}

type networkReceiver inbox

func (r *networkReceiver) Recv(trains []Train) (int, error) {
	if len(trains) == 0 {
		return 0, nil
	}
	select {
	case <-r.closed: // whatever is in the queue: see Receiver
		return 0, net.ErrClosed
	default:
	}
	var p parcel
	select {
	case p = <-r.queue:
	case <-r.closed:
		return 0, net.ErrClosed
	}
	n := 0
	for {
		trains[n] = Train{Buf: p.b, Addr: p.from, TOS: p.tos}
		n++
		if n == len(trains) {
			return n, nil
		}
		select {
		case p = <-r.queue:
		default:
			return n, nil
		}
	}
}
