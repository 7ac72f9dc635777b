package wireguard

import (
	"net"
	"net/netip"
	"os"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

const (
	// parcels is how many batches may wait for the receiver.
	parcels = 16
	// parcelBytes holds a batch of the library's, 128 packets of 1440 bytes.
	parcelBytes = 192 << 10
)

// parcel is a batch of received datagrams: trains, and what they point into.
type parcel struct {
	buf    []byte
	trains []transport.Train
	packet vxlan.Packet // being read
}

// receiver implements transport.Receiver.
type receiver struct {
	free, full chan *parcel
	closed     chan struct{}
	held       []*parcel // by the last Recv
	begun      int       // trains of the last of held that are handed over
}

func newReceiver(closed chan struct{}) *receiver {
	r := &receiver{free: make(chan *parcel, parcels), full: make(chan *parcel, parcels), closed: closed}
	for range parcels {
		r.free <- new(parcel)
	}
	return r
}

// take copies packets into parcels, those of one VTEP and length to trains. It
// waits while the receiver has not come after: the underlay's socket fills up then,
// and the kernel drops.
func (r *receiver) take(c *Conn, bufs [][]byte, offset int) (int, error) {
	p := r.parcel()
	if p == nil {
		return 0, os.ErrClosed
	}
	for _, b := range bufs {
		payload := c.unpack(p, b[offset:])
		if len(payload) == 0 {
			continue
		}
		if len(p.buf)+len(payload) > cap(p.buf) {
			packet := p.packet
			r.full <- p // has room for all there are
			if p = r.parcel(); p == nil {
				return 0, os.ErrClosed
			}
			p.packet = packet
		}
		p.add(payload)
	}
	if len(p.trains) == 0 {
		r.free <- p
		return len(bufs), nil
	}
	r.full <- p
	return len(bufs), nil
}

// parcel returns an empty one, nil when closed.
func (r *receiver) parcel() *parcel {
	select {
	case p := <-r.free:
		if p.buf == nil {
			p.buf = make([]byte, 0, parcelBytes)
		}
		p.buf, p.trains = p.buf[:0], p.trains[:0]
		return p
	case <-r.closed:
		return nil
	}
}

// unpack returns the datagram in a packet, if it is one for this VTEP.
func (c *Conn) unpack(p *parcel, b []byte) []byte {
	payload, err := p.packet.ParseIPDatagram(b)
	switch {
	case err != nil || len(payload) == 0:
		c.badPacket.Add(1)
		return nil
	case p.packet.DstPort != c.opt.Port || p.packet.Dst != c.local[family(p.packet.Dst)]:
		c.badPacket.Add(1) // there is nothing else to talk to in the tunnel
		return nil
	case !p.packet.ChecksumOK() && !(p.packet.ZeroChecksum && c.opt.AcceptZeroChecksum6):
		c.badChecksum.Add(1)
		return nil
	}
	return payload
}

// add appends the datagram of p.packet to the last train, or begins one.
func (p *parcel) add(payload []byte) {
	begin := len(p.buf)
	p.buf = append(p.buf, payload...)
	from := netip.AddrPortFrom(p.packet.Src, p.packet.SrcPort)
	if n := len(p.trains); n > 0 {
		t := &p.trains[n-1]
		// A shorter datagram ends its train.
		if t.Addr == from && t.TOS == p.packet.TOS && len(payload) <= t.Stride &&
			len(t.Buf)%t.Stride == 0 && len(t.Buf)+len(payload) <= transport.MaxBytes && t.Len() < transport.MaxSegments {
			t.Buf = p.buf[begin-len(t.Buf) : len(p.buf) : len(p.buf)]
			return
		}
	}
	p.trains = append(p.trains, transport.Train{
		Buf: p.buf[begin:len(p.buf):len(p.buf)], Stride: len(payload), Addr: from, TOS: p.packet.TOS,
	})
}

func (r *receiver) Recv(trains []transport.Train) (int, error) {
	if len(trains) == 0 {
		return 0, nil
	}
	r.release()
	select {
	case <-r.closed: // whatever is there: see transport.Receiver
		return 0, net.ErrClosed
	default:
	}
	n := 0
	if len(r.held) == 0 {
		select {
		case p := <-r.full:
			r.held = append(r.held, p)
		case <-r.closed:
			return 0, net.ErrClosed
		}
	}
	for {
		p := r.held[len(r.held)-1]
		took := copy(trains[n:], p.trains[r.begun:])
		n, r.begun = n+took, r.begun+took
		if r.begun < len(p.trains) || n == len(trains) {
			return n, nil
		}
		select {
		case p := <-r.full:
			r.held, r.begun = append(r.held, p), 0
		default:
			return n, nil
		}
	}
}

// release gives back what the last Recv handed out, but for what it did not come
// to.
func (r *receiver) release() {
	kept := r.held[:0]
	for i, p := range r.held {
		if i == len(r.held)-1 && r.begun < len(p.trains) {
			kept = append(kept, p)
			continue
		}
		r.free <- p
	}
	if len(kept) == 0 {
		r.begun = 0
	}
	r.held = kept
}
