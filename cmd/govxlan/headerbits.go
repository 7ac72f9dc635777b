package main

import (
	"strconv"
	"strings"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/pflag"
)

// headerFlags are the flags of up for the bits of the VXLAN header that RFC 7348
// reserves, as typed.
type headerFlags struct {
	gbp       string
	gbpAccept []string
	reserved  string
}

func (f *headerFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.gbp, "gbp", "", "group policy (VXLAN-GBP): send frames with this group, ID[,dont-learn][,applied]; 0 sends none, but understands those that come")
	fs.StringSliceVar(&f.gbpAccept, "gbp-accept", nil, "deliver only frames of these groups, 0 being none, and those that say that policy was applied; repeatable")
	fs.StringVar(&f.reserved, "reserved-bits", "ignore", "reserved bits of the VXLAN header in what comes: ignore (RFC 7348); strict: drop (Linux); or a 64-bit mask of those to drop for, such as 0xff")
}

// headerPlan is what they mean.
type headerPlan struct {
	reserved uint64
	policy   *vtep.GroupPolicy
}

// plan checks the flags.
func (f *headerFlags) plan() (p headerPlan, err error) {
	if f.gbp != "" || len(f.gbpAccept) > 0 {
		p.policy = new(vtep.GroupPolicy)
	}
	if f.gbp != "" {
		id, rest, more := strings.Cut(f.gbp, ",")
		n, err := strconv.ParseUint(id, 0, 16)
		if err != nil {
			return p, usagef("--gbp %q: give a group from 0 to 65535, with ,dont-learn or ,applied behind it if wanted", f.gbp)
		}
		p.policy.Send.ID = uint16(n)
		for more {
			var flag string
			flag, rest, more = strings.Cut(rest, ",")
			switch flag {
			case "dont-learn":
				p.policy.Send.DontLearn = true
			case "applied":
				p.policy.Send.Applied = true
			default:
				return p, usagef("--gbp %q: behind the group may be ,dont-learn and ,applied", f.gbp)
			}
		}
	}
	for _, s := range f.gbpAccept {
		n, err := strconv.ParseUint(s, 0, 16)
		if err != nil {
			return p, usagef("--gbp-accept %q: give groups from 0 to 65535", s)
		}
		p.policy.Accept = append(p.policy.Accept, uint16(n))
	}
	switch f.reserved {
	case "ignore":
	case "strict":
		p.reserved = vtep.KernelReservedBits(p.policy != nil)
	default:
		if p.reserved, err = strconv.ParseUint(f.reserved, 0, 64); err != nil {
			return p, usagef("--reserved-bits %q: give ignore, strict, or a mask such as 0xff", f.reserved)
		}
		if p.reserved&^vxlan.ReservedBitsMask != 0 {
			return p, usagef("--reserved-bits %#x: the I flag and the VNI are no reserved bits: stay within %#x", p.reserved, vxlan.ReservedBitsMask)
		}
		if used := p.reserved & vxlan.GBPBits; p.policy != nil && used != 0 {
			return p, usagef("--reserved-bits %#x has bits that --gbp and --gbp-accept use (%#x): leave them out", p.reserved, used)
		}
	}
	return p, nil
}
