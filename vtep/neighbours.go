package vtep

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/neighbour"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
)

// Errors of the methods that change neighbours, wrapped with what was asked.
var (
	// ErrNeighbourExists: the address has a static neighbour already.
	ErrNeighbourExists = neighbour.ErrExists
	// ErrNoNeighbour: the VNI does not have this neighbour.
	ErrNoNeighbour = neighbour.ErrNotFound
	// ErrARPFlood: the VNI has no neighbours, for it floods every request.
	ErrARPFlood = errors.New("ARP and neighbour discovery are flooded here, so that neighbours are of no use: choose suppress or proxy")
)

// ARPMode is what becomes of the ARP requests and neighbour solicitations that
// the device hands over.
type ARPMode uint8

const (
	// ARPFlood: they are frames like any other.
	ARPFlood ARPMode = iota
	// ARPSuppress answers those for a known neighbour, and lets the rest through:
	// also those that are sent to one station, to see whether it is still there,
	// and those that are no question (announcements, address conflict and
	// duplicate address detection). Like neigh_suppress of a Linux bridge,
	// which keeps the last kind back too.
	ARPSuppress
	// ARPProxy lets no ARP frame and no neighbour solicitation through: it
	// answers them or drops them. Like proxy of Linux's vxlan device.
	ARPProxy
)

var arpModes = [...]string{"flood", "suppress", "proxy"}

// ParseARPMode reads flood, suppress or proxy.
func ParseARPMode(s string) (ARPMode, error) {
	if i := slices.Index(arpModes[:], s); i >= 0 {
		return ARPMode(i), nil
	}
	return 0, fmt.Errorf("%q is none of flood, suppress, proxy", s)
}

// String returns what ParseARPMode reads.
func (m ARPMode) String() string { return arpModes[min(int(m), len(arpModes)-1)] }

// Neighbour is a station of the overlay as the user names it: requests for its
// IP address are answered with its MAC.
type Neighbour struct {
	IP  netip.Addr `json:"ip"`
	MAC vxlan.MAC  `json:"mac"`
	// Router is the router flag of its neighbour advertisements (IPv6).
	Router bool `json:"router,omitempty"`
}

// NeighbourMiss says that a station behind the device asked for an address that
// no neighbour has: what Linux's vxlan device tells with l3miss.
type NeighbourMiss struct {
	VNI vxlan.VNI
	IP  netip.Addr
}

// neighbours are those of a VNI that does not flood requests.
type neighbours struct {
	mode   ARPMode
	table  *neighbour.Table
	missed func(NeighbourMiss) // may be nil
}

// newNeighbours returns nil for a VNI that floods.
func newNeighbours(cfg *VNIConfig, missed func(NeighbourMiss)) (*neighbours, error) {
	if int(cfg.ARP) >= len(arpModes) {
		return nil, fmt.Errorf("VNIConfig.ARP: no mode %d", cfg.ARP)
	}
	if cfg.ARP == ARPFlood {
		if len(cfg.Neighbours) > 0 || cfg.SnoopNeighbours {
			return nil, ErrARPFlood
		}
		return nil, nil
	}
	n := &neighbours{mode: cfg.ARP, missed: missed, table: neighbour.New(neighbourConfig(cfg))}
	for _, s := range cfg.Neighbours {
		if err := n.table.Add(s.IP, s.MAC, s.Router); err != nil {
			return nil, fmt.Errorf("neighbour %w", err)
		}
	}
	return n, nil
}

// heard takes note of what a frame from a VTEP claims. It reports whether there
// was no room for it.
func (n *neighbours) heard(frame []byte, now time.Duration) (full bool) {
	if !neighbour.Candidate(frame) {
		return false
	}
	var m neighbour.Message
	m.Parse(frame)
	return n.table.Note(m.Claim, false, now) == neighbour.Full
}

// answers are a transmitter's way back into its own device.
type answers struct {
	writer tap.Writer
	buf    [neighbour.MaxAnswer]byte
	tag    [vxlan.VLANTagLen]byte // of a trunk
	parts  [3][]byte
	vector [1]tap.Vector
}

// neighbour deals with a frame of the device in a VNI that does not flood
// requests, and says what became of it where it is not to be sent.
func (t *transmitter) neighbour(f *tap.Frame, captures []*Capture) Verdict {
	if !neighbour.Candidate(f.Bytes) || f.Header.GSO != tap.GSONone {
		return verdictPassed
	}
	if tap.CompleteChecksum(&f.Header, f.Bytes) != nil {
		return verdictPassed // counted when it is sent
	}
	var m neighbour.Message
	m.Parse(f.Bytes)
	if m.Kind == neighbour.Other {
		return verdictPassed
	}
	o := t.o
	n := t.policy.neighbours
	if n.table.Note(m.Claim, true, t.e.now()) == neighbour.Full {
		o.tx.neighbourFull.Add(1)
	}
	if m.Kind.Asks() && (n.mode == ARPProxy || !m.Unicast && !m.Probe) {
		e, ok := n.table.Lookup(m.Target)
		switch {
		case !ok:
			if n.missed != nil && neighbour.Usable(m.Target) {
				n.missed(NeighbourMiss{VNI: o.vni, IP: m.Target})
			}
		case m.Probe && m.Kind == neighbour.Solicitation:
			// Its source is the unspecified address, to which Linux's proxy
			// sends an answer that nobody accepts.
		case !o.near(&e, &m):
			t.answer(&m, f.Bytes, &e, captures)
			return verdictAnswered
		}
	}
	if n.mode == ARPProxy && m.Kind.Consumed() {
		o.tx.dropARPProxy.Add(1)
		return txARPProxy
	}
	return verdictPassed
}

