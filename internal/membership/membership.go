package membership

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/vxlan"
	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

// Membership is one node's. All methods may be called at once.
type Membership struct {
	log     *zap.Logger
	handler func(Change)
	self    node // about, id, addr, since never change; its ledger is under mu
	list    *memberlist.Memberlist
	queue   *memberlist.TransmitLimitedQueue
	tempo   tempo
	counts  counts
	alive   atomic.Int32 // members, this one included
	serving chan struct{}
	listed  chan struct{} // closed once list is set

	ctx  context.Context // of all that goes on
	stop context.CancelFunc
	work sync.WaitGroup
	news chan struct{} // there are dirty nodes

	mu    sync.Mutex
	nodes map[string]*node
	room  int // for facts of others
	joins []*join
}

// tempo is how fast all goes; tests go faster.
type tempo struct {
	rejoin, sync, first, again time.Duration
	tune                       func(*memberlist.Config)
}

var usual = tempo{rejoin: 3 * time.Second, sync: 250 * time.Millisecond, first: time.Second, again: 3 * time.Second}

// label is in front of all packets, so that those of other programs that use
// memberlist are told from those of a wrong key.
const label = "govxlan"

// Start makes this node a member, alone to begin with: it listens when Start
// returns, and goes on joining until Leave or Close.
func Start(c Config) (*Membership, error) { return start(c, usual) }

func start(c Config, t tempo) (*Membership, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	var random [8]byte
	rand.Read(random[:])
	m := &Membership{
		log: c.Log, handler: c.Handler, tempo: t, nodes: make(map[string]*node), room: MaxAllFacts,
		news: make(chan struct{}, 1), serving: make(chan struct{}, 8), listed: make(chan struct{}),
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	now := time.Now()
	m.self = node{
		id: hex.EncodeToString(random[:]), there: true, since: now,
		about:  about{started: now.UnixNano(), vtep: c.VTEP, name: c.Name},
		ledger: ledger{version: 1, latest: 1, facts: make(map[place]fact)},
	}
	m.alive.Store(1)
	m.queue = &memberlist.TransmitLimitedQueue{RetransmitMult: 4, NumNodes: func() int { return int(m.alive.Load()) }}
	m.setJoin(c.Join)

	conf := memberlist.DefaultLANConfig()
	conf.Name = m.self.id
	conf.Label = label
	conf.SecretKey = c.Key
	conf.AdvertisePort = 0
	if c.Advertise.IsValid() {
		conf.AdvertiseAddr, conf.AdvertisePort = c.Advertise.Addr().Unmap().String(), int(c.Advertise.Port())
	}
	conf.TCPTimeout = 5 * time.Second
	conf.SuspicionMult, conf.SuspicionMaxTimeoutMult = 3, 2
	// A node that hears nobody takes it for its own fault, and goes more slowly: not by
	// much, or a split is noticed late.
	conf.AwarenessMaxMultiplier = 2
	conf.EnableCompression = false // addresses, and they are few
	conf.PushPullInterval = 15 * time.Second
	conf.GossipInterval = 100 * time.Millisecond
	conf.Logger = log.New(&reports{m}, "", 0)
	d := delegate{m}
	conf.Delegate, conf.Events, conf.Alive = d, d, d
	at, err := listen(c.Bind, &m.counts)
	if err != nil {
		m.stop()
		return nil, fmt.Errorf("membership at %v (UDP and TCP): %w", c.Bind, err)
	}
	conf.Transport = at
	if t.tune != nil {
		t.tune(conf)
	}
	list, err := memberlist.Create(conf)
	if err != nil {
		m.stop()
		return nil, errors.Join(fmt.Errorf("membership at %v: %w", c.Bind, err), at.Shutdown())
	}
	m.list = list
	close(m.listed)
	m.self.addr = addrOf(m.list.LocalNode())
	m.work.Go(m.dispatch)
	m.work.Go(m.catchUp)
	m.work.Go(m.keepJoining)
	return m, nil
}

// Addr is where this node is a member.
func (m *Membership) Addr() netip.AddrPort { return m.self.addr }

// ID of this node, for as long as it runs.
func (m *Membership) ID() string { return m.self.id }

// Leave tells the others that this node goes, for as long as timeout at most, and
// closes.
func (m *Membership) Leave(timeout time.Duration) error {
	if m.ctx.Err() != nil {
		return nil
	}
	if m.alive.Load() > 1 {
		m.spread(&message{kind: msgBye, id: m.self.id})
	}
	if err := m.list.Leave(timeout); err != nil {
		m.log.Debug("not all were told that this node leaves", zap.Error(err))
	}
	return m.Close()
}

// Close ends the membership at once, without a word: the others notice in seconds.
// It does not wait for the handler, which may be in its last call. A second Close does
// nothing.
func (m *Membership) Close() error {
	m.stop()
	return m.list.Shutdown()
}

// wait is until all goroutines of its own are done.
func (m *Membership) wait() { m.work.Wait() }

// AddVNI says that this node serves a VNI.
func (m *Membership) AddVNI(v vxlan.VNI) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.say([]fact{{place: place{vni: v}}})
}

// DelVNI says that it does not any more, and withdraws the stations in it.
func (m *Membership) DelVNI(v vxlan.VNI) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var facts []fact
	for at := range m.self.facts {
		if at.vni == v {
			facts = append(facts, fact{place: at, gone: true})
		}
	}
	return m.say(facts)
}

