package ping

import (
	"errors"
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

// Station is a host of the overlay.
type Station struct {
	IP  netip.Addr `json:"ip"`
	MAC vxlan.MAC  `json:"mac"`
}

// ErrNoAnswer: a station did not answer.
var ErrNoAnswer = errors.New("no answer")
