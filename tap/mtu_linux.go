package tap

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

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
	id   namespaceID
	ns   *os.File
	done chan struct{} // closes the socket

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

// namespaceID tells network namespaces apart, whatever their names.
type namespaceID struct{ dev, ino uint64 }

// watches are the namespaces with devices.
var watches struct {
	mu  sync.Mutex
	all map[namespaceID]*linkWatch
}

// watchMTU keeps mtu at that of the device with this index, in the calling
// thread's namespace, until stop is called. What it is now is to be read after
// watchMTU has returned.
func watchMTU(index int, mtu *atomic.Int32) (stop func(), err error) {
	watches.mu.Lock()
	defer watches.mu.Unlock()
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
	w := watches.all[id]
	if w != nil {
		ns.Close()
	} else {
		w = &linkWatch{id: id, ns: ns, done: make(chan struct{}), mtus: make(map[int]*watchedMTU)}
		updates, err := w.subscribe(false)
		if err != nil {
			ns.Close()
			return nil, fmt.Errorf("netlink: %w", err)
		}
		if watches.all == nil {
			watches.all = make(map[namespaceID]*linkWatch)
		}
		watches.all[id] = w
		go w.follow(updates)
	}
	w.mu.Lock()
	w.mtus[index] = &watchedMTU{now: mtu}
	w.mu.Unlock()
	return sync.OnceFunc(func() { w.forget(index, mtu) }), nil
}

// subscribe opens the socket, in the calling thread's namespace.
func (w *linkWatch) subscribe(existing bool) (<-chan netlink.LinkUpdate, error) {
	updates := make(chan netlink.LinkUpdate, 16)
	return updates, netlink.LinkSubscribeWithOptions(updates, w.done, netlink.LinkSubscribeOptions{
		ListExisting:      existing,
		ReceiveBufferSize: 1 << 20,        // thousands of devices may change at once
		ErrorCallback:     func(error) {}, // then the channel is closed, or the message is none of ours
	})
}

// follow takes the kernel's word of changes until the watch ends.
func (w *linkWatch) follow(updates <-chan netlink.LinkUpdate) {
	defer w.ns.Close()
	for {
		for u := range updates {
			w.take(&u)
		}
		// The socket ends by itself when messages were lost: another one begins
		// with how things are.
		select {
		case <-w.done:
			return
		case <-time.After(resubscribe):
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

// resubscribe is how long a watch waits before it tries again.
const resubscribe = 100 * time.Millisecond

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
		close(w.done)
		delete(watches.all, w.id)
	}
}
