package vtep

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

const (
	// pathLife is how long a learned path MTU holds before larger packets are
	// tried again: RFC 1191 section 6.3, RFC 8201 section 4.
	pathLife = 10 * time.Minute
	// probeEvery is how often the size of a path is probed with a DF that the
	// user did not ask for. Where routers take packets apart, and their answers
	// are filtered, each probe costs a retransmission.
	probeEvery = time.Minute
	// sentLife is how long a router may take to answer. Real ones answer at
	// once.
	sentLife = 30
	// sentSlots is how many of the flows to one VTEP are remembered.
	sentSlots = 32
	// smallDatagram is what fits every path: no note is taken of it. (An IPv4
	// path of less than 552 bytes is treated as one of 552, as by Linux.)
	smallDatagram = minPathIPv4 - vxlan.IPv4Len - vxlan.UDPLen
	minPathIPv4   = 552
	minPathIPv6   = 1280
)

// path is what is known of the way to one VTEP, for all VNIs together.
type path struct {
	v6    bool
	given int32 // Config.PathMTU: what mtu is when no router told of less
	// mtu is the largest outer IP packet that fits, as routers told or as it
	// was given; 0 = not known.
	mtu   atomic.Int32
	until atomic.Int64 // Clock when mtu is forgotten
	// changed is called with every change of mtu; nil: nobody wants to know.
	changed func()
	// local is what this host's underlay device carried when it last refused a
	// datagram. It binds nobody, for the device can tell each time.
	local atomic.Int32

	// sent remembers the flows of which a datagram was sent that might not fit,
	// since anybody can send us ICMP: 32 bits of flow and VNI, 16 bits of the
	// datagram's length, 16 of its second.
	sent [sentSlots]atomic.Uint64

	// probed is the longest datagram that was sent as a probe, until probeNext.
	probed    atomic.Int32
	probeNext atomic.Int64
}

// most is the longest datagram that fits, transport.MaxBytes when that is not
// known.
func (p *path) most() int {
	if p == nil {
		return transport.MaxBytes
	}
	return p.datagram(p.mtu.Load())
}

// datagram is how long one may be in IP packets of mtu bytes.
func (p *path) datagram(mtu int32) int {
	if mtu == 0 {
		return transport.MaxBytes
	}
	if p.v6 {
		return min(int(mtu)-vxlan.IPv6Len-vxlan.UDPLen, transport.MaxBytes)
	}
	return min(int(mtu)-vxlan.IPv4Len-vxlan.UDPLen, transport.MaxBytes)
}

// flowKey is what a flow in a VNI, which is told by the VXLAN header, is
// remembered by.
func flowKey(hash uint32, header uint64) uint32 { return hash ^ uint32(header)>>8*0x9E3779B1 }

// note remembers that a datagram of this flow is sent.
func (p *path) note(key uint32, size int, second uint16) {
	slot := &p.sent[key%sentSlots]
	was := slot.Load()
	if uint32(was>>32) == key && uint16(was) == second && uint16(was>>16) >= uint16(size) {
		return // nothing new: the other cores keep their copy of it
	}
	slot.Store(uint64(key)<<32 | uint64(uint16(size))<<16 | uint64(second))
}

// wasSent says whether a datagram of this flow, so long or longer, was sent
// lately.
func (p *path) wasSent(key uint32, size int, second uint16) bool {
	was := p.sent[key%sentSlots].Load()
	return was != 0 && uint32(was>>32) == key && int(uint16(was>>16)) >= size && second-uint16(was) <= sentLife
}

// probe says whether a train with datagrams of this size shall leave with DF,
// though the user asked for none, to find out whether it fits.
func (p *path) probe(size int, now time.Duration) bool {
	if p.v6 || p.mtu.Load() != 0 {
		return false // always with DF, so to speak; or known
	}
	next := p.probeNext.Load()
	if int64(now) < next && int32(size) <= p.probed.Load() {
		return false
	}
	if int64(now) >= next {
		if !p.probeNext.CompareAndSwap(next, int64(now+probeEvery)) {
			return false
		}
		p.probed.Store(0)
	}
	p.probed.Store(int32(size))
	return true
}

// forget has the path tried anew.
func (p *path) forget() {
	p.mtu.Store(p.given)
	p.probeNext.Store(0)
	if p.changed != nil {
		p.changed()
	}
}

// paths are those to all VTEPs of an endpoint.
type paths struct {
	mu    sync.Mutex
	known map[netip.Addr]*path
	given int    // Config.PathMTU
	quote []byte // room for a quoted frame
	// changed is called with every change of a path's MTU; nil: nobody wants to
	// know.
	changed func(netip.Addr)
}