// near says whether a neighbour is on the device's own side as far as is known,
// and so answers for itself: an answer of ours would come in addition, and make
// a bridge believe that the station is behind the device.
//
// That is so for the device's own MAC and for the asker's. Of others the FDB
// decides: whoever it has behind a VTEP is far. Linux keeps local stations in
// the FDB as entries without a VTEP; here, where it knows far ones only, a
// station that it does not know is near if its last ARP or neighbour discovery
// message came from the device, and far before it sent any.
func (o *overlay) near(e *neighbour.Entry, m *neighbour.Message) bool {
	if e.MAC == o.mac || e.MAC == m.Source || e.MAC == m.Asker {
		return true
	}
	if to, ok := o.table.Lookup(fdb.MAC(e.MAC)); ok {
		return to != nil && to.Addr.Addr().IsUnspecified()
	}
	return e.Here
}

// answer writes the answer to a request into the device that it came from.
func (t *transmitter) answer(m *neighbour.Message, frame []byte, e *neighbour.Entry, captures []*Capture) {
	a := t.answers
	if a == nil {
		a = &answers{writer: t.o.device.NewWriter(t.queue)}
		t.answers = a
	}
	b := m.AppendAnswer(a.buf[:0], frame, e.MAC, e.Router)
	parts := append(a.parts[:0], b)
	if vid := t.o.vid; vid != 0 {
		parts = append(a.parts[:0], b[:12], vlanTag(a.tag[:], vid), b[12:])
	}
	a.vector[0] = tap.Vector{Parts: parts}
	if _, err := a.writer.Write(a.vector[:]); err != nil {
		t.o.rx.dropDevice.Add(1)
		seeMade(captures, t.o.vni, b, rxDevice)
		return
	}
	seeMade(captures, t.o.vni, b, verdictMade)
	t.o.tx.arpAnswered.Add(1)
}

// AddNeighbour makes a static neighbour; one that was snooped becomes static.
// It returns ErrNeighbourExists when the address has a static one already, and
// ErrARPFlood when the VNI has no use for neighbours.
func (e *Endpoint) AddNeighbour(v vxlan.VNI, n Neighbour) error {
	return e.changeNeighbours(v, "add neighbour", func(t *neighbour.Table) error { return t.Add(n.IP, n.MAC, n.Router) })
}

// ReplaceNeighbour makes a static neighbour whatever there was before.
func (e *Endpoint) ReplaceNeighbour(v vxlan.VNI, n Neighbour) error {
	return e.changeNeighbours(v, "replace neighbour", func(t *neighbour.Table) error { return t.Replace(n.IP, n.MAC, n.Router) })
}

// DelNeighbour removes a neighbour, static or snooped. It returns
// ErrNoNeighbour when the address has none.
func (e *Endpoint) DelNeighbour(v vxlan.VNI, ip netip.Addr) error {
	return e.changeNeighbours(v, "delete neighbour", func(t *neighbour.Table) error { return t.Del(ip) })
}

func (e *Endpoint) changeNeighbours(v vxlan.VNI, what string, f func(*neighbour.Table) error) error {
	return e.change(v, what, func(o *overlay) error {
		n := o.policy.Load().neighbours
		if n == nil {
			return ErrARPFlood
		}
		return f(n.table)
	})
}

// NeighbourStatus is one neighbour of a VNI.
type NeighbourStatus struct {
	VNI    vxlan.VNI  `json:"vni"`
	IP     netip.Addr `json:"ip"`
	MAC    vxlan.MAC  `json:"mac"`
	Kind   string     `json:"kind"` // static, snooped
	Router bool       `json:"router,omitempty"`
	// Here: last heard of on the device's own side. It is not answered for,
	// unless the FDB has it behind a VTEP.
	Here bool `json:"here,omitempty"`
	// Age is the time since it last spoke of itself; nil for static ones.
	Age *Seconds `json:"age_s,omitempty"`
}

// Neighbours returns those of all VNIs, or of some, by VNI and address.
func (e *Endpoint) Neighbours(only ...vxlan.VNI) []NeighbourStatus {
	now := e.now()
	e.mu.Lock()
	overlays := e.sorted()
	e.mu.Unlock()
	all := []NeighbourStatus{}
	for _, o := range overlays {
		neighbours := o.policy.Load().neighbours
		if neighbours == nil || len(only) > 0 && !slices.Contains(only, o.vni) {
			continue
		}
		for n := range neighbours.table.All(now) {
			s := NeighbourStatus{VNI: o.vni, IP: n.IP, MAC: n.MAC, Kind: "static", Router: n.Router, Here: n.Here}
			if !n.Static {
				age := seconds(n.Age)
				s.Kind, s.Age = "snooped", &age
			}
			all = append(all, s)
		}
	}
	return all
}
