package vtep

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/datapath"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Bounds of the maps. What does not fit is carried by the endpoint itself.
const (
	acceleratedStations = 1 << 18
	acceleratedPeers    = 1 << 14 // in all VNIs together
	acceleratedVNIs     = 1 << 14
)

// accelerator keeps the maps of the programs in the kernel like the endpoint's
// tables: what is in them is carried by the programs, and all the rest comes to
// the endpoint. They are a cache: nothing is decided there.
type accelerator struct {
	log    *zap.Logger
	path   *datapath.Path
	ways   ways
	under  transport.Underlay
	origin int64 // CLOCK_MONOTONIC in ns at Clock 0

	// routing is held by what changes vteps, for as long as ways hears of it.
	routing sync.Mutex
	// mu is the last lock to be taken, also under those of tables and of ways.
	mu      sync.Mutex
	peers   map[uint32]*acceleratedPeer
	free    []uint32
	next    uint32
	vteps   map[netip.Addr]*acceleratedVTEP
	refused map[int]bool // devices of the underlay that the programs cannot be attached to
	told    bool         // that the maps are full
	closed  bool

	policies *datapath.Policies // nil: the kernel knows no IPsec
	captured bool               // somebody sees all
	secured  bool               // there are IPsec policies

	attach  chan struct{} // there is something in waiting
	waiting []*overlay    // whose TAP is to be attached to
	ended   sync.WaitGroup
}

// ways are a *transport.Acceleration.
type ways interface {
	Follow(netip.AddrPort)
	Forget(netip.AddrPort)
	Close()
}

// acceleratedVTEP is a VTEP that is a peer in some VNIs, and the way there.
type acceleratedVTEP struct {
	to    netip.AddrPort // as ways knows it
	hop   transport.NextHop
	peers map[uint32]bool // its numbers
}

// acceleratedPeer is a VTEP in a VNI that has a number.
type acceleratedPeer struct {
	o      *overlay
	vtep   *acceleratedVTEP
	path   *path
	counts *peerCounters
	was    datapath.Tally // what counts has of it
}

// indexed is a tap.Device that the kernel knows by a number.
type indexed interface {
	// Index is that of the interface, in the network namespace that Netns names.
	Index() int
	Netns() string
}