// Announce says that stations are behind this node, in a VNI that it serves. One that
// was announced before gets the new addresses.
func (m *Membership) Announce(v vxlan.VNI, stations ...Endpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.self.facts[place{vni: v}]; !ok {
		return fmt.Errorf("VNI %v: %w", v, ErrVNI)
	}
	var facts []fact
	for _, e := range stations {
		switch {
		case len(e.IPs) > MaxIPs:
			return fmt.Errorf("%v: %w", e.MAC, ErrIPs)
		case e.MAC == (vxlan.MAC{}) || e.MAC[0]&1 != 0:
			return fmt.Errorf("%v: %w", e.MAC, ErrMAC)
		}
		f := fact{place: place{v, e.MAC}}
		for _, ip := range e.IPs {
			f.ips = append(f.ips, ip.Unmap().WithZone(""))
		}
		slices.SortFunc(f.ips, netip.Addr.Compare)
		facts = append(facts, f)
	}
	return m.say(facts)
}

// Withdraw says that stations are not there any more. Those that were not announced
// make no difference.
func (m *Membership) Withdraw(v vxlan.VNI, macs ...vxlan.MAC) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var facts []fact
	for _, mac := range macs {
		facts = append(facts, fact{place: place{v, mac}, gone: true})
	}
	return m.say(facts)
}

// say has facts of this node known everywhere. m.mu is held.
func (m *Membership) say(facts []fact) error {
	if m.ctx.Err() != nil {
		return ErrClose
	}
	l := &m.self.ledger
	var fresh []fact
	more := 0
	for _, f := range facts {
		was, ok := l.facts[f.place]
		if ok == !f.gone && (!ok || slices.Equal(was.ips, f.ips)) {
			continue
		}
		if !ok {
			more++
		}
		fresh = append(fresh, f)
	}
	if more > 0 && len(l.facts)+more > MaxFacts {
		return ErrFull
	}
	for i := range fresh {
		l.version++
		fresh[i].version = l.version
		if fresh[i].gone {
			delete(l.facts, fresh[i].place)
		} else {
			l.facts[fresh[i].place] = fresh[i]
		}
	}
	l.latest = l.version
	if m.alive.Load() > 1 { // else nobody hears it, and who comes asks for all
		m.tell(m.self.id, fresh)
	}
	return nil
}

// Members lists this node, the others that are there, and those that were lost or
// left in the last hour, in the order of their addresses.
func (m *Membership) Members() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	self := m.self.show()
	self.Self = true
	members := []Member{*self}
	for _, n := range m.nodes {
		if !n.addr.IsValid() || n.superseded || !n.there && time.Since(n.since) > showsLost {
			continue // never met, or a later start of it is there, or long gone
		}
		members = append(members, *n.member())
	}
	slices.SortFunc(members, func(a, b Member) int {
		if c := a.VTEP.Compare(b.VTEP); c != 0 {
			return c
		}
		return a.Since.Compare(b.Since)
	})
	return members
}

// VNIs lists the numbers that any member serves, this one included, in order.
func (m *Membership) VNIs() []vxlan.VNI {
	m.mu.Lock()
	defer m.mu.Unlock()
	var vnis []vxlan.VNI
	add := func(facts map[place]fact) {
		for at, f := range facts {
			if at.mac == (vxlan.MAC{}) && !f.gone {
				vnis = append(vnis, at.vni)
			}
		}
	}
	add(m.self.facts)
	for _, n := range m.nodes {
		if n.there && !n.superseded {
			add(n.facts)
		}
	}
	slices.Sort(vnis)
	return slices.Compact(vnis)
}

// settle finds out who has whose place, of those at one address. m.mu is held.
func (m *Membership) settle(a netip.AddrPort) {
	var there []*node
	for _, n := range m.nodes {
		if n.addr == a {
			there = append(there, n)
		}
	}
	for _, n := range there {
		is := a == m.self.addr || slices.ContainsFunc(there, func(o *node) bool {
			return o != n && o.there && (!n.there || o.started > n.started)
		})
		if is != n.superseded {
			n.superseded = is
			m.mark(n)
		}
	}
}

// mark has the handler told of a node. m.mu is held.
func (m *Membership) mark(n *node) {
	n.dirty, n.shown = true, nil
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// dispatch tells the handler.
func (m *Membership) dispatch() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.news:
		}
		m.mu.Lock()
		var changes []Change
		for _, n := range m.nodes {
			if !n.dirty {
				continue
			}
			n.dirty = false
			c := Change{Was: n.told}
			if n.there && !n.superseded {
				c.Is = n.member()
			}
			n.told = c.Is
			if c.Was != nil || c.Is != nil {
				changes = append(changes, c)
			}
		}
		m.mu.Unlock()
		// Those that come before those that go: a node that was started anew at
		// the same address is not gone in between.
		slices.SortStableFunc(changes, func(a, b Change) int { return rank(a) - rank(b) })
		for _, c := range changes {
			if m.ctx.Err() != nil {
				return
			}
			m.report(c)
			if m.handler != nil {
				m.handler(c)
			}
		}
	}
}

func rank(c Change) int {
	if c.Is == nil {
		return 1
	}
	return 0
}

// report logs who came and went.
func (m *Membership) report(c Change) {
	switch {
	case c.Was == nil:
		m.log.Info("a member is there", zap.String("name", c.Is.Name), zap.Stringer("vtep", c.Is.VTEP), zap.Stringer("addr", c.Is.Addr))
	case c.Is == nil:
		m.log.Info("a member is gone", zap.String("name", c.Was.Name), zap.Stringer("vtep", c.Was.VTEP), zap.Stringer("addr", c.Was.Addr))
	}
}
