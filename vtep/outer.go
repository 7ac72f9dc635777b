package vtep

import (
	"errors"
	"fmt"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// OuterConfig says what the outer headers of a VNI's packets look like. Its zero
// value leaves them to the Conn, with DSCP 0 and ECN as RFC 6040 says. To
// inherit is to take a field over from the inner IPv4 or IPv6 header, also from
// one behind VLAN tags; frames without one get what the zero value stands for.
type OuterConfig struct {
	// TTL is the outer IPv4 TTL or IPv6 hop limit. 0 leaves it to the Conn.
	TTL        uint8
	InheritTTL bool
	// TOS is the outer IPv4 TOS or IPv6 traffic class. Only its DSCP, the upper
	// six bits, may be set: the ECN field always follows from the inner one.
	TOS        uint8
	InheritTOS bool
	// ECN chooses between two ways to carry congestion marks.
	ECN ECNMode
	// DF is what becomes of Don't Fragment in outer IPv4 headers. The Conn has
	// to be one that can do so for each train.
	DF DF
	// FlowLabel is the outer IPv6 flow label, 20 bits.
	FlowLabel        uint32
	InheritFlowLabel bool
}

// DF is what a VNI does with the outer Don't Fragment bit. Nothing that is sent
// is ever fragmented by this host, whatever the bit says to others.
type DF uint8

const (
	// DFUnset leaves the bit as the Conn has it: clear, unless told otherwise.
	DFUnset DF = iota
	// DFSet sets it.
	DFSet
	// DFInherit sets it for inner IPv6 packets, which are never fragmented on
	// their way, and for inner IPv4 packets that have it set.
	DFInherit
)

// ECNMode is a set of rules for congestion marks.
type ECNMode uint8

const (
	// ECNRFC6040 is the normal mode of RFC 6040.
	ECNRFC6040 ECNMode = iota
	// ECNKernel does as the Linux kernel: an inner CE travels as ECT(0).
	ECNKernel
)

// outerFields is what frames must have in common to share a train.
type outerFields struct {
	label    uint32
	ttl, tos uint8
	df       bool
}

// outerPolicy is an OuterConfig made ready for the packet path.
type outerPolicy struct {
	fixed outerFields
	// tos by inner ECN, with the fixed DSCP.
	tos [4]uint8
	// inherits is the one thing to be asked for each frame: whether any of what
	// follows is true.
	inherits             bool
	ttl, dscp, df, label bool
	kernelECN            bool
}

// etherTypeIPv6 is what DFInherit looks for.
const etherTypeIPv6 = 0x86DD

func (c *OuterConfig) policy() (outerPolicy, error) {
	switch {
	case c.InheritTTL && c.TTL != 0:
		return outerPolicy{}, errors.New("OuterConfig.TTL and InheritTTL exclude each other")
	case c.InheritTOS && c.TOS != 0:
		return outerPolicy{}, errors.New("OuterConfig.TOS and InheritTOS exclude each other")
	case c.InheritFlowLabel && c.FlowLabel != 0:
		return outerPolicy{}, errors.New("OuterConfig.FlowLabel and InheritFlowLabel exclude each other")
	case c.TOS&3 != 0:
		return outerPolicy{}, fmt.Errorf("OuterConfig.TOS %#x: the two low bits are ECN, which follows from the inner packet", c.TOS)
	case c.FlowLabel > 0xFFFFF:
		return outerPolicy{}, fmt.Errorf("OuterConfig.FlowLabel %#x: a flow label has 20 bits", c.FlowLabel)
	case c.DF > DFInherit:
		return outerPolicy{}, fmt.Errorf("OuterConfig.DF is %d, none of DFUnset, DFSet and DFInherit", c.DF)
	case c.ECN > ECNKernel:
		return outerPolicy{}, fmt.Errorf("OuterConfig.ECN is %d, neither ECNRFC6040 nor ECNKernel", c.ECN)
	}
	p := outerPolicy{
		fixed: outerFields{label: c.FlowLabel, ttl: c.TTL, df: c.DF == DFSet},
		ttl:   c.InheritTTL, dscp: c.InheritTOS, df: c.DF == DFInherit, label: c.InheritFlowLabel,
		kernelECN: c.ECN == ECNKernel,
	}
	p.inherits = p.ttl || p.dscp || p.df || p.label
	encap := vxlan.EncapECN
	if p.kernelECN {
		encap = vxlan.KernelEncapECN
	}
	for e := range p.tos {
		p.tos[e] = c.TOS | uint8(encap(vxlan.ECN(e)))
	}
	return p, nil
}

// of returns the outer fields for a frame.
func (p *outerPolicy) of(in *vxlan.Inner) outerFields {
	f := p.fixed
	f.tos = p.tos[in.DSField&3]
	if p.inherits {
		p.inherit(&f, in)
	}
	return f
}

// inherit takes fields over from the inner header; where there is none, in has
// zeros.
func (p *outerPolicy) inherit(f *outerFields, in *vxlan.Inner) {
	if p.ttl {
		f.ttl = in.HopLimit
	}
	if p.dscp {
		f.tos |= in.DSField &^ 3
	}
	if p.df {
		f.df = in.DF || in.EtherType == etherTypeIPv6
	}
	if p.label {
		f.label = in.FlowLabel
	}
}

// put writes the fields into a train.
func (f outerFields) put(t *transport.Train) {
	t.TOS, t.TTL, t.DontFragment, t.FlowLabel = f.tos, f.ttl, f.df, f.label
}

// decap combines the outer ECN field of a packet with its inner one.
func (p *outerPolicy) decap(outer, inner vxlan.ECN) (vxlan.ECN, vxlan.ECNVerdict) {
	if p.kernelECN {
		return vxlan.KernelDecapECN(outer, inner)
	}
	return vxlan.DecapECN(outer, inner)
}
