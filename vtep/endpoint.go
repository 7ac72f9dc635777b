package vtep

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// Errors of the methods that change an Endpoint, wrapped with what was asked.
var (
	// ErrVNIExists: the endpoint has this VNI already.
	ErrVNIExists = errors.New("VNI exists already")
	// ErrNoVNI: the endpoint does not have this VNI.
	ErrNoVNI = errors.New("no such VNI here")
	// ErrPeerExists: the VNI has this peer already.
	ErrPeerExists = errors.New("peer exists already")
	// ErrNoPeer: the VNI does not have this peer.
	ErrNoPeer = errors.New("no such peer")
	// ErrGroupExists: the VNI has this multicast group already.
	ErrGroupExists = errors.New("group exists already")
	// ErrNoGroup: the VNI does not have this multicast group.
	ErrNoGroup = errors.New("no such group")
	// ErrClosed: the endpoint has ended.
	ErrClosed = errors.New("endpoint is closed")
)

// Endpoint is a VTEP: it carries the frames of any number of VNIs over one
// Conn. All methods may be called at any time and by any goroutine.
type Endpoint struct {
	conn     transport.Conn
	log      *zap.Logger
	now      func() time.Duration
	busyPoll time.Duration
	wanted   int // workers, 0: by GOMAXPROCS
	noRing   bool
	started  time.Duration
	vnis     vniTable
	counters endpointCounters
	unknown  lastSeen                   // last packet of a VNI that is not here
	watchers atomic.Pointer[[]*Watcher] // nil: nobody listens
	captures captureSet                 // nil: nobody captures
	paths    paths
	// findPaths: the paths' MTUs are known, or to be found out.
	findPaths bool

	mu       sync.Mutex
	overlays map[vxlan.VNI]*overlay
	trunks   map[tap.Device]*trunk
	running  bool
	paused   bool          // it runs, and is about to be handed over
	ready    chan struct{} // closed once it runs
	closed   bool
	workers  []*worker // while it runs, where the Conn can be polled
	// toldSegments is the Limits.Segments that was last logged.
	toldSegments int
	// failures takes what ended a transmitter or receiver early.
	failures chan error
	// hurry tells the sweeper of a new VNI whose entries live shortly.
	hurry      chan struct{}
	accel      *accelerator // nil: there is none
	slowReason string       // why not; empty: it was not asked for

	// neighbourMissed is that of Config.
	neighbourMissed func(NeighbourMiss)

	probes probes
	holds  holds
	groupLife
}

// New returns an endpoint without VNIs. It takes Config.Conn over.
func New(cfg Config) (*Endpoint, error) {
	if cfg.Conn == nil {
		return nil, errors.New("vtep: Config.Conn is missing")
	}
	e := &Endpoint{
		conn:            cfg.Conn,
		log:             cfg.Logger,
		now:             cfg.Clock,
		busyPoll:        cfg.BusyPoll,
		wanted:          cfg.Workers,
		noRing:          cfg.NoRing,
		overlays:        make(map[vxlan.VNI]*overlay),
		trunks:          make(map[tap.Device]*trunk),
		failures:        make(chan error, 1),
		hurry:           make(chan struct{}, 1),
		ready:           make(chan struct{}),
		neighbourMissed: cfg.NeighbourMissed,
	}
	e.holds.wake = make(chan struct{}, 1)
	e.probes.mute = cfg.DisableProbeAnswers
	e.groups = make(map[netip.Addr]*membership)
	if e.log == nil {
		e.log = zap.NewNop()
	}
	if e.now == nil {
		// As old as the system, so that what was a while ago in a process
		// before this one is not before all time.
		origin := time.Now().Add(-bootTime())
		e.now = func() time.Duration { return time.Since(origin) }
	}
	e.started = e.now()
	e.toldSegments = e.conn.Limits().Segments
	if cfg.Datapath != DatapathUser {
		var err error
		if e.accel, err = newAccelerator(e); err != nil && cfg.Datapath == DatapathEBPF {
			return nil, fmt.Errorf("vtep: %w", &DatapathError{Err: err})
		} else if err != nil {
			e.slowReason = err.Error()
		} else {
			e.paths.changed = e.accel.rerouted
		}
	}
	e.paths.given = cfg.PathMTU
	e.findPaths = cfg.PathMTU != 0
	if c, ok := e.conn.(transport.PathConn); ok && !cfg.DisablePathMTU {
		e.findPaths = true
		c.HearTooBig(e.hear)
	}
	return e, nil
}

