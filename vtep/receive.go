package vtep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// recvTrains is how many trains one Recv takes.
const recvTrains = 64

// receiver carries packets from one socket of the underlay to the devices. It
// runs to completion: whoever receives a packet also writes its frame.
type receiver struct {
	e      *Endpoint
	conn   transport.Receiver
	group  *membership // what arrives here was sent to; nil: to ourselves
	number int         // among the Conn's receivers
	worker *worker     // nil: a goroutine of its own
	id     int32       // with the worker
	ring   *outRing

	outlets map[*overlay]*outlet
	dirty   []*outlet // those with frames of this batch

	// Memo of the last packet: packets come in runs of one VNI, one VTEP and
	// one station.
	out    *outlet
	vni    vxlan.VNI
	source netip.Addr
	peer   *peer
	ok     bool // source may speak
	own    bool // source is ourselves
	mac    fdb.MAC
	known  bool // mac was learned from this source in this batch

	tally endpointTally
	// What came from peer and is not counted with it yet.
	peerFrames, peerBytes int

	replies  *replies   // made with the first
	captures []*Capture // while a batch is carried; nil: none
}

// endpointTally gathers what belongs to no VNI, for one batch.
type endpointTally struct{ badHeader, shortFrame, unknownVNI uint64 }

// outlet is one receiver's way into one device.
type outlet struct {
	o        *overlay
	r        *receiver
	policy   *policy // of this batch
	writer   tap.Writer
	coalesce tap.Coalescer
	tally    rxTally
	dirty    bool

	ring    *outRing // of the worker, for many frames at once; nil: none
	failure func(*tap.Vector, error)
}

// rxTally gathers a batch's counts, so that the shared counters are touched
// once a batch and not once a frame.
type rxTally struct {
	frames, bytes              uint64
	broadcast, multicast       uint64
	superframes, coalesced     uint64
	unknownVTEP, invalidSource uint64
	ownMAC, staticMAC, ecn     uint64
	ownAddress                 uint64
	oversize, device           uint64
	notLearned, ecnAlerts      uint64
	reservedBits, group, vlan  uint64
	macHeld, storm, learnRate  uint64
}

// run carries batches until the underlay is closed, where no worker does. It
// returns what ended it.
func (r *receiver) run() error {
	var trains [recvTrains]transport.Train
	for {
		n, err := r.conn.Recv(trains[:])
		if err != nil {
			return err
		}
		r.batch(trains[:n], r.e.now())
	}
}

// ended says that the receiver ended early.
func (r *receiver) ended(err error) {
	if !errors.Is(err, net.ErrClosed) {
		r.e.fail(fmt.Errorf("vtep: receive from the underlay: %w", err))
	}
}

// batch carries the trains of one Recv.
func (r *receiver) batch(trains []transport.Train, now time.Duration) {
	// What was true of the last batch may have changed.
	r.out, r.known, r.source = nil, false, netip.Addr{}
	r.captures = r.e.capturing()
	for i := range trains {
		r.train(&trains[i], now)
	}
	r.settle(now)
	for _, out := range r.dirty {
		out.flush()
		out.dirty = false
	}
	r.dirty = r.dirty[:0]
	r.captures = nil
	r.e.counters.add(&r.tally)
}

// settle counts what came from the peer of the memo.
func (r *receiver) settle(now time.Duration) {
	if r.peerFrames > 0 {
		r.peer.touch(now, r.peerFrames, r.peerBytes)
		r.peerFrames, r.peerBytes = 0, 0
	}
}

func (c *endpointCounters) add(t *endpointTally) {
	if *t == (endpointTally{}) {
		return
	}
	c.dropBadHeader.Add(t.badHeader)
	c.dropShortFrame.Add(t.shortFrame)
	c.dropUnknownVNI.Add(t.unknownVNI)
	*t = endpointTally{}
}

// train carries the datagrams of one VTEP.
func (r *receiver) train(t *transport.Train, now time.Duration) {
	if source := t.Addr.Addr(); source != r.source {
		r.source = source
		r.out = nil // the peer is looked up anew
	}
	segment := 0
	if t.Stride > 0 && t.Stride < len(t.Buf) && innerLength(t.Buf) == len(t.Buf) {
		// Not a train at all: the kernel handed over one packet with a
		// superframe of UDP datagrams inside, and told the size of those.
		if headersAtStride(t) {
			// Or somebody lies about the length of an inner packet, to have
			// the next ones of the train delivered as its payload.
			r.tally.badHeader += uint64(t.Len())
			r.seeTrain(t, rxBadHeader)
			return
		}
		segment, t.Stride = t.Stride, 0
	}
	if r.captures != nil {
		r.trainSeen(t, segment, now)
		return
	}
	for i := range t.Len() {
		r.packet(t.Datagram(i), segment, t.TOS, now)
	}
}

