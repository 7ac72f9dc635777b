package vtep

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

const (
	// trainBytes is the memory in which the trains of one batch are built: what
	// a full batch of the device becomes, with a VXLAN header a frame.
	trainBytes = 512 << 10
	// mostLanes is how many lanes a batch may have: one for each destination
	// and source port. A power of two.
	mostLanes = 64
	// mostTrains bounds the trains of one Send.
	mostTrains = 256
)

// transmitter carries frames from one queue of a device to the underlay. It
// runs to completion: whoever reads a frame also sends it.
type transmitter struct {
	e      *Endpoint
	o      *overlay // of a trunk: that of the frames at hand
	policy *policy  // of o, for the frames at hand
	queue  int      // of the device
	reader tap.Reader
	sender transport.Sender

	answers *answers  // made with the first
	long    *answerer // made when a frame is too long for its path

	trunk  *trunk // nil: the device is o's alone
	owners []*overlay
	mine   []tap.Frame

	// Where a worker serves it.
	worker *worker
	id     int32
	fd     int
	stream stream
	held   *workshop // what waits for room on the underlay
}

// workshop is where one batch becomes trains. Transmitters share them through
// a pool: only those with something to send hold one.
type workshop struct {
	buf    []byte
	used   int
	sent   int // of trains
	trains []transport.Train
	owners []trainOwner // of trains
	open   bool         // the last train may grow
	outer  outerFields  // of that train

	frames []pending
	lanes  []lane

	segments int // most datagrams of a train
	split    tap.Splitter
	inner    vxlan.Inner

	now    time.Duration // of this batch
	second uint16        // of now, for paths

	captures []*Capture // while a batch is carried; nil: none
	lanesOf  []int32    // by frame, for captures
}

// pending is what is known of one frame of the batch.
type pending struct {
	next    int32 // the lane's next frame, -1 = none
	hash    uint32
	outer   outerFields
	verdict Verdict
}

// lane is a queue of frames with one destination and one source port, in the
// order in which they came: what can share trains.
type lane struct {
	to          *fdb.Remote  // nil: several
	replicas    []fdb.Remote // each gets a copy, where to is nil
	vni         uint32       // of the replicas whose trains are being built
	slot        uint32       // source port
	first, last int32
	peer        *peer // nil: not listed
	path        *path // to the one VTEP; nil: several, or not to be found out
	most        int   // the longest datagram that fits it
}

// trainOwner is who a train counts for.
type trainOwner struct {
	tx      *txCounters
	vni     vxlan.VNI
	vid     uint16 // of the device, if that is a trunk
	peer    *peer
	frames  int
	bytes   int
	flooded bool
}

var workshops = sync.Pool{New: func() any {
	return &workshop{
		buf:    make([]byte, trainBytes),
		trains: make([]transport.Train, 0, mostTrains),
		owners: make([]trainOwner, 0, mostTrains),
		lanes:  make([]lane, 0, mostLanes),
	}
}}

// run carries batches until the device or the underlay is closed, where no
// worker does. It returns what ended it.
func (t *transmitter) run() error {
	var batch tap.Batch
	for {
		if err := t.reader.Read(&batch); err != nil {
			return err
		}
		t.short(batch.Short)
		w := workshops.Get().(*workshop)
		t.carry(w, batch.Frames)
		workshops.Put(w)
	}
}

// short counts what the device handed over that is no Ethernet frame.
func (t *transmitter) short(frames int) {
	switch {
	case frames == 0:
	case t.trunk != nil:
		// Without a type it has no tag that would say whose it is.
		t.e.counters.dropUnknownVLAN.Add(uint64(frames))
	default:
		t.o.tx.dropBadFrame.Add(uint64(frames))
	}
}

// carry sends one batch.
func (t *transmitter) carry(w *workshop, frames []tap.Frame) {
	w.pack(t, frames)
	w.flush(t)
	w.captures = nil
}

// pack makes trains of a batch.
func (w *workshop) pack(t *transmitter, frames []tap.Frame) {
	w.captures = t.e.capturing()
	if t.trunk != nil {
		w.dispatch(t, frames)
		return
	}
	w.packOwn(t, frames)
}

