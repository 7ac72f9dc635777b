package daemon

import (
	"fmt"
	"sync"

	"github.com/govxlan/govxlan/internal/linkwatch"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// downWatches hear when devices go down, by one netlink socket for all of a
// network namespace.
type downWatches struct {
	mu  sync.Mutex
	all map[namespace.ID]*downWatch
}

// downWatch is one of a namespace.
type downWatch struct {
	id  namespace.ID
	end func() // closes the socket

	mu      sync.Mutex
	devices map[*watchedDevice]bool
}

// watchedDevice is known by its name until the kernel tells of it.
type watchedDevice struct {
	name  string
	index int // 0: not told of yet
	up    bool
	down  func()
}

// add has down called each time that the device goes down, until stop is called.
// It is to be called before there is a device of that name: what is told of its
// beginnings comes in order, and is not taken for its end.
func (ws *downWatches) add(netns, device string, down func()) (stop func(), err error) {
	err = namespace.Do(netns, func() error {
		stop, err = ws.addHere(device, down)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch the device: %w", err)
	}
	return stop, nil
}

// addHere is add in the namespace of the calling thread.
func (ws *downWatches) addHere(device string, down func()) (stop func(), err error) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w, err := ws.here()
	if err != nil {
		return nil, err
	}
	d := &watchedDevice{name: device, down: down}
	w.mu.Lock()
	w.devices[d] = true
	w.mu.Unlock()
	return func() {
		ws.mu.Lock()
		defer ws.mu.Unlock()
		w.mu.Lock()
		delete(w.devices, d)
		w.mu.Unlock()
		ws.drop(w)
	}, nil
}

// here is the watch of this thread's namespace. ws.mu is held.
func (ws *downWatches) here() (*downWatch, error) {
	id, err := namespace.Here()
	if err != nil {
		return nil, err
	}
	if w := ws.all[id]; w != nil {
		return w, nil
	}
	w := &downWatch{id: id, devices: make(map[*watchedDevice]bool)}
	if w.end, err = linkwatch.Here(w.take); err != nil {
		return nil, err
	}
	if ws.all == nil {
		ws.all = make(map[namespace.ID]*downWatch)
	}
	ws.all[id] = w
	return w, nil
}

// drop ends a watch without devices. ws.mu is held.
func (ws *downWatches) drop(w *downWatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.devices) == 0 && ws.all[w.id] == w {
		delete(ws.all, w.id)
		w.end()
	}
}

// take notes one change.
func (w *downWatch) take(u *netlink.LinkUpdate) {
	w.mu.Lock()
	d := w.find(u)
	fell := false
	switch {
	case d == nil:
	case u.Header.Type == unix.RTM_DELLINK:
		d.index, d.up = 0, false // one of this name may come
	default:
		was := d.up
		d.index, d.up = int(u.Index), u.IfInfomsg.Flags&unix.IFF_UP != 0
		fell = was && !d.up
	}
	w.mu.Unlock()
	if fell {
		d.down()
	}
}

// find returns the device that a change is about.
func (w *downWatch) find(u *netlink.LinkUpdate) *watchedDevice {
	for d := range w.devices {
		if d.index == int(u.Index) || d.index == 0 && d.name == u.Attrs().Name {
			return d
		}
	}
	return nil
}