// Run carries frames until ctx is done, then closes the devices and the Conn
// and returns nil. It returns an error, having closed everything too, when the
// underlay fails for good or the last device is deleted by somebody else. An
// endpoint runs once.
func (e *Endpoint) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.closed || e.running {
		e.mu.Unlock()
		return fmt.Errorf("vtep: run: %w, or runs already", ErrClosed)
	}
	e.running = true
	e.settle()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var tasks sync.WaitGroup
	receivers := e.receivers()
	if err := e.startWorkers(receivers); err != nil {
		e.mu.Unlock()
		return errors.Join(fmt.Errorf("vtep: run: %w", err), e.Close())
	}
	for _, r := range receivers {
		if r.worker == nil {
			tasks.Go(func() { r.ended(r.run()) })
		}
	}
	for _, o := range e.overlays {
		e.transmit(o)
	}
	for _, m := range e.groups {
		e.receive(m)
	}
	e.mu.Unlock()
	close(e.ready)
	tasks.Go(func() { e.sweep(ctx) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-e.failures:
	}
	cancel()
	err = errors.Join(err, e.Close())
	tasks.Wait()
	e.groupLife.tasks.Wait()
	return err
}

// Ready is closed once Run carries frames: everything that arrives from then on
// is served. It stays open when Run fails before.
func (e *Endpoint) Ready() <-chan struct{} { return e.ready }

// receivers makes one for each socket of the Conn.
func (e *Endpoint) receivers() []*receiver {
	var receivers []*receiver
	for i, conn := range e.conn.Receivers() {
		receivers = append(receivers, &receiver{e: e, conn: conn, number: i, outlets: make(map[*overlay]*outlet)})
	}
	return receivers
}

// workerCount is how many workers serve so many receivers. By default half the
// cores: the others are for those who make and take the traffic, and on two
// cores a second worker costs a stream a quarter of its rate.
func (e *Endpoint) workerCount(receivers int) int {
	n := e.wanted
	if n <= 0 {
		n = min(runtime.GOMAXPROCS(0)/2, 8)
	}
	return max(min(n, receivers), 1)
}

// startWorkers starts workers and gives them the receivers, if these can be
// polled. e.mu is held.
func (e *Endpoint) startWorkers(receivers []*receiver) error {
	for _, r := range receivers {
		if _, ok := r.conn.(transport.Pollable); !ok {
			return nil
		}
	}
	var err error
	if e.workers, err = startWorkers(e.workerCount(len(receivers)), e.busyPoll, e.noRing); err != nil {
		return err
	}
	for i, r := range receivers {
		r.worker = e.workers[i%len(e.workers)]
		r.worker.add(r)
	}
	return nil
}

// fail ends Run with an error; the first one counts.
func (e *Endpoint) fail(err error) {
	select {
	case e.failures <- err:
	default:
	}
}

// Close closes the devices and the Conn, and waits for the goroutines that
// read the devices. Run closes by itself; an endpoint that never ran needs it.
// A second Close does nothing.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	overlays := e.overlays
	e.overlays = nil
	for v := range overlays {
		e.vnis.store(v, nil)
	}
	watchers := e.watching()
	e.watchers.Store(nil)
	captures := e.capturing()
	e.captures.Store(nil)
	workers := e.workers
	e.mu.Unlock()
	for _, w := range watchers {
		w.end()
	}
	e.probes.end()

	_ = e.accel.close()
	// First, so that none of them sees a descriptor that is closed.
	for _, w := range workers {
		w.stop()
	}
	errs := closeAll(overlays)
	errs = append(errs, e.conn.Close())
	for _, o := range overlays {
		o.wait()
	}
	for _, c := range captures {
		c.end()
	}
	select {
	case e.failures <- nil: // ends Run, if it runs
	default:
	}
	return errors.Join(errs...)
}

// closeAll closes the devices of overlays, several at once: the kernel waits long
// for each that goes, which counts with hundreds of them.
func closeAll(overlays map[vxlan.VNI]*overlay) []error {
	var closers sync.WaitGroup
	todo := make(chan tap.Device)
	failed := make(chan error, len(overlays))
	for range min(len(overlays), 32) {
		closers.Go(func() {
			for d := range todo {
				failed <- d.Close()
			}
		})
	}
	for _, o := range overlays {
		todo <- o.device
	}
	close(todo)
	closers.Wait()
	close(failed)
	return slices.Collect(func(yield func(error) bool) {
		for err := range failed {
			if !yield(err) {
				return
			}
		}
	})
}

