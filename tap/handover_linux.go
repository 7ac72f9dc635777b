package tap

import (
	"fmt"
	"os"
	"slices"

	"github.com/govxlan/govxlan/internal/descriptor"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var (
	_ Transferable = (*linuxDevice)(nil)
	_ Persistent   = (*linuxDevice)(nil)
)

func (d *linuxDevice) HandOver() (Handover, []int) {
	fds := make([]int, len(d.queues))
	for i, q := range d.queues {
		fds[i] = q.fd.Number()
	}
	return Handover{Name: d.name, Index: d.index, Header: d.header, Features: d.features.load(), Persist: d.persist.Load()}, fds
}

// Inherit goes on with a device that another process opened, by copies of its
// descriptors, which it takes over in any case: on failure they are closed, and
// the device stays as it was. The other process may serve it until then. What
// cfg asks for is set where it differs, but for MAC and MTU, whose zero values
// leave what is there.
//
// Errors: ErrForeign when cfg asks for another device, or other queues or
// headers than it has.
func Inherit(cfg Config, h Handover, fds []int) (_ Device, err error) {
	d := &linuxDevice{name: cfg.Name, netns: cfg.Netns, header: h.Header, unwatch: func() {}}
	for _, fd := range fds {
		d.queues = append(d.queues, &queue{descriptor.New(fd, "/dev/net/tun")})
	}
	defer func() {
		if err != nil {
			d.Close()
			err = fmt.Errorf("tap %s: %w", cfg.Name, err)
		}
	}()
	if err := d.checkInherited(cfg, h); err != nil {
		return nil, err
	}
	d.features.store(h.Features)
	err = namespace.Do(cfg.Netns, func() error {
		links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer links.Close()
		link, err := links.LinkByName(cfg.Name)
		if err != nil {
			return fmt.Errorf("find: %w", err)
		}
		if link.Attrs().Index != h.Index {
			return fmt.Errorf("%w: it is another one, in another network namespace", ErrForeign)
		}
		if slices.Equal(cfg.MAC, link.Attrs().HardwareAddr) {
			cfg.MAC = nil
		}
		if link.Attrs().MTU == cfg.MTU {
			cfg.MTU = 0
		}
		return d.configure(links, cfg, true)
	})
	if err != nil {
		return nil, err
	}
	d.persist.Store(h.Persist)
	return d, nil
}

// checkInherited compares what the kernel says of the descriptors, what the
// other process says, and what is wanted.
func (d *linuxDevice) checkInherited(cfg Config, h Handover) error {
	if len(d.queues) != max(cfg.Queues, 1) {
		return fmt.Errorf("%w: it has %d queues, and %d are wanted", ErrForeign, len(d.queues), max(cfg.Queues, 1))
	}
	wanted := 0
	if cfg.Offload&AllFeatures != 0 {
		wanted = HeaderLen
	}
	if h.Header != wanted {
		return fmt.Errorf("%w: it was opened with another offload", ErrForeign)
	}
	for _, q := range d.queues {
		name, flags, err := q.attached()
		switch {
		case err != nil:
			return err
		case name != cfg.Name:
			return fmt.Errorf("%w: it is called %s now", ErrForeign, name)
		case flags&unix.IFF_TAP == 0 || flags&unix.IFF_NO_PI == 0 || (flags&unix.IFF_VNET_HDR != 0) != (h.Header != 0):
			return fmt.Errorf("%w: its flags are %#x", ErrForeign, flags)
		}
	}
	return nil
}

// attached asks which device the descriptor belongs to.
func (q *queue) attached() (name string, flags uint16, failed error) {
	err := q.fd.Do(func(fd uintptr) {
		// Whatever name: it is written over.
		req, err := unix.NewIfreq("")
		if err == nil {
			err = unix.IoctlIfreq(int(fd), unix.TUNGETIFF, req)
		}
		if failed = os.NewSyscallError("ioctl TUNGETIFF", err); failed == nil {
			name, flags = req.Name(), req.Uint16()
		}
	})
	if err != nil {
		return "", 0, err
	}
	return name, flags, failed
}
