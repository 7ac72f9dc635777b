package vtep

import (
	"fmt"
	"sync/atomic"

	"github.com/govxlan/govxlan/vxlan"
)

// GroupPolicy switches on the group policy extension of VXLAN for a VNI
// (draft-smith-vxlan-group-policy, VXLAN-GBP). Its zero value understands what
// arrives, accepts all of it and sends frames without a group.
type GroupPolicy struct {
	// Send is the group, with its flags, that goes with every frame of the
	// device. The zero value leaves the extension out, as the kernel does.
	Send vxlan.GBP
	// Accept lists the groups whose frames are delivered; 0 stands for frames
	// without a group too. nil: all. A frame whose A flag says that policy has
	// been applied is delivered whatever its group (section 2.1 of the draft).
	Accept []uint16
}

// KernelReservedBits is VNIConfig.ReservedBits as the Linux kernel chooses it: all
// that is reserved, less the G bit and the three bytes around the group where
// there is a GroupPolicy.
func KernelReservedBits(groupPolicy bool) uint64 {
	bits := vxlan.ReservedBitsMask
	if groupPolicy {
		bits &^= vxlan.GBPBits | 0xFFFFFF<<32
	}
	return bits
}

// headerPolicy is what a VNI does about the bits of the VXLAN header that RFC
// 7348 reserves.
type headerPolicy struct {
	// extension is added to the header of what is sent, by OR.
	extension uint64
	// inspects is the one thing to be asked of each packet that arrives: whether
	// there is anything to look at.
	inspects bool
	refused  uint64 // bits that must be zero
	groups   *groupCounts
	accept   *groupSet // nil: all
}

// newHeaderPolicy checks the part of a config that is about header bits.
func newHeaderPolicy(cfg *VNIConfig) (headerPolicy, error) {
	p := headerPolicy{refused: cfg.ReservedBits}
	used := ^vxlan.ReservedBitsMask
	if g := cfg.GroupPolicy; g != nil {
		used |= vxlan.GBPBits
		p.groups = new(groupCounts)
		if g.Send != (vxlan.GBP{}) {
			p.extension = g.Send.Bits()
		}
		if g.Accept != nil {
			p.accept = new(groupSet)
			for _, id := range g.Accept {
				p.accept[id>>6] |= 1 << (id & 63)
			}
		}
	}
	if both := p.refused & used; both != 0 {
		return headerPolicy{}, fmt.Errorf("VNIConfig.ReservedBits has bits that are in use (%#016x)", both)
	}
	p.inspects = p.refused != 0 || p.groups != nil
	return p, nil
}

// groupSet is a set of groups, a bit each.
type groupSet [1 << 16 / 64]uint64

func (s *groupSet) has(id uint16) bool { return s[id>>6]&(1<<(id&63)) != 0 }

// groupCounts counts frames by group. Its parts are made when the first frame
// of one of their groups arrives: 512 KB for who sees all 65,536.
type groupCounts [256]atomic.Pointer[[256]atomic.Uint64]

func (c *groupCounts) add(id uint16) {
	part := &c[id>>8]
	p := part.Load()
	if p == nil {
		p = new([256]atomic.Uint64)
		if !part.CompareAndSwap(nil, p) {
			p = part.Load()
		}
	}
	p[uint8(id)].Add(1)
}

// GroupStatus is one group of which frames arrived.
type GroupStatus struct {
	// Group 0 is frames without a group.
	Group    uint16 `json:"group"`
	RxFrames uint64 `json:"rx_frames"`
}

// status lists the groups seen so far, by number.
func (c *groupCounts) status() []GroupStatus {
	if c == nil {
		return nil
	}
	var list []GroupStatus
	for i := range c {
		p := c[i].Load()
		if p == nil {
			continue
		}
		for k := range p {
			if n := p[k].Load(); n > 0 {
				list = append(list, GroupStatus{Group: uint16(i<<8 | k), RxFrames: n})
			}
		}
	}
	return list
}

// inspect judges the header of a packet, and says whether its source must not be
// learned.
func (out *outlet) inspect(b []byte) (v Verdict, dontLearn bool) {
	p := &out.policy.header
	if vxlan.ReservedBits(b)&p.refused != 0 {
		out.tally.reservedBits++
		return rxReservedBits, false
	}
	if p.groups == nil {
		return verdictPassed, false
	}
	g, _ := vxlan.ParseGBP(b) // without the extension: group 0
	if p.accept != nil && !g.Applied && !p.accept.has(g.ID) {
		out.tally.group++
		return rxGroup, false
	}
	p.groups.add(g.ID)
	return verdictPassed, g.DontLearn
}