// newAccelerator loads the programs. The error says what is missing.
func newAccelerator(e *Endpoint) (*accelerator, error) {
	conn, ok := e.conn.(transport.Accelerable)
	if !ok {
		return nil, errors.New("the transport is none of UDP sockets")
	}
	a := &accelerator{
		log: e.log, peers: make(map[uint32]*acceleratedPeer), vteps: make(map[netip.Addr]*acceleratedVTEP),
		refused: make(map[int]bool), attach: make(chan struct{}, 1),
	}
	ways, err := conn.Accelerate(a.hop, func(index int) { e.linked(index) })
	if err != nil {
		return nil, err
	}
	a.ways, a.under = ways, ways.Underlay()
	a.path, err = datapath.Load(datapath.Config{
		Local: a.under.Local.Addr(), Port: a.under.Local.Port(), SourcePorts: a.under.SourcePorts, Netns: a.under.Netns,
		Stations: acceleratedStations, Peers: acceleratedPeers, VNIs: acceleratedVNIs, Log: a.log,
	})
	if err != nil {
		ways.Close()
		return nil, err
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.origin = ts.Nano() - int64(e.now())
	if a.policies, err = datapath.FollowPolicies(a.under.Netns); err != nil {
		return nil, errors.Join(fmt.Errorf("follow IPsec policies: %w", err), a.close())
	}
	a.ended.Go(func() { a.attachAll(e) })
	if a.policies != nil {
		a.secure()
		a.ended.Go(func() {
			for a.policies.Wait() {
				a.secure()
			}
		})
	}
	// Trains of datagrams are none that the programs could carry.
	conn.SetGRO(false)
	return a, nil
}

// close takes the programs away, once.
func (a *accelerator) close() error {
	if a == nil {
		return nil
	}
	a.ways.Close() // waits for hop
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	close(a.attach)
	a.policies.Close()
	a.ended.Wait()
	return a.path.Close()
}

// want has the programs take what leaves the TAP of a VNI, soon. That is for VNIs
// with stations that are known: with thousands of VNIs it takes its time.
func (a *accelerator) want(o *overlay) {
	if o.attaching.Swap(true) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.waiting = append(a.waiting, o)
	select {
	case a.attach <- struct{}{}:
	default:
	}
}

// attachAll does what want asks for until close.
func (a *accelerator) attachAll(e *Endpoint) {
	for range a.attach {
		for {
			a.mu.Lock()
			if len(a.waiting) == 0 || a.closed {
				a.mu.Unlock()
				break
			}
			o := a.waiting[0]
			a.waiting = a.waiting[1:]
			a.mu.Unlock()
			index := uint32(o.device.(indexed).Index())
			err := a.path.AttachDevice(index)
			e.mu.Lock()
			switch {
			case e.overlays[o.vni] != o || !o.accelerated:
				a.path.DetachDevice(index) // it went meanwhile
			case err != nil:
				e.leaveToEndpoint(o, err.Error())
			}
			e.mu.Unlock()
		}
	}
}

// suits says why a VNI is not for the programs; nil: it is.
func (a *accelerator) suits(cfg *VNIConfig) error {
	d, ok := cfg.Device.(indexed)
	switch {
	case cfg.Trunk:
		return errors.New("the device is a trunk")
	case !ok || d.Index() == 0:
		return errors.New("the device is none of this host")
	case d.Netns() != a.under.Netns:
		return errors.New("the device is in another network namespace than the sockets")
	}
	return nil
}

// add has the programs carry a VNI. Its peers have numbers already.
func (a *accelerator) add(o *overlay) error {
	for e := range o.table.All(0) {
		a.set(o, &e)
	}
	o.toldMTU = o.device.MTU()
	err := a.carry(o)
	if err == nil {
		o.byPrograms()
	}
	return err
}

// carry tells the programs of the VNI's options.
func (a *accelerator) carry(o *overlay) error {
	policy := o.policy.Load()
	p := &policy.outer
	return a.path.SetOverlay(datapath.Overlay{
		VNI: o.vni, Device: uint32(o.device.(indexed).Index()), MTU: o.toldMTU,
		Header: vxlanFlags | policy.header.extension,
		TTL:    p.fixed.ttl, TOS: p.tos, InheritTTL: p.ttl, InheritTOS: p.dscp,
		DF: p.fixed.df || a.under.DontFragment, InheritDF: p.df,
		NoReceive: policy.header.groups != nil, NoSend: policy.guard.locals != nil,
		PassSYN: policy.clampMSS, PassNeighbourDiscovery: policy.neighbours != nil,
		USO: o.device.Features()&tap.USO != 0,
	})
}

// capture has every frame come to the endpoint, which shows it to who captures, or
// no longer.
func (a *accelerator) capture(on bool) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.captured = on
	a.pause()
}

// secure leaves every frame to the endpoint while there are IPsec policies.
func (a *accelerator) secure() {
	any := a.policies.Any()
	a.mu.Lock()
	defer a.mu.Unlock()
	if any != a.secured {
		a.log.Info("IPsec policies on the underlay came or went: where there are some, frames are carried in user space", zap.Bool("policies", any))
	}
	a.secured = any
	a.pause()
}

// pause has the programs carry frames or not. a.mu is held.
func (a *accelerator) pause() {
	if !a.closed {
		_ = a.path.Pause(a.captured || a.secured)
	}
}

