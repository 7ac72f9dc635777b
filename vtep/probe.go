package vtep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// Lengths of the frames of probes, in bytes.
const (
	MinProbe = probe.MinLen
	MaxProbe = probe.MaxLen
)

// Probe asks a VTEP for an answer. It travels as a frame of its VNI does, but
// with Don't Fragment set, and reaches no device.
type Probe struct {
	// Seq comes back in the answer.
	Seq uint32
	// Size of its Ethernet frame in bytes, MinProbe to MaxProbe. The outer IPv4
	// packet is 36 bytes longer, an IPv6 packet 56.
	Size int
	// AnswerSize is how long the frame of the answer shall be. It is never
	// longer than that of the probe, nor shorter than MinProbe.
	AnswerSize int
	// Flow chooses the outer source port, as the hash of a flow does.
	Flow uint32
}

// ProbeAnswer is the answer to a Probe.
type ProbeAnswer struct {
	Seq uint32
	// Came is how long the frame of the probe was when it arrived.
	Came int
	// Size is how long the frame of the answer was.
	Size int
	// At is when it was received.
	At time.Time
}

// Prober sends probes to one VTEP in one VNI, and takes the answers. All methods
// may be called by any goroutine.
type Prober struct {
	e       *Endpoint
	o       *overlay
	to      netip.AddrPort
	vni     vxlan.VNI // as that VTEP knows it
	id      uint64
	answers chan ProbeAnswer

	mu     sync.Mutex
	sender transport.Sender
	buf    []byte
}

// probes are those that the endpoint has under way.
type probes struct {
	mute bool // Config.DisableProbeAnswers

	mu      sync.Mutex
	waiting map[uint64]*Prober
	ended   bool
}

// NewProber returns a Prober for a VTEP: port 0 is the one that its frames go to.
// Another govxlan with this VNI, which accepts our frames, answers from its
// engine; every other VTEP hands a probe to its device like any frame, where it
// is for nobody.
//
// It returns ErrNoVNI, or ErrNoPeer when the answer would be dropped, because
// the VNI does not accept frames of that VTEP.
func (e *Endpoint) NewProber(v vxlan.VNI, to netip.AddrPort) (*Prober, error) {
	a := to.Addr().Unmap()
	var p *Prober
	err := e.change(v, "probe", func(o *overlay) error {
		port, vni := to.Port(), v
		if known := o.sender(a); known != nil && known.groups == 0 {
			if port == 0 || port == known.remote.Addr.Port() {
				port = known.remote.Addr.Port()
				if own := vxlan.VNI(known.remote.VNI); own != 0 {
					vni = own
				}
			}
		} else if !o.policy.Load().allowUnknown {
			return fmt.Errorf("%v: %w", a, ErrNoPeer)
		}
		if port == 0 {
			port = e.port()
		}
		at := netip.AddrPortFrom(a, port)
		if err := checkVTEP(at); err != nil {
			return err
		}
		p = &Prober{
			e: e, o: o, to: at, vni: vni,
			id: rand.Uint64(), answers: make(chan ProbeAnswer, 1024),
			sender: e.conn.NewSender(), buf: make([]byte, transport.MaxBytes),
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	e.probes.mu.Lock()
	defer e.probes.mu.Unlock()
	if e.probes.ended {
		return nil, fmt.Errorf("vtep: probe: %w", ErrClosed)
	}
	if e.probes.waiting == nil {
		e.probes.waiting = make(map[uint64]*Prober)
	}
	e.probes.waiting[p.id] = p
	return p, nil
}

// To is the VTEP's address, with the port that is sent to.
func (p *Prober) To() netip.AddrPort { return p.to }

// Answers are what came, in order. The channel is closed with the Prober or the
// endpoint; what does not fit into its 1024 places is dropped.
func (p *Prober) Answers() <-chan ProbeAnswer { return p.answers }

// Send sends probes of one size and flow with one call, in one train where the
// system takes trains, and returns when that was. The error is that of
// transport.Sender: EMSGSIZE for what the underlay here does not carry.
func (p *Prober) Send(all ...Probe) (at time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(all) == 0 {
		return time.Now(), nil
	}
	size := all[0].Size
	if size < MinProbe || size > MaxProbe {
		return at, fmt.Errorf("vtep: a probe has %d to %d bytes, not %d", MinProbe, MaxProbe, size)
	}
	stride := vxlan.HeaderLen + size
	if stride*len(all) > len(p.buf) || len(all) > transport.MaxSegments {
		return at, fmt.Errorf("vtep: %d probes of %d bytes are too many for one call", len(all), size)
	}
	for i, r := range all {
		if r.Size != size || r.Flow != all[0].Flow {
			return at, errors.New("vtep: probes of one call have one size and one flow")
		}
		b := p.buf[i*stride:][:stride]
		p.o.putHeader(b, p.vni)
		f := probe.Frame{Kind: probe.Request, ID: p.id, Seq: r.Seq, Want: r.AnswerSize}
		f.Put(b[vxlan.HeaderLen:])
	}
	train := [1]transport.Train{p.o.probeTrain(p.buf[:stride*len(all)], stride, p.to, spread(all[0].Flow))}
	at = time.Now()
	if _, err = p.sender.Send(train[:]); err == nil {
		p.o.tx.probes.Add(uint64(len(all)))
		p.e.seeProbes(p.o.vni, &train[0])
	}
	return at, err
}

// spread spreads flows that are numbered over all source ports.
func spread(flow uint32) uint32 { return flow * 2654435761 }

// Close ends it.
func (p *Prober) Close() {
	ps := &p.e.probes
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.waiting[p.id] == p {
		delete(ps.waiting, p.id)
		close(p.answers)
	}
}

// end closes all Probers for good.
func (ps *probes) end() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.ended = true
	for _, p := range ps.waiting {
		close(p.answers)
	}
	ps.waiting = nil
}

// deliver hands an answer over, if somebody waits for it.
func (ps *probes) deliver(o *overlay, source netip.Addr, f *probe.Frame, size int) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.waiting[f.ID]
	if p == nil || p.o != o || p.to.Addr().WithZone("") != source.WithZone("") {
		return false
	}
	select {
	case p.answers <- ProbeAnswer{Seq: f.Seq, Came: f.Came, Size: size, At: time.Now()}:
		return true
	default:
		return false
	}
}

// putHeader writes the VXLAN header of a frame of the VNI to a VTEP that knows it
// as v.
func (o *overlay) putHeader(b []byte, v vxlan.VNI) {
	vxlan.Header{VNI: v}.Put(b)
	binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)|o.policy.Load().header.extension)
}

