package control

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// NeighbourEndpoint is what a Server tells and changes of neighbours.
type NeighbourEndpoint interface {
	Neighbours(only ...vxlan.VNI) []vtep.NeighbourStatus
	AddNeighbour(vxlan.VNI, vtep.Neighbour) error
	ReplaceNeighbour(vxlan.VNI, vtep.Neighbour) error
	DelNeighbour(vxlan.VNI, netip.Addr) error
}

// NeighbourChange is a wish to change the neighbours of a VNI.
type NeighbourChange struct {
	Verb string `json:"verb"` // add, replace or del
	// VNI may be nil where the endpoint has one VNI.
	VNI *vxlan.VNI `json:"vni,omitempty"`
	// Neighbour: with del, the IP address alone.
	vtep.Neighbour
}

func (s *Server) neighbourRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/neigh", func(w http.ResponseWriter, r *http.Request) {
		if only, ok := s.knownVNIs(w, r); ok {
			answer(w, s.endpoint.Neighbours(only...))
		}
	})
	mux.HandleFunc("POST /v1/neigh", func(w http.ResponseWriter, r *http.Request) { change(s, w, r, s.changeNeighbour) })
}

func (s *Server) changeNeighbour(c NeighbourChange) (done Changed, err error) {
	if done.VNI, err = s.only(c.VNI); err != nil {
		return done, err
	}
	switch c.Verb {
	case "add":
		return done, s.endpoint.AddNeighbour(done.VNI, c.Neighbour)
	case "replace":
		return done, s.endpoint.ReplaceNeighbour(done.VNI, c.Neighbour)
	case "del":
		return done, s.endpoint.DelNeighbour(done.VNI, c.IP)
	}
	return done, errRequest{fmt.Errorf("there is no verb %q", c.Verb)}
}

// Neighbours returns the neighbours of all VNIs, or of some.
func (c *Client) Neighbours(ctx context.Context, only ...vxlan.VNI) (all []vtep.NeighbourStatus, err error) {
	return all, c.get(ctx, "/v1/neigh", vniQuery(only), &all)
}

// ChangeNeighbour has the endpoint change a neighbour.
func (c *Client) ChangeNeighbour(ctx context.Context, wish NeighbourChange) (done Changed, err error) {
	return done, c.post(ctx, "/v1/neigh", wish, &done)
}