// to returns the path to a VTEP.
func (ps *paths) to(a netip.Addr) *path {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.known[a]
	if p == nil {
		p = &path{v6: a.Is6(), given: int32(ps.given)}
		p.forget()
		if ps.changed != nil {
			p.changed = func() { ps.changed(a) }
		}
		if ps.known == nil {
			ps.known = make(map[netip.Addr]*path)
		}
		ps.known[a] = p
	}
	return p
}

// age forgets what is too old.
func (ps *paths) age(now time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.known {
		if p.mtu.Load() != p.given && int64(now) >= p.until.Load() {
			p.forget()
		}
	}
}

// ForgetPathMTU has the paths to all VTEPs tried anew, because the underlay
// changed.
func (e *Endpoint) ForgetPathMTU() {
	e.paths.mu.Lock()
	defer e.paths.mu.Unlock()
	for _, p := range e.paths.known {
		p.forget()
	}
}

// hear is what the Conn calls when a datagram did not fit. It believes a router
// only what can be true: that it is about a datagram that this endpoint sent a
// moment ago, which is judged by the flow of the frame in it, and which was
// longer than what is said to fit.
func (e *Endpoint) hear(w *transport.TooBig) {
	ps := &e.paths
	ps.mu.Lock()
	p := ps.known[w.To.Addr().Unmap()]
	if p == nil {
		ps.mu.Unlock()
		e.counters.pathMTUIgnored.Add(1)
		return
	}
	if !w.From.IsValid() {
		ps.mu.Unlock()
		p.local.Store(int32(w.MTU))
		return
	}
	key, size := ps.read(w.Datagram)
	ps.mu.Unlock()

	now := e.now()
	mtu := p.plausible(w.MTU, size)
	if had := p.mtu.Load(); mtu == 0 || had != 0 && mtu >= had || !p.wasSent(key, size, second(now)) {
		e.counters.pathMTUIgnored.Add(1)
		if mtu != 0 && p.changed != nil {
			// A frame that programs carried may have been too long: the next one
			// comes here, and then it can be judged.
			p.changed()
		}
		return
	}
	p.until.Store(int64(now + pathLife))
	p.mtu.Store(mtu)
	if p.changed != nil {
		p.changed()
	}
	e.counters.pathMTULowered.Add(1)
	e.log.Info("the path to a peer is narrower than the underlay here", zap.Stringer("vtep", w.To.Addr()),
		zap.Int32("path_mtu", mtu), zap.Stringer("router", w.From))
}

// second is the part of a time that path.sent has room for.
func second(now time.Duration) uint16 { return uint16(now / time.Second) }

// read finds out what a quoted datagram was: its flow, and how long it was,
// which the IP header in it tells. The length is 0 when it was none of ours.
func (ps *paths) read(quoted []byte) (key uint32, size int) {
	const least = vxlan.EthernetLen + vxlan.IPv4Len + 4 // with ports, but for them nothing is needed
	h, frame, err := vxlan.Parse(quoted)
	if err != nil || len(frame) < least {
		return 0, 0
	}
	if ps.quote == nil {
		ps.quote = make([]byte, transport.MaxBytes)
	}
	// As long as the packet says it was; what is missing is none of the headers.
	frame = ps.quote[:copy(ps.quote, frame)]
	clear(ps.quote[len(frame):])
	var in vxlan.Inner
	if in.Parse(ps.quote) != nil || in.L3 == 0 {
		return 0, 0
	}
	if in.L4 != 0 && in.L4+4 > len(frame) {
		return 0, 0
	}
	return flowKey(in.Hash, uint64(h.VNI)<<8), vxlan.HeaderLen + in.End
}

// plausible is what the path's MTU is when a datagram of size bytes did not fit
// what is said to be the MTU, 0 when that cannot be.
func (p *path) plausible(mtu, size int) int32 {
	if size == 0 {
		return 0
	}
	packet, least := size+vxlan.IPv4Len+vxlan.UDPLen, minPathIPv4
	if p.v6 {
		packet, least = size+vxlan.IPv6Len+vxlan.UDPLen, minPathIPv6
		if mtu < minPathIPv6 {
			return 0 // RFC 8201 section 4
		}
	} else if mtu == 0 {
		mtu = plateau(packet) // RFC 1191 section 5
	} else if mtu < 68 {
		return 0 // RFC 791 section 3.2
	}
	if mtu = max(mtu, least); mtu >= packet {
		return 0
	}
	return int32(mtu)
}

// plateau is the next smaller MTU that links are known to have (RFC 1191
// section 7.1).
func plateau(packet int) int {
	for _, mtu := range []int{32000, 17914, 8166, 4352, 2002, 1492, 1006} {
		if mtu < packet {
			return mtu
		}
	}
	return minPathIPv4
}
