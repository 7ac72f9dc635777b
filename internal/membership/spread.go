package membership

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

// Of what is lost or was for others, this much is kept, and for so long.
const (
	mostLost  = MaxMembers
	keepsLost = 72 * time.Hour
	showsLost = time.Hour
)

// gossipBytes is how much of a packet one message takes. Packets are of 1,400 bytes.
const gossipBytes = 1100

// mostQueued messages wait to be gossiped. What is more is asked for by those who miss it.
const mostQueued = 4096

// gossip is a message in memberlist's queue. None replaces another.
type gossip []byte

func (gossip) Invalidates(memberlist.Broadcast) bool { return false }
func (g gossip) Message() []byte                     { return g }
func (gossip) Finished()                             {}
func (gossip) UniqueBroadcast()                      {}

// spread gossips a message.
func (m *Membership) spread(msg *message) {
	m.queue.QueueBroadcast(gossip(msg.append(nil)))
	if m.queue.NumQueued() > mostQueued {
		m.queue.Prune(mostQueued)
	}
}

// tell gossips facts of a node, in as many messages as they need.
func (m *Membership) tell(id string, facts []fact) {
	for len(facts) > 0 {
		n, size := 0, 0
		for n < len(facts) && (n == 0 || size < gossipBytes) {
			size += len(appendFact(nil, facts[n]))
			n++
		}
		if n > 1 && size > gossipBytes {
			n--
		}
		m.spread(&message{kind: msgFacts, id: id, facts: facts[:n]})
		facts = facts[n:]
	}
}

// introduce gossips all that this node has, if it is not much. m.mu is held.
func (m *Membership) introduce() {
	news := &message{kind: msgNews, states: []nodeState{m.self.ledger.state(m.self.id)}}
	if b := news.append(nil); len(b) <= gossipBytes {
		m.queue.QueueBroadcast(gossip(b))
	}
}

// delegate is what memberlist calls. Some of its methods are called with memberlist's
// lock held, and so none calls memberlist.
type delegate struct{ m *Membership }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.EventDelegate = delegate{}
	_ memberlist.AliveDelegate = delegate{}
)

func (d delegate) NodeMeta(int) []byte { return d.m.self.about.append(nil) }

func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.m.queue.GetBroadcasts(overhead, limit)
}

// NotifyAlive refuses members that are malformed or too many.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	m := d.m
	if n.Name == m.self.id {
		return nil
	}
	if _, err := parseAbout(n.Meta); err != nil || len(n.Name) == 0 || len(n.Name) > idBytes || !addrOf(n).IsValid() {
		m.counts.malformed.Add(1)
		return errMalformed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.nodes[n.Name]; (known == nil || !known.there) && m.alive.Load() >= MaxMembers {
		m.counts.refused.Add(1)
		return fmt.Errorf("there are %d members already", MaxMembers)
	}
	return nil
}

func (d delegate) NotifyJoin(n *memberlist.Node) { d.there(n, true) }

func (d delegate) NotifyUpdate(n *memberlist.Node) { d.there(n, false) }

