package tap

import (
	"errors"
	"net"
	"net/netip"
)

// Errors of Open, wrapped with the device's name and the cause.
var (
	// ErrNoTUN: /dev/net/tun is missing or does not work.
	ErrNoTUN = errors.New("this system has no TUN/TAP driver")
	// ErrPermission: creating a TAP wants CAP_NET_ADMIN.
	ErrPermission = errors.New("not permitted")
	// ErrExists: a device of that name is there already.
	ErrExists = errors.New("a device of that name exists")
	// ErrBusy: another process has the persistent device open.
	ErrBusy = errors.New("another process has it open")
	// ErrForeign: the device that is there is none to go on with.
	ErrForeign = errors.New("not a device to go on with")
	// ErrNoBridge: Config.Bridge does not exist or is no bridge.
	ErrNoBridge = errors.New("no such bridge")
)

// Config describes a TAP device to create. Only Name is needed.
type Config struct {
	// Name of the device, at most 15 bytes.
	Name string
	// Netns is the network namespace that the device lives in: a path, or a
	// name under /run/netns. Empty: the caller's. Optional.
	Netns string
	// MTU in bytes. 0 leaves the kernel's 1500.
	MTU int
	// MAC of the device. nil leaves the kernel's random one.
	MAC net.HardwareAddr
	// Addrs are put on the device. Optional.
	Addrs []netip.Prefix
	// Bridge makes the device a port of this bridge. Optional.
	Bridge string
	// Queues is how many readers there are: 0 = 1.
	Queues int
	// SuperframeBytes is the largest superframe that sockets shall build for
	// the device (its gso_max_size), 0 = 65536. Leave it at that for a device
	// that is a bridge port: what other ports send is not built for this one,
	// and the kernel takes what is larger apart before we see it.
	SuperframeBytes int
	// Adopt goes on with a device of that name that is there, if it is a TAP that
	// persists (Persistent) and that nobody has open: with its index, addresses,
	// routes and bridge. Otherwise Open returns ErrForeign or ErrBusy. Where
	// there is none one is made. Linux only. Optional.
	Adopt bool
	// Offload are the features wanted; those that the kernel refuses are left
	// out. 0 = none: a plain device, opened through songgao/water.
	Offload Features
}
