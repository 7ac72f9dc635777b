//go:build !linux

package daemon

import (
	"errors"
	"net/netip"

	"github.com/govxlan/govxlan/internal/config"
)

// deviceAddrs has no content where interfaces cannot be asked.
type deviceAddrs struct{}

// find needs --local where the routing table cannot be asked.
func (w *way) find(spec *config.Spec, peers []netip.AddrPort, local []netip.Addr) (*underlay, error) {
	if w.endpoint.WireGuard != nil {
		return w.through(spec, peers)
	}
	if len(local) == 0 {
		return nil, errors.New("give the address to listen on with --local")
	}
	return &underlay{local: local}, nil
}

// roadUnder is not known either.
func (w *way) roadUnder(netip.Addr) (road, bool) { return road{}, false }
