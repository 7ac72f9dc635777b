//go:build !linux

package tap

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/songgao/water"
)

// Open creates a TAP device through songgao/water, where that knows the
// system. Only Name and MTU of cfg have a meaning here: addresses, bridges and
// namespaces are Linux's.
func Open(cfg Config) (Device, error) {
	if cfg.Netns != "" || cfg.Bridge != "" || len(cfg.Addrs) > 0 || cfg.MAC != nil {
		return nil, fmt.Errorf("tap %s: namespace, bridge, addresses and MAC can be set on Linux only: configure the device by hand", cfg.Name)
	}
	if cfg.Adopt {
		return nil, fmt.Errorf("tap %s: a device that outlives its process is for Linux only: %w", cfg.Name, errors.ErrUnsupported)
	}
	ifc, err := water.New(water.Config{DeviceType: water.TAP})
	if err != nil {
		return nil, fmt.Errorf("tap: %w", err)
	}
	mac := net.HardwareAddr{}
	mtu := 1500
	if link, err := net.InterfaceByName(ifc.Name()); err == nil {
		mac, mtu = link.HardwareAddr, link.MTU
	}
	if cfg.MTU != 0 {
		mtu = cfg.MTU
	}
	return &waterDevice{ifc: ifc, mac: mac, mtu: mtu}, nil
}

// Inherit is for Linux only.
func Inherit(cfg Config, _ Handover, _ []int) (Device, error) {
	return nil, fmt.Errorf("tap %s: go on with the device of another process: %w", cfg.Name, errors.ErrUnsupported)
}

// Remove is for Linux only.
func Remove(name, _ string) error {
	return fmt.Errorf("tap %s: remove a device that persists: %w", name, errors.ErrUnsupported)
}

// waterDevice is a TAP read and written one frame a call.
type waterDevice struct {
	ifc *water.Interface
	mac net.HardwareAddr
	mtu int

	once sync.Once
	err  error
}

func (d *waterDevice) Name() string { return d.ifc.Name() }
func (d *waterDevice) MTU() int     { return d.mtu }

// SetMTU is not to be had here.
func (d *waterDevice) SetMTU(mtu int) error {
	return fmt.Errorf("tap %s: set MTU %d: only on Linux, set it by hand and start again", d.Name(), mtu)
}

func (d *waterDevice) MAC() net.HardwareAddr { return d.mac }
func (d *waterDevice) Features() Features    { return 0 }
func (d *waterDevice) Readers() []Reader     { return []Reader{waterReader{d}} }
func (d *waterDevice) NewWriter(int) Writer  { return waterWriter{d} }

func (d *waterDevice) Close() error {
	d.once.Do(func() { d.err = d.ifc.Close() })
	return d.err
}

type waterReader struct{ d *waterDevice }

func (r waterReader) Read(b *Batch) error {
	b.reset()
	b.acquire()
	for len(b.Frames) == 0 {
		n, err := r.d.ifc.Read(b.room(0))
		if err != nil {
			return err
		}
		if n >= 14 {
			b.add(0, n)
		}
	}
	return nil
}

type waterWriter struct{ d *waterDevice }

func (w waterWriter) Write(frames []Vector) (int, error) {
	p := plains.Get().(*plain)
	defer plains.Put(p)
	for i := range frames {
		err := p.each(&frames[i], func(f []byte) error {
			_, err := w.d.ifc.Write(f)
			return err
		})
		if err != nil {
			return i, err
		}
	}
	return len(frames), nil
}
