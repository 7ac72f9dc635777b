package main

import (
	"strconv"
	"strings"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/pflag"
)

// vlanFlags are the flags of up for VLAN tags, as typed.
type vlanFlags struct {
	mode string
	maps []string
}

func (f *vlanFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.mode, "vlan", "keep", "VLAN tags in frames: keep: carry them; strip: take them off what leaves, drop what comes with one (RFC 7348 section 6.1); drop: both ways")
	fs.StringSliceVar(&f.maps, "vlan-map", nil, "VID=VNI: the TAP is a trunk, frames of it with this VLAN tag go to that VNI, without the tag; those without a tag go to --vni, if that is given; repeatable")
}

// vlanPlan is what they mean.
type vlanPlan struct {
	mode  vtep.VLANMode
	trunk []vlanVNI // empty: the TAP is that of --vni alone
}

// vlanVNI is one VNI of the TAP; vid 0 stands for frames without a tag.
type vlanVNI struct {
	vid uint16
	vni vxlan.VNI
}

// plan checks the flags. native is the VNI of --vni, if it is given.
func (f *vlanFlags) plan(native vxlan.VNI, given bool) (p vlanPlan, err error) {
	switch f.mode {
	case "keep":
	case "strip":
		p.mode = vtep.VLANStrip
	case "drop":
		p.mode = vtep.VLANDrop
	default:
		return p, usagef("--vlan %q: give keep, strip or drop", f.mode)
	}
	if len(f.maps) == 0 {
		return p, nil
	}
	vids, vnis := make(map[uint16]bool), make(map[vxlan.VNI]bool)
	if given {
		p.trunk = append(p.trunk, vlanVNI{0, native})
		vnis[native] = true
	}
	for _, s := range f.maps {
		left, right, _ := strings.Cut(s, "=")
		vid, err := strconv.ParseUint(left, 10, 12)
		if err != nil || vid == 0 || vid == 4095 {
			return p, usagef("--vlan-map %q: give VID=VNI with a VLAN id from 1 to 4094", s)
		}
		vni, err := vxlan.ParseVNI(right)
		if err != nil {
			return p, usagef("--vlan-map %q: give VID=VNI with a VNI from 0 to %d", s, vxlan.MaxVNI)
		}
		m := vlanVNI{uint16(vid), vni}
		switch {
		case given && m.vni == native:
			return p, usagef("--vlan-map %q: VNI %v is that of frames without a tag by --vni: give another, or leave --vni out", s, vni)
		case vids[m.vid]:
			return p, usagef("--vlan-map %q: VLAN %d is there twice", s, vid)
		case vnis[m.vni]:
			return p, usagef("--vlan-map %q: VNI %v is there twice", s, vni)
		}
		vids[m.vid], vnis[m.vni] = true, true
		p.trunk = append(p.trunk, m)
	}
	return p, nil
}

// vnis are all that the TAP carries.
func (p *vlanPlan) vnis(native vxlan.VNI) []vlanVNI {
	if len(p.trunk) == 0 {
		return []vlanVNI{{0, native}}
	}
	return p.trunk
}

// String is the trunk as typed, for the line that up prints.
func (p *vlanPlan) String() string {
	var list []string
	for _, m := range p.trunk {
		if m.vid != 0 {
			list = append(list, strconv.Itoa(int(m.vid))+"="+m.vni.String())
		}
	}
	return strings.Join(list, ",")
}
