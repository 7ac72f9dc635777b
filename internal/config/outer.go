package config

import (
	"strconv"

	"github.com/govxlan/govxlan/vtep"
)

// Outer is what a VNI wants of the outer headers.
type Outer struct {
	vtep.OuterConfig
	AutoTTL, AutoLabel bool
}

func newOuter(v View) (p Outer, err error) {
	switch ttl := v.Text("ttl"); ttl {
	case "auto":
		p.AutoTTL = true
	case "inherit":
		// For frames that have none to take over, it is as for auto.
		p.AutoTTL, p.InheritTTL = true, true
	default:
		n, err := strconv.ParseUint(ttl, 10, 8)
		if err != nil || n == 0 {
			return p, v.Errorf("ttl", "%q: give 1 to 255, auto or inherit", ttl)
		}
		p.TTL = uint8(n)
	}
	if tos := v.Text("tos"); tos == "inherit" {
		p.InheritTOS = true
	} else {
		n, err := strconv.ParseUint(tos, 0, 8)
		if err != nil {
			return p, v.Errorf("tos", "%q: give a number such as 0xb8, or inherit", tos)
		}
		if n&3 != 0 {
			return p, v.Errorf("tos", "%q: the two low bits are ECN and always follow from the inner packet: give a multiple of 4, or inherit", tos)
		}
		p.TOS = uint8(n)
	}
	switch ecn := v.Text("ecn"); ecn {
	case "rfc6040":
	case "kernel":
		p.ECN = vtep.ECNKernel
	default:
		return p, v.Errorf("ecn", "%q: give rfc6040 or kernel", ecn)
	}
	switch df := v.Text("df"); df {
	case "unset":
	case "set":
		p.DF = vtep.DFSet
	case "inherit":
		p.DF = vtep.DFInherit
	default:
		return p, v.Errorf("df", "%q: give set, unset or inherit", df)
	}
	switch label := v.Text("flow-label"); label {
	case "inherit":
		p.InheritFlowLabel = true
	case "auto":
		p.AutoLabel = true
	default:
		n, err := strconv.ParseUint(label, 0, 20)
		if err != nil {
			return p, v.Errorf("flow-label", "%q: give 0 to 1048575, inherit or auto", label)
		}
		p.FlowLabel = uint32(n)
	}
	return p, nil
}

// CheckFamilies refuses options of the endpoint for a family that it has no
// address of.
func (e *Endpoint) CheckFamilies(v4, v6 bool) error {
	switch {
	case !v6 && e.NoChecksum6:
		return e.Errorf("udp-zero-csum6-tx", "and --udp-zero-csum6-rx are about IPv6, and neither --peer nor --local is an IPv6 address (over IPv4 there is --udp-csum)")
	case !v6 && e.AcceptNoChecksum6:
		return e.Errorf("udp-zero-csum6-rx", "and --udp-zero-csum6-tx are about IPv6, and neither --peer nor --local is an IPv6 address (over IPv4 there is --udp-csum)")
	case !v4 && e.NoChecksum4:
		return e.Errorf("udp-csum", "false is about IPv4, and neither --peer nor --local is an IPv4 address (over IPv6 there is --udp-zero-csum6-tx)")
	}
	return nil
}

// CheckFamilies does the same for the options of a VNI.
func (s *Spec) CheckFamilies(v4, v6 bool) error {
	switch {
	case !v6 && s.Outer.FlowLabel != 0:
		return s.Errorf("flow-label", "%#x: only IPv6 has flow labels, and neither --peer nor --local is an IPv6 address", s.Outer.FlowLabel)
	case !v6 && s.Outer.InheritFlowLabel:
		return s.Errorf("flow-label", "inherit: only IPv6 has flow labels, and neither --peer nor --local is an IPv6 address")
	case !v4 && s.Outer.DF != vtep.DFUnset:
		return s.Errorf("df", "%s: IPv6 has no Don't Fragment bit, and neither --peer nor --local is an IPv4 address", s.Text("df"))
	}
	return nil
}

// Sockets is what the sockets, which all VNIs share, are told of outer headers:
// what VNIs leave to them, and what cannot be had for each train.
type Sockets struct {
	AutoTTL      bool
	TTL          uint8 // where AutoTTL is false
	DontFragment bool
	// ByTrain: some trains with Don't Fragment, some without.
	ByTrain   bool
	AutoLabel bool
}

// SocketsFor chooses what suits all VNIs.
func SocketsFor(specs []*Spec) (Sockets, error) {
	var s Sockets
	for i, spec := range specs {
		o := &spec.Outer
		if i == 0 {
			s = Sockets{TTL: o.TTL, DontFragment: o.DF == vtep.DFSet, AutoLabel: o.AutoLabel}
		}
		s.AutoTTL = s.AutoTTL || o.AutoTTL
		s.ByTrain = s.ByTrain || o.DF == vtep.DFInherit || s.DontFragment != (o.DF == vtep.DFSet)
	}
	if s.ByTrain {
		s.DontFragment = false
	}
	if s.TTL == 0 {
		s.AutoTTL = true
	}
	for _, spec := range specs {
		if err := s.Suit(spec); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Suit says whether a VNI can have what it wants with these sockets.
func (s *Sockets) Suit(spec *Spec) error {
	o := &spec.Outer
	switch {
	case o.AutoTTL && !s.AutoTTL:
		return spec.Errorf("ttl", "%s: the sockets of the endpoint were opened for a TTL of %d, since no VNI wanted that then: give a number, or restart with it", spec.Text("ttl"), s.TTL)
	case o.DF != vtep.DFSet && s.DontFragment:
		return spec.Errorf("df", "%s: the sockets of the endpoint were opened to set Don't Fragment in all packets: give set, or restart with a VNI that wants this", spec.Text("df"))
	case o.AutoLabel != s.AutoLabel:
		return spec.Errorf("flow-label", "%s: auto is chosen for the endpoint as a whole, so that all of its VNIs have it or none", spec.Text("flow-label"))
	}
	return nil
}
