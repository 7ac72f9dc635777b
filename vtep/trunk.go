package vtep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// ErrVLANExists: another VNI of the trunk has this VLAN id.
var ErrVLANExists = errors.New("VLAN exists already on this device")

// mostVID is the highest VLAN id; 4095 is reserved (IEEE 802.1Q).
const mostVID = 4094

// trunk is a device that several VNIs share, told apart by VLAN tags (RFC 7348
// section 6).
type trunk struct {
	device tap.Device
	// byVID are the VNIs; [0] is that of frames without a tag. Changed under
	// Endpoint.mu.
	byVID [mostVID + 1]atomic.Pointer[overlay]

	// members, running and toldFeatures are guarded by Endpoint.mu.
	members      int
	running      bool
	toldFeatures tap.Features

	served       []*transmitter // by workers; under Endpoint.mu
	transmitters sync.WaitGroup // the others
}

// join makes an overlay one of the VNIs of its device, if that is a trunk. e.mu
// is held.
func (e *Endpoint) join(o *overlay, cfg *VNIConfig) error {
	t := e.trunks[cfg.Device]
	switch {
	case !cfg.Trunk && cfg.VID != 0:
		return errors.New("VNIConfig.VID is for a trunk: VNIConfig.Trunk is missing")
	case !cfg.Trunk && t != nil:
		return fmt.Errorf("device %s is a trunk: VNIConfig.Trunk is missing", cfg.Device.Name())
	case !cfg.Trunk:
		return nil
	case cfg.VID > mostVID:
		return fmt.Errorf("VLAN id %d: give 1 to %d, or 0 for frames without a tag", cfg.VID, mostVID)
	}
	if t == nil {
		for _, other := range e.overlays {
			if other.device == cfg.Device {
				return fmt.Errorf("device %s belongs to VNI %v alone", cfg.Device.Name(), other.vni)
			}
		}
		t = &trunk{device: cfg.Device, toldFeatures: cfg.Device.Features()}
		e.trunks[cfg.Device] = t
	}
	if other := t.byVID[cfg.VID].Load(); other != nil {
		return fmt.Errorf("VLAN %d on device %s is VNI %v: %w", cfg.VID, cfg.Device.Name(), other.vni, ErrVLANExists)
	}
	o.trunk, o.vid = t, cfg.VID
	t.members++
	t.byVID[cfg.VID].Store(o)
	return nil
}

// leave takes an overlay off its trunk. Endpoint.mu is held.
func (e *Endpoint) leave(o *overlay) {
	t := o.trunk
	t.byVID[o.vid].Store(nil)
	if t.members--; t.members == 0 {
		delete(e.trunks, t.device)
	}
}

// sharing returns the overlays that lose their device with o, of those that are
// still here. e.mu is held.
func (e *Endpoint) sharing(o *overlay) []*overlay {
	if o.trunk == nil {
		if e.overlays[o.vni] != o {
			return nil
		}
		return []*overlay{o}
	}
	return slices.DeleteFunc(e.sorted(), func(other *overlay) bool { return other.trunk != o.trunk })
}

// dispatch makes trains of a batch of a trunk, VNI by VNI. The order within each
// stays.
func (w *workshop) dispatch(t *transmitter, frames []tap.Frame) {
	t.owners = t.owners[:0]
	for i := range frames {
		o := t.trunk.take(&frames[i])
		if o == nil {
			t.e.counters.dropUnknownVLAN.Add(w.standsFor(&frames[i]))
			w.seeStray(t, &frames[i])
		}
		t.owners = append(t.owners, o)
	}
	for first, o := range t.owners {
		if o == nil {
			continue
		}
		t.mine = t.mine[:0]
		for i := first; i < len(t.owners); i++ {
			if t.owners[i] == o {
				t.mine = append(t.mine, frames[i])
				t.owners[i] = nil
			}
		}
		t.o = o
		w.packOwn(t, t.mine)
	}
}

// take returns the VNI that a frame of the device belongs to, and takes off the
// tag that says so; nil when there is none.
func (t *trunk) take(f *tap.Frame) *overlay {
	if len(f.Bytes) < vxlan.EthernetLen+vxlan.VLANTagLen || binary.BigEndian.Uint16(f.Bytes[12:]) != etherTypeVLAN {
		return t.byVID[0].Load()
	}
	vid := binary.BigEndian.Uint16(f.Bytes[14:]) & vidMask
	if vid > mostVID {
		return nil
	}
	// VLAN id 0 is a tag of nothing but priority, and stands for none.
	o := t.byVID[vid].Load()
	if o != nil {
		f.Untag()
	}
	return o
}

// wait waits for the transmitters of an overlay's device.
func (o *overlay) wait() {
	if o.trunk != nil {
		o.trunk.transmitters.Wait()
		return
	}
	o.transmitters.Wait()
}

// lose gives the VNIs up whose device does not answer any more.
func (e *Endpoint) lose(o *overlay, cause error) {
	changed := e.changeGroups()
	e.mu.Lock()
	lost := e.sharing(o)
	last := len(lost) == len(e.overlays)
	if !last {
		// In one step with the count: of several that vanish together, one
		// finds itself the last.
		for _, o := range lost {
			e.remove(o)
		}
	}
	e.mu.Unlock()
	changed()
	if len(lost) == 0 {
		return // deleted meanwhile
	}
	for _, o := range lost {
		e.log.Error("device is gone, its VNI ends", zap.Stringer("vni", o.vni), zap.String("device", o.device.Name()), zap.Error(cause))
	}
	if last {
		e.fail(fmt.Errorf("vtep: device %s of VNI %v is gone: %w", o.device.Name(), lost[0].vni, cause))
		return
	}
	if err := e.end(lost[0]); err != nil {
		e.log.Warn("close device", zap.String("device", o.device.Name()), zap.Error(err))
	}
}
