package tap

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/govxlan/govxlan/internal/descriptor"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/songgao/water"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxGSOBytes is the largest superframe that we ever let the stack build:
// MaxFrame has no room for those of BIG TCP.
const maxGSOBytes = 65536

// linuxDevice is a TAP of this host.
type linuxDevice struct {
	name     string
	netns    string
	index    int          // of the interface
	mtu      atomic.Int32 // kept fresh until unwatch
	unwatch  func()
	mac      net.HardwareAddr
	features features
	header   int // length of the virtio-net header: HeaderLen or 0
	queues   []*queue
	persist  atomic.Bool

	closeOnce sync.Once
	closeErr  error
}

// queue is one descriptor of the device.
type queue struct{ fd *descriptor.FD }

var _ Device = (*linuxDevice)(nil)

// Open creates a TAP device, configures it and sets it up. The device
// disappears with Close, or with the process, however that ends, unless
// it persists (Persistent). On failure nothing is left behind that was not there
// before. Errors are wrapped with the name of the device; see the package's Err
// variables.
func Open(cfg Config) (Device, error) {
	if !validName(cfg.Name) {
		return nil, fmt.Errorf("tap %q: a device name has 1 to %d bytes, none of them a space, '/', ':' or '%%', and is not '.' or '..'", cfg.Name, unix.IFNAMSIZ-1)
	}
	if cfg.Queues < 1 {
		cfg.Queues = 1
	}
	var d *linuxDevice
	err := namespace.Do(cfg.Netns, func() error {
		var err error
		d, err = open(cfg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("tap %s: %w", cfg.Name, err)
	}
	return d, nil
}

// validName says whether the kernel takes a device of that name (dev_valid_name
// in net/core/dev.c). With a % in it, it would choose a name of its own.
func validName(name string) bool {
	return name != "" && len(name) < unix.IFNAMSIZ && name != "." && name != ".." && !strings.ContainsAny(name, "/:% \t\n\v\f\r\x00")
}

// open does the work of Open inside the right namespace.
func open(cfg Config) (_ *linuxDevice, err error) {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	defer links.Close()
	// TUNSETIFF would attach to a device that is there already, and Close
	// would then take somebody else's away.
	multi, found := cfg.Queues > 1, false
	if link, err := links.LinkByName(cfg.Name); err == nil {
		if !cfg.Adopt {
			return nil, existing(link)
		}
		if multi, err = adoptable(link, cfg.Queues); err != nil {
			return nil, err
		}
		found = true
	}

	d := &linuxDevice{name: cfg.Name, netns: cfg.Netns, unwatch: func() {}}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if want := cfg.Offload & AllFeatures; want != 0 {
		d.features.store(want | VnetHeader)
		d.header = HeaderLen
	}
	for len(d.queues) < cfg.Queues {
		if d.header != 0 {
			err = d.openQueue(multi)
		} else {
			err = d.openPlainQueue(multi, found)
		}
		if err != nil {
			return nil, err
		}
		if found && len(d.queues) == 1 && d.features.load()&Checksum == 0 {
			// What was granted to the one before us still holds, and would
			// bring frames whose header nobody hears of.
			if err := d.queues[0].setOffload(0); err != nil {
				return nil, err
			}
		}
	}
	if err := d.configure(links, cfg, found); err != nil {
		return nil, err
	}
	d.persist.Store(found)
	return d, nil
}

// openQueue opens one descriptor with a virtio-net header in front of each
// frame. songgao/water cannot: it does not know IFF_VNET_HDR.
func (d *linuxDevice) openQueue(multi bool) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return openError(err)
	}
	req, err := unix.NewIfreq(d.name)
	if err != nil {
		unix.Close(fd)
		return err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if multi {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return attachError(err)
	}
	// The features are the device's, not the descriptor's, but only a
	// descriptor can set them, and the first one finds out which there are.
	if len(d.queues) == 0 {
		d.features.store(setOffload(fd, d.features.load()))
	}
	d.queues = append(d.queues, &queue{descriptor.New(fd, "/dev/net/tun")})
	return nil
}

// openPlainQueue opens one descriptor without any offload. water would have a
// device that persists do so no longer.
func (d *linuxDevice) openPlainQueue(multi, persist bool) error {
	ifc, err := water.New(water.Config{
		DeviceType:             water.TAP,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: d.name, MultiQueue: multi, Persist: persist},
	})
	if err != nil {
		var errno syscall.Errno
		var path *os.PathError
		if errors.As(err, &path) && errors.As(err, &errno) {
			return openError(errno)
		}
		if errors.As(err, &errno) {
			return attachError(errno)
		}
		return fmt.Errorf("open: %w", err)
	}
	file, ok := ifc.ReadWriteCloser.(*os.File)
	if !ok {
		ifc.Close()
		return fmt.Errorf("open: songgao/water returned a %T, not a file", ifc.ReadWriteCloser)
	}
	// water leaves the descriptor open across exec, and Go's poller knows it.
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return err
	}
	fd := -1
	var failed error
	err = raw.Control(func(was uintptr) { fd, failed = unix.FcntlInt(was, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", failed), file.Close()); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return err
	}
	d.queues = append(d.queues, &queue{descriptor.New(fd, "/dev/net/tun")})
	return nil
}

// openError explains why /dev/net/tun could not be opened.
func openError(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("open /dev/net/tun: %w (load it with 'modprobe tun', or give the container --device /dev/net/tun)", ErrNoTUN)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("open /dev/net/tun: %w (run as root, or with CAP_NET_ADMIN)", ErrPermission)
	}
	return fmt.Errorf("open /dev/net/tun: %w", err)
}

