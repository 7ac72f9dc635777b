package config

import (
	"fmt"
	"slices"

	"github.com/govxlan/govxlan/internal/privilege"
)

// Privileges is how much an endpoint keeps once everything is open.
type Privileges uint8

const (
	// KeepNeeded: what the VNIs need that there are at the start.
	KeepNeeded Privileges = iota
	// KeepNamespaces: and entering network namespaces.
	KeepNamespaces
	// KeepAll: nothing is given up.
	KeepAll
)

var privilegeNames = []string{"auto", "netns", "all"}

// privileges checks what is to be kept.
func (e *Endpoint) privileges() error {
	text := e.Text("privileges")
	i := slices.Index(privilegeNames, text)
	if i < 0 {
		return e.Errorf("privileges", "%q: give auto, netns or all", text)
	}
	e.Privileges, e.Account = Privileges(i), e.Text("user")
	if e.Privileges == KeepAll && e.Account != "" {
		return e.Errorf("privileges", "all: a user other than the one who starts it gets no more than netns")
	}
	return nil
}

// LookupUser finds the user to change to, if there is one. A configuration may be
// checked where that user does not exist.
func (e *Endpoint) LookupUser() error {
	if e.Account == "" {
		return nil
	}
	u, err := privilege.LookupUser(e.Account)
	if err != nil {
		return e.Errorf("user", "%v: give NAME or UID, perhaps with :GROUP or :GID", err)
	}
	if err := privilege.MayBecome(u); err != nil {
		return fmt.Errorf("--user %s: %w", e.Account, err)
	}
	e.User = u
	return nil
}