// packOwn makes trains of frames that are all of t.o.
func (w *workshop) packOwn(t *transmitter, frames []tap.Frame) {
	t.policy = t.o.policy.Load()
	w.sort(t, frames)
	header := binary.BigEndian.Uint64(headerBytes(t.o.vni)) | t.policy.header.extension
	for i := range w.lanes {
		w.buildAll(t, &w.lanes[i], frames, header)
	}
	if w.captures != nil {
		w.seeFrames(t, frames)
	}
}

// buildAll turns a lane into trains: those of one VNI after those of another,
// since the headers in a train are the same for all who get it.
func (w *workshop) buildAll(t *transmitter, l *lane, frames []tap.Frame, header uint64) {
	if l.to != nil {
		w.build(t, l, frames, withVNI(header, l.to.VNI))
		return
	}
	for i := range l.replicas {
		v := l.replicas[i].VNI
		if !slices.ContainsFunc(l.replicas[:i], func(r fdb.Remote) bool { return r.VNI == v }) {
			l.vni = v
			w.build(t, l, frames, withVNI(header, v))
		}
	}
}

// withVNI is a VXLAN header with the VNI of a remote, 0 for none of its own.
func withVNI(header uint64, v uint32) uint64 {
	if v == 0 {
		return header
	}
	return header&^(uint64(vxlan.MaxVNI)<<8) | uint64(v)<<8
}

// headerBytes is the VXLAN header of a VNI.
func headerBytes(v vxlan.VNI) []byte {
	b := make([]byte, vxlan.HeaderLen)
	vxlan.Header{VNI: v}.Put(b)
	return b
}

// sort looks every frame up and puts it into its lane.
func (w *workshop) sort(t *transmitter, frames []tap.Frame) {
	o, policy := t.o, t.policy
	w.lanes = w.lanes[:0]
	w.frames = w.frames[:0]
	storm, locals := policy.guard.storm, policy.guard.locals
	if t.e.findPaths || storm != nil {
		w.now = t.e.now()
		w.second = second(w.now)
	}
	limits := t.e.conn.Limits()
	flows := uint64(max(limits.Flows, 1))
	// Where the kernel takes no trains, the transport takes them apart again:
	// long ones still save passes through our own code.
	w.segments = limits.Segments
	if w.segments <= 1 {
		w.segments = transport.MaxSegments
	}
	var sum sortTally
	for i := range frames {
		f := &frames[i]
		w.frames = append(w.frames, pending{next: -1})
		if policy.vlan != VLANKeep && tap.VLANTagged(f.Bytes) && !policy.untag(f) {
			o.tx.dropVLAN.Add(w.standsFor(f))
			w.frames[i].verdict = txVLAN
			continue
		}
		if w.inner.Parse(f.Bytes) != nil {
			o.tx.dropBadFrame.Add(1)
			w.frames[i].verdict = txBadFrame
			continue
		}
		if locals != nil && !locals.allow(o.mac, f.Bytes, &w.inner) {
			o.tx.dropSpoofed.Add(w.standsFor(f))
			w.frames[i].verdict = txSpoofed
			continue
		}
		if policy.neighbours != nil {
			if v := t.neighbour(f, w.captures); v != verdictPassed {
				w.frames[i].verdict = v
				continue
			}
		}
		var replicas []fdb.Remote
		mac := fdb.MAC(f.Bytes[:6])
		to, ok := o.table.Lookup(mac)
		if to == nil && ok {
			to, ok = o.table.Select(mac, w.inner.Hash) // of a nexthop group
		}
		if !ok {
			to = nil
			if replicas = o.table.Replicas(mac); len(replicas) == 0 {
				o.tx.dropNoDestination.Add(w.standsFor(f))
				t.e.missed(o.vni, mac)
				w.frames[i].verdict = txNoDestination
				continue
			}
			n := w.standsFor(f)
			if storm != nil && !o.storms.out.Take(*storm, w.now, int(n)) {
				o.tx.dropStorm.Add(n)
				w.frames[i].verdict = txStorm
				continue
			}
			sum.flooded(mac, n)
		}
		if f.Header.GSO != tap.GSONone {
			sum.superframes++
		}
		p := &w.frames[i]
		p.hash = w.inner.Hash
		p.outer = policy.outer.of(&w.inner)
		w.enqueue(o, to, replicas, uint32(uint64(p.hash)*flows>>32), int32(i))
	}
	o.tx.sorted(&sum)
}

