package transport

import (
	"fmt"
	"net/netip"
	"reflect"
)

// Handover says of a Conn what another process must know, beside its
// descriptors, to go on with it. It is meant to be sent as JSON: fields are
// added, and those that are unknown left out. Numbers of sockets are places in
// Sockets, which is in the order of the descriptors.
type Handover struct {
	// Transport is udp or packet.
	Transport string `json:"transport"`
	// Config is that of ListenUDP.
	Config  UDPConfig        `json:"config"`
	Sockets []SocketHandover `json:"sockets"`
	// Locals are Conn.Locals.
	Locals    []netip.AddrPort `json:"locals"`
	Receivers []int            `json:"receivers"`
	// Senders are those of IPv4 and of IPv6, by flow. One may be there several
	// times.
	Senders      [2][]int        `json:"senders"`
	Unfragmented []int           `json:"unfragmented,omitempty"`
	Groups       []GroupHandover `json:"groups,omitempty"`
}

// SocketHandover is one socket of a Handover.
type SocketHandover struct {
	Port uint16 `json:"port"`
	V6   bool   `json:"v6,omitempty"`
}

// GroupHandover is a membership in a multicast group.
type GroupHandover struct {
	Group  netip.Addr `json:"group"`
	Device string     `json:"device"`
	Socket int        `json:"socket"`
	// Joined is the index of the device that it is a member on, 0 = none.
	Joined uint32 `json:"joined"`
	Joins  uint64 `json:"joins"`
}

// Transferable is a Conn that another process can go on with. That of ListenUDP
// is.
type Transferable interface {
	Conn
	// HandOver returns what the other process needs: a description, and
	// descriptors, which stay the Conn's and are valid until Close. Groups that
	// are joined later are missing in it.
	HandOver() (Handover, []int)
	// Settle closes what was inherited (InheritUDP) and that nobody has asked
	// for: memberships in groups.
	Settle()
}

// DifferError says that sockets to be inherited are not as the Config wants
// them.
type DifferError struct {
	// Field of UDPConfig.
	Field      string
	Have, Want any
}

func (e *DifferError) Error() string {
	return fmt.Sprintf("the sockets that are there have another %s: %v, and %v is wanted", e.Field, e.Have, e.Want)
}

// differ compares what sockets were opened with and what is wanted. What the one
// version of the program knows and the other does not is zero there.
func differ(have, want UDPConfig) error {
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range h.NumField() {
		if !reflect.DeepEqual(h.Field(i).Interface(), w.Field(i).Interface()) {
			return &DifferError{h.Type().Field(i).Name, h.Field(i).Interface(), w.Field(i).Interface()}
		}
	}
	return nil
}
