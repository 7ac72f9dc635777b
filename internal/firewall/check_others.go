//go:build !linux

package firewall

import (
	"context"
	"errors"
)

// Rules are there on Linux only.
type Rules struct{}

// ErrRights: the rules can only be read with CAP_NET_ADMIN.
var ErrRights = errors.New("the capability CAP_NET_ADMIN is missing")

// Read is for Linux.
func Read(context.Context) (*Rules, error) { return nil, errors.New("only on Linux") }

// Check is for Linux.
func (*Rules) Check(Packet) []Drop { return nil }
