package vtep

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// ErrCaptures: as many captures run as may run at once.
var ErrCaptures = errors.New("8 captures run already, which is as many as may")

const (
	// mostCaptures bounds what those who carry frames have to look at.
	mostCaptures = 8
	// DefaultCaptureBuffer is CaptureConfig.Buffer where that is 0.
	DefaultCaptureBuffer = 8 << 20
	// mostCaptureBuffer keeps a slip of the pen from taking the host's memory.
	mostCaptureBuffer = 1 << 30
)

// CaptureConfig says what a Capture is of. Its zero value is of all whole
// packets.
type CaptureConfig struct {
	CaptureFilter
	// Inner has the frames as they cross the devices, instead of the packets
	// around them as they cross the underlay. What leaves is then one frame even
	// where it is a superframe and many packets.
	Inner bool
	// SnapLen is how many bytes of each packet or frame are kept. 0 = all.
	SnapLen int
	// Buffer is how many bytes of frames wait for a reader who is slow. 0 =
	// DefaultCaptureBuffer. It is rounded up to a power of two, 256 KB at least.
	Buffer int
}

// Capture is a look at the frames of an endpoint. Whoever carries frames never
// waits for its reader: what there is no room for is counted and left out.
type Capture struct {
	e       *Endpoint
	filter  CaptureFilter
	inner   bool
	snapLen int
	ring    *captureRing

	once  sync.Once
	ended chan struct{}

	frame   CapturedFrame
	scratch []byte // what was taken out of the ring
	packet  []byte // what is made of it
}

// CapturedFrame is one packet or frame of a Capture.
type CapturedFrame struct {
	Time time.Time
	// Direction is In or Out.
	Direction Direction
	// VNI is that of this endpoint. Known is false for what belongs to none,
	// because it has no VXLAN header or comes from a VLAN of no VNI.
	VNI   vxlan.VNI
	Known bool
	// Device is the name of the VNI's device; empty when there is none.
	Device string
	// Peer is the VTEP at the other end, or the multicast group that it was sent
	// to. The zero value: none, or several.
	Peer    netip.AddrPort
	Verdict Verdict
	// Outer: Bytes begin with the outer Ethernet header; else with that of the
	// inner frame. The outer headers are made up of what the endpoint knows: see
	// transport.OuterConn for those of what is sent; of what is received the
	// addresses, the ports and the TOS are true, and the TTL is 0.
	Outer bool
	// Bytes of the frame. They belong to the Capture, until the next Next.
	Bytes []byte
	// Length of the frame; more than len(Bytes) where only so many were kept.
	Length int
	// Superframe is how many frames Bytes stand for; 0 for one that is none.
	Superframe int
	// PartialChecksum: the checksum of the inner frame is not complete, because
	// not all of it was kept.
	PartialChecksum bool
}

// Comment is what there is to say of the frame in a few words; empty where there
// is nothing.
func (f *CapturedFrame) Comment() string {
	s := f.Verdict.Comment()
	add := func(more string) {
		if s != "" {
			s += "; "
		}
		s += more
	}
	if f.Superframe > 0 {
		add(fmt.Sprintf("superframe of %d frames", f.Superframe))
	}
	if f.PartialChecksum {
		add("partial checksum")
	}
	return s
}