// sortTally gathers what sort finds, so that counters are touched once a batch.
type sortTally struct{ broadcast, multicast, unknown, superframes uint64 }

// flooded notes frames that go to several VTEPs, or to one as to several.
func (s *sortTally) flooded(to fdb.MAC, frames uint64) {
	switch {
	case to == broadcastMAC:
		s.broadcast += frames
	case to[0]&1 != 0:
		s.multicast += frames
	default:
		s.unknown += frames
	}
}

// sorted takes a batch's tally into the counters.
func (c *txCounters) sorted(s *sortTally) {
	if s.superframes > 0 {
		c.superframes.Add(s.superframes)
	}
	if s.broadcast|s.multicast|s.unknown > 0 {
		c.broadcast.Add(s.broadcast)
		c.multicast.Add(s.multicast)
		c.unknown.Add(s.unknown)
	}
}

// broadcastMAC is all stations.
var broadcastMAC = fdb.MAC{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}

// standsFor is how many frames of a wire a frame of the device is.
func (w *workshop) standsFor(f *tap.Frame) uint64 {
	if f.Header.GSO == tap.GSONone || w.split.Init(&f.Header, f.Bytes) != nil {
		return 1
	}
	return uint64(w.split.Segments())
}

// enqueue appends frame i to the lane of its destination and source port.
func (w *workshop) enqueue(o *overlay, to *fdb.Remote, replicas []fdb.Remote, slot uint32, i int32) {
	// From the end: frames come in runs.
	for n := len(w.lanes) - 1; n >= 0; n-- {
		l := &w.lanes[n]
		if l.to == to && l.slot == slot && unsafe.SliceData(l.replicas) == unsafe.SliceData(replicas) {
			w.frames[l.last].next = i
			l.last = i
			return
		}
	}
	var p *peer
	if to != nil {
		p = o.sender(to.Addr.Addr())
	}
	one := p
	if to == nil && len(replicas) == 1 {
		one = o.sender(replicas[0].Addr.Addr())
	}
	l := lane{to: to, replicas: replicas, slot: slot, first: i, last: i, peer: p, most: transport.MaxBytes}
	if one != nil && one.path != nil {
		l.path, l.most = one.path, one.path.most()
	}
	w.lanes = append(w.lanes, l)
}

// build turns a lane into trains.
func (w *workshop) build(t *transmitter, l *lane, frames []tap.Frame, header uint64) {
	w.open = false
	for i := l.first; i >= 0; i = w.frames[i].next {
		f, p := &frames[i], &w.frames[i]
		if f.Header.GSO != tap.GSONone {
			w.addSuperframe(t, l, p, f, header)
			continue
		}
		if t.policy.clampMSS {
			t.clamp(l, f)
		}
		if tap.CompleteChecksum(&f.Header, f.Bytes) != nil {
			t.o.tx.dropBadFrame.Add(1)
			p.verdict = txBadFrame
			continue
		}
		w.addFrame(t, l, p, f, header)
	}
	w.closeTrain(t, l)
}

// addFrame appends one frame to the lane's open train, or begins another.
func (w *workshop) addFrame(t *transmitter, l *lane, p *pending, f *tap.Frame, header uint64) {
	frame := f.Bytes
	size := vxlan.HeaderLen + len(frame)
	if size > l.most && t.refuse(l, p, f, size, 1) {
		return
	}
	if size > smallDatagram && l.path != nil {
		l.path.note(flowKey(p.hash, header), size, w.second)
	}
	if !w.open || size > w.train().Stride || !w.continues(p, size) {
		w.begin(t, l, p, size)
	}
	binary.BigEndian.PutUint64(w.buf[w.used:], header)
	copy(w.buf[w.used+vxlan.HeaderLen:], frame)
	w.grow(1, size)
	if size < w.train().Stride {
		w.closeTrain(t, l) // a shorter datagram is the last
	}
}