// innerLength is how long the inner IP header says that the packet is, VXLAN
// header and all; 0 when it is not IP.
func innerLength(b []byte) int {
	const tagged, doubleTagged = 0x8100, 0x88A8
	ip := vxlan.HeaderLen + vxlan.EthernetLen
	for tags := 0; len(b) >= ip+6; tags++ {
		switch binary.BigEndian.Uint16(b[ip-2:]) {
		case 0x0800:
			return ip + int(binary.BigEndian.Uint16(b[ip+2:]))
		case 0x86DD:
			return ip + vxlan.IPv6Len + int(binary.BigEndian.Uint16(b[ip+4:]))
		case tagged, doubleTagged:
			if tags == 2 {
				return 0
			}
			ip += vxlan.VLANTagLen
		default:
			return 0
		}
	}
	return 0
}

// headersAtStride says whether every datagram of the train begins with a VXLAN
// header as it is sent.
func headersAtStride(t *transport.Train) bool {
	for i := range t.Len() {
		d := t.Datagram(i)
		if _, _, err := vxlan.Parse(d); err != nil || vxlan.ReservedBits(d)&^vxlan.GBPBits != 0 {
			return false
		}
	}
	return true
}

// packet carries one VXLAN packet, and says what became of it.
func (r *receiver) packet(b []byte, segment int, tos uint8, now time.Duration) Verdict {
	h, frame, err := vxlan.Parse(b)
	if err != nil {
		if err == vxlan.ErrFrame {
			r.tally.shortFrame++
			return rxShortFrame
		}
		r.tally.badHeader++
		return rxBadHeader
	}
	if r.out == nil || h.VNI != r.vni {
		if !r.turn(h.VNI, now) {
			r.tally.unknownVNI++
			return rxUnknownVNI
		}
	}
	out := r.out
	if !r.ok {
		if r.own {
			out.tally.ownAddress++
			return rxOwnAddress
		}
		out.tally.unknownVTEP++
		return rxUnknownVTEP
	}
	dontLearn := false
	if out.policy.header.inspects {
		var v Verdict
		if v, dontLearn = out.inspect(b); v != verdictPassed {
			return v
		}
	}
	if out.policy.vlan != VLANKeep && tap.VLANTagged(frame) {
		out.tally.vlan++
		return rxVLAN
	}
	if mac := fdb.MAC(frame[6:12]); !r.known || mac != r.mac {
		// The MAC of probes is never learned, and so costs nothing here.
		if mac == fdb.MAC(probe.MAC) {
			return r.probe(frame, now)
		}
		if v := r.learn(mac, dontLearn, now); v != verdictPassed {
			return v
		}
	}
	if l := out.policy.guard.storm; l != nil && frame[0]&1 != 0 && !out.o.storms.in.Take(*l, now, 1) {
		out.tally.storm++
		return rxStorm
	}
	// Congestion marks of the underlay: most packets carry none, and cost
	// nothing here.
	if outer := vxlan.ECN(tos & 3); outer != vxlan.NotECT && !out.mark(frame, outer) {
		return rxECN
	}
	if out.policy.clampMSS {
		r.clamp(frame)
	}
	if n := out.policy.neighbours; n != nil && n.heard(frame, now) {
		out.o.rx.neighbourFull.Add(1)
	}
	size := len(frame)
	toGroup, toAll := frame[0]&1 != 0, false
	if toGroup {
		toAll = fdb.MAC(frame[:6]) == broadcastMAC
	}
	if out.o.vid != 0 {
		frame = pushTag(b, out.o.vid)
	}
	if out.coalesce.Add(frame, segment) == tap.Oversize {
		out.tally.oversize++
		return rxOversize
	}
	out.tally.frames++
	out.tally.bytes += uint64(size)
	if toAll {
		out.tally.broadcast++
	} else if toGroup {
		out.tally.multicast++
	}
	r.peerFrames++
	r.peerBytes += size
	if out.coalesce.Full() {
		out.flush()
	}
	return verdictPassed
}

// turn makes the memo one of this VNI and the current source. It returns false
// when there is no such VNI.
func (r *receiver) turn(v vxlan.VNI, now time.Duration) bool {
	r.settle(now)
	r.vni, r.out, r.known = v, nil, false
	o := r.e.vnis.load(v)
	if o == nil {
		if r.tally.unknownVNI == 0 { // one of a batch is enough
			r.e.unknown.note(r.source, v)
		}
		return false
	}
	out := r.outlets[o]
	if out == nil {
		out = r.e.newOutlet(r, o)
		if out == nil {
			return false // deleted this moment
		}
	}
	if !out.dirty {
		out.dirty = true
		out.policy = o.policy.Load()
		out.coalesce.MTU = o.device.MTU() // may change at any time
		r.dirty = append(r.dirty, out)
	}
	r.out = out
	r.peer = o.sender(r.source)
	r.own = r.group != nil && r.e.owns(r.group, r.source)
	if r.peer == nil && !r.own && (out.policy.allowUnknown || out.policy.guard.allow != nil || o.groups.Load() != nil) {
		r.peer = r.e.admitUnlisted(o, r.source, r.group)
	}
	r.ok = r.peer != nil && !r.own
	if r.peer == nil && !r.own {
		o.stranger.note(r.source, v)
	}
	return true
}