// Capture begins to capture. While nobody does, it costs nothing. Both the
// filter and the copying cost the packet path time while somebody does.
//
// What has no frame in hand is not captured: what the kernel or a transport drops
// below the endpoint, as a full socket buffer or a wrong outer checksum.
func (e *Endpoint) Capture(cfg CaptureConfig) (*Capture, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("vtep: capture: %w", err)
	}
	if cfg.SnapLen < 0 || cfg.Buffer < 0 || cfg.Buffer > mostCaptureBuffer {
		return nil, fmt.Errorf("vtep: capture: SnapLen %d and Buffer %d: give neither below 0, nor a buffer above %d bytes",
			cfg.SnapLen, cfg.Buffer, mostCaptureBuffer)
	}
	if cfg.Buffer == 0 {
		cfg.Buffer = DefaultCaptureBuffer
	}
	cfg.VNIs = slices.Clone(cfg.VNIs)
	c := &Capture{e: e, filter: cfg.CaptureFilter, inner: cfg.Inner, snapLen: cfg.SnapLen, ended: make(chan struct{})}
	if c.snapLen == 0 {
		c.snapLen = tap.MaxFrame + mostOuter
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("vtep: capture: %w", ErrClosed)
	}
	if len(e.capturing()) >= mostCaptures {
		return nil, fmt.Errorf("vtep: capture: %w", ErrCaptures)
	}
	c.ring = newCaptureRing(cfg.Buffer)
	e.setCaptures(append(slices.Clip(e.capturing()), c))
	return c, nil
}

// Stop ends the capture. Next goes on with what was captured before. A second
// Stop does nothing.
func (c *Capture) Stop() {
	c.e.mu.Lock()
	c.e.setCaptures(slices.DeleteFunc(slices.Clone(c.e.capturing()), func(x *Capture) bool { return x == c }))
	c.e.mu.Unlock()
	c.end()
}

func (c *Capture) end() { c.once.Do(func() { close(c.ended) }) }

// Missed is how many frames there was no room for so far.
func (c *Capture) Missed() uint64 { return c.ring.missed.Load() }

// Pending says whether Next would return a frame at once.
func (c *Capture) Pending() bool { return c.ring.pending() }

