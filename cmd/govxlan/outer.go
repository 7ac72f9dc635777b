package main

import (
	"fmt"
	"strconv"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/spf13/pflag"
)

// outerFlags are the flags of up for the outer headers, as typed.
type outerFlags struct {
	ttl, tos, df, flowLabel, ecn string
	udpChecksum                  bool
	zeroChecksum6Tx              bool
	zeroChecksum6Rx              bool
}

func (f *outerFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.ttl, "ttl", "64", "outer TTL: 1 to 255; auto: as the route has it; inherit: the inner packet's")
	fs.StringVar(&f.tos, "tos", "0", "outer TOS: a DSCP in the upper six bits, such as 0xb8, or inherit; ECN is always the inner packet's")
	fs.StringVar(&f.ecn, "ecn", "rfc6040", "how congestion marks get through the tunnel: rfc6040, or kernel (an inner CE travels as ECT(0))")
	fs.StringVar(&f.df, "df", "unset", "outer Don't Fragment over IPv4: set, unset, or inherit (set for inner IPv6, and IPv4 that has it)")
	fs.StringVar(&f.flowLabel, "flow-label", "0", "outer IPv6 flow label: 0 to 1048575; inherit: the inner packet's; auto: by outer addresses and ports")
	fs.BoolVar(&f.udpChecksum, "udp-csum", true, "outer UDP checksum over IPv4; without it datagrams leave one by one, since the kernel takes no trains (UDP_SEGMENT) then")
	fs.BoolVar(&f.zeroChecksum6Tx, "udp-zero-csum6-tx", false, "no outer UDP checksum over IPv6: only for peers that accept that (RFC 6935), and one by one as well")
	fs.BoolVar(&f.zeroChecksum6Rx, "udp-zero-csum6-rx", false, "accept packets without outer UDP checksum over IPv6 (RFC 6936); over IPv4 they always are")
}

// outerPlan is what they mean, for the endpoint and for its sockets.
type outerPlan struct {
	vtep.OuterConfig
	autoTTL, autoLabel       bool
	zero4, zero6, acceptZero bool
}

// plan checks the flags.
func (f *outerFlags) plan() (p outerPlan, err error) {
	switch f.ttl {
	case "auto":
		p.autoTTL = true
	case "inherit":
		// For frames that have none to take over, it is as for auto.
		p.autoTTL, p.InheritTTL = true, true
	default:
		n, err := strconv.ParseUint(f.ttl, 10, 8)
		if err != nil || n == 0 {
			return p, usagef("--ttl %q: give 1 to 255, auto or inherit", f.ttl)
		}
		p.TTL = uint8(n)
	}
	if f.tos == "inherit" {
		p.InheritTOS = true
	} else {
		n, err := strconv.ParseUint(f.tos, 0, 8)
		if err != nil {
			return p, usagef("--tos %q: give a number such as 0xb8, or inherit", f.tos)
		}
		if n&3 != 0 {
			return p, usagef("--tos %q: the two low bits are ECN and always follow from the inner packet: give a multiple of 4, or inherit", f.tos)
		}
		p.TOS = uint8(n)
	}
	switch f.ecn {
	case "rfc6040":
	case "kernel":
		p.ECN = vtep.ECNKernel
	default:
		return p, usagef("--ecn %q: give rfc6040 or kernel", f.ecn)
	}
	switch f.df {
	case "unset":
	case "set":
		p.DF = vtep.DFSet
	case "inherit":
		p.DF = vtep.DFInherit
	default:
		return p, usagef("--df %q: give set, unset or inherit", f.df)
	}
	switch f.flowLabel {
	case "inherit":
		p.InheritFlowLabel = true
	case "auto":
		p.autoLabel = true
	default:
		n, err := strconv.ParseUint(f.flowLabel, 0, 20)
		if err != nil {
			return p, usagef("--flow-label %q: give 0 to 1048575, inherit or auto", f.flowLabel)
		}
		p.FlowLabel = uint32(n)
	}
	p.zero4, p.zero6, p.acceptZero = !f.udpChecksum, f.zeroChecksum6Tx, f.zeroChecksum6Rx
	return p, nil
}

// checkFamilies refuses flags for a family that is not there.
func (p *outerPlan) checkFamilies(v4, v6 bool) error {
	switch {
	case !v6 && p.FlowLabel != 0:
		return fmt.Errorf("--flow-label %#x: only IPv6 has flow labels, and neither --peer nor --local is an IPv6 address", p.FlowLabel)
	case !v6 && p.InheritFlowLabel:
		return fmt.Errorf("--flow-label inherit: only IPv6 has flow labels, and neither --peer nor --local is an IPv6 address")
	case !v6 && (p.zero6 || p.acceptZero):
		return fmt.Errorf("--udp-zero-csum6-tx and --udp-zero-csum6-rx are about IPv6, and neither --peer nor --local is an IPv6 address (over IPv4 there is --udp-csum)")
	case !v4 && p.DF != vtep.DFUnset:
		return fmt.Errorf("--df: IPv6 has no Don't Fragment bit, and neither --peer nor --local is an IPv4 address")
	case !v4 && p.zero4:
		return fmt.Errorf("--udp-csum=false is about IPv4, and neither --peer nor --local is an IPv4 address (over IPv6 there is --udp-zero-csum6-tx)")
	}
	return nil
}

// apply takes what concerns the sockets into their config.
func (p *outerPlan) apply(c *transport.UDPConfig) {
	c.TTL = int(p.TTL)
	if p.autoTTL {
		c.TTL = transport.TTLAuto
	}
	c.DontFragment = p.DF == vtep.DFSet
	c.DontFragmentByTrain = p.DF == vtep.DFInherit
	c.AutoFlowLabel = p.autoLabel
	c.ZeroChecksum4, c.ZeroChecksum6, c.AcceptZeroChecksum6 = p.zero4, p.zero6, p.acceptZero
}
