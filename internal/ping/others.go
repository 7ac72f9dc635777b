//go:build !linux

package ping

import (
	"errors"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

var errNotHere = errors.New("only on Linux")

// NewEcho is for Linux.
func NewEcho(_, _ netip.Addr) (Line, error) { return nil, errNotHere }

// Knock is for Linux.
func Knock(netip.Addr, netip.AddrPort, vxlan.VNI, time.Duration) (Knocked, error) {
	return Knocked{State: Untried}, errNotHere
}

// Stations is for Linux.
func Stations(string, func(vxlan.MAC) bool) []Station { return nil }

// AskStation is for Linux.
func AskStation(string, Station, time.Duration) (time.Duration, error) { return 0, errNotHere }
