package vtep

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vxlan"
)

// Event is a change in the FDB of a VNI.
type Event struct {
	Time time.Time `json:"time"`
	// What happened: learned, moved, aged, added, changed, deleted, missed, held
	// or released (see fdb.EventKind), noneigh, or lost.
	What string `json:"event"`
	// Lost is how many events there were at this point for which the Watcher
	// had no room. Only with lost, which has no other fields.
	Lost uint64    `json:"lost,omitempty"`
	VNI  vxlan.VNI `json:"vni"`
	// MAC is zero for the flood list.
	MAC vxlan.MAC `json:"mac"`
	// VTEP, Port and RemoteVNI (0: that of the overlay) are where the entry
	// leads, or led when it is gone.
	VTEP      netip.Addr `json:"vtep,omitzero"`
	Port      uint16     `json:"port,omitempty"`
	RemoteVNI vxlan.VNI  `json:"remote_vni,omitempty"`
	// Nexthops is the nexthop group that the entry points to instead.
	Nexthops uint32 `json:"nhid,omitempty"`
	// Kind of the entry: learned, static, permanent, dynamic or flood.
	Kind string `json:"kind,omitempty"`
	// From is where an entry led that moved or changed, and where one wanted to
	// move to that is held.
	From *RemoteStatus `json:"from,omitempty"`
	// IP is the address that a station asked for and that no neighbour has.
	// Only with noneigh, which has no other fields but the VNI.
	IP netip.Addr `json:"ip,omitzero"`
}

// DefaultWatch is how many events a Watcher keeps for a reader who is slow.
const DefaultWatch = 4096

// Watcher is a subscription to the changes of an endpoint's FDBs. Whoever
// carries frames never waits for its reader: what it has no room for is counted
// and left out.
type Watcher struct {
	e     *Endpoint
	only  []vxlan.VNI
	limit int
	wake  chan struct{} // there is something to read, or the end

	mu     sync.Mutex
	queue  []noted
	lost   uint64 // after the last of queue
	closed bool

	batch     []noted // of the reader, taken out of queue
	read      int     // so many of batch
	batchLost uint64  // after the last of batch
}

// noted is an event as it was when it happened.
type noted struct {
	at  time.Time
	vni vxlan.VNI
	ip  netip.Addr // noneigh
	fdb.Event
}

// Watch subscribes to the changes in the FDBs of all VNIs, or of some, whether
// they are there already or not. A VNI that comes has its entries added, one
// that goes has them deleted. room is how many events are kept for the reader,
// DefaultWatch if it is 0.
//
// While there is no Watcher, nothing is spent on events.
func (e *Endpoint) Watch(room int, only ...vxlan.VNI) (*Watcher, error) {
	if room <= 0 {
		room = DefaultWatch
	}
	w := &Watcher{e: e, only: only, limit: room, wake: make(chan struct{}, 1)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, ErrClosed
	}
	e.setWatchers(append(slices.Clip(e.watching()), w))
	return w, nil
}

// Close ends the subscription. A second Close does nothing.
func (w *Watcher) Close() {
	w.e.mu.Lock()
	w.e.setWatchers(slices.DeleteFunc(slices.Clone(w.e.watching()), func(x *Watcher) bool { return x == w }))
	w.e.mu.Unlock()
	w.end()
}

func (w *Watcher) end() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
}

