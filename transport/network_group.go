package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// networkGroup is a Group of a Conn of a Network. Members get what others send
// to the group's address and the port of their own.
type networkGroup struct {
	*networkReceiver
	inbox *inbox
	c     *networkConn
	at    netip.AddrPort
}

var (
	_ GroupConn = (*networkConn)(nil)
	_ Group     = (*networkGroup)(nil)
)

// Join makes a member at once: a Network has one link, whatever its name, and
// it is always up.
func (c *networkConn) Join(group netip.Addr, device string, _ func(error)) (Group, error) {
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	group = group.Unmap().WithZone("")
	at := netip.AddrPortFrom(group, c.local.Port())
	err := ErrGroupExists
	switch {
	case !group.IsMulticast():
		err = errors.New("that is no multicast address")
	case group.Is4() != c.local.Addr().Is4():
		err = ErrNoFamily
	case !slices.ContainsFunc(n.groups[at], func(g *networkGroup) bool { return g.c == c }):
		b := newInbox()
		g := &networkGroup{networkReceiver: (*networkReceiver)(b), inbox: b, c: c, at: at}
		n.groups[at] = append(n.groups[at], g)
		return g, nil
	}
	return nil, fmt.Errorf("join group %v on %s: %w", group, device, err)
}

func (g *networkGroup) State() GroupState { return GroupState{Joins: 1} }

// Locate finds every address on the one link that there is.
func (g *networkGroup) Locate(a netip.Addr) Place {
	if a == g.c.local.Addr() {
		return Own
	}
	return InReach
}

func (g *networkGroup) Leave() error {
	n := g.c.network
	n.mu.Lock()
	n.groups[g.at] = slices.DeleteFunc(n.groups[g.at], func(o *networkGroup) bool { return o == g })
	n.mu.Unlock()
	g.end()
	return nil
}

// end ends every Recv.
func (g *networkGroup) end() { g.inbox.once.Do(func() { close(g.inbox.closed) }) }

// leaveAll takes a Conn out of its groups. mu is held.
func (n *Network) leaveAll(c *networkConn) (left []*networkGroup) {
	for at, members := range n.groups {
		n.groups[at] = slices.DeleteFunc(members, func(g *networkGroup) bool {
			if g.c != c {
				return false
			}
			left = append(left, g)
			return true
		})
	}
	return left
}
