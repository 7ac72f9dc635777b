package membership

import (
	"net/netip"
	"slices"
	"time"

	"github.com/govxlan/govxlan/vxlan"
	"github.com/hashicorp/memberlist"
)

// State is how a member is.
type State uint8

const (
	// Alive: it answers.
	Alive State = iota
	// Failed: it did not answer, and is tried now and then.
	Failed
	// Left: it said that it goes.
	Left
)

var states = [...]string{"alive", "failed", "left"}

func (s State) String() string {
	if int(s) < len(states) {
		return states[s]
	}
	return "unknown state"
}

// Member is what is known of a node. It does not change: there is a new one when
// something is different.
type Member struct {
	// ID is that of one start of the node.
	ID   string
	Name string
	// Addr is where it is a member, VTEP where it receives VXLAN.
	Addr, VTEP netip.AddrPort
	Self       bool
	State      State
	Since      time.Time // when the state was noticed
	// VNIs that it serves, with the stations that it announces in each, in the order of
	// their MACs. Both must not be modified.
	VNIs map[vxlan.VNI][]Endpoint
}

// Change is one of a node: nil stands for a node that is no member, which was not
// there before or is gone now.
type Change struct{ Was, Is *Member }

// node is another member, or one that was.
type node struct {
	about
	ledger
	id    string
	addr  netip.AddrPort
	there bool // memberlist says so
	left  bool // it said goodbye
	since time.Time
	// fetch is when its facts are to be asked for, if some are missing then, and hint
	// who knows them.
	fetch time.Time
	hint  string
	// superseded: it was started anew at the same address.
	superseded bool
	// shown is what others were shown last; nil: it is to be made. told is what the
	// handler was told last; nil: not there.
	shown, told *Member
	dirty       bool
}

func (n *node) state() State {
	switch {
	case n.there:
		return Alive
	case n.left:
		return Left
	}
	return Failed
}

// member is what others may read.
func (n *node) member() *Member {
	if n.shown == nil {
		n.shown = n.show()
	}
	return n.shown
}

func (n *node) show() *Member {
	m := &Member{ID: n.id, Name: n.name, Addr: n.addr, VTEP: n.vtep, State: n.state(), Since: n.since}
	m.VNIs = stations(n.facts)
	return m
}

// stations sorts facts by VNI. A station without its VNI is not there yet.
func stations(facts map[place]fact) map[vxlan.VNI][]Endpoint {
	vnis := make(map[vxlan.VNI][]Endpoint)
	for at, f := range facts {
		if at.mac == (vxlan.MAC{}) && !f.gone {
			vnis[at.vni] = nil
		}
	}
	for at, f := range facts {
		if list, ok := vnis[at.vni]; ok && at.mac != (vxlan.MAC{}) && !f.gone {
			vnis[at.vni] = append(list, Endpoint{MAC: at.mac, IPs: f.ips})
		}
	}
	for _, list := range vnis {
		slices.SortFunc(list, func(a, b Endpoint) int { return slices.Compare(a.MAC[:], b.MAC[:]) })
	}
	return vnis
}

// addrOf is where memberlist says that a node is.
func addrOf(n *memberlist.Node) netip.AddrPort {
	a, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(a.Unmap(), n.Port)
}
