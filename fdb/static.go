package fdb

import (
	"errors"
	"fmt"
	"net"
	"slices"
)

// Errors of the methods that set static entries. Each comes wrapped with the
// MAC and the remote in question.
var (
	// ErrExists: there is a static entry for the MAC already.
	ErrExists = errors.New("a static entry exists; replace or delete it")
	// ErrNotFound: there is no entry for the MAC, or it does not lead to the
	// remote.
	ErrNotFound = errors.New("no such entry")
	// ErrGroup: a group MAC has a list of remotes, which cannot be replaced
	// as one.
	ErrGroup = errors.New("a group MAC has a list of remotes; append and delete them one by one")
	// ErrZeroMAC: the all-zero MAC is no address. Linux keeps the flood list
	// under it; here it has its own methods.
	ErrZeroMAC = errors.New("the all-zero MAC has no entry; it stands for the flood list")
	// ErrRemote: the remote has no address.
	ErrRemote = errors.New("the remote has no address")
)

// Add makes a static entry: frames to mac go to r, no frame moves it, and
// frames from mac that come from elsewhere are refused (Learn). A learned entry
// becomes static. For a group MAC, Add makes the first of its remotes.
//
// Errors: ErrExists, ErrZeroMAC, ErrRemote.
func (t *Table) Add(mac MAC, r Remote) error { return t.set("add", mac, r) }

// Replace makes a static entry whatever there was before.
//
// Errors: ErrGroup, ErrZeroMAC, ErrRemote.
func (t *Table) Replace(mac MAC, r Remote) error { return t.set("replace", mac, r) }

// Append adds a remote to those of a group MAC, which may have none before; one
// that is there already is no error. On a unicast MAC that has an entry, of any
// kind, it changes nothing and is no error either; on one that has none it is
// Add. This is what `bridge fdb append` does to a kernel device, which however
// makes a learned entry permanent where it is.
//
// Errors: ErrZeroMAC, ErrRemote.
func (t *Table) Append(mac MAC, r Remote) error { return t.set("append", mac, r) }

func (t *Table) set(verb string, mac MAC, r Remote) error {
	r = r.canonical()
	key := keyOf(mac)
	var err error
	switch {
	case key == zeroMAC:
		err = ErrZeroMAC
	case !r.Addr.Addr().IsValid():
		err = ErrRemote
	case key&groupBit != 0:
		err = t.setGroup(verb, mac, r)
	default:
		err = t.setUnicast(verb, key, r)
	}
	if err != nil {
		return fmt.Errorf("fdb: %s %v to %v: %w", verb, net.HardwareAddr(mac[:]), r, err)
	}
	return nil
}

func (t *Table) setUnicast(verb string, key uint64, r Remote) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, v := t.entry(key)
	switch {
	case verb == "append" && v != 0:
		return nil
	case verb == "add" && v&static != 0:
		return ErrExists
	}
	t.put(key, r, static, 0)
	return nil
}

func (t *Table) setGroup(verb string, mac MAC, r Remote) error {
	if verb == "replace" {
		return ErrGroup
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	remotes := t.replication.Load().groups[mac]
	switch {
	case verb == "add" && len(remotes) > 0:
		return ErrExists
	case slices.Contains(remotes, r):
		return nil
	}
	t.replicate(mac, with(remotes, r))
	return nil
}

// Del removes the entry of mac, static or learned, and all remotes of a group.
//
// Errors: ErrNotFound.
func (t *Table) Del(mac MAC) error {
	if !t.del(mac, nil) {
		return fmt.Errorf("fdb: delete %v: %w", net.HardwareAddr(mac[:]), ErrNotFound)
	}
	return nil
}

// DelDestination removes r from the entry of mac, static or learned, and with
// its last remote the entry.
//
// Errors: ErrNotFound, also when the entry leads elsewhere.
func (t *Table) DelDestination(mac MAC, r Remote) error {
	r = r.canonical()
	if !t.del(mac, &r) {
		return fmt.Errorf("fdb: delete %v to %v: %w", net.HardwareAddr(mac[:]), r, ErrNotFound)
	}
	return nil
}

// del removes what leads from mac to r, or from mac to anywhere if r is nil.
func (t *Table) del(mac MAC, r *Remote) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if remotes := t.replication.Load().groups[mac]; len(remotes) > 0 {
		if r == nil {
			t.replicate(mac, nil)
			return true
		}
		rest := without(remotes, *r)
		t.replicate(mac, rest)
		return len(rest) < len(remotes)
	}
	key := keyOf(mac)
	a := t.current.Load()
	s := a.find(t.seed.hash(key), key)
	if s == nil {
		return false
	}
	for v := s.value.Load(); v != 0; v = s.value.Load() {
		if r != nil && *a.remote(v) != *r {
			return false
		}
		if t.drop(s, v) {
			t.shrink()
			return true
		}
	}
	return false
}
