package control

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// FDBEndpoint is what a Server changes for its clients.
type FDBEndpoint interface {
	SetEntry(vxlan.VNI, fdb.Verb, vtep.Entry) error
	DelEntry(vxlan.VNI, vxlan.MAC) error
	DelDestination(vxlan.VNI, vxlan.MAC, fdb.Remote) error
	Flush(vxlan.VNI, fdb.Filter) (int, error)
	Nexthops(only ...vxlan.VNI) []vtep.NexthopStatus
	SetNexthops(vxlan.VNI, uint32, []fdb.Remote) error
	DelNexthops(vxlan.VNI, uint32) (int, error)
	Watch(room int, only ...vxlan.VNI) (*vtep.Watcher, error)
}

// FDBChange is a wish to change an FDB.
type FDBChange struct {
	Verb string `json:"verb"` // add, append, replace, del or flush
	// VNI may be nil where the endpoint has one VNI.
	VNI *vxlan.VNI `json:"vni,omitempty"`
	// MAC of the entry; zero for the flood list. Not with flush.
	MAC vxlan.MAC `json:"mac"`
	Destination
	// Kind of the entry: static (the default), permanent or dynamic.
	Kind string `json:"kind,omitempty"`
	// Kinds, with flush, of the entries to remove; all if there is none.
	Kinds []string `json:"kinds,omitempty"`
}

// Destination is where an entry leads, or with flush where those lead that are
// to go: a VTEP, or a nexthop group. In del and flush it may be left out.
type Destination struct {
	VTEP      netip.Addr `json:"vtep,omitzero"`
	Port      uint16     `json:"port,omitempty"`       // 0: the endpoint's own
	RemoteVNI vxlan.VNI  `json:"remote_vni,omitempty"` // 0: the VNI itself
	Nexthops  uint32     `json:"nhid,omitempty"`
}

func (d Destination) remote() fdb.Remote {
	return fdb.Remote{Addr: netip.AddrPortFrom(d.VTEP, d.Port), VNI: uint32(d.RemoteVNI)}
}

// NexthopChange is a wish to change a nexthop group.
type NexthopChange struct {
	Verb    string        `json:"verb"` // add, replace or del
	VNI     *vxlan.VNI    `json:"vni,omitempty"`
	ID      uint32        `json:"id"`
	Remotes []Destination `json:"remotes,omitempty"`
}

// FDBChanged is what came of a change.
type FDBChanged struct {
	Changed
	// Removed entries, of a flush or with a nexthop group.
	Removed int `json:"removed"`
}

func (s *Server) fdbRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/fdb", func(w http.ResponseWriter, r *http.Request) { change(s, w, r, s.changeFDB) })
	mux.HandleFunc("GET /v1/nexthops", func(w http.ResponseWriter, r *http.Request) {
		if only, ok := s.knownVNIs(w, r); ok {
			answer(w, s.endpoint.Nexthops(only...))
		}
	})
	mux.HandleFunc("POST /v1/nexthops", func(w http.ResponseWriter, r *http.Request) { change(s, w, r, s.changeNexthops) })
	mux.HandleFunc("GET /v1/watch", s.watch)
}

func (s *Server) changeFDB(c FDBChange) (done FDBChanged, err error) {
	if done.VNI, err = s.only(c.VNI); err != nil {
		return done, err
	}
	var kind fdb.Kind
	if c.Kind != "" {
		var ok bool
		if kind, ok = fdb.ParseKind(c.Kind); !ok || kind == fdb.KindLearned {
			return done, errRequest{fmt.Errorf("kind %q: give static, permanent or dynamic", c.Kind)}
		}
	}
	r := c.remote()
	switch c.Verb {
	case "add", "append", "replace":
		verb := map[string]fdb.Verb{"add": fdb.VerbAdd, "append": fdb.VerbAppend, "replace": fdb.VerbReplace}[c.Verb]
		return done, s.endpoint.SetEntry(done.VNI, verb, vtep.Entry{
			MAC: c.MAC, Destination: fdb.Destination{Remote: r, Nexthops: c.Nexthops, Kind: kind},
		})
	case "del":
		if c.VTEP.IsValid() {
			return done, s.endpoint.DelDestination(done.VNI, c.MAC, r)
		}
		return done, s.endpoint.DelEntry(done.VNI, c.MAC)
	case "flush":
		f := fdb.Filter{Addr: c.VTEP, Port: c.Port, VNI: uint32(c.RemoteVNI), Nexthops: c.Nexthops}
		for _, name := range c.Kinds {
			k, ok := fdb.ParseKind(name)
			if !ok {
				return done, errRequest{fmt.Errorf("there is no kind of entry %q", name)}
			}
			f.Kinds = append(f.Kinds, k)
		}
		done.Removed, err = s.endpoint.Flush(done.VNI, f)
		return done, err
	}
	return done, errRequest{fmt.Errorf("there is no verb %q", c.Verb)}
}

func (s *Server) changeNexthops(c NexthopChange) (done FDBChanged, err error) {
	if done.VNI, err = s.only(c.VNI); err != nil {
		return done, err
	}
	switch c.Verb {
	case "add", "replace":
		if c.Verb == "add" {
			for _, g := range s.endpoint.Nexthops(done.VNI) {
				if g.ID == c.ID {
					return done, fmt.Errorf("VNI %v: nexthop group %d exists; replace or delete it", done.VNI, c.ID)
				}
			}
		}
		var remotes []fdb.Remote
		for _, d := range c.Remotes {
			remotes = append(remotes, d.remote())
		}
		return done, s.endpoint.SetNexthops(done.VNI, c.ID, remotes)
	case "del":
		done.Removed, err = s.endpoint.DelNexthops(done.VNI, c.ID)
		return done, err
	}
	return done, errRequest{fmt.Errorf("there is no verb %q", c.Verb)}
}

// ChangeFDB has the endpoint change an FDB.
func (c *Client) ChangeFDB(ctx context.Context, wish FDBChange) (done FDBChanged, err error) {
	return done, c.post(ctx, "/v1/fdb", wish, &done)
}

// ChangeNexthops has the endpoint change a nexthop group.
func (c *Client) ChangeNexthops(ctx context.Context, wish NexthopChange) (done FDBChanged, err error) {
	return done, c.post(ctx, "/v1/nexthops", wish, &done)
}

// Nexthops returns the nexthop groups of all VNIs, or of some.
func (c *Client) Nexthops(ctx context.Context, only ...vxlan.VNI) (groups []vtep.NexthopStatus, err error) {
	return groups, c.get(ctx, "/v1/nexthops", vniQuery(only), &groups)
}