// AddVNI begins to serve a VNI, at once if the endpoint runs. On success it
// takes cfg.Device over; on failure the caller still has it.
func (e *Endpoint) AddVNI(cfg VNIConfig) error {
	if !cfg.VNI.Valid() {
		return fmt.Errorf("vtep: add VNI %d: %w", uint32(cfg.VNI), vxlan.ErrVNI)
	}
	if cfg.Device == nil {
		return fmt.Errorf("vtep: add VNI %v: VNIConfig.Device is missing", cfg.VNI)
	}
	p, err := newPolicy(&cfg, e.missedNeighbour)
	if err != nil {
		return fmt.Errorf("vtep: add VNI %v: %w", cfg.VNI, err)
	}
	o := &overlay{
		vni:    cfg.VNI,
		device: cfg.Device,
		table: fdb.New(fdb.Config{
			MaxEntries: cfg.MaxEntries, BoundAll: cfg.BoundAll, Ageing: cfg.Ageing,
			OnHold: func(ev fdb.Event) { e.holds.note(cfg.VNI, ev) },
		}),
		toldFeatures: cfg.Device.Features(),
		accel:        e.accel,
	}
	o.guard(&cfg.Guard)
	o.policy.Store(p)
	o.byEndpoint(e.slowReason)
	if e.accel != nil {
		if err := e.accel.suits(&cfg); err != nil {
			o.accel = nil
			o.byEndpoint(err.Error())
		}
	}
	copy(o.mac[:], cfg.Device.MAC())
	o.senders.Store(&map[netip.Addr]*peer{})
	if e.findPaths {
		o.paths = &e.paths
	}
	for _, a := range cfg.Peers {
		if err := o.addPeer(a); err != nil {
			return fmt.Errorf("vtep: VNI %v: %w", cfg.VNI, err)
		}
	}
	for _, s := range cfg.Static {
		if err := o.addStatic(s); err != nil {
			return fmt.Errorf("vtep: VNI %v: %w", cfg.VNI, err)
		}
	}

	for _, s := range cfg.Entries {
		if err := o.setEntry(fdb.VerbAppend, s, e.port(), e.now()); err != nil {
			return fmt.Errorf("vtep: VNI %v: %w", cfg.VNI, err)
		}
	}

	defer e.changeGroups()()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return fmt.Errorf("vtep: add VNI %v: %w", cfg.VNI, ErrClosed)
	}
	if e.overlays[cfg.VNI] != nil {
		return fmt.Errorf("vtep: add VNI %v: %w", cfg.VNI, ErrVNIExists)
	}
	if err := e.joinAll(o, cfg.Groups); err != nil {
		return fmt.Errorf("vtep: VNI %v: %w", cfg.VNI, err)
	}
	if err := e.join(o, &cfg); err != nil {
		e.leaveAll(o)
		return fmt.Errorf("vtep: add VNI %v: %w", cfg.VNI, err)
	}
	e.overlays[cfg.VNI] = o
	if o.accel != nil {
		e.listen(o, e.watching() != nil)
		if err := o.accel.add(o); err != nil {
			e.leaveToEndpoint(o, err.Error())
		}
	}
	e.noteAll(o, fdb.EventAdded)
	e.vnis.store(cfg.VNI, o)
	if e.carrying() {
		e.transmit(o)
	}
	e.hurryFor(o)
	return nil
}

// hurryFor wakes the sweeper when entries of a VNI live shortly.
func (e *Endpoint) hurryFor(o *overlay) {
	if a := o.table.Ageing(); a > 0 && a < 4*longestSweep {
		select {
		case e.hurry <- struct{}{}:
		default:
		}
	}
}

// DelVNI ends a VNI and closes its device, that of a trunk with the last of its
// VNIs. The others do not notice.
func (e *Endpoint) DelVNI(v vxlan.VNI) error {
	changed := e.changeGroups()
	e.mu.Lock()
	o := e.overlays[v]
	if o != nil {
		e.remove(o)
	}
	e.mu.Unlock()
	changed()
	if o == nil {
		return fmt.Errorf("vtep: delete VNI %v: %w", v, ErrNoVNI)
	}
	return e.end(o)
}

// SetMTU sets the MTU of a VNI's device. What somebody else sets on the device
// is followed without it.
func (e *Endpoint) SetMTU(v vxlan.VNI, mtu int) error {
	return e.change(v, "set MTU", func(o *overlay) error { return o.device.SetMTU(mtu) })
}

