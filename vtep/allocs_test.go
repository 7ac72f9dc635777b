package vtep

import (
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// Nothing is allocated per packet, in either direction.
func TestWayOutAllocatesNothing(t *testing.T) {
	small := packet{dst: alice, src: host, payload: 22}.frame(t)
	partial := packet{dst: alice, src: host, tcp: true, payload: 1000}.superframe(t, 0)
	partial.Header.GSO = tap.GSONone
	flows := make([]tap.Frame, 128)
	for i := range flows {
		flows[i].Bytes = packet{dst: alice, src: host, sport: 1000 + uint16(i), payload: 22}.frame(t)
	}
	for name, batch := range map[string][]tap.Frame{
		"one frame":         {{Bytes: small}},
		"frames of a flow":  {{Bytes: small}, {Bytes: small}, {Bytes: small}},
		"frames of flows":   flows,
		"superframe":        {packet{dst: alice, src: host, tcp: true, payload: 60000}.superframe(t, 1398)},
		"partial checksum":  {partial},
		"broadcast":         {{Bytes: raw(broadcast, host, 64)}},
		"group":             {{Bytes: raw(group, host, 64)}},
		"frame that is bad": {{Bytes: small[:10]}},
	} {
		p := toAlice(t)
		p.rig.wire.quiet = true
		p.rig.wire.limits.Flows = 16
		work := make([]tap.Frame, len(batch))
		n := testing.AllocsPerRun(100, func() {
			copy(work, batch) // what is sent may be changed
			p.tx.carry(p.w, work)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		c := p.counters()
		if c.TxFrames+c.TxDropBadFrame < 100 {
			t.Errorf("%s: %d frames sent: not what was to be measured", name, c.TxFrames)
		}
	}
	p := toAlice(t)
	p.rig.wire.fail = func(*transport.Train) error { return transport.ErrTooLong }
	batch := []tap.Frame{{Bytes: small}}
	if n := testing.AllocsPerRun(100, func() { p.tx.carry(p.w, batch) }); n != 0 {
		t.Errorf("send error: %v allocations", n)
	}
	if c := p.counters(); c.TxDropTooBig < 100 {
		t.Errorf("counters %+v", c)
	}
}

func TestWayInAllocatesNothing(t *testing.T) {
	train := func(frames ...[]byte) transport.Train {
		tr := transport.Train{Stride: 8 + len(frames[0]), Addr: vtepA}
		for _, f := range frames {
			tr.Buf = append(tr.Buf, encap(10, f)...)
		}
		return tr
	}
	var segments [][]byte
	for i := range 40 {
		segments = append(segments, packet{dst: host, src: alice, tcp: true, id: uint16(i), seq: uint32(i * 1000), payload: 1000}.frame(t))
	}
	small := raw(host, alice, 64)
	marked := train(packet{dst: host, src: alice, tos: 2, payload: 64}.frame(t))
	marked.TOS = 3
	stranger := train(small)
	stranger.Addr = vtepC
	for name, trains := range map[string][]transport.Train{
		"one frame":      {train(small)},
		"frames":         {train(small, small, small), train(small)},
		"TCP segments":   {train(segments[:20]...), train(segments[20:]...)},
		"two stations":   {train(small, raw(host, bob, 64), small, raw(host, bob, 64))},
		"congestion":     {marked},
		"stranger":       {stranger},
		"no VXLAN":       {{Buf: make([]byte, 100), Addr: vtepA}},
		"unknown VNI":    {{Buf: encap(11, small), Addr: vtepA}},
		"own MAC":        {train(raw(broadcast, host, 64))},
		"superframe":     {{Buf: encap(10, packet{dst: host, src: alice, payload: 5000}.superframe(t, 1200).Bytes), Stride: 1200, Addr: vtepA}},
		"alternate VTEP": {train(small), {Buf: encap(10, raw(host, bob, 64)), Addr: vtepB}, train(small)},
	} {
		p := newRig(t).add(10, func(c *VNIConfig) {
			c.Peers = []netip.AddrPort{vtepA, vtepB}
			c.Device.(*card).features = tap.AllFeatures
			c.Device.(*card).quiet = true
		})
		work := make([]transport.Train, len(trains))
		bufs := make([][]byte, len(trains))
		for i := range trains {
			bufs[i] = make([]byte, len(trains[i].Buf))
		}
		n := testing.AllocsPerRun(100, func() {
			for i := range trains {
				copy(bufs[i], trains[i].Buf) // what arrived may be written to
				work[i] = trains[i]
				work[i].Buf = bufs[i]
			}
			p.rig.r.batch(work, p.rig.now)
			p.rig.now += 1e9
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		c, e := p.counters(), p.rig.endpointCounters()
		if c.RxFrames+c.rxDrops()+e.RxDropBadHeader+e.RxDropUnknownVNI < 100 {
			t.Errorf("%s: counters %+v %+v: not what was to be measured", name, c, e)
		}
	}
}

// A VNI is found at the same cost among one and among thousands.
func TestVNITable(t *testing.T) {
	var table vniTable
	vnis := []vxlan.VNI{0, 1, 255, 256, 4097, 65535, 65536, 1 << 20, vxlan.MaxVNI - 1, vxlan.MaxVNI}
	overlays := make(map[vxlan.VNI]*overlay)
	for _, v := range vnis {
		if table.load(v) != nil {
			t.Errorf("%v is there before it was stored", v)
		}
		overlays[v] = &overlay{vni: v}
		table.store(v, overlays[v])
	}
	for _, v := range vnis {
		if got := table.load(v); got != overlays[v] {
			t.Errorf("%v leads to %v", v, got)
		}
	}
	for _, v := range []vxlan.VNI{2, 254, 257, 4096, 1<<20 + 1, 1<<20 - 1, vxlan.MaxVNI - 2} {
		if table.load(v) != nil {
			t.Errorf("%v is there, and was never stored", v)
		}
	}
	for _, v := range vnis {
		table.store(v, nil)
		if table.load(v) != nil {
			t.Errorf("%v is there after it was removed", v)
		}
	}
}
