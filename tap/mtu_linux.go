package tap

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/govxlan/govxlan/internal/linkwatch"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// SetMTU sets the device's MTU.
func (d *linuxDevice) SetMTU(mtu int) error {
	err := namespace.Do(d.netns, func() error {
		link, err := netlink.LinkByIndex(d.index)
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, mtu)
	})
	if err != nil {
		return fmt.Errorf("tap %s: set MTU %d: %w", d.name, mtu, err)
	}
	d.mtu.Store(int32(mtu))
	return nil
}

// linkWatch follows the MTUs of this process's devices in one network
// namespace, by one netlink socket for all of them.
type linkWatch struct {
	id  namespace.ID
	end func() // closes the socket

	mu   sync.Mutex
	mtus map[int]*watchedMTU // by interface index
}

// watchedMTU is that of one device.
type watchedMTU struct {
	now *atomic.Int32
	// wasUp: the kernel has told that the device is up. What it told before is
	// of the time when the device was made, and may still be on its way.
	wasUp bool
}

// watches are the namespaces with devices.
var watches struct {
	mu  sync.Mutex
	all map[namespace.ID]*linkWatch
}

// watchMTU keeps mtu at that of the device with this index, in the calling
// thread's namespace, until stop is called. What it is now is to be read after
// watchMTU has returned.
func watchMTU(index int, mtu *atomic.Int32) (stop func(), err error) {
	watches.mu.Lock()
	defer watches.mu.Unlock()
	id, err := namespace.Here()
	if err != nil {
		return nil, err
	}
	w := watches.all[id]
	if w == nil {
		w = &linkWatch{id: id, mtus: make(map[int]*watchedMTU)}
		if w.end, err = linkwatch.Here(w.take); err != nil {
			return nil, err
		}
		if watches.all == nil {
			watches.all = make(map[namespace.ID]*linkWatch)
		}
		watches.all[id] = w
	}
	w.mu.Lock()
	w.mtus[index] = &watchedMTU{now: mtu}
	w.mu.Unlock()
	return sync.OnceFunc(func() { w.forget(index, mtu) }), nil
}

// take notes one change.
func (w *linkWatch) take(u *netlink.LinkUpdate) {
	if u.Header.Type != unix.RTM_NEWLINK || u.Attrs().MTU <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.mtus[u.Attrs().Index]
	if m == nil {
		return
	}
	if m.wasUp = m.wasUp || u.IfInfomsg.Flags&unix.IFF_UP != 0; m.wasUp {
		m.now.Store(int32(u.Attrs().MTU))
	}
}

// forget ends the watch of one device, unless another has taken its place by
// inheriting it; the last one closes the socket.
func (w *linkWatch) forget(index int, mtu *atomic.Int32) {
	watches.mu.Lock()
	defer watches.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.mtus[index]; m == nil || m.now != mtu {
		return
	}
	delete(w.mtus, index)
	if len(w.mtus) == 0 {
		w.end()
		delete(watches.all, w.id)
	}
}
