package firewall

import "net/netip"

// Packet is what is known of a UDP packet. The source port is not: it stands for
// the flow inside.
type Packet struct {
	// Incoming: to this host; otherwise from it.
	Incoming bool
	Src, Dst netip.Addr
	DstPort  uint16
	// Device is what it comes or goes by.
	Device string
	Index  int
}

// Drop is a rule, or the policy of a chain, that drops the packet.
type Drop struct {
	// Maybe: it depends on what is not known of the packet.
	Maybe bool
	// Where names the rule for people.
	Where string
	// Command lets the packet through.
	Command string
}

// outcome is a set of what may become of a packet in a chain.
type outcome uint8

const (
	accepted outcome = 1 << iota
	dropped
	returned // or come to the end
)

// truth is the value of a condition of which not all is known.
type truth uint8

const (
	no truth = iota
	yes
	maybe
)

func known(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (t truth) not() truth {
	switch t {
	case yes:
		return no
	case no:
		return yes
	}
	return maybe
}

func (t truth) and(u truth) truth { return min3(t, u) }

// min3 orders no < maybe < yes.
func min3(t, u truth) truth {
	switch {
	case t == no || u == no:
		return no
	case t == maybe || u == maybe:
		return maybe
	}
	return yes
}

// step is what the walk through a chain knows so far.
type step struct {
	result outcome // of ways that have ended
	drop   string  // first rule that may drop
}

// end takes in what a rule, whose conditions are so true, makes of the packet. It
// reports whether the walk goes on behind it.
func (s *step) end(t truth, what outcome, where string) bool {
	if t == no {
		return true
	}
	s.result |= what &^ returned
	if what&dropped != 0 && s.drop == "" {
		s.drop = where
	}
	return t == maybe || what&returned != 0
}

// perhaps takes in a rule that may do anything.
func (s *step) perhaps(where string) {
	s.result |= accepted | dropped
	if s.drop == "" {
		s.drop = where
	}
}

// mostJumps bounds the depth of chains, as the kernel does.
const mostJumps = 16