// attachError explains why TUNSETIFF failed.
func attachError(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOTTY):
		// songgao/water passes on bare what opening said; ENOTTY: what is
		// there is another device.
		return openError(unix.ENOENT)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("create: %w (run as root, or with CAP_NET_ADMIN)", ErrPermission)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("create: %w or its name is not allowed (%v)", ErrExists, err)
	}
	return fmt.Errorf("create: %w", err)
}

// setOffload tells the stack which work it may leave to us, asking for less
// until the kernel agrees, and returns what is in force.
func setOffload(fd int, want Features) Features {
	const tunUSO4, tunUSO6 = 0x20, 0x40
	// USO for IPv4 and IPv6 is only to be had together.
	for _, try := range []Features{AllFeatures, AllFeatures &^ USO, VnetHeader | Checksum | TSO4, VnetHeader | Checksum} {
		try &= want
		if try&Checksum == 0 {
			break
		}
		flags := unix.TUN_F_CSUM
		if try&TSO4 != 0 {
			flags |= unix.TUN_F_TSO4 | unix.TUN_F_TSO_ECN
		}
		if try&TSO6 != 0 {
			flags |= unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
		}
		if try&USO != 0 {
			flags |= tunUSO4 | tunUSO6
		}
		if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, flags) == nil {
			return try
		}
	}
	return VnetHeader
}

// configure gives the device what cfg asks for and sets it up. One that was there
// may have some of it already.
func (d *linuxDevice) configure(links *netlink.Handle, cfg Config, there bool) error {
	link, err := links.LinkByName(d.name)
	if err != nil {
		return fmt.Errorf("find: %w", err)
	}
	if cfg.MAC != nil {
		if err := links.LinkSetHardwareAddr(link, cfg.MAC); err != nil {
			return fmt.Errorf("set MAC %v: %w", cfg.MAC, err)
		}
	}
	if cfg.MTU != 0 {
		if err := links.LinkSetMTU(link, cfg.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w (an Ethernet device takes 68 to 65521)", cfg.MTU, err)
		}
	}
	if d.features.load()&(TSO4|TSO6|USO) != 0 {
		bytes := maxGSOBytes
		if cfg.SuperframeBytes > 0 {
			bytes = min(bytes, cfg.SuperframeBytes)
		}
		if err := links.LinkSetGSOMaxSize(link, bytes); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("set gso_max_size: %w", err)
		}
	}
	for _, a := range cfg.Addrs {
		if err := links.AddrAdd(link, ipAddr(a)); err != nil && !(there && errors.Is(err, unix.EEXIST)) {
			if a.Addr().Is6() && cfg.MTU != 0 && cfg.MTU < 1280 {
				return fmt.Errorf("add address %v: %w: IPv6 needs an MTU of 1280 at least, and this is %d", a, err, cfg.MTU)
			}
			return fmt.Errorf("add address %v: %w", a, err)
		}
	}
	if cfg.Bridge != "" {
		bridge, err := bridgeByName(links.LinkByName, cfg.Bridge)
		if err != nil {
			return err
		}
		if err := links.LinkSetMaster(link, bridge); err != nil {
			return fmt.Errorf("join bridge %s: %w", cfg.Bridge, err)
		}
	}
	if err := links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	d.index = link.Attrs().Index
	if d.unwatch, err = watchMTU(d.index, &d.mtu); err != nil {
		d.unwatch = func() {}
		return fmt.Errorf("watch for changes: %w", err)
	}
	link, err = links.LinkByName(d.name)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	d.mtu.Store(int32(link.Attrs().MTU))
	d.mac = link.Attrs().HardwareAddr
	return nil
}

// Index is the interface index of the device, in the network namespace Netns: a
// path or a name as in Config.
func (d *linuxDevice) Index() int    { return d.index }
func (d *linuxDevice) Netns() string { return d.netns }

func (d *linuxDevice) Name() string          { return d.name }
func (d *linuxDevice) MTU() int              { return int(d.mtu.Load()) }
func (d *linuxDevice) MAC() net.HardwareAddr { return d.mac }
func (d *linuxDevice) Features() Features    { return d.features.load() }

func (d *linuxDevice) Readers() []Reader {
	readers := make([]Reader, len(d.queues))
	for i, q := range d.queues {
		readers[i] = newReader(q, d.header)
	}
	return readers
}

func (d *linuxDevice) NewWriter(queue int) Writer {
	return newWriter(d.queues[queue%len(d.queues)], &d.features, d.header)
}

func (d *linuxDevice) Close() error {
	d.closeOnce.Do(func() {
		d.unwatch()
		for _, q := range d.queues {
			if err := q.fd.Close(); err != nil && d.closeErr == nil {
				d.closeErr = fmt.Errorf("tap %s: close: %w", d.name, err)
			}
		}
	})
	return d.closeErr
}
