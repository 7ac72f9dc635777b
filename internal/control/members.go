package control

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

// Membership is what a Process knows of other members of its networks.
type Membership struct {
	// On: this process is a member.
	On      bool           `json:"on"`
	Address netip.AddrPort `json:"address,omitzero"`
	Members []Member       `json:"members"`
	// Joins are the addresses to begin with.
	Joins    []Join         `json:"joins"`
	Counters MemberCounters `json:"counters"`
}

// Member is one of them, or one that was there in the last hour.
type Member struct {
	Name    string         `json:"name"`
	Address netip.AddrPort `json:"address"`
	VTEP    netip.Addr     `json:"vtep"`
	Port    uint16         `json:"port"`
	Self    bool           `json:"self,omitempty"`
	// State is alive, failed or left.
	State string      `json:"state"`
	Since time.Time   `json:"since"`
	VNIs  []MemberVNI `json:"vnis"`
}

// MemberVNI is a VNI that a member serves.
type MemberVNI struct {
	VNI      vxlan.VNI `json:"vni"`
	Stations []Station `json:"stations"`
}

// Station is what a member announces.
type Station struct {
	MAC vxlan.MAC    `json:"mac"`
	IPs []netip.Addr `json:"ips"`
}

// Join is an address to begin with.
type Join struct {
	Address string `json:"address"`
	Joined  bool   `json:"joined"`
	// Error is why not, the last time it was tried.
	Error string `json:"error,omitempty"`
}

// MemberCounters count since the membership began.
type MemberCounters struct {
	Joined    uint64 `json:"joined"`    // members that came, or came back
	Failed    uint64 `json:"failed"`    // that stopped answering
	Left      uint64 `json:"left"`      // that said goodbye
	Facts     uint64 `json:"facts"`     // changes of what others have
	WrongKey  uint64 `json:"wrong_key"` // packets and connections that the key does not open
	Foreign   uint64 `json:"foreign"`   // those of other programs
	Malformed uint64 `json:"malformed"` // messages of members that make no sense
	Refused   uint64 `json:"refused"`   // what is above a limit
}

func (s *Server) memberRoutes(mux *http.ServeMux, p Process) {
	mux.HandleFunc("GET /v1/members", func(w http.ResponseWriter, _ *http.Request) { answer(w, p.Members()) })
}

// Members returns what the process knows of the members of its networks.
func (c *Client) Members(ctx context.Context) (m Membership, err error) {
	return m, c.get(ctx, "/v1/members", nil, &m)
}
