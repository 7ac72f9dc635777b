package doctor

import (
	"net/netip"

	"github.com/govxlan/govxlan/internal/control"
)

// checkMembers: are those found who are to be, and is somebody refused.
func (x *examination) checkMembers() {
	if x.Client == nil {
		return
	}
	m, err := x.Client.Members(x.ctx)
	if err != nil || !m.On {
		return // endpoints of other versions do not say
	}
	x.judgeMembers(m)
}

func (x *examination) judgeMembers(m control.Membership) {
	others := 0
	for _, of := range m.Members {
		switch {
		case of.Self:
		case of.State == "alive":
			others++
			if len(of.VNIs) == 0 {
				x.report.add(Finding{Check: "members", State: Warn, Peer: of.VTEP, Text: of.Name + " at " + of.VTEP.String() + " serves no VNI, or it is not known yet which"})
			}
		case of.State == "failed":
			x.report.add(Finding{Check: "members", State: Warn, Peer: of.VTEP, On: of.VTEP, Command: "govxlan members",
				Text: of.Name + " at " + netip.AddrPortFrom(of.VTEP, of.Address.Port()).String() + " does not answer any more"})
		}
	}
	for _, j := range m.Joins {
		if !j.Joined && j.Error != "" {
			x.find("members", Warn, "", "cannot join at %s: %s", j.Address, j.Error)
		}
	}
	if n := m.Counters.WrongKey; n > 0 {
		x.find("members", Warn, "", "somebody with another key was refused %d times: all members must have the same --key-file", n)
	}
	if others == 0 {
		x.find("members", Warn, "", "no other member is found: frames reach only those that were named by hand")
		return
	}
	x.find("members", OK, "", "other members that answer: %d", others)
}
