package config

import (
	"fmt"
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

// manyVNIs is from where on a device has as many queues as there are workers, if
// nothing is said: the kernel takes its time for each queue that is made.
const manyVNIs = 100

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
	var taken taken
	for _, layer := range vnis {
		v := View{typed, layer, top}
		if one && !sameVNI(layer, typed) {
			v = View{layer, top}
		} else if one {
			own = false
		}
		if err := c.add(v, &taken); err != nil {
			return nil, err
		}
	}
	if own || file == nil {
		if err := c.add(View{typed, top}, &taken); err != nil {
			return nil, err
		}
	}
	if len(c.Specs) > manyVNIs {
		for _, s := range c.Specs {
			if s.Text("queues") == "0" {
				s.Device.Queues = c.Endpoint.Workers
			}
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
func (c *Config) add(v View, taken *taken) error {
	s, err := newSpec(v, c.Endpoint)
	if err != nil {
		return err
	}
	if err := taken.add(s); err != nil {
		return err
	}
	c.Specs = append(c.Specs, s)
	return nil
}

// taken is what VNIs have that no other can have beside them.
type taken struct {
	vnis    map[vxlan.VNI]bool
	devices map[[2]string]*Spec
	groups  map[netip.Addr]*Spec
}

// add notes what is s's, or says who has it already.
func (t *taken) add(s *Spec) error {
	if t.vnis == nil {
		t.vnis, t.devices, t.groups = make(map[vxlan.VNI]bool), make(map[[2]string]*Spec), make(map[netip.Addr]*Spec)
	}
	for _, m := range s.VNIs() {
		if t.vnis[m.VNI] {
			if m.VID != 0 {
				return s.Errorf("vlan-map", "%d=%v: VNI %v is there twice", m.VID, m.VNI, m.VNI)
			}
			return s.Errorf("vni", "%v is there twice", m.VNI)
		}
	}
	device := [2]string{s.Device.Netns, s.Device.Name}
	if other := t.devices[device]; other != nil {
		return s.Errorf("name", "%q is the device of %v already", s.Device.Name, other)
	}
	for _, g := range s.Groups {
		if other := t.groups[g.Addr.Addr()]; other != nil && other.Text("dev") != g.Device {
			return s.Errorf("group", "%v is joined on %s by %v: one group, one interface", g.Addr.Addr(), other.Text("dev"), other)
		}
	}
	for _, m := range s.VNIs() {
		t.vnis[m.VNI] = true
	}
	t.devices[device] = s
	for _, g := range s.Groups {
		t.groups[g.Addr.Addr()] = s
	}
	return nil
}

// Fit says whether VNIs can be beside each other: numbers and devices are their
// own, and a multicast group is joined on one interface.
func Fit(specs []*Spec) error {
	var t taken
	for _, s := range specs {
		if err := t.add(s); err != nil {
			return err
		}
	}
	return nil
}

// Source is where a configuration comes from, to be read as often as it changes.
type Source struct {
	Path  string // of the file; "" = none
	Typed Values
}

// Load reads it. The file is nil where there is none.
func (s *Source) Load() (*Config, *File, error) {
	var file *File
	if s.Path != "" {
		var err error
		if file, err = ReadFile(s.Path); err != nil {
			return nil, nil, err
		}
	}
	c, err := New(s.Typed, file)
	return c, file, err
}
