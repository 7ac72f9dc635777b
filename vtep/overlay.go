package vtep

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
)

// overlay is one VNI of an endpoint: an Ethernet, its device and its table.
type overlay struct {
	vni    vxlan.VNI
	device tap.Device
	mac    vxlan.MAC // of the device
	table  *fdb.Table
	trunk  *trunk // nil: the device is this VNI's alone
	vid    uint16 // on the trunk; 0 = frames without a tag
	// policy is what may change while frames flow. It is read once a batch, and
	// replaced as a whole, under Endpoint.mu.
	policy atomic.Pointer[policy]

	// senders are the VTEPs whose frames are accepted, by address alone: the
	// source port says nothing about who it is (RFC 7348 section 5). Replaced
	// as a whole, under Endpoint.mu.
	senders atomic.Pointer[map[netip.Addr]*peer]
	// stranger is the last VTEP whose frames were dropped for who it is.
	stranger lastSeen
	// groups are the multicast groups, nil without any. Replaced as a whole,
	// under Endpoint.mu.
	groups atomic.Pointer[[]groupUse]

	// dynamic entries of the user: the remotes whose frames are accepted for
	// them, since they may move or go by themselves. Under Endpoint.mu.
	dynamic map[vxlan.MAC]fdb.Remote
	paths   *paths // of the endpoint; nil: not to be found out

	toldFeatures tap.Features // last logged; under Endpoint.mu

	accel       *accelerator // of the endpoint; nil: there is none
	accelerated bool         // programs carry what is known; under Endpoint.mu
	attaching   atomic.Bool  // the programs take what leaves the device, or will soon
	// datapath says so to others.
	datapath atomic.Pointer[DatapathStatus]
	toldMTU  int // to the programs

	rx rxCounters
	tx txCounters

	storms storms

	transmitters sync.WaitGroup // those with a goroutine
	served       []*transmitter // those of workers; under Endpoint.mu
}

// peer is a VTEP as one VNI sees it. It never changes once it is in senders:
// a changed one takes its place, and its counters over.
type peer struct {
	// remote is where answers go: packets show the VTEP's address, and not the
	// port that it listens on.
	remote fdb.Remote
	*peerCounters
	// Why it is in senders: as so many members of the flood list (one address,
	// several ports), as the target of
	// so many static entries, as a member of a group, or because strangers are
	// allowed.
	floods   int
	statics  int
	member   bool
	stranger bool

	path   *path  // nil: not to be found out
	number uint32 // with the accelerator; 0: none
	// groups is above 0 for what is no sender but a multicast group, with so
	// many ports: it is here for its counters.
	groups int
}

// peerCounters are what a peer did so far.
type peerCounters struct {
	lastHeard atomic.Int64 // Clock of the last frame, +1; 0 = never
	rxFrames  atomic.Uint64
	rxBytes   atomic.Uint64
	txFrames  atomic.Uint64
	txBytes   atomic.Uint64

	probes probe.Bucket // limits the answers to it
	kin    atomic.Bool  // it has sent a probe, or an answer
}

// maxStrangers bounds the VTEPs that are remembered only because
// AllowUnknownVTEPs or Guard.Allow let them speak, or as members of a group; more are served,
// but not listed.
const maxStrangers = 4096

// sender returns the peer of an address, or nil.
func (o *overlay) sender(a netip.Addr) *peer {
	return (*o.senders.Load())[a]
}

// changeSenders replaces the map of senders by a changed copy. Endpoint.mu is
// held.
func (o *overlay) changeSenders(change func(map[netip.Addr]*peer)) {
	m := maps.Clone(*o.senders.Load())
	change(m)
	o.senders.Store(&m)
}

// admit notes why frames from r are accepted. Endpoint.mu is held.
func (o *overlay) admit(r fdb.Remote, why func(*peer)) {
	o.changeSenders(func(m map[netip.Addr]*peer) {
		p := &peer{remote: r, peerCounters: new(peerCounters)}
		if o.paths != nil {
			p.path = o.paths.to(r.Addr.Addr())
		}
		if was := m[r.Addr.Addr()]; was != nil {
			*p = *was
		}
		why(p)
		o.accel.admit(o, p)
		m[r.Addr.Addr()] = p
	})
}

// dismiss takes a reason back, and the sender with the last one.
func (o *overlay) dismiss(r fdb.Remote, why func(*peer)) {
	o.changeSenders(func(m map[netip.Addr]*peer) {
		was := m[r.Addr.Addr()]
		if was == nil {
			return
		}
		p := *was
		why(&p)
		if !p.reasons() {
			o.accel.dismiss(o, was)
			delete(m, r.Addr.Addr())
			return
		}
		p.remote = o.answerTo(p.remote)
		m[r.Addr.Addr()] = &p
	})
}

// reasons says whether there is one to keep the peer in senders.
func (p *peer) reasons() bool {
	return p.floods > 0 || p.statics > 0 || p.groups > 0 || p.member || p.stranger
}

// answerTo chooses where answers to a VTEP go that is configured with several
// ports, or not any more with the one it had: the first on the flood list, or
// else that of a static entry.
func (o *overlay) answerTo(had fdb.Remote) fdb.Remote {
	for _, r := range o.table.Flood() {
		if r.Addr.Addr() == had.Addr.Addr() {
			return r
		}
	}
	for e := range o.table.All(0) {
		if e.Kind != fdb.KindLearned && e.Remote.Addr.Addr() == had.Addr.Addr() {
			return e.Remote
		}
	}
	return had
}

// touch notes that the peer was heard of.
func (p *peer) touch(now time.Duration, frames, bytes int) {
	p.lastHeard.Store(int64(now) + 1)
	p.rxFrames.Add(uint64(frames))
	p.rxBytes.Add(uint64(bytes))
}