func (w *Watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Next returns the next event, and waits for it. It returns ErrClosed after the
// last one when the endpoint has ended or the Watcher was closed, and the cause
// when ctx is done. It is for one goroutine at a time.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	for {
		if w.read < len(w.batch) {
			w.read++
			return w.batch[w.read-1].event(), nil
		}
		if n := w.batchLost; n > 0 {
			w.batchLost = 0
			return Event{Time: time.Now(), What: "lost", Lost: n}, nil
		}
		w.mu.Lock()
		w.batch, w.queue, w.read = w.queue, w.batch[:0], 0
		w.batchLost, w.lost = w.lost, 0
		closed := w.closed
		w.mu.Unlock()
		if len(w.batch) > 0 || w.batchLost > 0 {
			continue
		}
		if closed {
			return Event{}, ErrClosed
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// put keeps an event for the reader if there is room. It may run under the lock
// of a table, on the packet path.
func (w *Watcher) put(n noted) {
	if len(w.only) > 0 && !slices.Contains(w.only, n.vni) {
		return
	}
	w.mu.Lock()
	if len(w.queue) >= w.limit {
		w.lost++
	} else {
		w.queue = append(w.queue, n)
	}
	w.mu.Unlock()
	w.signal()
}

func (n *noted) event() Event {
	if n.ip.IsValid() {
		return Event{Time: n.at, What: "noneigh", VNI: n.vni, IP: n.ip}
	}
	r := remoteStatus(n.Entry.Remote)
	e := Event{
		Time: n.at, What: n.What.String(), VNI: n.vni, MAC: vxlan.MAC(n.Entry.MAC),
		VTEP: r.VTEP, Port: r.Port, RemoteVNI: vxlan.VNI(n.Entry.Remote.VNI), Nexthops: n.Entry.Nexthops,
	}
	switch {
	case n.What == fdb.EventMissed:
	case e.MAC.IsZero():
		e.Kind = "flood"
	default:
		e.Kind = n.Entry.Kind.String()
	}
	if n.Was.Addr.IsValid() {
		was := remoteStatus(n.Was)
		e.From = &was
	}
	return e
}

// watching returns who listens; nil when nobody does.
func (e *Endpoint) watching() []*Watcher {
	if p := e.watchers.Load(); p != nil {
		return *p
	}
	return nil
}

// setWatchers replaces the list of watchers, and has the tables tell of their
// changes or not. e.mu is held.
func (e *Endpoint) setWatchers(list []*Watcher) {
	was := e.watchers.Load() != nil
	if len(list) == 0 {
		e.watchers.Store(nil)
	} else {
		e.watchers.Store(&list)
	}
	if is := len(list) > 0; is != was {
		for _, o := range e.overlays {
			e.listen(o, is)
		}
	}
}

// listen has an overlay's table tell of its changes, or not.
func (e *Endpoint) listen(o *overlay, on bool) {
	if !on && o.accel == nil {
		o.table.Notify(nil)
		return
	}
	v := o.vni
	o.table.Notify(func(ev fdb.Event) {
		o.accel.note(o, &ev)
		if e.watchers.Load() != nil {
			e.note(v, ev)
		}
	})
}

// note tells the watchers of an event.
func (e *Endpoint) note(v vxlan.VNI, ev fdb.Event) {
	e.tell(noted{at: time.Now(), vni: v, Event: ev})
}

func (e *Endpoint) tell(n noted) {
	for _, w := range e.watching() {
		w.put(n)
	}
}

// noteAll tells the watchers of all that is in the table of an overlay that
// comes or goes. e.mu is held.
func (e *Endpoint) noteAll(o *overlay, what fdb.EventKind) {
	if e.watching() == nil {
		return
	}
	e.listen(o, what == fdb.EventAdded)
	for _, r := range o.table.Flood() {
		e.note(o.vni, fdb.Event{What: what, Entry: fdb.Entry{Remote: r, Kind: fdb.KindStatic}})
	}
	for entry := range o.table.All(0) {
		entry.Age = 0
		e.note(o.vni, fdb.Event{What: what, Entry: entry})
	}
}

// missed tells the watchers that a frame to a unicast MAC was lost for want of
// an entry.
func (e *Endpoint) missed(v vxlan.VNI, mac fdb.MAC) {
	if mac[0]&1 == 0 && e.watchers.Load() != nil {
		e.note(v, fdb.Event{What: fdb.EventMissed, Entry: fdb.Entry{MAC: mac}})
	}
}

// missedNeighbour tells whoever wants to know that a station asked for an
// address that no neighbour has.
func (e *Endpoint) missedNeighbour(m NeighbourMiss) {
	if e.neighbourMissed != nil {
		e.neighbourMissed(m)
	}
	if e.watchers.Load() != nil {
		e.tell(noted{at: time.Now(), vni: m.VNI, ip: m.IP})
	}
}
