// Package linkwatch hears from the kernel of changes of network devices, also
// when more of them change at once than a socket can tell of.
package linkwatch

import (
	"fmt"
	"os"
	"time"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
)

// again is how long a watch waits before it opens another socket.
const again = 100 * time.Millisecond

// Here has take called with each change of a device of the calling thread's network
// namespace, one after the other, until end is called. When messages were lost it
// is called with how all devices are.
func Here(take func(*netlink.LinkUpdate)) (end func(), err error) {
	w := &watch{take: take, done: make(chan struct{})}
	if w.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return nil, err
	}
	updates, err := w.subscribe(false)
	if err != nil {
		w.ns.Close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	go w.follow(updates)
	return func() { close(w.done) }, nil
}

type watch struct {
	take func(*netlink.LinkUpdate)
	ns   *os.File
	done chan struct{} // closes the socket
}

// subscribe opens the socket, in the calling thread's namespace.
func (w *watch) subscribe(existing bool) (<-chan netlink.LinkUpdate, error) {
	updates := make(chan netlink.LinkUpdate, 16)
	return updates, netlink.LinkSubscribeWithOptions(updates, w.done, netlink.LinkSubscribeOptions{
		ListExisting:      existing,
		ReceiveBufferSize: 1 << 20,        // thousands of devices may change at once
		ErrorCallback:     func(error) {}, // then the channel is closed, or the message is none of ours
	})
}

// follow takes the kernel's word of changes until the watch ends.
func (w *watch) follow(updates <-chan netlink.LinkUpdate) {
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
		case <-time.After(again):
		}
		var next <-chan netlink.LinkUpdate
		if namespace.Do(fmt.Sprintf("/proc/self/fd/%d", w.ns.Fd()), func() (err error) {
			next, err = w.subscribe(true)
			return err
		}) == nil {
			updates = next
		}
	}
}
