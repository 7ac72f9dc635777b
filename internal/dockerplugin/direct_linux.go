package dockerplugin

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/internal/tapswitch"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
)

// ports are the TAPs of a network of the layout direct: one for each endpoint that
// has joined.
type ports struct {
	*tapswitch.Switch
	of map[string]*tapswitch.Port // by endpoint
}

// open makes the switch, as the device of the network's VNI.
func (n *network) open(device tap.Config) (tap.Device, error) {
	s, err := tapswitch.New(tapswitch.Config{Name: device.Name, MAC: vxlan.MAC(device.MAC), MTU: device.MTU})
	if err != nil {
		return nil, err
	}
	n.ports = &ports{s, make(map[string]*tapswitch.Port)}
	return s, nil
}

// link makes the TAP of an endpoint, in this namespace. One that is there stays.
func (ps *ports) link(e *endpoint) error {
	_, err := netlink.LinkByName(e.link())
	if p := ps.of[e.ID]; p != nil {
		if err == nil && !p.Lost() {
			return nil
		}
		// It went with a container, or is in one still.
		if err := ps.unlink(e); err != nil {
			return err
		}
	}
	mtu := ps.MTU()
	if err := ps.add(e, tap.Config{
		Name: e.link(), MTU: mtu, MAC: net.HardwareAddr(e.MAC[:]), SuperframeBytes: vtep.SuperframeBytes(mtu),
		Offload: tap.AllFeatures, Adopt: true,
	}); err != nil {
		return err
	}
	// The host's own stack is to say nothing on it.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+e.link()+"/disable_ipv6", []byte("1"), 0)
	return nil
}

// add opens a TAP and makes it a port. It outlives this process from then on.
func (ps *ports) add(e *endpoint, cfg tap.Config) error {
	dev, err := tap.Open(cfg)
	for deadline := time.Now().Add(afterlife); errors.Is(err, tap.ErrBusy) && time.Now().Before(deadline); dev, err = tap.Open(cfg) {
		time.Sleep(pause) // a process that was killed has it for a moment yet
	}
	if err != nil {
		return err
	}
	if err := dev.(tap.Persistent).Persist(true); err != nil {
		return errors.Join(err, dev.Close())
	}
	p, err := ps.AddPort(dev, e.MAC)
	if err != nil {
		return errors.Join(err, dev.(tap.Persistent).Persist(false), dev.Close())
	}
	ps.of[e.ID] = p
	return nil
}

// unlink removes the TAP of an endpoint, in whatever namespace it is.
func (ps *ports) unlink(e *endpoint) error {
	p := ps.of[e.ID]
	if p == nil {
		return nil
	}
	var errs []error
	if !p.Lost() {
		errs = append(errs, p.Device().(tap.Persistent).Persist(false))
	}
	errs = append(errs, ps.RemovePort(p))
	delete(ps.of, e.ID)
	return errors.Join(errs...)
}

// relink goes on with the TAP that a process before this one made for an
// endpoint.
func (ps *ports) relink(e *endpoint) error {
	if ps.of[e.ID] != nil {
		return nil
	}
	for _, netns := range []string{e.Container, ""} {
		name := e.link()
		if netns != "" {
			var err error
			if name, err = tapWith(netns, e.MAC); err != nil {
				return err
			}
		} else if _, err := netlink.LinkByName(name); err != nil {
			name = ""
		}
		if name != "" {
			return ps.add(e, tap.Config{Name: name, Netns: netns, Offload: tap.AllFeatures, Adopt: true})
		}
		if e.Container == "" {
			break
		}
	}
	return nil // it went with its container
}

// tapWith finds the TAP with a MAC in a container, where Docker has given it
// another name; empty: there is none.
func tapWith(netns string, mac vxlan.MAC) (name string, err error) {
	err = namespace.Do(netns, func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Type() == "tuntap" && bytes.Equal(l.Attrs().HardwareAddr, mac[:]) {
				name = l.Attrs().Name
			}
		}
		return err
	})
	if errors.Is(err, namespace.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("container %s: %w", netns, err)
	}
	return name, nil
}
