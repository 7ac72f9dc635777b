package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

// Process is an Endpoint whose VNIs come and go by request. A Server that has one
// answers for it too.
type Process interface {
	Endpoint
	AddVNI(context.Context, VNIWish) (line string, err error)
	DelVNI(vxlan.VNI) error
	VNIs() []VNI
	// Reload reads the configuration file again.
	Reload(context.Context) (Reloaded, error)
	// Config is the configuration in force, as a file and as JSON.
	Config() (yaml []byte, asJSON json.RawMessage, err error)
	// Members are those of the networks of the process.
	Members() Membership
	// TakeOver hands over to another process. It answers at once, and does the
	// rest by itself.
	TakeOver(Takeover) (TakenOver, error)
}

// reloadPatience is how long a reload may take.
const reloadPatience = 10 * time.Minute

// VNIWish is a wish to add or remove a VNI.
type VNIWish struct {
	Verb string `json:"verb"` // add or del
	// VNI to remove.
	VNI *vxlan.VNI `json:"vni,omitempty"`
	// Options of a VNI to add, its number among them, by the names of the flags
	// of `govxlan up`.
	Options map[string][]string `json:"options,omitempty"`
	// Namespace is the one that the option netns leads to for the client, which
	// may see other paths than the server.
	Namespace *NamespaceID `json:"namespace,omitempty"`
}

// NamespaceID tells network namespaces apart.
type NamespaceID struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// VNI is one VNI of a Process.
type VNI struct {
	VNI    vxlan.VNI `json:"vni"`
	Device string    `json:"device"`
	// VLAN is the VLAN id that its frames carry on the device, if that is a
	// trunk.
	VLAN   uint16    `json:"vlan,omitempty"`
	MAC    vxlan.MAC `json:"mac"`
	MTU    int       `json:"mtu"`
	Netns  string    `json:"netns,omitempty"`
	Bridge string    `json:"bridge,omitempty"`
	// Peers and Groups are those that get copies of flooded frames.
	Peers  []string `json:"peers"`
	Groups []string `json:"groups"`
	// Origin is start, of a VNI of the flags or the file, or request, of one
	// that was added later.
	Origin string `json:"origin"`
}

// VNIChanged is what came of a VNIWish.
type VNIChanged struct {
	Changed
	// Line says that the frames of a new VNI can flow.
	Line string `json:"line,omitempty"`
}

// Reloaded is what a reload did.
type Reloaded struct {
	File    string      `json:"file"`
	Added   []vxlan.VNI `json:"added"`
	Removed []vxlan.VNI `json:"removed"`
	// Remade VNIs have a new device, for an option that cannot be changed in
	// place.
	Remade []VNIDifference `json:"remade"`
	// Changed VNIs were changed in place.
	Changed []VNIDifference `json:"changed"`
	// Endpoint lists the options of the endpoint that changed.
	Endpoint []string `json:"endpoint"`
	// Same is how many VNIs did not change.
	Same int `json:"same"`
}

// VNIDifference names the options that differ.
type VNIDifference struct {
	VNI     vxlan.VNI `json:"vni"`
	Options []string  `json:"options"`
}

// ConfigAnswer is the configuration in force.
type ConfigAnswer struct {
	YAML string          `json:"yaml"`
	JSON json.RawMessage `json:"config"`
}

func (s *Server) processRoutes(mux *http.ServeMux, p Process) {
	mux.HandleFunc("GET /v1/vnis", func(w http.ResponseWriter, _ *http.Request) { answer(w, p.VNIs()) })
	mux.HandleFunc("POST /v1/vnis", func(w http.ResponseWriter, r *http.Request) {
		change(s, w, r, func(wish VNIWish) (VNIChanged, error) { return changeVNI(r.Context(), p, wish) })
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		// The timeout of the server is for what takes no time.
		if http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadPatience)) != nil {
			return
		}
		change(s, w, r, func(struct{}) (Reloaded, error) { return p.Reload(context.WithoutCancel(r.Context())) })
	})
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) {
		yaml, asJSON, err := p.Config()
		if err != nil {
			http.Error(w, plain(err), http.StatusInternalServerError)
			return
		}
		answer(w, ConfigAnswer{string(yaml), asJSON})
	})
}

func changeVNI(ctx context.Context, p Process, wish VNIWish) (done VNIChanged, err error) {
	switch wish.Verb {
	case "add":
		numbers := wish.Options["vni"]
		if len(numbers) != 1 {
			return done, errRequest{errors.New("the option vni is missing")}
		}
		if done.VNI, err = vxlan.ParseVNI(numbers[0]); err != nil {
			return done, errRequest{err}
		}
		done.Line, err = p.AddVNI(ctx, wish)
		return done, err
	case "del":
		if wish.VNI == nil {
			return done, errRequest{errors.New("vni is missing")}
		}
		done.VNI = *wish.VNI
		return done, p.DelVNI(done.VNI)
	}
	return done, errRequest{fmt.Errorf("there is no verb %q", wish.Verb)}
}

// VNIs returns the VNIs of the process.
func (c *Client) VNIs(ctx context.Context) (all []VNI, err error) {
	return all, c.get(ctx, "/v1/vnis", nil, &all)
}

// ChangeVNI has the process add or remove a VNI.
func (c *Client) ChangeVNI(ctx context.Context, wish VNIWish) (done VNIChanged, err error) {
	return done, c.post(ctx, "/v1/vnis", wish, &done)
}

// Reload has the process read its configuration file again. It may take its
// time where many VNIs come and go.
func (c *Client) Reload(ctx context.Context) (done Reloaded, err error) {
	slow := *c
	slow.http.Timeout = reloadPatience
	return done, slow.post(ctx, "/v1/reload", struct{}{}, &done)
}

// Config returns the configuration in force.
func (c *Client) Config(ctx context.Context) (a ConfigAnswer, err error) {
	return a, c.get(ctx, "/v1/config", nil, &a)
}
