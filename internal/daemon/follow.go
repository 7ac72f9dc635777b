package daemon

import (
	"errors"

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
	fixed    bool // --mtu was given: only warn
	bridge   bool // the device is a port of one
	fits     int  // what the underlay carried last
	set      int  // what we made of it
}

// leastFollowed is how far down a device is taken. Below it the kernel takes
// its IPv6 addresses away, for good.
const leastFollowed = 1280

// look is told what the underlay carries, 0 when that is not known at the moment,
// and does what follows from a change.
func (f *follower) look(fits int) {
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