// probeTrain is one with probes or answers: as frames of the VNI, but with DF.
func (o *overlay) probeTrain(b []byte, stride int, to netip.AddrPort, flow uint32) transport.Train {
	t := transport.Train{Buf: b, Stride: stride, Addr: to, Hash: flow}
	outer := &o.policy.Load().outer
	fields := outer.fixed
	fields.tos = outer.tos[0]
	fields.df = true
	fields.put(&t)
	return t
}

// replies are a receiver's way back to those who probe.
type replies struct {
	sender transport.Sender
	buf    []byte
	train  [1]transport.Train
}

// probe takes a frame with the MAC of probes, from a VTEP that may speak.
func (r *receiver) probe(frame []byte, now time.Duration) Verdict {
	o := r.out.o
	r.peer.touch(now, 0, 0)
	f, err := probe.Parse(frame)
	ok := false
	if err == nil && f.Kind != probe.Silent {
		r.peer.kin.Store(true)
	}
	switch {
	case err != nil:
	case f.Kind == probe.Request:
		ok = r.reply(&f, len(frame), now)
	case f.Kind == probe.Answer:
		ok = r.e.probes.deliver(o, r.source, &f, len(frame))
	case f.Kind == probe.Silent:
		ok = true
	}
	if !ok {
		o.rx.dropProbe.Add(1)
		return rxProbeLost
	}
	o.rx.probes.Add(1)
	return verdictProbe
}

// reply answers a request. It never waits: where there is no room, the probe is
// lost, as frames would be.
func (r *receiver) reply(f *probe.Frame, came int, now time.Duration) bool {
	// Beyond maxStrangers nobody is remembered, and so nobody's rate limited.
	if r.e.probes.mute || r.out.o.sender(r.source) == nil || !r.peer.probes.Take(now) {
		return false
	}
	if r.replies == nil {
		r.replies = &replies{sender: r.e.conn.NewSender(), buf: make([]byte, transport.MaxBytes)}
	}
	o, w := r.out.o, r.replies
	vni := o.vni
	if own := vxlan.VNI(r.peer.remote.VNI); own != 0 {
		vni = own
	}
	b := w.buf[:vxlan.HeaderLen+f.AnswerLen(came)]
	o.putHeader(b, vni)
	answer := probe.Frame{Kind: probe.Answer, ID: f.ID, Seq: f.Seq, Came: came}
	answer.Put(b[vxlan.HeaderLen:])
	w.train[0] = o.probeTrain(b, 0, r.peer.remote.Addr, spread(f.Seq))
	if n, _ := w.sender.TrySend(w.train[:]); n == 0 {
		return false
	}
	o.tx.probes.Add(1)
	r.e.seeProbes(o.vni, &w.train[0])
	return true
}
