package vtep

import (
	"fmt"
	"slices"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// Stats are the counters of an endpoint at one moment. Their JSON form is what
// `govxlan stats` prints.
type Stats struct {
	VNIs []VNIStats `json:"vnis"`
	// Counters are those of what belongs to no VNI.
	Counters EndpointCounters `json:"counters"`
}

// VNIStats are the counters of one VNI.
type VNIStats struct {
	VNI      vxlan.VNI `json:"vni"`
	Counters Counters  `json:"counters"`
}

// Stats returns the counters of all VNIs, by number, or of some. It costs much
// less than Status, which looks at devices, tables and peers too. It returns
// ErrNoVNI if one of those asked for is not here.
func (e *Endpoint) Stats(only ...vxlan.VNI) (Stats, error) {
	e.accel.count()
	e.mu.Lock()
	overlays := e.sorted(only...)
	e.mu.Unlock()
	s := Stats{VNIs: make([]VNIStats, 0, len(overlays)), Counters: e.readCounters()}
	for _, o := range overlays {
		s.VNIs = append(s.VNIs, VNIStats{o.vni, read(&o.rx, &o.tx)})
	}
	for _, v := range only {
		if !slices.ContainsFunc(overlays, func(o *overlay) bool { return o.vni == v }) {
			return s, fmt.Errorf("vtep: VNI %v: %w", v, ErrNoVNI)
		}
	}
	return s, nil
}

// readCounters are those of what belongs to no VNI, the transport's included.
func (e *Endpoint) readCounters() EndpointCounters {
	c := EndpointCounters{
		RxDropBadHeader:   e.counters.dropBadHeader.Load(),
		RxDropShortFrame:  e.counters.dropShortFrame.Load(),
		RxDropUnknownVNI:  e.counters.dropUnknownVNI.Load(),
		PathMTULowered:    e.counters.pathMTULowered.Load(),
		PathMTUIgnored:    e.counters.pathMTUIgnored.Load(),
		TxDropUnknownVLAN: e.counters.dropUnknownVLAN.Load(),
	}
	if t, ok := e.conn.(transport.Counting); ok {
		n := t.Counters()
		c.RxDropBadPacket, c.RxDropChecksum, c.RxDropQueueFull = n.RxBadPacket, n.RxChecksum, n.RxQueueFull
	}
	return c
}