// remove takes an overlay out of service. e.mu is held.
func (e *Endpoint) remove(o *overlay) {
	delete(e.overlays, o.vni)
	e.vnis.store(o.vni, nil)
	e.noteAll(o, fdb.EventDeleted)
	o.accel.remove(o)
	e.leaveAll(o)
	if o.trunk != nil {
		e.leave(o)
	}
}

// end closes the device of an overlay that was removed, unless other VNIs share
// it.
func (e *Endpoint) end(o *overlay) error {
	served := o.served
	if o.trunk != nil {
		e.mu.Lock()
		members := o.trunk.members
		e.mu.Unlock()
		if members > 0 {
			return nil
		}
		served = o.trunk.served
	}
	for _, t := range served {
		t.worker.remove(t)
	}
	err := o.device.Close()
	o.wait()
	return err
}

// transmit starts the transmitters of an overlay. e.mu is held.
func (e *Endpoint) transmit(o *overlay) {
	served, tasks := &o.served, &o.transmitters
	if o.trunk != nil {
		if o.trunk.running {
			return
		}
		o.trunk.running = true
		served, tasks = &o.trunk.served, &o.trunk.transmitters
	}
	for i, reader := range o.device.Readers() {
		t := &transmitter{e: e, o: o, trunk: o.trunk, queue: i, reader: reader, sender: e.conn.NewSender()}
		if _, ok := reader.(tap.Pollable); ok && len(e.workers) > 0 {
			t.worker = e.workers[i%len(e.workers)]
			if t.worker.add(t) {
				*served = append(*served, t)
				continue
			}
		}
		tasks.Go(func() {
			if err := t.run(); !errors.Is(err, net.ErrClosed) {
				go e.lose(o, err)
			}
		})
	}
}

// newOutlet gives a receiver its way into an overlay's device. It returns nil
// when the VNI was deleted meanwhile.
func (e *Endpoint) newOutlet(r *receiver, o *overlay) *outlet {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.overlays[o.vni] != o {
		return nil
	}
	// Those of deleted VNIs are of no use any more. There are such when every
	// VNI seems to have one but this; looking each time costs seconds with
	// thousands of VNIs.
	if len(r.outlets) >= len(e.overlays) {
		for old := range r.outlets {
			if e.overlays[old.vni] != old {
				delete(r.outlets, old)
			}
		}
	}
	out := &outlet{o: o, r: r, writer: o.device.NewWriter(r.number), ring: r.ring}
	out.coalesce.MTU = o.device.MTU()
	out.coalesce.Off = o.device.Features()&(tap.TSO4|tap.TSO6|tap.USO) == 0
	r.outlets[o] = out
	return out
}

const (
	longestSweep  = 10 * time.Second
	shortestSweep = 100 * time.Millisecond
)

// tellRefused says once what offloads the kernel took back while running. e.mu
// is held.
func (e *Endpoint) tellRefused(o *overlay) {
	told := &o.toldFeatures
	if o.trunk != nil {
		told = &o.trunk.toldFeatures
	}
	if f := o.device.Features(); f != *told {
		e.log.Warn("the kernel refused an offload of the device, frames go on without it", zap.String("device", o.device.Name()),
			zap.Stringer("was", *told), zap.Stringer("is", f))
		*told = f
	}
	if n := e.conn.Limits().Segments; n != e.toldSegments {
		e.log.Warn("the kernel refused trains of this length, datagrams go on in shorter ones", zap.Int("was", e.toldSegments), zap.Int("is", n))
		e.toldSegments = n
	}
}

// sweep removes expired entries until ctx is done: often enough that one
// outlives its time by a quarter at most, and at least every 10 s.
func (e *Endpoint) sweep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	release := time.NewTimer(longestSweep)
	defer release.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-e.hurry:
		case <-e.holds.wake:
			e.tellHolds()
			release.Reset(e.release())
			continue
		case <-release.C:
			release.Reset(e.release())
			continue
		}
		next := longestSweep
		e.accel.refresh(e.vnis.load)
		e.mu.Lock()
		for _, o := range e.overlays {
			o.table.Age(e.now())
			o.forgetDynamic()
			if n := o.policy.Load().neighbours; n != nil {
				n.table.Age(e.now())
			}
			e.tellRefused(o)
			if a := o.table.Ageing(); a > 0 {
				next = min(next, a/4)
			}
		}
		e.mu.Unlock()
		e.paths.age(e.now())
		timer.Reset(max(next, shortestSweep))
	}
}
