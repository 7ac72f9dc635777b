package vtep

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// Where frames are shown to captures. Whoever carries a batch asks once who
// captures; while that is nobody, none of this is called but by what drops a whole
// train.

// see shows a frame to all captures. Its bytes, s.datagram tells which ones, may
// lie apart, but the first part has all headers.
func see(captures []*Capture, s *sighting, parts ...[]byte) {
	for _, c := range captures {
		c.claim(s, parts...).commit(s.verdict)
	}
}

// claim copies a frame into the ring if the capture wants it.
func (c *Capture) claim(s *sighting, parts ...[]byte) claim {
	inner := parts[0]
	switch {
	case s.datagram:
		inner = inner[min(vxlan.HeaderLen, len(inner)):]
		if c.inner && s.known && len(inner) >= vxlan.EthernetLen {
			if s.out && s.verdict == verdictPassed {
				return claim{} // it was seen when the device gave it
			}
			bare := *s
			bare.datagram = false
			return c.put(&bare, inner, inner)
		}
	case !c.inner && s.verdict == verdictPassed:
		return claim{} // it is seen when it leaves
	}
	return c.put(s, inner, parts...)
}

func (c *Capture) put(s *sighting, inner []byte, parts ...[]byte) claim {
	if !c.filter.wants(s, inner) {
		return claim{}
	}
	if s.at == 0 {
		s.at = time.Now().UnixNano() // not before it is known to be wanted
	}
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	return c.ring.put(s, length, min(length, c.snapLen), parts...)
}

// sightDatagram begins the sighting of a datagram that came in.
func (r *receiver) sightDatagram(t *transport.Train) sighting {
	s := sighting{}
	s.datagram, s.peer, s.tos = true, t.Addr, t.TOS
	if r.group != nil {
		s.local = r.group.addr
	}
	return s
}

// identify notes the VNI of a datagram that came in.
func (s *sighting) identify(b []byte) {
	_, _, err := vxlan.Parse(b)
	if s.known = err == nil || err == vxlan.ErrFrame; s.known {
		s.vni = vxlan.VNI(binary.BigEndian.Uint32(b[4:8]) >> 8)
	}
}

// trainSeen carries the datagrams of a train while somebody captures. What is
// handed on is written to on its way, so that captures get it before; those of
// drops alone get what is dropped, and need no room for the others.
func (r *receiver) trainSeen(t *transport.Train, segment int, now time.Duration) {
	for i := range t.Len() {
		b := t.Datagram(i)
		s := r.sightDatagram(t)
		s.identify(b)
		var claims [mostCaptures]claim
		for i, c := range r.captures {
			if !c.filter.Drops {
				claims[i] = c.claim(&s, b)
			}
		}
		s.verdict = r.packet(b, segment, t.TOS, now)
		if s.verdict == rxOversize && r.out.o.vid != 0 {
			popTag(b, s.vni)
		}
		for i, c := range r.captures {
			if c.filter.Drops && s.verdict.Dropped() {
				claims[i] = c.claim(&s, b)
			}
			claims[i].commit(s.verdict)
		}
	}
}

// popTag takes back what pushTag did to a packet.
func popTag(packet []byte, v vxlan.VNI) {
	copy(packet[vxlan.HeaderLen:], packet[vxlan.HeaderLen-vxlan.VLANTagLen:][:12])
	binary.BigEndian.PutUint32(packet[4:], uint32(v)<<8)
}

// seeTrain shows a train that came in and is dropped as a whole.
func (r *receiver) seeTrain(t *transport.Train, v Verdict) {
	if r.captures == nil {
		return
	}
	for i := range t.Len() {
		s := r.sightDatagram(t)
		s.identify(t.Datagram(i))
		s.verdict = v
		see(r.captures, &s, t.Datagram(i))
	}
}

// seeRefused shows a frame that the device did not take, as it was put together.
func (out *outlet) seeRefused(v *tap.Vector) {
	s := sighting{}
	s.vni, s.known, s.verdict, s.undone = out.o.vni, true, rxDevice, v.Header
	see(out.r.captures, &s, v.Parts...)
}

// seeMade shows a frame that this VTEP made for its own device.
func seeMade(captures []*Capture, vni vxlan.VNI, frame []byte, v Verdict) {
	if captures == nil {
		return
	}
	s := sighting{}
	s.vni, s.known, s.verdict = vni, true, v
	see(captures, &s, frame)
}

// seeStray shows a frame of a trunk's device that is of no VNI.
func (w *workshop) seeStray(t *transmitter, f *tap.Frame) {
	if w.captures == nil {
		return
	}
	s := sighting{out: true}
	s.device, s.verdict, s.undone = t.trunk.device.Name(), txUnknownVLAN, f.Header
	see(w.captures, &s, f.Bytes)
}

// seeFrames shows the frames of one VNI that the device gave, with what was made
// of them.
func (w *workshop) seeFrames(t *transmitter, frames []tap.Frame) {
	w.lanesOf = w.lanesOf[:0]
	for range frames {
		w.lanesOf = append(w.lanesOf, -1)
	}
	for n := range w.lanes {
		for i := w.lanes[n].first; i >= 0; i = w.frames[i].next {
			w.lanesOf[i] = int32(n)
		}
	}
	for i := range frames {
		f := &frames[i]
		s := sighting{out: true}
		s.vni, s.known, s.verdict, s.undone = t.o.vni, true, w.frames[i].verdict, f.Header
		if n := w.lanesOf[i]; n >= 0 {
			s.peer, s.replicas = w.lanes[n].destination()
		}
		see(w.captures, &s, f.Bytes)
	}
}

// destination is where the frames of a lane go: to one, or to several.
func (l *lane) destination() (netip.AddrPort, []fdb.Remote) {
	switch {
	case l.to != nil:
		return l.to.Addr, nil
	case len(l.replicas) == 1:
		return l.replicas[0].Addr, nil
	}
	return netip.AddrPort{}, l.replicas
}

// seeTrain shows the first n datagrams of train i, which were sent or, by v, not.
func (w *workshop) seeTrain(i, n int, v Verdict) {
	if w.captures == nil {
		return
	}
	t, o := &w.trains[i], &w.owners[i]
	for k := range n {
		s := sighting{out: true}
		s.vni, s.known, s.verdict = o.vni, true, v
		s.datagram, s.peer = true, t.Addr
		s.hash, s.label, s.tos, s.ttl, s.df = t.Hash, t.FlowLabel, t.TOS, t.TTL, t.DontFragment
		see(w.captures, &s, t.Datagram(k))
	}
}

// seeProbes shows probes or answers that were sent, which no workshop made.
func (e *Endpoint) seeProbes(v vxlan.VNI, t *transport.Train) {
	captures := e.capturing()
	if captures == nil {
		return
	}
	for k := range t.Len() {
		s := sighting{out: true}
		s.vni, s.known = v, true
		s.datagram, s.peer = true, t.Addr
		s.hash, s.label, s.tos, s.ttl, s.df = t.Hash, t.FlowLabel, t.TOS, t.TTL, t.DontFragment
		see(captures, &s, t.Datagram(k))
	}
}
