package top

import (
	"iter"
	"maps"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vxlan"
)

// Sample is a status and when it was asked for.
type Sample struct {
	control.Status
	At time.Time
}

// traffic is what went each way, in total or in a second.
type traffic struct{ rxFrames, rxBytes, txFrames, txBytes float64 }

// drop is a reason to drop, by its name in JSON.
type drop struct {
	reason      string
	total, rate float64
}

// vniRates are the changes of one VNI in a second.
type vniRates struct {
	traffic
	peers map[netip.Addr]traffic // multicast groups too
	drops []drop                 // in the order of the counters, those above 0
	lost  float64
	known bool // it was there before
}

// rates are the changes in a second between two samples.
type rates struct {
	known bool // there were two samples of one process
	cpu   float64
	vnis  map[vxlan.VNI]*vniRates
	none  []drop // of what belongs to no VNI
	sum   traffic
	lost  float64
}

// rise is by how much a counter rose in a second. One that fell is that of
// another process.
func rise(was, is uint64, seconds float64) float64 {
	if is < was || seconds <= 0 {
		return 0
	}
	return float64(is-was) / seconds
}

// compare returns the rates between two samples; before may be nil.
func compare(before, now *Sample) *rates {
	r := &rates{vnis: make(map[vxlan.VNI]*vniRates)}
	var s float64
	if before != nil {
		s = now.At.Sub(before.At).Seconds()
		r.known = s > 0 && before.Process.PID == now.Process.PID && before.Uptime <= now.Uptime
	}
	was := make(map[vxlan.VNI]int)
	var none map[string]uint64
	if r.known {
		r.cpu = max(float64(now.Process.CPU-before.Process.CPU), 0) / s
		for i := range before.VNIs {
			was[before.VNIs[i].VNI] = i
		}
		none = maps.Collect(before.Counters.Drops())
	}
	r.none = dropRates(none, now.Counters.Drops(), s)
	for i := range now.VNIs {
		v := &now.VNIs[i]
		to := &vniRates{peers: make(map[netip.Addr]traffic)}
		r.vnis[v.VNI] = to
		k, ok := was[v.VNI]
		if !ok {
			to.drops = dropRates(nil, v.Counters.Drops(), s)
			continue
		}
		old := &before.VNIs[k]
		to.known = true
		to.traffic = traffic{
			rise(old.Counters.RxFrames, v.Counters.RxFrames, s), rise(old.Counters.RxBytes, v.Counters.RxBytes, s),
			rise(old.Counters.TxFrames, v.Counters.TxFrames, s), rise(old.Counters.TxBytes, v.Counters.TxBytes, s),
		}
		to.drops = dropRates(maps.Collect(old.Counters.Drops()), v.Counters.Drops(), s)
		for _, d := range to.drops {
			to.lost += d.rate
		}
		// Both lists are by address.
		for p, o := 0, 0; p < len(v.Peers); p++ {
			for o < len(old.Peers) && old.Peers[o].VTEP.Less(v.Peers[p].VTEP) {
				o++
			}
			if o < len(old.Peers) && old.Peers[o].VTEP == v.Peers[p].VTEP {
				a, b := &old.Peers[o], &v.Peers[p]
				to.peers[b.VTEP] = traffic{
					rise(a.RxFrames, b.RxFrames, s), rise(a.RxBytes, b.RxBytes, s),
					rise(a.TxFrames, b.TxFrames, s), rise(a.TxBytes, b.TxBytes, s),
				}
			}
		}
		for _, g := range v.Multicast {
			for _, o := range old.Multicast {
				if o.Group == g.Group && o.Port == g.Port {
					to.peers[g.Group] = traffic{txFrames: rise(o.TxFrames, g.TxFrames, s), txBytes: rise(o.TxBytes, g.TxBytes, s)}
				}
			}
		}
		r.sum.rxFrames += to.rxFrames
		r.sum.rxBytes += to.rxBytes
		r.sum.txFrames += to.txFrames
		r.sum.txBytes += to.txBytes
		r.lost += to.lost
	}
	for _, d := range r.none {
		r.lost += d.rate
	}
	return r
}

// dropRates are the drops above 0; was is nil where there is nothing to compare with.
func dropRates(was map[string]uint64, is iter.Seq2[string, uint64], seconds float64) (drops []drop) {
	for reason, n := range is {
		if n == 0 {
			continue
		}
		d := drop{reason: reason, total: float64(n)}
		if was != nil {
			d.rate = rise(was[reason], n, seconds)
		}
		drops = append(drops, d)
	}
	return drops
}
