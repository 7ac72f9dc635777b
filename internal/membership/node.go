package membership

import (
	"maps"
	"slices"
)

// ledger is what is known of one node's facts.
type ledger struct {
	// version: all facts up to it are known. 0: none; a node begins with 1.
	version uint64
	// latest is the newest version that anybody spoke of.
	latest uint64
	// facts by place; those that are gone stay until version has reached them.
	facts map[place]fact
	// ahead are versions above version that are known.
	ahead map[uint64]bool
}

// mostAhead is how many new facts a node is heard of while one before them is
// missing. What is more waits until all facts are asked for.
const mostAhead = 1024

// apply takes a new fact. It reports whether something is different now, and
// whether there was no room for it.
func (l *ledger) apply(f fact, room int) (changed, refused bool) {
	if f.version == 0 || f.version <= l.version || l.ahead[f.version] {
		return false, false
	}
	l.latest = max(l.latest, f.version)
	if f.version != l.version+1 && len(l.ahead) >= mostAhead {
		return false, false
	}
	if l.ahead == nil {
		l.ahead = make(map[uint64]bool)
	}
	l.ahead[f.version] = true
	changed, refused = l.put(f, room)
	l.advance()
	return changed, refused
}

// put keeps the fact, if none that is newer is there.
func (l *ledger) put(f fact, room int) (changed, refused bool) {
	was, ok := l.facts[f.place]
	if ok && was.version >= f.version {
		return false, false
	}
	if !ok && (len(l.facts) >= MaxFacts || room <= 0) {
		return false, true
	}
	if l.facts == nil {
		l.facts = make(map[place]fact)
	}
	l.facts[f.place] = f
	there, is := ok && !was.gone, !f.gone
	return there != is || is && !slices.Equal(was.ips, f.ips), false
}

// advance counts up while the next one is known.
func (l *ledger) advance() {
	before := l.version
	for l.ahead[l.version+1] {
		l.version++
		delete(l.ahead, l.version)
	}
	if l.version == before {
		return
	}
	for at, f := range l.facts {
		if f.gone && f.version <= l.version {
			delete(l.facts, at)
		}
	}
}

// replace takes all facts of a node at once.
func (l *ledger) replace(s nodeState, room int) (changed bool, refused int) {
	if s.version <= l.version {
		return false, 0
	}
	was := l.facts
	l.facts = make(map[place]fact, len(s.facts))
	l.latest = max(l.latest, s.version)
	room += len(was)
	keep := func(f fact) {
		if _, no := l.put(f, room-len(l.facts)); no {
			refused++
		}
	}
	for _, f := range s.facts {
		keep(f)
	}
	for _, f := range was {
		if f.version > s.version {
			keep(f) // newer than the state
		}
	}
	l.version = s.version
	maps.DeleteFunc(l.ahead, func(v uint64, _ bool) bool { return v <= s.version })
	l.advance()
	for at, f := range l.facts {
		if f.gone && f.version <= l.version {
			delete(l.facts, at)
		}
	}
	same := func(a, b fact) bool { return a.gone == b.gone && slices.Equal(a.ips, b.ips) }
	return !maps.EqualFunc(was, l.facts, same), refused
}

// state is all of it, for others.
func (l *ledger) state(id string) nodeState {
	s := nodeState{id: id, version: l.version, facts: make([]fact, 0, len(l.facts))}
	for _, f := range l.facts {
		s.facts = append(s.facts, f)
	}
	return s
}

// missing says whether there is more to know.
func (l *ledger) missing() bool { return l.version == 0 || l.latest > l.version }
