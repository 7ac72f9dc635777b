package config

import (
	"strconv"
	"strings"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Header is what a VNI makes of the bits of the VXLAN header that RFC 7348
// reserves.
type Header struct {
	Reserved uint64
	Policy   *vtep.GroupPolicy
}

func newHeader(v View) (p Header, err error) {
	gbp, accept := v.Text("gbp"), v.List("gbp-accept")
	if gbp != "" || len(accept) > 0 {
		p.Policy = new(vtep.GroupPolicy)
	}
	if gbp != "" {
		id, rest, more := strings.Cut(gbp, ",")
		n, err := strconv.ParseUint(id, 0, 16)
		if err != nil {
			return p, v.Errorf("gbp", "%q: give a group from 0 to 65535, with ,dont-learn or ,applied behind it if wanted", gbp)
		}
		p.Policy.Send.ID = uint16(n)
		for more {
			var flag string
			flag, rest, more = strings.Cut(rest, ",")
			switch flag {
			case "dont-learn":
				p.Policy.Send.DontLearn = true
			case "applied":
				p.Policy.Send.Applied = true
			default:
				return p, v.Errorf("gbp", "%q: behind the group may be ,dont-learn and ,applied", gbp)
			}
		}
	}
	for i, s := range accept {
		n, err := strconv.ParseUint(s, 0, 16)
		if err != nil {
			return p, v.errorAt("gbp-accept", i, "%q: give groups from 0 to 65535", s)
		}
		p.Policy.Accept = append(p.Policy.Accept, uint16(n))
	}
	switch reserved := v.Text("reserved-bits"); reserved {
	case "ignore":
	case "strict":
		p.Reserved = vtep.KernelReservedBits(p.Policy != nil)
	default:
		if p.Reserved, err = strconv.ParseUint(reserved, 0, 64); err != nil {
			return p, v.Errorf("reserved-bits", "%q: give ignore, strict, or a mask such as 0xff", reserved)
		}
		if p.Reserved&^vxlan.ReservedBitsMask != 0 {
			return p, v.Errorf("reserved-bits", "%#x: the I flag and the VNI are no reserved bits: stay within %#x", p.Reserved, vxlan.ReservedBitsMask)
		}
		if used := p.Reserved & vxlan.GBPBits; p.Policy != nil && used != 0 {
			return p, v.Errorf("reserved-bits", "%#x has bits that --gbp and --gbp-accept use (%#x): leave them out", p.Reserved, used)
		}
	}
	return p, nil
}
