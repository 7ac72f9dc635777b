package main

import (
	"github.com/govxlan/govxlan/vtep"
	"github.com/spf13/pflag"
)

// vlanFlags are the flags of up for VLAN tags, as typed.
type vlanFlags struct {
	mode string
}

func (f *vlanFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.mode, "vlan", "keep", "VLAN tags in frames: keep: carry them; strip: take them off what leaves, drop what comes with one (RFC 7348 section 6.1); drop: both ways")
}

// vlanPlan is what they mean.
type vlanPlan struct {
	mode vtep.VLANMode
}

// plan checks the flags.
func (f *vlanFlags) plan() (p vlanPlan, err error) {
	switch f.mode {
	case "keep":
	case "strip":
		p.mode = vtep.VLANStrip
	case "drop":
		p.mode = vtep.VLANDrop
	default:
		return p, usagef("--vlan %q: give keep, strip or drop", f.mode)
	}
	return p, nil
}
