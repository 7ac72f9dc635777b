// Package tapswitch makes one tap.Device of several: a VNI then has many TAPs on
// this host, such as one in each container, with no bridge between.
//
// Its ports come and go while frames flow. A frame from one port to the MAC of
// another goes there at once, superframes and unfinished checksums as they are,
// and the VNI's transmitter never sees it. Broadcast and multicast go to every
// other port and to the VNI, the rest to the VNI. What the VNI receives goes to
// the port of its MAC, or to all of them.
//
// The MAC of a port is what it was added with, and those that it is heard to send
// from, 1024 in a switch at most. A frame to a MAC that no port has been heard of
// is not flooded among ports.
package tapswitch

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/govxlan/govxlan/internal/descriptor"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// mostHeard bounds the MACs that ports are heard to send from.
const mostHeard = 1024

// Config describes a Switch.
type Config struct {
	// Name is for messages: there is no link of that name.
	Name string
	// MAC is what frames from the wire must not claim to be from. Optional.
	MAC vxlan.MAC
	// MTU of the ports, in bytes.
	MTU int
}

// Switch is a tap.Device made of the devices of its ports.
type Switch struct {
	cfg   Config
	mtu   atomic.Int32
	epoll *descriptor.FD // readable when a port is

	ports atomic.Pointer[ports]

	mu     sync.Mutex // held while ports come and go
	closed bool
}

// ports are replaced as a whole.
type ports struct {
	all  map[int32]*Port // by descriptor
	macs map[vxlan.MAC]*Port
}

// Port is one device of a Switch.
type Port struct {
	device tap.Device
	mac    vxlan.MAC
	reader tap.Pollable
	fd     int32
	lost   atomic.Bool

	// For whoever reads the switch.
	batch tap.Batch
	out   tap.Writer
}

var (
	_ tap.Device   = (*Switch)(nil)
	_ tap.Pollable = (*reader)(nil)
)

// New makes a switch without ports.
func New(cfg Config) (*Switch, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // for Go's poller
	}
	if err != nil {
		return nil, fmt.Errorf("switch %s: epoll: %w", cfg.Name, err)
	}
	s := &Switch{cfg: cfg, epoll: descriptor.New(fd, "epoll")}
	s.mtu.Store(int32(cfg.MTU))
	s.ports.Store(&ports{})
	return s, nil
}

func (s *Switch) watch(op int, fd int32) (err error) {
	return errors.Join(s.epoll.Do(func(epoll uintptr) {
		err = unix.EpollCtl(int(epoll), op, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN, Fd: fd})
	}), err)
}

// AddPort makes a device with one queue a port, whose station has the MAC. The
// switch owns the device from then on; on failure the caller still has it.
func (s *Switch) AddPort(device tap.Device, mac vxlan.MAC) (*Port, error) {
	readers := device.Readers()
	p := &Port{device: device, mac: mac, out: device.NewWriter(0)}
	var ok bool
	if p.reader, ok = readers[0].(tap.Pollable); !ok || len(readers) != 1 {
		return nil, fmt.Errorf("switch %s: device %s has no queue that can be polled, or several", s.cfg.Name, device.Name())
	}
	p.fd = int32(p.reader.Descriptor())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("switch %s: %w", s.cfg.Name, net.ErrClosed)
	}
	if err := s.watch(unix.EPOLL_CTL_ADD, p.fd); err != nil {
		return nil, fmt.Errorf("switch %s: device %s: epoll: %w", s.cfg.Name, device.Name(), err)
	}
	s.change(func(t *ports) {
		t.all[p.fd] = p
		t.macs[mac] = p
	})
	return p, nil
}

// change replaces the ports by a changed copy. s.mu is held.
func (s *Switch) change(f func(*ports)) {
	was := s.ports.Load()
	t := &ports{all: maps.Clone(was.all), macs: maps.Clone(was.macs)}
	if t.all == nil {
		t.all, t.macs = make(map[int32]*Port), make(map[vxlan.MAC]*Port)
	}
	f(t)
	s.ports.Store(t)
}

// RemovePort takes a port out and closes its device.
func (s *Switch) RemovePort(p *Port) error {
	s.mu.Lock()
	s.drop(p)
	s.mu.Unlock()
	return p.device.Close()
}

// drop takes a port out. s.mu is held.
func (s *Switch) drop(p *Port) {
	if s.ports.Load().all[p.fd] != p {
		return
	}
	_ = s.watch(unix.EPOLL_CTL_DEL, p.fd)
	p.lost.Store(true)
	s.change(func(t *ports) {
		delete(t.all, p.fd)
		maps.DeleteFunc(t.macs, func(_ vxlan.MAC, other *Port) bool { return other == p })
	})
}

// Lost says that the port is none any more: it was removed, or somebody deleted
// its device.
func (p *Port) Lost() bool { return p.lost.Load() }

// Device is that of the port.
func (p *Port) Device() tap.Device { return p.device }

// hear notes that a MAC is behind a port.
func (s *Switch) hear(mac vxlan.MAC, p *Port) {
	if mac.IsMulticast() || mac.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.ports.Load()
	if was := t.macs[mac]; was != nil && was.mac == mac || t.all[p.fd] != p || len(t.macs) >= len(t.all)+mostHeard {
		return // that of a port cannot be taken over
	}
	s.change(func(t *ports) { t.macs[mac] = p })
}

// forget notes that a MAC was heard on the wire.
func (s *Switch) forget(mac vxlan.MAC) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.ports.Load().macs[mac]; p != nil && p.mac != mac {
		s.change(func(t *ports) { delete(t.macs, mac) })
	}
}

// Name is that of Config.
func (s *Switch) Name() string { return s.cfg.Name }

// MTU is that of ports to come.
func (s *Switch) MTU() int { return int(s.mtu.Load()) }

// SetMTU sets the MTU of ports to come. Those that are there may be in other
// network namespaces, whose owners have set addresses by it.
func (s *Switch) SetMTU(mtu int) error {
	s.mtu.Store(int32(mtu))
	return nil
}

// MAC is that of Config.
func (s *Switch) MAC() net.HardwareAddr { return slices.Clone(s.cfg.MAC[:]) }

// Features are those that all ports have.
func (s *Switch) Features() tap.Features {
	f := tap.AllFeatures
	for _, p := range s.ports.Load().all {
		f &= p.device.Features()
	}
	return f
}

// Readers is one for all ports.
func (s *Switch) Readers() []tap.Reader { return []tap.Reader{newReader(s)} }

// NewWriter returns a writer to the ports.
func (s *Switch) NewWriter(queue int) tap.Writer {
	return &writer{s: s, queue: queue, to: make(map[*Port]tap.Writer)}
}

// Close closes the devices of the ports.
func (s *Switch) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	for _, p := range s.ports.Load().all {
		s.drop(p)
		errs = append(errs, p.device.Close())
	}
	return errors.Join(append(errs, s.epoll.Close())...)
}
