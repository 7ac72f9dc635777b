package tap

import (
	"errors"
	"fmt"
	"os"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// existing says what is in the way of a device that shall be made.
func existing(link netlink.Link) error {
	if t, ok := link.(*netlink.Tuntap); ok && t.Mode == netlink.TUNTAP_MODE_TAP && !t.NonPersist && t.Queues == 0 {
		return fmt.Errorf("%w: a TAP that persists and that nobody has open", ErrExists)
	}
	return ErrExists
}

// adoptable says whether a device that is there can be gone on with, with so
// many queues, and whether it is one of several queues.
//
// Whether its frames have a virtio-net header does not matter: the kernel takes
// that from each process that opens it anew, when nobody else has it open.
func adoptable(link netlink.Link, queues int) (multi bool, err error) {
	t, ok := link.(*netlink.Tuntap)
	switch {
	case !ok || t.Mode != netlink.TUNTAP_MODE_TAP:
		return false, fmt.Errorf("%w: it is a %s device and no TAP", ErrForeign, kindOf(link))
	case t.Queues+t.DisabledQueues > 0 || t.Flags&netlink.TUNTAP_MULTI_QUEUE == 0 && link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0:
		// Another reader of several queues would be let in, and take a share of
		// the frames. (The count is kept for those alone.)
		return false, ErrBusy
	case t.NonPersist:
		return false, fmt.Errorf("%w: it does not persist", ErrForeign)
	}
	multi = t.Flags&netlink.TUNTAP_MULTI_QUEUE != 0
	if queues > 1 && !multi {
		return false, fmt.Errorf("%w: it was made for one queue, and %d are wanted", ErrForeign, queues)
	}
	return multi, nil
}

// kindOf names the kind of a device as `ip link add type` does.
func kindOf(link netlink.Link) string {
	if t, ok := link.(*netlink.Tuntap); ok && t.Mode == netlink.TUNTAP_MODE_TUN {
		return "tun"
	}
	return link.Type()
}

// Remove deletes a TAP device that persists and that no process has open, by
// its name in a namespace (as Config.Netns). Other devices are refused with
// ErrForeign or ErrBusy.
func Remove(name, netns string) error {
	err := namespace.Do(netns, func() error {
		link, err := netlink.LinkByName(name)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return errors.New("there is no such device")
		}
		if err != nil {
			return err
		}
		if _, err := adoptable(link, 1); err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	if err != nil {
		return fmt.Errorf("tap %s: remove: %w", name, err)
	}
	return nil
}

// Persist has the device outlive this process, or not any more.
func (d *linuxDevice) Persist(yes bool) error {
	value := 0
	if yes {
		value = 1
	}
	if err := d.queues[0].ioctl("TUNSETPERSIST", unix.TUNSETPERSIST, value); err != nil {
		return fmt.Errorf("tap %s: %w", d.name, err)
	}
	d.persist.Store(yes)
	return nil
}

func (q *queue) setOffload(flags int) error {
	return q.ioctl("TUNSETOFFLOAD", unix.TUNSETOFFLOAD, flags)
}

func (q *queue) ioctl(what string, request uint, value int) (failed error) {
	err := q.fd.Do(func(fd uintptr) { failed = unix.IoctlSetInt(int(fd), request, value) })
	if err != nil {
		return err
	}
	return os.NewSyscallError("ioctl "+what, failed)
}
