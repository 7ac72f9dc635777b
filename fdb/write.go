package fdb

// What follows is called with mu held. put and drop are the only two places
// where a unicast entry comes, changes or goes, and where that is told (Notify).

// entry returns the value of key, 0 when there is none, and the array that
// explains it.
func (t *Table) entry(key uint64) (*array, uint64) {
	a := t.current.Load()
	s := a.find(t.seed.hash(key), key)
	if s == nil {
		return a, 0
	}
	return a, s.value.Load()
}

// put makes the entry of key what it is told, new or not. With the flag ecmp,
// stamp is the ID of the nexthop group and r is not used. An entry that ages
// and did so before keeps the later of its stamps, also against a receiver that
// sets it at this moment. what is told, 0 for nothing.
func (t *Table) put(key uint64, r Remote, flags uint64, stamp uint32, what EventKind) {
	hash := t.seed.hash(key)
	a := t.current.Load()
	if t.bound >= limit(len(a.slots)) && a.find(hash, key) == nil {
		t.rebuild()
	}
	i := uint32(0)
	if flags&ecmp == 0 {
		i = t.intern(r)
	}
	s, fresh := t.current.Load().bind(hash, key)
	if fresh {
		t.bound++
	}
	for {
		old := s.value.Load()
		value := pack(i, flags, stamp)
		if old != 0 && old&static == 0 && flags&static == 0 && later(uint32(old), stamp) {
			value = pack(i, flags, uint32(old))
		}
		if !s.value.CompareAndSwap(old, value) {
			continue
		}
		if old != 0 {
			t.count(old, -1)
		}
		t.count(flags, 1)
		if t.notify != nil && what != 0 && old != value {
			t.tell(what, key, value, old)
		}
		return
	}
}

// drop removes the entry in s if its value is still v. It is not when a
// receiver has just refreshed it.
func (t *Table) drop(s *slot, v uint64, what EventKind) bool {
	if !s.value.CompareAndSwap(v, 0) {
		return false
	}
	t.count(v, -1)
	t.settle(s.key.Load())
	if t.notify != nil {
		t.tell(what, s.key.Load(), v, 0)
	}
	return true
}

func (t *Table) count(value uint64, by int64) {
	t.unicast[kindOf(value)].Add(by)
}

// live is how many unicast entries there are.
func (t *Table) live() int {
	n := int64(0)
	for k := range t.unicast {
		n += t.unicast[k].Load()
	}
	return int(n)
}

// intern returns the index of r, the same for equal remotes. Indices are only
// given out, never taken back, within one array: one that were used again
// could lead a slow reader to a remote that never had anything to do with its
// MAC. Remotes that no entry uses any more go with the next rebuild, which
// remoteLimit brings about: frames with ever new source addresses cannot make
// the list outgrow the slots (reset), and a rebuild is paid for by at least an
// eighth as many new remotes as it copies slots.
func (t *Table) intern(r Remote) uint32 {
	if i, ok := t.interned[r]; ok {
		return i
	}
	if len(t.interned) >= t.remoteLimit {
		t.rebuild()
	}
	a := t.current.Load()
	i := len(t.interned) + 1
	if i >= len(a.remotes) {
		longer := make([]*Remote, 2*len(a.remotes))
		copy(longer, a.remotes)
		a = &array{slots: a.slots, shift: a.shift, remotes: longer}
		t.current.Store(a)
	}
	kept := r
	a.remotes[i] = &kept
	t.interned[r] = uint32(i)
	return uint32(i)
}

// replace publishes a as the current array, and takes over what happened in the
// last one since it was copied.
func (t *Table) replace(a *array, interned map[Remote]uint32, bound int) {
	old := t.current.Load()
	t.reset(a, interned, bound)
	t.carryStamps(old, a)
}

// reset publishes a as the current array. After a rebuild a remote has at least
// one entry, so that at most five eighths as many remotes as slots are interned,
// and until the next one 64 or an eighth of the slots more.
func (t *Table) reset(a *array, interned map[Remote]uint32, bound int) {
	t.interned = interned
	t.bound = bound
	t.remoteLimit = len(interned) + max(64, len(a.slots)/8)
	t.current.Store(a)
}

// rebuild publishes a new array with the live entries and their remotes, of
// the size that they need.
func (t *Table) rebuild() {
	t.replace(t.copyLive(t.current.Load()))
}

func (t *Table) copyLive(old *array) (a *array, interned map[Remote]uint32, bound int) {
	a = newArray(slotsFor(t.live()), 8)
	interned = make(map[Remote]uint32)
	renumbered := make([]uint32, len(old.remotes))
	for i := range old.slots {
		v := old.slots[i].value.Load()
		if v == 0 {
			continue
		}
		key := old.slots[i].key.Load()
		s, _ := a.bind(t.seed.hash(key), key)
		bound++
		if v&ecmp != 0 {
			s.value.Store(v)
			continue
		}
		n := index(v)
		if renumbered[n] == 0 {
			r := old.remotes[n]
			to := len(interned) + 1
			if to >= len(a.remotes) {
				a.remotes = append(a.remotes, make([]*Remote, len(a.remotes))...)
			}
			a.remotes[to] = r
			interned[*r] = uint32(to)
			renumbered[n] = uint32(to)
		}
		s.value.Store(pack(renumbered[n], v&(static|user|held), uint32(v)))
	}
	return a, interned, bound
}

// carryStamps brings later stamps from an array to the one that was just
// published in its place. Receivers set stamps without the lock, in the array
// that they know. One that did so after its slot was copied and before the copy
// was published believes that it is done: its stamp is carried over here. One
// that did it later than that finds the new array afterwards, and does it again
// there (refresh).
func (t *Table) carryStamps(old, a *array) {
	for i := range old.slots {
		v := old.slots[i].value.Load()
		if v == 0 || v&static != 0 {
			continue
		}
		key := old.slots[i].key.Load()
		s := a.find(t.seed.hash(key), key)
		for {
			n := s.value.Load()
			if !later(uint32(v), uint32(n)) || s.value.CompareAndSwap(n, restamp(n, uint32(v))) {
				break
			}
		}
	}
}

// shrink gives memory back when a quarter of it would do.
func (t *Table) shrink() {
	if len(t.current.Load().slots) >= 4*slotsFor(t.live()) {
		t.rebuild()
	}
}