// Next returns the next frame, and waits for it. It returns ErrClosed after the
// last one when the capture was stopped or the endpoint has ended, and the cause
// when ctx is done. It is for one goroutine at a time.
func (c *Capture) Next(ctx context.Context) (*CapturedFrame, error) {
	ended := c.ended
	for {
		if s, length, b, ok := c.ring.take(c.scratch[:0]); ok {
			c.scratch = b
			c.show(&s, length, b)
			return &c.frame, nil
		}
		if ended == nil && c.ring.empty() {
			return nil, ErrClosed
		}
		c.ring.asleep.Store(true)
		if c.ring.pending() {
			c.ring.asleep.Store(false)
			continue
		}
		select {
		case <-c.ring.wake:
		case <-ended:
			ended = nil // what was begun before is still waited for
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// show makes the frame of a record.
func (c *Capture) show(s *sighting, length int, b []byte) {
	f := &c.frame
	*f = CapturedFrame{
		Time: time.Unix(0, s.at), Direction: In, VNI: s.vni, Known: s.known, Device: s.device,
		Peer: s.peer, Verdict: s.verdict, Bytes: b, Length: length,
	}
	if s.out {
		f.Direction = Out
	}
	if s.known {
		if o := c.e.vnis.load(s.vni); o != nil {
			f.Device = o.device.Name()
		}
	}
	if s.datagram {
		c.wrap(f, s)
	} else {
		complete(f, &s.undone)
	}
	f.Bytes = f.Bytes[:min(len(f.Bytes), c.snapLen)]
}

// complete does what is left to be done about a frame's checksum.
func complete(f *CapturedFrame, h *tap.Header) {
	whole := len(f.Bytes) == f.Length
	if h.GSO != tap.GSONone {
		var split tap.Splitter
		switch {
		case whole && split.Init(h, f.Bytes) == nil:
			f.Superframe = split.Segments()
		case h.SegmentBytes > 0:
			f.Superframe = max((f.Length-int(h.HeaderBytes)+int(h.SegmentBytes)-1)/int(h.SegmentBytes), 1)
		}
	}
	if h.Flags&tap.NeedsChecksum != 0 {
		f.PartialChecksum = !whole || tap.CompleteChecksum(h, f.Bytes) != nil
	}
}

// mostOuter is the longest outer stack down to the UDP header.
const mostOuter = vxlan.EthernetLen + vxlan.IPv6Len + vxlan.UDPLen

// wrap puts the outer headers before the datagram, or its beginning, in f.
func (c *Capture) wrap(f *CapturedFrame, s *sighting) {
	outer := c.e.outerOf(s)
	fields := vxlan.UDPFields{
		SrcPort: outer.SrcPort, TOS: outer.TOS, TTL: outer.TTL, DF: outer.DF, FlowLabel: outer.FlowLabel,
		Checksum: vxlan.FullChecksum,
	}
	if outer.ZeroChecksum || len(f.Bytes) < f.Length {
		fields.Checksum = vxlan.NoChecksum
	}
	stack, err := outer.CompileUDP()
	if err == nil {
		room := stack.Len()
		c.packet = append(slices.Grow(c.packet[:0], room+f.Length)[:room], f.Bytes...)
		// Put takes lengths from the payload, and reads it only where it is whole.
		if err = stack.Put(c.packet, c.packet[room:room+f.Length], &fields); err == nil {
			f.Outer, f.Bytes, f.Length = true, c.packet, room+f.Length
			return
		}
	}
	// Longer than any UDP datagram: a Conn that is none of ours.
	n := min(vxlan.HeaderLen, len(f.Bytes))
	f.Bytes, f.Length = f.Bytes[n:], f.Length-n
}

// outerOf is what is known of the headers around a datagram.
func (e *Endpoint) outerOf(s *sighting) vxlan.Outer {
	var o vxlan.Outer
	if s.out {
		t := transport.Train{Addr: s.peer, Hash: s.hash, TOS: s.tos, TTL: s.ttl, DontFragment: s.df, FlowLabel: s.label}
		if c, ok := e.conn.(transport.OuterConn); ok {
			o = c.Outer(&t)
		} else {
			o = vxlan.Outer{Dst: t.Addr.Addr(), DstPort: t.Addr.Port(), TOS: t.TOS, TTL: t.TTL, DF: t.DontFragment, FlowLabel: t.FlowLabel}
			o.Src = e.localOf(o.Dst).Addr()
		}
		o.Dst, o.Src = sameFamily(o.Dst, o.Src)
		return o
	}
	local := e.localOf(s.peer.Addr())
	o = vxlan.Outer{Src: s.peer.Addr(), SrcPort: s.peer.Port(), Dst: local.Addr(), DstPort: local.Port(), TOS: s.tos}
	if s.local.IsValid() {
		o.Dst = s.local
	}
	o.Src, o.Dst = sameFamily(o.Src, o.Dst)
	return o
}

// localOf is our own address of a family.
func (e *Endpoint) localOf(peer netip.Addr) netip.AddrPort {
	for _, l := range e.conn.Locals() {
		if l.Addr().Unmap().Is4() == peer.Unmap().Is4() {
			return l
		}
	}
	return netip.AddrPort{}
}

// sameFamily returns the addresses, what is missing of them unspecified.
func sameFamily(a, b netip.Addr) (netip.Addr, netip.Addr) {
	a, b = a.Unmap().WithZone(""), b.Unmap().WithZone("")
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	if !b.IsValid() || b.Is4() != a.Is4() {
		if b = netip.IPv4Unspecified(); a.Is6() {
			b = netip.IPv6Unspecified()
		}
	}
	return a, b
}

// captureSet is what those who carry frames look at once a batch.
type captureSet = atomic.Pointer[[]*Capture]

// capturing returns the captures that run; nil when there is none.
func (e *Endpoint) capturing() []*Capture {
	if p := e.captures.Load(); p != nil {
		return *p
	}
	return nil
}

// setCaptures replaces them. e.mu is held.
func (e *Endpoint) setCaptures(list []*Capture) {
	if len(list) == 0 {
		e.captures.Store(nil)
		e.accel.capture(false)
		return
	}
	e.captures.Store(&list)
	e.accel.capture(true)
}