// addSuperframe takes a superframe apart, straight into trains.
func (w *workshop) addSuperframe(t *transmitter, l *lane, p *pending, f *tap.Frame, header uint64) {
	if w.split.Init(&f.Header, f.Bytes) != nil {
		t.o.tx.dropBadFrame.Add(1)
		p.verdict = txBadFrame
		return
	}
	stride := w.split.Stride(vxlan.HeaderLen)
	if stride > l.most && t.refuse(l, p, f, stride, w.split.Segments()) {
		return
	}
	if stride > smallDatagram && l.path != nil {
		l.path.note(flowKey(p.hash, header), stride, w.second)
	}
	for left := w.split.Segments(); left > 0; {
		// A superframe may continue a train of frames of its own size.
		if !w.open || stride != w.train().Stride || !w.continues(p, stride) {
			w.begin(t, l, p, stride)
		}
		room := transport.MaxBytes - len(w.train().Buf)
		n, bytes := w.split.Next(w.buf[w.used:w.used+room], vxlan.HeaderLen, w.segments-w.owner().frames)
		for at := w.used; at < w.used+bytes; at += stride {
			binary.BigEndian.PutUint64(w.buf[at:], header)
		}
		w.grow(n, bytes)
		if left -= n; left > 0 || bytes < n*stride {
			w.closeTrain(t, l) // full, or its last datagram is shorter
		}
	}
}

func (w *workshop) train() *transport.Train { return &w.trains[len(w.trains)-1] }
func (w *workshop) owner() *trainOwner      { return &w.owners[len(w.owners)-1] }

// continues says whether the open train takes one more datagram of size bytes
// from this frame, apart from its stride.
func (w *workshop) continues(p *pending, size int) bool {
	return w.outer == p.outer && len(w.train().Buf)+size <= transport.MaxBytes && w.owner().frames < w.segments
}

// begin closes the open train and opens one with this stride. There is room
// for a whole train behind w.used afterwards.
func (w *workshop) begin(t *transmitter, l *lane, p *pending, stride int) {
	w.closeTrain(t, l)
	if len(w.buf)-w.used < transport.MaxBytes || len(w.trains) >= mostTrains {
		w.flush(t)
	}
	w.trains = append(w.trains, transport.Train{
		Buf: w.buf[w.used:w.used], Stride: stride, Hash: p.hash,
	})
	p.outer.put(w.train())
	w.outer = p.outer
	w.owners = append(w.owners, trainOwner{tx: &t.o.tx, vni: t.o.vni, vid: t.o.vid, peer: l.peer})
	w.open = true
}

// grow takes the bytes written at w.used into the open train.
func (w *workshop) grow(frames, bytes int) {
	tr := w.train()
	tr.Buf = tr.Buf[:len(tr.Buf)+bytes]
	w.used += bytes
	o := w.owner()
	o.frames += frames
	o.bytes += bytes - frames*vxlan.HeaderLen
}

// closeTrain addresses the open train; one for the flood list it multiplies,
// over the same bytes (head-end replication).
func (w *workshop) closeTrain(t *transmitter, l *lane) {
	if !w.open {
		return
	}
	w.open = false
	if tr := w.train(); l.path != nil && tr.Stride > smallDatagram && l.path.probe(tr.Stride, w.now) {
		tr.DontFragment = true
	}
	if l.to != nil {
		w.train().Addr = l.to.Addr
		return
	}
	first, owner := *w.train(), *w.owner()
	owner.flooded = true
	w.trains = w.trains[:len(w.trains)-1]
	w.owners = w.owners[:len(w.owners)-1]
	for _, r := range l.replicas {
		if r.VNI != l.vni {
			continue
		}
		first.Addr = r.Addr
		owner.peer = t.o.sender(r.Addr.Addr())
		w.trains = append(w.trains, first)
		w.owners = append(w.owners, owner)
	}
}

// flush sends all trains and counts them, waiting where the underlay makes it
// wait. No train is open.
func (w *workshop) flush(t *transmitter) { w.send(t, t.sender.Send) }

