package vtep

import (
	"errors"
	"fmt"
	"slices"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// ErrNoHandover: the endpoint has a Conn or a device that no other process can go
// on with (transport.Transferable, tap.Transferable), or does not run with
// workers.
var ErrNoHandover = errors.New("this endpoint cannot be handed over")

// Descriptors say which descriptors an endpoint has, in the order in which they
// come: those of the Conn, then those of each device. They are meant to be sent
// as JSON.
type Descriptors struct {
	Conn    transport.Handover  `json:"conn"`
	Devices []DeviceDescriptors `json:"devices"`
}

// DeviceDescriptors are those of one device.
type DeviceDescriptors struct {
	tap.Handover
	// Queues is how many descriptors it has.
	Queues int `json:"queues"`
	// VNIs are those that it belongs to: several on a trunk.
	VNIs []vxlan.VNI `json:"vnis"`
}

// Descriptors returns the descriptors of the Conn and of the devices. They stay
// the endpoint's, and are valid until it closes them.
//
// Errors: ErrNoHandover.
func (e *Endpoint) Descriptors() (Descriptors, []int, error) {
	defer e.changeGroups()()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.descriptors()
}

// descriptors does the work of Descriptors. e.mu and e.changing are held.
func (e *Endpoint) descriptors() (d Descriptors, fds []int, err error) {
	conn, ok := e.conn.(transport.Transferable)
	if !ok {
		return d, nil, fmt.Errorf("vtep: transport %T: %w", e.conn, ErrNoHandover)
	}
	d.Conn, fds = conn.HandOver()
	place := make(map[tap.Device]int)
	for _, o := range e.sorted() {
		if i, ok := place[o.device]; ok {
			d.Devices[i].VNIs = append(d.Devices[i].VNIs, o.vni)
			continue
		}
		dev, ok := o.device.(tap.Transferable)
		if !ok {
			return d, nil, fmt.Errorf("vtep: device %s: %w", o.device.Name(), ErrNoHandover)
		}
		h, queues := dev.HandOver()
		place[o.device] = len(d.Devices)
		d.Devices = append(d.Devices, DeviceDescriptors{Handover: h, Queues: len(queues), VNIs: []vxlan.VNI{o.vni}})
		fds = append(fds, queues...)
	}
	return d, fds, nil
}

// HandOver stops carrying frames and calls take with the descriptors and with
// all that the endpoint knows: for another process, in which an endpoint with
// the same descriptors (transport.InheritUDP, tap.Inherit) and with that state
// (Restore) goes on. What arrives meanwhile waits in the queues of the system,
// and what had been read before has been carried.
//
// When take returns nil, the endpoint closes its own descriptors, and Run returns
// nil. Otherwise it carries frames again, and HandOver returns take's error.
// Every method that changes the endpoint, and Status, wait until then: take must
// not call any, nor take long.
//
// Errors: ErrNoHandover, ErrClosed.
func (e *Endpoint) HandOver(take func(d Descriptors, fds []int, s State) error) error {
	changed := e.changeGroups()
	defer changed()
	e.mu.Lock()
	switch {
	case e.closed || !e.running || e.paused:
		e.mu.Unlock()
		return fmt.Errorf("vtep: hand over: %w, or does not run", ErrClosed)
	case len(e.workers) == 0:
		e.mu.Unlock()
		return fmt.Errorf("vtep: hand over: %w", ErrNoHandover)
	}
	if _, _, err := e.descriptors(); err != nil {
		e.mu.Unlock()
		return err
	}
	workers := e.workers
	e.paused = true // what is added now begins with the others
	e.mu.Unlock()

	// Without e.mu: they may need it for what they are at.
	for _, w := range workers {
		w.drain()
	}

	e.mu.Lock()
	e.paused = false
	if e.closed {
		e.mu.Unlock()
		return fmt.Errorf("vtep: hand over: %w", ErrClosed)
	}
	e.workers = nil
	d, fds, err := e.descriptors()
	// What programs in the kernel have carried, and heard. They go on for now.
	e.accel.count()
	e.accel.refresh(e.vnis.load)
	if err == nil {
		err = take(d, fds, e.state())
	}
	if err == nil {
		e.mu.Unlock()
		// The descriptors are open elsewhere: nothing vanishes.
		if err := e.Close(); err != nil {
			e.log.Warn("close what was handed over", zap.Error(err))
		}
		return nil
	}
	again := e.carryOn()
	e.mu.Unlock()
	if again != nil {
		e.fail(fmt.Errorf("vtep: carry frames again: %w", again))
	}
	return errors.Join(err, again)
}

// Programs are descriptors which keep the programs in the kernel going, where there
// are any, as long as somebody has them open: on what they know now, until another
// endpoint has programs of its own. They stay the endpoint's. It is for the take of
// HandOver, and has the endpoint leave the programs behind when it closes.
func (e *Endpoint) Programs() []int {
	fds := e.accel.descriptors()
	if len(fds) > 0 {
		e.accel.leave()
	}
	return fds
}

// carryOn starts workers again for all that those before served. e.mu is held.
func (e *Endpoint) carryOn() error {
	if err := e.startWorkers(e.receivers()); err != nil {
		return err
	}
	for _, o := range e.overlays {
		o.served = nil
		if o.trunk != nil {
			o.trunk.served, o.trunk.running = nil, false
		}
	}
	for _, o := range e.overlays {
		e.transmit(o)
	}
	for _, m := range e.groups {
		m.served = nil
		e.receive(m)
	}
	return nil
}

// carrying says whether frames are carried now. e.mu is held.
func (e *Endpoint) carrying() bool { return e.running && !e.paused && !e.closed }

// Ping waits until each worker has come round once: proof that none hangs. done
// ends the wait, with an error.
func (e *Endpoint) Ping(done <-chan struct{}) error {
	e.mu.Lock()
	workers := slices.Clone(e.workers)
	e.mu.Unlock()
	for i, w := range workers {
		came := make(chan struct{})
		if !w.post(func() { close(came) }) {
			return fmt.Errorf("vtep: worker %d has ended", i)
		}
		select {
		case <-came:
		case <-done:
			return fmt.Errorf("vtep: worker %d does not come round", i)
		}
	}
	return nil
}
