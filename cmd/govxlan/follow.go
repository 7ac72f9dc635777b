package main

import (
	"errors"
	"net/netip"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// follower keeps the MTU of an overlay at what the underlay carries.
type follower struct {
	endpoint *vtep.Endpoint
	device   tap.Device
	vni      vxlan.VNI
	log      *zap.Logger
	// find asks the routing table; 0 when it does not know at the moment.
	find func(peers []netip.AddrPort) int

	fixed  bool // --mtu was given: only warn
	bridge bool // the device is a port of one
	fits   int  // what find said last
	set    int  // what we made of it
}

// leastFollowed is how far down a device is taken. Below it the kernel takes
// its IPv6 addresses away, for good.
const leastFollowed = 1280

// look asks whether the underlay carries something else than before, and does
// what follows from that.
func (f *follower) look() {
	peers, ok := f.peers()
	if !ok {
		return
	}
	fits := f.find(peers)
	if fits <= 0 || fits == f.fits {
		return
	}
	f.fits = fits
	f.endpoint.ForgetPathMTU()
	now := f.device.MTU()
	switch {
	case f.fixed, now != f.set:
		if now > fits {
			f.log.Warn("frames of full size do not fit the underlay any more: their senders are told, if they ask for it by DF or IPv6",
				zap.Int("mtu", now), zap.Int("fits", fits))
		}
		return
	case f.bridge && fits < now:
		// The bridge would drop what the other ports send at full size, and
		// tell nobody. We tell.
		f.log.Warn("the underlay carries less than before: the device keeps its MTU as a port of a bridge, and the senders of longer frames are told",
			zap.Int("mtu", now), zap.Int("fits", fits))
		return
	case fits < leastFollowed && now >= leastFollowed:
		f.log.Warn("the underlay carries less than IPv6 needs: the device goes no further down than that, and the senders of longer frames are told",
			zap.Int("mtu", leastFollowed), zap.Int("fits", fits))
		fits = leastFollowed
	}
	if fits == now {
		return
	}
	err := f.endpoint.SetMTU(f.vni, fits)
	if errors.Is(err, vtep.ErrNoVNI) {
		return // deleted meanwhile
	}
	if err != nil {
		f.log.Warn("the overlay's MTU cannot follow the underlay's", zap.Error(err))
		return
	}
	f.set = fits
	f.log.Info("the overlay's MTU follows the underlay's", zap.Int("was", now), zap.Int("mtu", fits))
}

// peers are those of now; ok is false when the VNI is no more.
func (f *follower) peers() (peers []netip.AddrPort, ok bool) {
	for _, v := range f.endpoint.Status().VNIs {
		if v.VNI != f.vni {
			continue
		}
		for _, p := range v.Peers {
			peers = append(peers, netip.AddrPortFrom(p.VTEP, p.Port))
		}
		ok = true
	}
	return peers, ok
}