// trySend is flush without waiting. It returns false when the underlay had no
// room: then it wants to be called again.
func (w *workshop) trySend(t *transmitter) bool { return w.send(t, t.sender.TrySend) }

func (w *workshop) send(t *transmitter, send func([]transport.Train) (int, error)) bool {
	var sum sendTally
	blocked := false
	for w.sent < len(w.trains) && !blocked {
		n, err := send(w.trains[w.sent:])
		for i := range n {
			sum.add(&w.owners[w.sent+i])
			if w.captures != nil {
				w.seeTrain(w.sent+i, w.trains[w.sent+i].Len(), verdictPassed)
			}
		}
		w.sent += n
		if err != nil && w.sent < len(w.trains) && tooBig(err) {
			w.answerRefused(t, w.sent)
		}
		switch {
		case err == nil || w.sent == len(w.trains):
		case err == transport.ErrWouldBlock:
			blocked = true
		case w.lastMayFit(w.sent, err):
			o := &w.owners[w.sent]
			w.seeTrain(w.sent, o.frames-1, o.tx.drop(err, o.frames-1))
			w.keepLast(w.sent)
		default:
			o := &w.owners[w.sent]
			w.seeTrain(w.sent, o.frames, o.tx.drop(err, o.frames))
			w.sent++
		}
	}
	sum.settle()
	if !blocked {
		w.discard()
	}
	return !blocked
}

// sendTally gathers what was sent of one VNI, so that its counters are touched
// once a Send. Only those of a trunk share a workshop.
type sendTally struct {
	tx                     *txCounters
	frames, bytes, flooded int
	trains                 int
}

func (s *sendTally) add(o *trainOwner) {
	if o.tx != s.tx {
		s.settle()
		s.tx = o.tx
	}
	s.trains++
	s.frames += o.frames
	s.bytes += o.bytes
	if o.flooded {
		s.flooded += o.frames
	}
	if o.peer != nil {
		o.peer.txFrames.Add(uint64(o.frames))
		o.peer.txBytes.Add(uint64(o.bytes))
	}
}

// settle counts what was gathered.
func (s *sendTally) settle() {
	if s.frames > 0 {
		s.tx.frames.Add(uint64(s.frames))
		s.tx.bytes.Add(uint64(s.bytes))
		s.tx.trains.Add(uint64(s.trains))
	}
	if s.flooded > 0 {
		s.tx.flooded.Add(uint64(s.flooded))
	}
	*s = sendTally{}
}

// discard forgets all trains.
func (w *workshop) discard() {
	w.trains = w.trains[:0]
	w.owners = w.owners[:0]
	w.used, w.sent = 0, 0
}

// lastMayFit says whether train i was refused for the length of its datagrams
// and the last one is shorter.
func (w *workshop) lastMayFit(i int, err error) bool {
	t := &w.trains[i]
	n := t.Len()
	return n > 1 && tooBig(err) && len(t.Datagram(n-1)) < t.Stride
}

// keepLast leaves only the last datagram in train i.
func (w *workshop) keepLast(i int) {
	t, o := &w.trains[i], &w.owners[i]
	t.Buf = t.Datagram(t.Len() - 1)
	t.Stride = 0
	o.frames = 1
	o.bytes = len(t.Buf) - vxlan.HeaderLen
}

func tooBig(err error) bool {
	return errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, transport.ErrTooLong)
}

// drop counts frames that could not be sent, under what stood in the way, and
// says so.
func (c *txCounters) drop(err error, frames int) Verdict {
	n := uint64(frames)
	switch {
	case tooBig(err):
		c.dropTooBig.Add(n)
		return txTooBig
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, syscall.ENETDOWN), errors.Is(err, syscall.EADDRNOTAVAIL),
		errors.Is(err, syscall.EINVAL), errors.Is(err, transport.ErrNoFamily),
		errors.Is(err, syscall.ENODEV), errors.Is(err, transport.ErrNoGroup):
		// EINVAL: our own address was taken off the device. ENODEV: it was
		// deleted.
		c.dropUnreachable.Add(n)
		return txUnreachable
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		c.dropNoBuffer.Add(n)
		return txNoBuffer
	}
	c.dropError.Add(n)
	return txError
}
