package neighbour

import "time"

// Outcome is what Note did.
type Outcome uint8

const (
	// Nothing: there was no claim, or the table is not to learn it.
	Nothing Outcome = iota
	// Known: the table says the same.
	Known
	// Added: a new entry.
	Added
	// Changed: the address has another MAC now, or became a router or none.
	Changed
	// Kept: a static entry says otherwise, or the claim was too weak.
	Kept
	// Full: there is no room for a new entry.
	Full
)

// resolution is how exact the time of the last claim is: an entry is written to
// no more often.
const resolution = int64(100 * time.Millisecond)

// Note takes a claim in. here says that it came from the table's own side. now
// is the time since any origin that is the same for all calls.
func (t *Table) Note(c Claim, here bool, now time.Duration) Outcome {
	if !c.IP.IsValid() {
		return Nothing
	}
	_, e := t.find(c.IP)
	if e == nil {
		if !t.config.Load().Snoop {
			return Nothing
		}
		return t.learn(c, here, now)
	}
	if e.mac == c.MAC && (e.static || !c.TellsRouter || e.router == c.Router) {
		if e.here.Load() != here {
			e.here.Store(here)
		}
		if int64(now)-e.heard.Load() >= resolution {
			e.heard.Store(int64(now))
		}
		return Known
	}
	if e.static || e.mac != c.MAC && c.Weak {
		return Kept
	}
	return t.learn(c, here, now)
}

// learn is Note for what changes the table, but for what another goroutine may
// have done meanwhile.
func (t *Table) learn(c Claim, here bool, now time.Duration) Outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	outcome := Added
	e := &entry{ip: c.IP, mac: c.MAC, router: c.Router}
	e.here.Store(here)
	e.heard.Store(int64(now))
	switch _, was := t.find(c.IP); {
	case was == nil:
		if most := t.config.Load().MaxSnooped; most >= 0 && t.snooped.Load() >= int64(most) {
			return Full
		}
	case was.static:
		return Kept
	default:
		outcome = Changed
		if was.mac == c.MAC && !c.TellsRouter {
			e.router = was.router
		}
	}
	t.put(e)
	return outcome
}

// Age removes the snooped entries that nobody claimed for longer than the
// ageing time, and returns how many they were. The table does not do it by
// itself; until then it answers.
func (t *Table) Age(now time.Duration) (removed int) {
	ageing := t.config.Load().Ageing
	if ageing < 0 || t.snooped.Load() == 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	a := *t.current.Load()
	for i := range a {
		e := a[i].Load()
		if e == nil || e == gone || e.static {
			continue
		}
		if now-time.Duration(e.heard.Load()) > ageing {
			a[i].Store(gone)
			t.count(e, -1)
			removed++
		}
	}
	t.fit()
	return removed
}
