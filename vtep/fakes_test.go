package vtep

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"pgregory.net/rapid"
)

// The VTEPs of the tests; we are the first.
var (
	self  = netip.MustParseAddrPort("192.168.52.203:4789")
	vtepA = netip.MustParseAddrPort("192.168.52.204:4789")
	vtepB = netip.MustParseAddrPort("192.168.52.205:4789")
	vtepC = netip.MustParseAddrPort("192.168.52.206:4789")
)

// tester is a *testing.T, a *testing.B or a *rapid.T.
type tester interface {
	rapid.TB
	Cleanup(func())
}

// wire is a transport.Conn that keeps what is sent. Nothing arrives from it
// but what its pipe is told.
type wire struct {
	locals []netip.AddrPort
	limits transport.Limits
	// fail says why a train is not sent. Optional.
	fail func(*transport.Train) error
	// quiet keeps nothing, so that sending allocates nothing.
	quiet bool

	mu     sync.Mutex
	sent   []transport.Train
	trains atomic.Int64
	closed chan struct{}
	once   sync.Once
	pipe   chan error // what Recv returns next
	closes atomic.Int32
}

func newWire() *wire {
	return &wire{
		locals: []netip.AddrPort{self},
		limits: transport.Limits{Segments: transport.MaxSegments, Flows: 1},
		closed: make(chan struct{}), pipe: make(chan error, 1),
	}
}

func (w *wire) Locals() []netip.AddrPort        { return w.locals }
func (w *wire) Limits() transport.Limits        { return w.limits }
func (w *wire) Receivers() []transport.Receiver { return []transport.Receiver{(*wireEnd)(w)} }
func (w *wire) NewSender() transport.Sender     { return (*wireEnd)(w) }

func (w *wire) Close() error {
	w.closes.Add(1)
	w.once.Do(func() { close(w.closed) })
	return nil
}

// take returns what was sent since the last take.
func (w *wire) take() []transport.Train {
	w.mu.Lock()
	defer w.mu.Unlock()
	sent := w.sent
	w.sent = nil
	return sent
}

type wireEnd wire

func (w *wireEnd) TrySend(trains []transport.Train) (int, error) { return w.Send(trains) }

func (w *wireEnd) Send(trains []transport.Train) (int, error) {
	for i := range trains {
		tr := &trains[i]
		if w.fail != nil {
			if err := w.fail(tr); err != nil {
				return i, err
			}
		}
		w.trains.Add(1)
		if !w.quiet {
			kept := *tr
			kept.Buf = append([]byte(nil), tr.Buf...)
			w.mu.Lock()
			w.sent = append(w.sent, kept)
			w.mu.Unlock()
		}
	}
	return len(trains), nil
}

func (w *wireEnd) Recv([]transport.Train) (int, error) {
	select {
	case <-w.closed:
		return 0, net.ErrClosed
	case err := <-w.pipe:
		return 0, err
	}
}

// card is a tap.Device that keeps what is written to it. Nothing comes from it
// but errors.
type card struct {
	t        tester
	mac      vxlan.MAC
	mtu      int
	features tap.Features
	queues   int
	// fail says why a vector is not taken. Optional.
	fail  func(*tap.Vector) error
	quiet bool // keeps nothing, so that writing allocates nothing

	mu      sync.Mutex
	got     []tap.Vector
	vectors atomic.Int64
	closed  chan struct{}
	once    sync.Once
	closes  atomic.Int32
	pipe    chan error // what Read returns next
}

func newCard(t tester) *card {
	return &card{t: t, mac: host, mtu: 1450, queues: 1, closed: make(chan struct{}), pipe: make(chan error, 8)}
}

func (c *card) Name() string             { return "card0" }
func (c *card) MTU() int                 { return c.mtu }
func (c *card) MAC() net.HardwareAddr    { return c.mac[:] }
func (c *card) Features() tap.Features   { return c.features }
func (c *card) NewWriter(int) tap.Writer { return (*cardEnd)(c) }

func (c *card) Readers() []tap.Reader {
	readers := make([]tap.Reader, c.queues)
	for i := range readers {
		readers[i] = (*cardEnd)(c)
	}
	return readers
}

func (c *card) Close() error {
	c.closes.Add(1)
	c.once.Do(func() { close(c.closed) })
	return nil
}

