package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Changed is what came of a change.
type Changed struct {
	VNI vxlan.VNI `json:"vni"`
}

// errRequest marks a request that no client of ours makes.
type errRequest struct{ error }

// change reads a wish, has it done, and answers.
func change[Wish, Done any](s *Server, w http.ResponseWriter, r *http.Request, do func(Wish) (Done, error)) {
	var wish Wish
	if err := readWish(w, r, &wish); err != nil {
		status := http.StatusBadRequest
		if errors.As(err, new(*http.MaxBytesError)) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "request: "+err.Error(), status)
		return
	}
	defer asker(r).serve()()
	c, err := do(wish)
	if err != nil {
		http.Error(w, plain(err), statusOf(err))
		return
	}
	answer(w, c)
}

// mostBytes is how long a request may be.
const mostBytes = 1 << 20

func readWish(w http.ResponseWriter, r *http.Request, wish any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostBytes))
	d.DisallowUnknownFields()
	switch err := d.Decode(wish); {
	case errors.Is(err, io.EOF):
		return errors.New("it has no body: send one JSON object")
	case err != nil:
		return err
	case d.More():
		return errors.New("something follows the JSON object")
	}
	return nil
}

// plain is an error without the names of the packages that it came through.
func plain(err error) string {
	text := err.Error()
	if i := strings.Index(text, ": VNI "); i >= 0 && strings.HasPrefix(text, "vtep: ") {
		text = text[i+2:]
	}
	return strings.ReplaceAll(text, "fdb: ", "")
}

func statusOf(err error) int {
	var request errRequest
	switch {
	case errors.As(err, &request):
		return http.StatusBadRequest
	case errors.Is(err, vtep.ErrNoVNI), errors.Is(err, vtep.ErrNoNeighbour),
		errors.Is(err, fdb.ErrNotFound), errors.Is(err, fdb.ErrNexthops):
		return http.StatusNotFound
	}
	return http.StatusConflict
}

// only returns the VNI of a wish, which need not be named where there is one.
func (s *Server) only(v *vxlan.VNI) (vxlan.VNI, error) {
	if v != nil {
		return *v, nil
	}
	all, err := s.endpoint.Stats()
	if err != nil {
		return 0, err
	}
	vnis := all.VNIs
	if len(vnis) == 1 {
		return vnis[0].VNI, nil
	}
	return 0, errRequest{fmt.Errorf("the endpoint has %d VNIs: choose one with --vni", len(vnis))}
}

func vniQuery(only []vxlan.VNI) url.Values {
	q := url.Values{}
	for _, v := range only {
		q.Add("vni", v.String())
	}
	return q
}
