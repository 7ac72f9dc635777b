package config

import (
	"strconv"
	"strings"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// vlans checks what becomes of VLAN tags.
func (s *Spec) vlans() error {
	switch mode := s.Text("vlan"); mode {
	case "keep":
	case "strip":
		s.VLAN = vtep.VLANStrip
	case "drop":
		s.VLAN = vtep.VLANDrop
	default:
		return s.Errorf("vlan", "%q: give keep, strip or drop", mode)
	}
	maps := s.List("vlan-map")
	if len(maps) == 0 {
		if s.NoNative {
			return s.Errorf("vni", "is missing: give a number from 0 to %d", vxlan.MaxVNI)
		}
		return nil
	}
	vids, vnis := make(map[uint16]bool), make(map[vxlan.VNI]bool)
	if !s.NoNative {
		s.Trunk = append(s.Trunk, VLAN{0, s.VNI})
		vnis[s.VNI] = true
	}
	for i, text := range maps {
		left, right, _ := strings.Cut(text, "=")
		vid, err := strconv.ParseUint(left, 10, 12)
		if err != nil || vid == 0 || vid == 4095 {
			return s.errorAt("vlan-map", i, "%q: give VID=VNI with a VLAN id from 1 to 4094", text)
		}
		vni, err := vxlan.ParseVNI(right)
		if err != nil {
			return s.errorAt("vlan-map", i, "%q: give VID=VNI with a VNI from 0 to %d", text, vxlan.MaxVNI)
		}
		m := VLAN{uint16(vid), vni}
		switch {
		case !s.NoNative && m.VNI == s.VNI:
			return s.errorAt("vlan-map", i, "%q: VNI %v is that of frames without a tag by --vni: give another, or leave --vni out", text, vni)
		case vids[m.VID]:
			return s.errorAt("vlan-map", i, "%q: VLAN %d is there twice", text, vid)
		case vnis[m.VNI]:
			return s.errorAt("vlan-map", i, "%q: VNI %v is there twice", text, vni)
		}
		vids[m.VID], vnis[m.VNI] = true, true
		s.Trunk = append(s.Trunk, m)
	}
	return nil
}

// TrunkWords is the trunk as typed.
func (s *Spec) TrunkWords() string {
	var list []string
	for _, m := range s.Trunk {
		if m.VID != 0 {
			list = append(list, strconv.Itoa(int(m.VID))+"="+m.VNI.String())
		}
	}
	return strings.Join(list, ",")
}