// heldBack says why the programs carry nothing for now, though they are there.
func (a *accelerator) heldBack() string {
	if a == nil {
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.secured {
		return "there are IPsec policies (ip xfrm policy), which packets of the programs would pass by"
	}
	return ""
}

// changed follows a change of a VNI's policy.
func (a *accelerator) changed(o *overlay) {
	if a != nil && o.accelerated {
		_ = a.carry(o)
	}
}

// vxlanFlags is the VXLAN header of VNI 0.
const vxlanFlags = 0x08 << 56

// remove ends that. Endpoint.mu is held.
func (a *accelerator) remove(o *overlay) {
	if a == nil {
		return
	}
	if d, ok := o.device.(indexed); ok {
		a.path.DelOverlay(o.vni, uint32(d.Index()))
	}
	o.accelerated = false
	o.table.Notify(nil)
	for e := range o.table.All(0) {
		a.path.DelStation(o.vni, e.MAC)
	}
	for _, p := range *o.senders.Load() {
		a.dismiss(o, p)
	}
}

// note follows a change of a table, whose lock is held.
func (a *accelerator) note(o *overlay, ev *fdb.Event) {
	if a == nil {
		return
	}
	switch ev.What {
	case fdb.EventLearned, fdb.EventMoved, fdb.EventAdded, fdb.EventChanged:
		a.set(o, &ev.Entry)
	case fdb.EventAged, fdb.EventDeleted:
		a.path.DelStation(o.vni, ev.Entry.MAC)
	}
}

// set tells the programs where a station is, or to leave it alone.
func (a *accelerator) set(o *overlay, e *fdb.Entry) {
	to := e.Remote.Addr
	if e.MAC[0]&1 != 0 || e.MAC == (fdb.MAC{}) {
		return // of a list
	}
	p := o.sender(to.Addr())
	if e.Nexthops != 0 || !to.Addr().Is4() || p == nil || p.number == 0 || e.MAC == fdb.MAC(o.mac) {
		a.path.DelStation(o.vni, e.MAC)
		return
	}
	s := datapath.Station{VTEP: to, VNI: o.vni, Peer: p.number}
	if e.Remote.VNI != 0 {
		s.VNI = vxlan.VNI(e.Remote.VNI)
	}
	if a.path.SetStation(o.vni, e.MAC, s) != nil {
		a.path.DelStation(o.vni, e.MAC) // nor where it was before
		a.full()
		return
	}
	a.want(o)
}

// again has a look at the entry of a MAC, whose VTEP may not have been admitted
// when it was set. (What a VNI begins with is for add.)
func (a *accelerator) again(o *overlay, mac vxlan.MAC) {
	if a != nil && o.accelerated {
		o.table.View(fdb.MAC(mac), func(e *fdb.Entry) { a.set(o, e) })
	}
}

// full says once that a map is full.
func (a *accelerator) full() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.told {
		a.told = true
		a.log.Warn("the maps of the accelerated data path are full, more stations are carried in user space",
			zap.Int("stations", acceleratedStations), zap.Int("peers", acceleratedPeers))
	}
}

// admit gives a peer a number.
func (a *accelerator) admit(o *overlay, p *peer) {
	if a == nil {
		return
	}
	addr := p.remote.Addr.Addr()
	if p.number != 0 || !addr.Is4() || addr.IsMulticast() || p.groups > 0 {
		return
	}
	a.routing.Lock()
	defer a.routing.Unlock()
	a.mu.Lock()
	switch {
	case a.closed:
	case len(a.free) > 0:
		p.number = a.free[len(a.free)-1]
		a.free = a.free[:len(a.free)-1]
	case a.next+1 < acceleratedPeers:
		a.next++
		p.number = a.next
	}
	if p.number == 0 {
		a.mu.Unlock()
		a.full()
		return
	}
	v, known := a.vteps[addr]
	if !known {
		v = &acceleratedVTEP{to: p.remote.Addr, peers: make(map[uint32]bool)}
		a.vteps[addr] = v
	}
	v.peers[p.number] = true
	was, _ := a.path.Tally(p.number)
	a.peers[p.number] = &acceleratedPeer{o: o, vtep: v, path: p.path, counts: p.peerCounters, was: was}
	a.tell(p.number)
	a.mu.Unlock()
	if !known {
		a.ways.Follow(v.to)
	}
}

// dismiss takes the number back.
func (a *accelerator) dismiss(o *overlay, p *peer) {
	if a == nil || p.number == 0 {
		return
	}
	a.routing.Lock()
	defer a.routing.Unlock()
	if v := a.release(p); v != nil {
		a.ways.Forget(v.to)
	}
}

// release does the work of dismiss, and returns the VTEP if it is no peer any more.
func (a *accelerator) release(p *peer) *acceleratedVTEP {
	a.mu.Lock()
	defer a.mu.Unlock()
	have := a.peers[p.number]
	if have == nil || have.counts != p.peerCounters {
		return nil
	}
	_ = a.path.DelPeer(p.number)
	a.pull(p.number)
	delete(a.peers, p.number)
	a.free = append(a.free, p.number)
	delete(have.vtep.peers, p.number)
	if len(have.vtep.peers) > 0 {
		return nil
	}
	delete(a.vteps, have.vtep.to.Addr())
	return have.vtep
}

// hop hears of the way to a VTEP.
func (a *accelerator) hop(h transport.NextHop) {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.vteps[h.To]
	if a.closed || v == nil {
		return
	}
	v.hop = h
	if h.Device != 0 && !a.refused[h.Device] {
		if err := a.path.Attach(uint32(h.Device)); err != nil {
			a.refused[h.Device] = true
			a.log.Warn("a device of the underlay takes no programs, its frames are carried in user space", zap.Error(err))
		}
	}
	a.tellAll(v)
}