// there notes a member that is.
func (d delegate) there(mn *memberlist.Node, fresh bool) {
	m := d.m
	if mn.Name == m.self.id {
		return
	}
	a, err := parseAbout(mn.Meta)
	if err != nil {
		return // NotifyAlive counted it
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.of(mn.Name)
	before := n.addr
	n.about, n.addr = a, addrOf(mn)
	if !n.there {
		n.there, n.left, n.since = true, false, time.Now()
		m.alive.Add(1)
		m.counts.joined.Add(1)
		// Most of what a newcomer has to say comes by gossip, or in one go from whom
		// it joined; so not everybody asks at once, and the later the more they are.
		wait := m.tempo.first * time.Duration(1+m.alive.Load()/25)
		n.fetch = n.since.Add(wait + rand.N(wait))
		if m.alive.Load() == 2 {
			n.fetch = n.since // the first one that is met
			m.introduce()
		}
	}
	m.mark(n)
	m.settle(n.addr)
	if before.IsValid() && before != n.addr {
		m.settle(before)
	}
}

func (d delegate) NotifyLeave(mn *memberlist.Node) {
	m := d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nodes[mn.Name]
	if n == nil || !n.there {
		return
	}
	n.there, n.since = false, time.Now()
	m.alive.Add(-1)
	if n.left {
		m.counts.left.Add(1)
		m.room += len(n.facts)
		n.ledger = ledger{} // an identity does not come back
	} else {
		m.counts.failed.Add(1)
	}
	m.mark(n)
	m.settle(n.addr)
}

// of finds a node, or begins one. m.mu is held.
func (m *Membership) of(id string) *node {
	n := m.nodes[id]
	if n == nil {
		m.makeRoom()
		n = &node{id: id, since: time.Now()}
		m.nodes[id] = n
	}
	return n
}

// makeRoom forgets those that are not there: the oldest, where there are too many.
// m.mu is held.
func (m *Membership) makeRoom() {
	lost := 0
	var oldest *node
	for id, n := range m.nodes {
		if n.there || n.dirty {
			continue
		}
		if time.Since(n.since) > keepsLost {
			m.forget(id)
			continue
		}
		lost++
		if oldest == nil || n.since.Before(oldest.since) {
			oldest = n
		}
	}
	if lost >= mostLost {
		m.forget(oldest.id)
	}
}

func (m *Membership) forget(id string) {
	m.room += len(m.nodes[id].facts)
	delete(m.nodes, id)
}

// NotifyMsg takes a message, by gossip or of one node alone.
func (d delegate) NotifyMsg(b []byte) { d.m.hear(b) }

func (d delegate) LocalState(bool) []byte {
	m := d.m
	m.mu.Lock()
	defer m.mu.Unlock()
	digest := &message{kind: msgDigest, id: m.self.id, versions: []version{{m.self.id, m.self.version}}}
	for id, n := range m.nodes {
		if n.there && n.version > 0 {
			digest.versions = append(digest.versions, version{id, n.version})
		}
	}
	return digest.append(nil)
}

func (d delegate) MergeRemoteState(b []byte, _ bool) { d.m.hear(b) }

// hear does what a message says.
func (m *Membership) hear(b []byte) {
	if m.ctx.Err() != nil {
		return
	}
	msg, err := parse(b)
	if err != nil {
		m.counts.malformed.Add(1)
		m.log.Debug("message of a member", zap.Error(err))
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch msg.kind {
	case msgFacts:
		if msg.id == m.self.id {
			return
		}
		n := m.of(msg.id)
		before := len(n.facts)
		fresh := false
		for _, f := range msg.facts {
			had := f.version <= n.version || n.ahead[f.version]
			changed, refused := n.apply(f, m.room)
			m.room -= len(n.facts) - before
			before = len(n.facts)
			m.note(n, changed, refused)
			fresh = fresh || !had
		}
		if fresh && len(b) <= 2*gossipBytes {
			m.pass(b)
		}
		if n.there && n.missing() {
			m.fetchSoon(n, msg.id)
		}
	case msgState, msgNews:
		for _, s := range msg.states {
			if s.id == m.self.id {
				continue
			}
			n := m.of(s.id)
			if msg.kind == msgNews && s.version > n.version && len(b) <= gossipBytes {
				m.pass(b)
			}
			before := len(n.facts)
			changed, refused := n.replace(s, m.room)
			m.room -= len(n.facts) - before
			m.counts.refused.Add(uint64(refused))
			m.note(n, changed, false)
		}
	case msgWant:
		m.answer(msg)
	case msgDigest:
		for _, v := range msg.versions {
			if v.id == m.self.id {
				continue
			}
			n := m.of(v.id)
			if n.latest = max(n.latest, v.version); n.missing() {
				m.fetchSoon(n, msg.id)
			}
		}
	case msgBye:
		if n := m.nodes[msg.id]; n != nil && !n.left {
			n.left = true
			m.mark(n)
			m.pass(b)
			if !n.there {
				m.counts.failed.Add(^uint64(0)) // it was no failure
				m.counts.left.Add(1)
			}
		}
	}
}

// pass gossips on what was new here.
func (m *Membership) pass(b []byte) {
	if m.alive.Load() < 3 {
		return // who said it knows it
	}
	m.queue.QueueBroadcast(gossip(slices.Clone(b)))
	if m.queue.NumQueued() > mostQueued {
		m.queue.Prune(mostQueued)
	}
}

func (m *Membership) note(n *node, changed, refused bool) {
	if refused {
		m.counts.refused.Add(1)
	}
	if changed {
		m.counts.facts.Add(1)
		if n.there {
			m.mark(n)
		}
	}
}

// fetchSoon has the facts of a node asked for, if they do not come in the meantime by
// gossip. m.mu is held.
func (m *Membership) fetchSoon(n *node, hint string) {
	n.hint = hint
	soon := time.Now().Add(2 * m.tempo.sync)
	if n.fetch.IsZero() || n.version == 0 && hint != n.id && n.fetch.After(soon) {
		n.fetch = soon
	}
}

// catchUp asks for what is missing.
func (m *Membership) catchUp() {
	tick := time.NewTicker(m.tempo.sync)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-tick.C:
			for target, ids := range m.due(now) {
				select {
				case m.serving <- struct{}{}:
					m.work.Go(func() {
						defer func() { <-m.serving }()
						m.send(target, &message{kind: msgWant, id: m.self.id, wanted: ids})
					})
				default: // later
				}
			}
		}
	}
}