// learn notes where the station is, unless its frame asks not to, and judges
// the frame by it.
func (r *receiver) learn(mac fdb.MAC, dontLearn bool, now time.Duration) Verdict {
	out := r.out
	o := out.o
	r.known = false
	if mac[0]&1 != 0 || mac == (fdb.MAC{}) {
		out.tally.invalidSource++
		return rxInvalidSource
	}
	if mac == fdb.MAC(o.mac) {
		out.tally.ownMAC++
		return rxOwnMAC
	}
	outcome := fdb.Static
	if dontLearn && out.policy.learn {
		// Static entries hold all the same. Nobody sends from no address, so
		// that is what asks for them alone.
		if outcome = o.table.Learn(mac, fdb.Remote{}, now); outcome != fdb.Static && outcome != fdb.Held {
			return verdictPassed
		}
	} else if out.policy.learn {
		outcome = o.table.Learn(mac, r.peer.remote, now)
	}
	switch outcome {
	case fdb.Static, fdb.Held:
		// The address decides alone: packets do not show the VTEP's port.
		if o.table.Forbids(mac, r.source) {
			if outcome == fdb.Held {
				out.tally.macHeld++
				return rxMACHeld
			}
			out.tally.staticMAC++
			return rxStaticMAC
		}
	case fdb.Full:
		out.tally.notLearned++
		return verdictPassed
	case fdb.Limited:
		out.tally.learnRate++
		return verdictPassed
	}
	r.mac, r.known = mac, true
	return verdictPassed
}

// mark carries the underlay's ECN marks into the frame (RFC 6040 section 4.2)
// and says whether the frame may go on.
func (out *outlet) mark(frame []byte, outer vxlan.ECN) bool {
	var in vxlan.Inner
	if in.Parse(frame) != nil || in.L3 == 0 {
		return true // not IP: nothing to mark
	}
	e, verdict := out.policy.outer.decap(outer, in.ECN())
	switch verdict {
	case vxlan.ECNDrop:
		out.tally.ecn++
		return false
	case vxlan.ECNAlert:
		out.tally.ecnAlerts++
	}
	if e != in.ECN() {
		vxlan.SetECN(frame, &in, e)
	}
	return true
}

// flush writes the frames gathered so far and counts them.
func (out *outlet) flush() {
	vectors := out.coalesce.Vectors()
	for i := range vectors {
		if vectors[i].Header.GSO != tap.GSONone {
			out.tally.superframes++
			out.tally.coalesced += uint64(len(vectors[i].Parts))
		}
	}
	if len(vectors) > 1 && out.ring != nil {
		vectors = out.writeRing(vectors)
	}
	for len(vectors) > 0 {
		n, err := out.writer.Write(vectors)
		vectors = vectors[n:]
		if err != nil && len(vectors) > 0 {
			// Down, or gone; each frame finds out for itself, since the link
			// may come up in the middle.
			out.failed(&vectors[0], err)
			vectors = vectors[1:]
		}
	}
	t := &out.tally
	out.coalesce.Reset()
	out.o.rx.add(t)
	*t = rxTally{}
}

// failed takes a frame back that the device did not take.
func (out *outlet) failed(v *tap.Vector, _ error) {
	merged := len(v.Parts) // frames that came
	t := &out.tally
	t.device += uint64(merged)
	t.frames -= uint64(merged)
	if v.Header.GSO != tap.GSONone {
		t.superframes--
		t.coalesced -= uint64(merged)
	}
	t.bytes -= uint64(v.Len() + (merged-1)*int(v.Header.HeaderBytes) - merged*out.o.tagLen())
	if out.r != nil && out.r.captures != nil {
		out.seeRefused(v)
	}
}

// add takes a batch's tally into the counters.
func (c *rxCounters) add(t *rxTally) {
	c.frames.Add(t.frames)
	c.bytes.Add(t.bytes)
	if t.superframes > 0 {
		c.superframes.Add(t.superframes)
		c.coalesced.Add(t.coalesced)
	}
	if t.broadcast|t.multicast > 0 {
		c.broadcast.Add(t.broadcast)
		c.multicast.Add(t.multicast)
	}
	if t.unknownVTEP|t.invalidSource|t.ownMAC|t.ownAddress|t.staticMAC|t.ecn|t.oversize|t.device|t.notLearned|t.ecnAlerts|t.reservedBits|t.group|t.vlan|t.macHeld|t.storm|t.learnRate == 0 {
		return
	}
	c.dropUnknownVTEP.Add(t.unknownVTEP)
	c.dropInvalidSource.Add(t.invalidSource)
	c.dropOwnMAC.Add(t.ownMAC)
	c.dropOwnAddress.Add(t.ownAddress)
	c.dropStaticMAC.Add(t.staticMAC)
	c.dropECN.Add(t.ecn)
	c.dropOversize.Add(t.oversize)
	c.dropDevice.Add(t.device)
	c.notLearnedFull.Add(t.notLearned)
	c.ecnAlert.Add(t.ecnAlerts)
	c.dropReservedBits.Add(t.reservedBits)
	c.dropGroup.Add(t.group)
	c.dropVLAN.Add(t.vlan)
	c.dropMACHeld.Add(t.macHeld)
	c.dropStorm.Add(t.storm)
	c.notLearnedRate.Add(t.learnRate)
}
