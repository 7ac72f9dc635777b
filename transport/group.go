package transport

import (
	"errors"
	"net/netip"
)

// Errors of Join, wrapped with the group, and of sending to one.
var (
	// ErrNoGroup: a train for a multicast group that the Conn was not told to
	// join, or whose device is not there now.
	ErrNoGroup = errors.New("the multicast group is not joined, or its device is not there")
	// ErrGroupExists: the Conn has joined this group already, on whatever
	// device.
	ErrGroupExists = errors.New("the multicast group is joined already")
)

// Why a Conn is not a member of a group that it was told to join; see
// GroupState.
var (
	// ErrNoDevice: there is no such device (yet).
	ErrNoDevice = errors.New("the underlay device is not there")
	// ErrDeviceDown: the device is down, or has no carrier.
	ErrDeviceDown = errors.New("the underlay device is down")
)

// GroupConn is a Conn that can be a member of multicast groups of the underlay
// (RFC 7348 section 4.2). Trains are sent to a group as to a VTEP, with the
// group as Train.Addr, by the device that it was joined on.
type GroupConn interface {
	Conn
	// Join makes the Conn a member of a group, (*,G), on one underlay device,
	// until Leave or Close. A membership that cannot be had now is no error:
	// it is tried again when the device comes, comes up, or is made anew, and
	// otherwise every few seconds. Each time that it is lost or won back tell
	// is called, with GroupState.Err; it must not block or call the Conn. nil:
	// nobody wants to know. The Group must be served, as the receivers of
	// the Conn are.
	//
	// Errors: ErrGroupExists, ErrNoFamily, ErrPortInUse.
	Join(group netip.Addr, device string, tell func(error)) (Group, error)
}

// Group is a Conn's membership in one multicast group. What it receives was
// sent to the group: such datagrams do not come from Conn.Receivers, and those
// for the VTEP's own address do not come from here.
type Group interface {
	Receiver
	// State tells whether the group's datagrams arrive.
	State() GroupState
	// Locate tells where an address is, seen from the group. It costs little,
	// and asks nobody.
	Locate(netip.Addr) Place
	// Leave ends the membership and every Recv. A second Leave does nothing.
	// An event loop that waits for the group (Pollable) must have let go of it
	// before.
	Leave() error
}

// GroupState is a membership at one moment.
type GroupState struct {
	// Err says why the Conn is not a member; nil: it is.
	Err error
	// Joins is how often membership was won: once, and once more each time
	// that the device came back.
	Joins uint64
}

// Place is where an address is.
type Place uint8

const (
	// Elsewhere: nothing that was sent to the group has reached it.
	Elsewhere Place = iota
	// InReach: what was sent to the group may have reached it. With a
	// multicast TTL of 1 that is what is in a subnet of the device; routers
	// do not pass it on.
	InReach
	// Own: an address of the device itself.
	Own
)

// locate finds an address among those that a device has.
func locate(a netip.Addr, own []netip.Prefix, ttl int) Place {
	place := Elsewhere
	if ttl > 1 {
		place = InReach
	}
	a = a.Unmap().WithZone("")
	for _, p := range own {
		if p.Addr() == a {
			return Own
		}
		if p.Contains(a) {
			place = InReach
		}
	}
	return place
}
