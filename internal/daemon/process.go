package daemon

import (
	"context"
	"encoding/json"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// process is what the control socket tells about and changes: a Daemon where the
// VNIs themselves are concerned, its endpoint for the rest.
type process struct {
	*vtep.Endpoint
	daemon *Daemon
}

var _ control.Process = process{}

func (p process) AddVNI(ctx context.Context, wish control.VNIWish) (string, error) {
	return p.daemon.AddVNI(ctx, wish)
}
func (p process) DelVNI(v vxlan.VNI) error                                 { return p.daemon.DelVNI(v) }
func (p process) VNIs() []control.VNI                                      { return p.daemon.VNIs() }
func (p process) Reload(ctx context.Context) (control.Reloaded, error)     { return p.daemon.Reload(ctx) }
func (p process) Config() (yaml []byte, asJSON json.RawMessage, err error) { return p.daemon.Config() }
func (p process) Members() control.Membership                              { return p.daemon.Members() }
func (p process) TakeOver(t control.Takeover) (control.TakenOver, error) {
	return p.daemon.TakeOver(t)
}