// due lists the nodes whose facts are missing for a while, by who is to be asked.
func (m *Membership) due(now time.Time) map[string][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	asks := make(map[string][]string)
	for id, n := range m.nodes {
		switch {
		case !n.there:
			continue
		case !n.missing():
			n.fetch, n.hint = time.Time{}, ""
			continue
		case n.fetch.IsZero():
			n.fetch = now.Add(m.tempo.again)
			continue
		case now.Before(n.fetch):
			continue
		}
		target := id
		if h := m.nodes[n.hint]; h != nil && h.there {
			target = n.hint
		}
		n.hint = "" // who was asked in vain is not asked again
		n.fetch = now.Add(m.tempo.again + rand.N(m.tempo.again))
		asks[target] = append(asks[target], id)
	}
	if len(asks) > mostAsked {
		// Rather everything from one, at random, than something from each.
		var target string
		var ids []string
		for id, wanted := range asks {
			target = id // the order of a map is one
			ids = append(ids, wanted...)
		}
		return map[string][]string{target: ids}
	}
	return asks
}

// mostAsked nodes are asked at once.
const mostAsked = 4

// answer sends the states that somebody wants. m.mu is held.
func (m *Membership) answer(msg *message) {
	if n := m.nodes[msg.id]; n == nil || !n.there {
		return
	}
	const room = most / 4 // a state may be as large again
	var replies []*message
	reply, size := &message{kind: msgState}, 0
	for _, id := range msg.wanted {
		s := nodeState{}
		if id == m.self.id {
			s = m.self.ledger.state(id)
		} else if n := m.nodes[id]; n != nil && n.there && n.version > 0 {
			s = n.ledger.state(id)
		} else {
			continue
		}
		for _, f := range s.facts {
			size += factBytes + 10 + 17*len(f.ips)
		}
		if reply.states = append(reply.states, s); size > room {
			replies = append(replies, reply)
			reply, size = &message{kind: msgState}, 0
		}
	}
	if len(reply.states) > 0 {
		replies = append(replies, reply)
	}
	select {
	case m.serving <- struct{}{}:
		m.work.Go(func() {
			defer func() { <-m.serving }()
			for _, r := range replies {
				m.send(msg.id, r)
			}
		})
	default: // it asks again
	}
}

// send sends a message to one node, over TCP.
func (m *Membership) send(id string, msg *message) {
	select {
	case <-m.listed:
	case <-m.ctx.Done():
		return
	}
	m.mu.Lock()
	n := m.nodes[id]
	if n == nil || !n.there {
		m.mu.Unlock()
		return
	}
	// A node of our own: those of memberlist change under its lock.
	to := &memberlist.Node{Name: id, Addr: n.addr.Addr().AsSlice(), Port: n.addr.Port()}
	m.mu.Unlock()
	if err := m.list.SendReliable(to, msg.append(nil)); err != nil {
		m.log.Debug("message to a member", zap.String("id", id), zap.Error(err))
	}
}
