package config

import (
	"fmt"

	"github.com/govxlan/govxlan/vxlan"
)

// Config is a whole process.
type Config struct {
	Endpoint *Endpoint
	Specs    []*Spec // in the order of the file
	Sockets  Sockets
}

// New makes a configuration of what was typed and of a file, which may be nil.
// What was typed wins: with --vni, for that VNI, which need not be in the file;
// without, for all of the file's.
func New(typed Values, file *File) (*Config, error) {
	top := Values{}
	var vnis []Values
	if file != nil {
		top, vnis = file.Top, file.VNIs
	}
	var c Config
	var err error
	if c.Endpoint, err = newEndpoint(View{typed, top}); err != nil {
		return nil, err
	}
	_, one := typed["vni"]
	_, trunk := typed["vlan-map"]
	own := one || trunk && len(vnis) == 0 // of which the flags of a VNI are
	if !own && len(vnis) > 1 {
		for i := range Options {
			o := &Options[i]
			if _, ok := typed[o.Name]; ok && o.Scope == OfOne {
				return nil, &Error{Option: o.Name, Text: fmt.Sprintf("is for one VNI, and %s has %d: say with --vni which", file.Name, len(vnis))}
			}
		}
	}
	for _, layer := range vnis {
		v := View{typed, layer, top}
		if one && !sameVNI(layer, typed) {
			v = View{layer, top}
		} else if one {
			own = false
		}
		if err := c.add(v); err != nil {
			return nil, err
		}
	}
	if own {
		if err := c.add(View{typed, top}); err != nil {
			return nil, err
		}
	}
	c.Sockets, err = SocketsFor(c.Specs)
	return &c, err
}

// sameVNI says whether both layers are about one VNI.
func sameVNI(a, b Values) bool {
	x, errX := View{a}.number("vni", 0, int64(vxlan.MaxVNI))
	y, errY := View{b}.number("vni", 0, int64(vxlan.MaxVNI))
	return errX == nil && errY == nil && x == y
}

// NewSpec checks one more VNI, of which typed are the options, for an endpoint
// with its defaults from the top of a file.
func (c *Config) NewSpec(typed Values, file *File) (*Spec, error) {
	v := View{typed}
	if file != nil {
		v = append(v, file.Top)
	}
	if dev := c.Endpoint.Dev; dev != "" {
		v = append(v, Values{"dev": {Texts: []string{dev}}})
	}
	return newSpec(v, c.Endpoint)
}

// add checks a VNI and appends it.
func (c *Config) add(v View) error {
	s, err := newSpec(v, c.Endpoint)
	if err != nil {
		return err
	}
	if err := Fits(s, c.Specs); err != nil {
		return err
	}
	c.Specs = append(c.Specs, s)
	return nil
}

// Fits says whether a VNI can be beside others: the VNIs and the device are its
// own, and a multicast group is joined on one device.
func Fits(s *Spec, others []*Spec) error {
	for _, other := range others {
		for _, mine := range s.VNIs() {
			for _, its := range other.VNIs() {
				if mine.VNI == its.VNI {
					return s.Errorf("vni", "%v is there twice", mine.VNI)
				}
			}
		}
		if s.Device.Name == other.Device.Name && s.Device.Netns == other.Device.Netns {
			return s.Errorf("name", "%q is the device of %v already", s.Device.Name, other)
		}
		for _, g := range s.Groups {
			for _, h := range other.Groups {
				if g.Addr.Addr() == h.Addr.Addr() && g.Device != h.Device {
					return s.Errorf("group", "%v is joined on %s by %v: one group, one interface", g.Addr.Addr(), h.Device, other)
				}
			}
		}
	}
	return nil
}