// tellAll tells the programs of a VTEP in all VNIs. a.mu is held.
func (a *accelerator) tellAll(v *acceleratedVTEP) {
	for number := range v.peers {
		a.tell(number)
	}
}

// tell tells the programs of a peer. a.mu is held.
func (a *accelerator) tell(number uint32) {
	p := a.peers[number]
	h := &p.vtep.hop
	v := datapath.Peer{VNI: p.o.vni, VTEP: p.vtep.to.Addr(), Device: uint32(h.Device), Via: h.Via, MTU: h.MTU, TTL: h.TTL, Sample: p.path != nil}
	if p.path != nil {
		if m := int(p.path.mtu.Load()); m != 0 {
			v.MTU = min(v.MTU, m)
		}
	}
	_ = a.path.SetPeer(number, v)
}

// linked hears that a device came, changed or went: perhaps one of ours.
func (e *Endpoint) linked(index int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range e.overlays {
		if d, ok := o.device.(indexed); ok && d.Index() == index && o.trunk == nil {
			e.followDevice(o)
		}
	}
}

// followDevice tells the programs what became of a VNI's device. Endpoint.mu is
// held.
func (e *Endpoint) followDevice(o *overlay) {
	a := o.accel
	if a == nil || !o.accelerated {
		return
	}
	here, mtu := a.path.Find(uint32(o.device.(indexed).Index()), o.device.Name())
	switch {
	case !here:
		e.leaveToEndpoint(o, "the device has left the network namespace of the sockets")
	case mtu != o.toldMTU:
		o.toldMTU = mtu
		_ = a.carry(o)
	}
}

// rerouted hears that the MTU of a path is another.
func (a *accelerator) rerouted(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.vteps[addr]; v != nil && !a.closed {
		a.tellAll(v)
	}
}

// descriptors are those that keep the programs going when this process has ended.
func (a *accelerator) descriptors() []int {
	if a == nil {
		return nil
	}
	return a.path.Descriptors()
}

// leave leaves the programs to who has their descriptors.
func (a *accelerator) leave() {
	if a != nil {
		a.path.Leave()
	}
}

// order says on which devices of the underlay there are programs, and whose see
// packets first.
func (a *accelerator) order() (list []ProgramsStatus) {
	if a == nil {
		return nil
	}
	a.path.Order(func(device string, programs []string) {
		list = append(list, ProgramsStatus{Device: device, Programs: programs})
	})
	slices.SortFunc(list, func(x, y ProgramsStatus) int { return cmp.Compare(x.Device, y.Device) })
	return list
}

// count takes what the programs carried into the counters.
func (a *accelerator) count() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	for number := range a.peers {
		a.pull(number)
	}
}

// pull is count for one peer. a.mu is held.
func (a *accelerator) pull(number uint32) {
	p := a.peers[number]
	is, err := a.path.Tally(number)
	if err != nil || is == p.was {
		return
	}
	was := &p.was
	rxFrames, rxBytes := is.RxFrames-was.RxFrames, is.RxBytes-was.RxBytes
	txFrames, txBytes := is.TxFrames-was.TxFrames, is.TxBytes-was.TxBytes
	p.o.rx.frames.Add(rxFrames)
	p.o.rx.bytes.Add(rxBytes)
	p.o.tx.frames.Add(txFrames)
	p.o.tx.bytes.Add(txBytes)
	p.o.tx.dropError.Add(is.Lost - was.Lost)
	c := p.counts
	c.rxFrames.Add(rxFrames)
	c.rxBytes.Add(rxBytes)
	c.txFrames.Add(txFrames)
	c.txBytes.Add(txBytes)
	if rxFrames > 0 {
		heard := int64(is.RxLast) - a.origin + 1
		if c.lastHeard.Load() < heard {
			c.lastHeard.Store(heard)
		}
	}
	p.was = is
}

// refresh keeps alive in the tables what the programs saw.
func (a *accelerator) refresh(find func(vxlan.VNI) *overlay) {
	if a == nil {
		return
	}
	var o *overlay
	_ = a.path.Seen(func(v vxlan.VNI, mac [6]byte, vtep netip.AddrPort, at uint64) {
		if o == nil || o.vni != v {
			if o = find(v); o == nil {
				return
			}
		}
		o.table.Touch(mac, vtep, time.Duration(int64(at)-a.origin))
	})
}
