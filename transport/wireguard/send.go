package wireguard

import (
	"net"
	"net/netip"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// mostWays bounds the destinations that a sender remembers.
const mostWays = 4096

// way is how packets to one VTEP look.
type way struct {
	template vxlan.UDPTemplate
	headers  int // IP and UDP, in bytes
	family   int
	err      error
}

// request is what a sender has to send, for as long as Send waits.
type request struct {
	trains []transport.Train
	ways   []*way
	train  int // what is next
	next   int // datagram of it
	done   chan struct{}
}

func (r *request) finished() bool { return r.train == len(r.trains) }

// fill writes packets into buffers, from offset on, and returns how many.
func (r *request) fill(t *tunnel, bufs [][]byte, sizes []int, offset int) int {
	const ethernet = vxlan.EthernetLen
	n := 0
	for n < len(bufs) && !r.finished() {
		tr, w := &r.trains[r.train], r.ways[r.train]
		// Several VTEPs may get the same bytes (head-end replication).
		f := t.c.fields(tr, w.family)
		for count := max(tr.Len(), 1); n < len(bufs) && r.next < count; r.next++ {
			d := tr.Datagram(r.next)
			f.ID = t.id
			t.id++
			// The template begins with an Ethernet header; the library's own
			// header, which is longer, comes to lie over it.
			b := bufs[n][offset-ethernet:]
			if w.template.Put(b, d, &f) != nil {
				continue // Send has seen to it that it fits
			}
			sizes[n] = w.headers + copy(b[ethernet+w.headers:], d)
			n++
		}
		if r.next == max(tr.Len(), 1) {
			r.train, r.next = r.train+1, 0
		}
	}
	return n
}

// fields are what a train says about its headers.
func (c *Conn) fields(t *transport.Train, family int) vxlan.UDPFields {
	f := vxlan.UDPFields{
		SrcPort: c.opt.SourcePorts.Port(t.Hash), TOS: t.TOS, TTL: t.TTL,
		DF: c.opt.DontFragment || t.DontFragment,
	}
	if f.TTL == 0 {
		f.TTL = c.opt.TTL
	}
	if family == 1 {
		f.FlowLabel = c.label(t, f.SrcPort)
	}
	if c.zero(family) {
		f.Checksum = vxlan.NoChecksum
	}
	return f
}

// sender implements transport.Sender: it lends its trains to the library's
// goroutine, which copies them to where they are encrypted.
type sender struct {
	c       *Conn
	known   map[netip.AddrPort]*way
	last    *way // memo: trains come in runs to one VTEP
	to      netip.AddrPort
	request request
	word    transport.TooBig
}

func newSender(c *Conn) *sender {
	return &sender{c: c, known: make(map[netip.AddrPort]*way), request: request{done: make(chan struct{}, 1)}}
}

// TrySend is Send: the library takes what there is in a moment, and drops what is
// too much for the underlay.
func (s *sender) TrySend(trains []transport.Train) (int, error) { return s.Send(trains) }

func (s *sender) Send(trains []transport.Train) (int, error) {
	s.request.ways = s.request.ways[:0]
	var refused error
	for i := range trains {
		w, err := s.way(&trains[i])
		if err != nil {
			refused = err
			break
		}
		s.request.ways = append(s.request.ways, w)
	}
	n := len(s.request.ways)
	if n > 0 {
		if err := s.lend(trains[:n]); err != nil {
			return 0, err
		}
	}
	if refused == transport.ErrTooLong {
		s.tooBig(&trains[n])
	}
	return n, refused
}

// lend waits until trains are copied.
func (s *sender) lend(trains []transport.Train) error {
	r := &s.request
	r.trains, r.train, r.next = trains, 0, 0
	select {
	case s.c.tun.requests <- r:
	case <-s.c.tun.closed:
		return net.ErrClosed
	}
	<-r.done
	finished := r.finished()
	r.trains = nil
	if !finished {
		return net.ErrClosed
	}
	return nil
}

// way finds how a train's packets look, and whether they fit.
func (s *sender) way(t *transport.Train) (*way, error) {
	w := s.last
	if w == nil || t.Addr != s.to {
		if w = s.known[t.Addr]; w == nil {
			w = s.c.find(t.Addr)
			if len(s.known) >= mostWays {
				clear(s.known)
			}
			s.known[t.Addr] = w
		}
		s.last, s.to = w, t.Addr
	}
	if w.err != nil {
		return nil, w.err
	}
	longest := len(t.Buf)
	if t.Stride > 0 {
		longest = min(longest, t.Stride)
	}
	if w.headers+longest > int(s.c.mtu.Load()) {
		return nil, transport.ErrTooLong
	}
	return w, nil
}

// find makes a way.
func (c *Conn) find(to netip.AddrPort) *way {
	dst := to.Addr().Unmap()
	f := family(dst)
	switch {
	case !c.local[f].IsValid():
		return &way{err: transport.ErrNoFamily}
	case c.cfg.PeerOf(dst) == nil:
		return &way{err: ErrNoPeer}
	}
	o := vxlan.Outer{Src: c.local[f], Dst: dst, DstPort: to.Port()}
	template, err := o.CompileUDP()
	if err != nil {
		return &way{err: err}
	}
	return &way{template: *template, headers: template.Len() - template.L3(), family: f}
}

// tooBig tells of a train that the tunnel does not carry.
func (s *sender) tooBig(t *transport.Train) {
	if hear := s.c.hear.Load(); hear != nil {
		s.word = transport.TooBig{To: t.Addr, MTU: int(s.c.mtu.Load())}
		(*hear)(&s.word)
	}
}
