package vtep

import (
	"time"

	"github.com/govxlan/govxlan/internal/mss"
	"github.com/govxlan/govxlan/internal/toobig"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// A transmitter answers so many frames at once, and so many a second after
// that: enough for every flow to hear once, and too few to be of use to whoever
// sends long frames only for the answers.
const (
	answerBurst = 100
	answerEvery = 10 * time.Millisecond
)

// answerer tells the senders of frames that are too long for a path what would
// fit.
type answerer struct {
	writer  tap.Writer
	bucket  toobig.Bucket
	buf     [toobig.MaxLen]byte
	segment []byte // first segment of a superframe
	split   tap.Splitter
	tag     [vxlan.VLANTagLen]byte
	parts   [3][]byte
	vectors [1]tap.Vector
}

// answering returns the transmitter's answerer. Most never need one.
func (t *transmitter) answering() *answerer {
	if t.long == nil {
		t.long = &answerer{
			writer: t.o.device.NewWriter(t.queue),
			bucket: toobig.Bucket{Burst: answerBurst, Every: answerEvery},
		}
	}
	return t.long
}

// tellTooBig tells the sender of a frame that only most bytes of it fit. It returns
// false when such a frame is not to be answered; one that is only too many is.
// v is the frame's VNI, vid its VLAN on the device, and tx its counters.
func (t *transmitter) tellTooBig(tx *txCounters, v vxlan.VNI, vid uint16, frame []byte, most int) bool {
	if toobig.MTU(frame, most) == 0 {
		return false
	}
	a := t.answering()
	if !a.bucket.Take(t.e.now()) {
		tx.tooBigUnanswered.Add(1)
		return true
	}
	b := a.buf[:toobig.Build(a.buf[:], frame, most)]
	parts := append(a.parts[:0], b)
	if vid != 0 {
		parts = append(a.parts[:0], b[:12], vlanTag(a.tag[:], vid), b[12:])
	}
	a.vectors[0] = tap.Vector{Parts: parts}
	if taken, _ := a.writer.Write(a.vectors[:]); taken == 1 {
		tx.tooBigAnswered.Add(1)
		seeMade(t.e.capturing(), v, b, verdictMade)
	}
	return true
}

// refuse decides about a frame, or superframe of so many frames, whose datagrams
// of size bytes are longer than what fits the lane's path: it is answered, or dropped in silence, and
// counted as dropped in either case; then refuse returns true. It returns false
// for one that may go all the same, since routers can take its packet apart: the
// outer packet has no DF, and neither has what is inside, or it is nothing that
// can be told.
func (t *transmitter) refuse(l *lane, p *pending, f *tap.Frame, size, frames int) bool {
	tx := &t.o.tx
	most := l.most - vxlan.HeaderLen
	answered := false
	if f.Header.GSO == tap.GSONone {
		answered = t.tellTooBig(tx, t.o.vni, t.o.vid, f.Bytes, most)
	} else if first := t.firstSegment(f); first != nil {
		answered = t.tellTooBig(tx, t.o.vni, t.o.vid, first, most)
	}
	if !answered && size <= transport.MaxBytes && l.path != nil && !l.path.v6 && !p.outer.df && !t.e.conn.Limits().DontFragment {
		return false
	}
	tx.dropTooBig.Add(uint64(frames))
	p.verdict = txTooBig
	return true
}

// firstSegment is the first frame that a superframe stands for.
func (t *transmitter) firstSegment(f *tap.Frame) []byte {
	a := t.answering()
	if a.segment == nil {
		a.segment = make([]byte, tap.MaxFrame)
	}
	if a.split.Init(&f.Header, f.Bytes) != nil {
		return nil
	}
	_, n := a.split.Next(a.segment, 0, 1)
	return a.segment[:n]
}

// answerRefused answers the first frame of train i, which the underlay device
// did not take for its length.
func (w *workshop) answerRefused(t *transmitter, i int) {
	p := w.owners[i].peer
	if p == nil || p.path == nil || w.owners[i].flooded {
		return
	}
	d := w.trains[i].Datagram(0)
	most := p.path.datagram(p.path.local.Load())
	if len(d) > most {
		t.tellTooBig(w.owners[i].tx, w.owners[i].vni, w.owners[i].vid, d[vxlan.HeaderLen:], most-vxlan.HeaderLen)
	}
}

// clamp lowers the MSS in a SYN that goes out by a lane.
func (t *transmitter) clamp(l *lane, f *tap.Frame) {
	sum := mss.Full
	if f.Header.Flags&tap.NeedsChecksum != 0 {
		sum = mss.Partial
	}
	if mss.Clamp(f.Bytes, t.o.device.MTU(), l.most-vxlan.HeaderLen, sum) {
		t.o.tx.mssClamped.Add(1)
	}
}

// clamp lowers the MSS in a SYN that came from the memo's peer: what our side
// will send to it must fit.
func (r *receiver) clamp(frame []byte) {
	o := r.out.o
	if mss.Clamp(frame, o.device.MTU(), r.peer.path.most()-vxlan.HeaderLen, mss.Unknown) {
		o.rx.mssClamped.Add(1)
	}
}