// vectorsTaken returns what was written since the last call.
func (c *card) vectorsTaken() []tap.Vector {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

// frames returns what was written since the last call, taken apart.
func (c *card) frames() [][]byte {
	c.t.Helper()
	var frames [][]byte
	for _, v := range c.vectorsTaken() {
		frames = append(frames, plainFrames(c.t, &v)...)
	}
	return frames
}

type cardEnd card

func (c *cardEnd) Write(vectors []tap.Vector) (int, error) {
	for i := range vectors {
		v := &vectors[i]
		if c.fail != nil {
			if err := c.fail(v); err != nil {
				return i, err
			}
		}
		c.vectors.Add(1)
		if !c.quiet {
			kept := tap.Vector{Header: v.Header}
			for _, p := range v.Parts {
				kept.Parts = append(kept.Parts, append([]byte(nil), p...))
			}
			c.mu.Lock()
			c.got = append(c.got, kept)
			c.mu.Unlock()
		}
	}
	return len(vectors), nil
}

func (c *cardEnd) Read(b *tap.Batch) error {
	b.Frames = b.Frames[:0]
	select {
	case <-c.closed:
		return net.ErrClosed
	case err := <-c.pipe:
		return err
	}
}

// rig is an endpoint whose packet path the test drives by hand, without a
// goroutine: what goes in comes out before the call returns.
type rig struct {
	t    tester
	e    *Endpoint
	wire *wire
	now  time.Duration
	r    *receiver
}

func newRig(t tester) *rig {
	t.Helper()
	r := &rig{t: t, wire: newWire(), now: time.Hour}
	e, err := New(Config{Conn: r.wire, Clock: func() time.Duration { return r.now }})
	if err != nil {
		t.Fatal(err)
	}
	r.e = e
	r.r = &receiver{e: e, outlets: make(map[*overlay]*outlet)}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// port is one VNI of a rig.
type port struct {
	rig  *rig
	vni  vxlan.VNI
	card *card
	o    *overlay
	tx   *transmitter
	w    *workshop
}

// add configures a VNI; setup changes its config before that.
func (r *rig) add(v vxlan.VNI, setup func(*VNIConfig)) *port {
	r.t.Helper()
	c := newCard(r.t)
	cfg := VNIConfig{VNI: v, Device: c}
	if setup != nil {
		setup(&cfg)
	}
	if err := r.e.AddVNI(cfg); err != nil {
		r.t.Fatal(err)
	}
	o := r.e.vnis.load(v)
	p := &port{
		rig: r, vni: v, card: c, o: o,
		tx: &transmitter{e: r.e, o: o, sender: r.wire.NewSender()},
		w:  workshops.Get().(*workshop),
	}
	r.t.Cleanup(func() { workshops.Put(p.w) })
	return p
}

// peers is a setup with these peers.
func peers(a ...netip.AddrPort) func(*VNIConfig) {
	return func(c *VNIConfig) { c.Peers = a }
}

// send has the host send frames, in one batch, and returns the trains that left.
func (p *port) send(frames ...[]byte) []transport.Train {
	batch := make([]tap.Frame, len(frames))
	for i, f := range frames {
		batch[i].Bytes = append([]byte(nil), f...)
	}
	return p.carry(batch...)
}

func (p *port) carry(frames ...tap.Frame) []transport.Train {
	p.tx.carry(p.w, frames)
	return p.rig.wire.take()
}

// arrive has one datagram a frame come in from a VTEP, from any source port, in
// one batch.
func (p *port) arrive(from netip.Addr, frames ...[]byte) {
	trains := make([]transport.Train, len(frames))
	for i, f := range frames {
		trains[i] = transport.Train{Buf: encap(p.vni, f), Addr: netip.AddrPortFrom(from, 50000+uint16(i))}
	}
	p.rig.r.batch(trains, p.rig.now)
}

// arrived is arrive, and what the device got of it.
func (p *port) arrived(from netip.Addr, frames ...[]byte) [][]byte {
	p.rig.t.Helper()
	p.card.vectorsTaken()
	p.arrive(from, frames...)
	return p.card.frames()
}

func (p *port) counters() Counters { return read(&p.o.rx, &p.o.tx) }

// destinations are the addresses of trains, in their order.
func destinations(trains []transport.Train) []netip.AddrPort {
	var a []netip.AddrPort
	for i := range trains {
		a = append(a, trains[i].Addr)
	}
	return a
}

// datagrams are those of all trains, in their order.
func datagrams(trains []transport.Train) [][]byte {
	var all [][]byte
	for i := range trains {
		for k := range trains[i].Len() {
			all = append(all, trains[i].Datagram(k))
		}
	}
	return all
}

// decaps are the frames in all datagrams, which must be of this VNI.
func decaps(t tester, v vxlan.VNI, trains []transport.Train) [][]byte {
	t.Helper()
	var frames [][]byte
	for _, d := range datagrams(trains) {
		h, f, err := vxlan.Parse(d)
		if err != nil || h.VNI != v {
			t.Errorf("datagram %x: VNI %v, %v; want VNI %v", d[:min(len(d), 22)], h.VNI, err, v)
		}
		if vxlan.ReservedBits(d) != 0 {
			t.Errorf("header %x: reserved bits are set", d[:8])
		}
		frames = append(frames, f)
	}
	return frames
}

// datagrams has datagrams with this outer TOS come in from a VTEP in one batch.
func (r *rig) datagrams(from netip.Addr, tos uint8, datagrams ...[]byte) {
	trains := make([]transport.Train, len(datagrams))
	for i, d := range datagrams {
		trains[i] = transport.Train{Buf: append([]byte(nil), d...), Addr: netip.AddrPortFrom(from, 50000), TOS: tos}
	}
	r.r.batch(trains, r.now)
}
