package datapath

import (
	"errors"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Policies follows the IPsec policies of a network namespace. Packets that the
// programs send and receive pass by them: what is to be encrypted would leave in
// the clear, and what is to arrive encrypted be accepted in the clear.
type Policies struct {
	netns  string
	events *nl.NetlinkSocket
}

// FollowPolicies begins to follow those of a network namespace, a path or a name,
// empty for the caller's. It returns nil where the kernel knows no IPsec.
func FollowPolicies(netns string) (p *Policies, err error) {
	p = &Policies{netns: netns}
	err = namespace.Do(netns, func() (err error) {
		p.events, err = nl.Subscribe(unix.NETLINK_XFRM, nl.XFRMNLGRP_POLICY)
		return err
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	return p, err
}

// Any says whether there is one. When that cannot be found out, it is so.
func (p *Policies) Any() (any bool) {
	err := namespace.Do(p.netns, func() error {
		list, err := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
		any = len(list) > 0
		return err
	})
	return any || err != nil
}

// Wait waits for a change. It returns false after Close.
func (p *Policies) Wait() bool {
	_, _, err := p.events.Receive()
	return err == nil || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR)
}

// Close ends Wait.
func (p *Policies) Close() {
	if p != nil {
		p.events.Close()
	}
}
