package daemon

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// downWatches hear when devices go down, by one netlink socket for all of a
// network namespace.
type downWatches struct {
	mu  sync.Mutex
	all map[namespaceID]*downWatch
}

// namespaceID tells network namespaces apart, whatever their names.
type namespaceID struct{ dev, ino uint64 }

// downWatch is one of a namespace.
type downWatch struct {
	id   namespaceID
	ns   *os.File
	done chan struct{}

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
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &st); err != nil {
		ns.Close()
		return nil, os.NewSyscallError("fstat", err)
	}
	id := namespaceID{uint64(st.Dev), st.Ino}
	if w := ws.all[id]; w != nil {
		ns.Close()
		return w, nil
	}
	w := &downWatch{id: id, ns: ns, done: make(chan struct{}), devices: make(map[*watchedDevice]bool)}
	updates, err := w.subscribe(false)
	if err != nil {
		ns.Close()
		return nil, err
	}
	if ws.all == nil {
		ws.all = make(map[namespaceID]*downWatch)
	}
	ws.all[id] = w
	go w.follow(updates)
	return w, nil
}

// drop ends a watch without devices. ws.mu is held.
func (ws *downWatches) drop(w *downWatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.devices) == 0 && ws.all[w.id] == w {
		delete(ws.all, w.id)
		close(w.done)
	}
}

// subscribe opens the socket in the calling thread's namespace.
func (w *downWatch) subscribe(existing bool) (<-chan netlink.LinkUpdate, error) {
	updates := make(chan netlink.LinkUpdate, 16)
	return updates, netlink.LinkSubscribeWithOptions(updates, w.done, netlink.LinkSubscribeOptions{
		ListExisting: existing, ReceiveBufferSize: 1 << 20, ErrorCallback: func(error) {}, // the channel is closed then
	})
}

// follow takes the kernel's word until the watch ends.
func (w *downWatch) follow(updates <-chan netlink.LinkUpdate) {
	defer w.ns.Close()
	for {
		for u := range updates {
			w.take(&u)
		}
		// The kernel had more to tell than its buffer holds: another socket
		// begins with how things are.
		select {
		case <-w.done:
			return
		case <-time.After(listenAgain):
		}
		var again <-chan netlink.LinkUpdate
		if namespace.Do(fmt.Sprintf("/proc/self/fd/%d", w.ns.Fd()), func() (err error) {
			again, err = w.subscribe(true)
			return err
		}) == nil {
			updates = again
		}
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
