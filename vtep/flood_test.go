package vtep

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/govxlan/govxlan/vxlan"
)

func TestFloodReachesEveryPeerOnce(t *testing.T) {
	everybody := []netip.AddrPort{vtepA, vtepB, vtepC}
	p := newRig(t).add(10, peers(everybody...))
	for name, dst := range map[string]vxlan.MAC{"broadcast": broadcast, "multicast": group, "unknown unicast": alice} {
		f := raw(dst, host, 100)
		trains := p.send(f)
		if got := destinations(trains); !slices.Equal(got, everybody) {
			t.Errorf("%s: copies for %v, want one for each of %v", name, got, everybody)
		}
		for _, got := range decaps(t, 10, trains) {
			if !bytes.Equal(got, f) {
				t.Errorf("%s: copy is %x, want %x", name, got, f)
			}
		}
	}
	c := p.counters()
	if c.TxFrames != 9 || c.TxFlooded != 9 || c.TxBytes != 9*100 {
		t.Errorf("counters %+v, want 9 frames, all flooded, of 100 bytes", c)
	}
	for _, peer := range p.rig.e.Status().VNIs[0].Peers {
		if peer.TxFrames != 3 || peer.TxBytes != 300 {
			t.Errorf("peer %v: %d frames, %d bytes; want 3, 300", peer.VTEP, peer.TxFrames, peer.TxBytes)
		}
	}
}

// Frames for the flood list share trains as others do, and every peer gets the
// same ones in the same order.
func TestFloodedFramesShareTrains(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA, vtepB))
	var frames [][]byte
	for i := range 10 {
		f := raw(broadcast, host, 64)
		f[20] = byte(i)
		frames = append(frames, f)
	}
	trains := p.send(frames...)
	if len(trains) != 2 {
		t.Fatalf("%d trains, want one for each of the 2 peers", len(trains))
	}
	for i := range trains {
		if got := decaps(t, 10, trains[i:i+1]); !slices.EqualFunc(got, frames, bytes.Equal) {
			t.Errorf("%v: frames differ, or their order", trains[i].Addr)
		}
	}
}

func TestFloodToNobodyIsCounted(t *testing.T) {
	p := newRig(t).add(10, nil)
	big := packet{dst: alice, src: host, payload: 5000}
	if got := p.carry(big.superframe(t, 1000)); got != nil {
		t.Errorf("sent to %v", destinations(got))
	}
	if got := p.send(raw(broadcast, host, 64)); got != nil {
		t.Errorf("sent to %v", destinations(got))
	}
	if c := p.counters(); c.TxDropNoDestination != 6 || c.TxFrames != 0 {
		t.Errorf("counters %+v, want TxDropNoDestination 6: the superframe counts as 5 frames", c)
	}
}

// What came from a VTEP never goes to another: the mesh is full.
func TestSplitHorizon(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA, vtepB, vtepC))
	for _, dst := range []vxlan.MAC{broadcast, group, bob, host} {
		if got := p.arrived(vtepA.Addr(), raw(dst, alice, 64)); len(got) != 1 {
			t.Errorf("frame to %v: %d delivered, want 1", dst, len(got))
		}
	}
	// Also a MAC that is known to be behind a VTEP.
	p.arrive(vtepB.Addr(), raw(host, bob, 64))
	p.arrive(vtepA.Addr(), raw(bob, alice, 64))
	if sent := p.rig.wire.take(); sent != nil {
		t.Errorf("sent on to %v", destinations(sent))
	}
}

func TestGroupMACGoesToItsVTEPAlone(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Static = []StaticEntry{{group, vtepC}}
	})
	if got := destinations(p.send(raw(group, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepC}) {
		t.Errorf("group frames go to %v, want %v", got, vtepC)
	}
	other := group
	other[5]++
	if got := destinations(p.send(raw(other, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA, vtepB}) {
		t.Errorf("frames of another group go to %v, want all peers", got)
	}
	if got := destinations(p.send(raw(broadcast, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA, vtepB}) {
		t.Errorf("broadcasts go to %v, want all peers", got)
	}
	if err := p.rig.e.DelEntry(10, group); err != nil {
		t.Fatal(err)
	}
	if got := destinations(p.send(raw(group, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA, vtepB}) {
		t.Errorf("without the entry group frames go to %v, want all peers", got)
	}
}

// One batch to several groups and MACs: each frame goes its own way.
func TestMixedBatch(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Static = []StaticEntry{{group, vtepC}, {alice, vtepA}, {bob, vtepB}}
	})
	batch := [][]byte{raw(alice, host, 64), raw(broadcast, host, 64), raw(bob, host, 64), raw(group, host, 64), raw(alice, host, 64)}
	want := map[netip.AddrPort][]int{vtepA: {0, 1, 4}, vtepB: {1, 2}, vtepC: {3}}
	trains := p.send(batch...)
	for to, indices := range want {
		var got [][]byte
		for i := range trains {
			if trains[i].Addr == to {
				got = append(got, decaps(t, 10, trains[i:i+1])...)
			}
		}
		var frames [][]byte
		for _, i := range indices {
			frames = append(frames, batch[i])
		}
		less := func(a, b []byte) int { return bytes.Compare(a, b) }
		slices.SortFunc(got, less)
		slices.SortFunc(frames, less)
		if !slices.EqualFunc(got, frames, bytes.Equal) {
			t.Errorf("%v got %d frames, want %d", to, len(got), len(frames))
		}
	}
}

// Two VNIs with the same MACs, peers and frames never mix, in either direction
// (RFC 7348 section 4).
func TestVNIsAreIsolated(t *testing.T) {
	r := newRig(t)
	p, q := r.add(10, peers(vtepA, vtepB)), r.add(0xFFFFFF, peers(vtepA, vtepC))

	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	if got := len(p.card.frames()); got != 1 {
		t.Errorf("VNI 10 got %d frames, want 1", got)
	}
	if got := q.card.frames(); got != nil {
		t.Error("VNI 0xffffff got a frame of VNI 10")
	}
	if q.where(alice) != "" {
		t.Error("VNI 0xffffff learned from VNI 10")
	}
	if got := p.arrived(vtepC.Addr(), raw(host, alice, 64)); got != nil {
		t.Error("VNI 10 accepted a peer of VNI 0xffffff")
	}
	if got := destinations(q.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA, vtepC}) {
		t.Errorf("VNI 0xffffff sends to %v", got)
	}
	if got := decaps(t, 0xFFFFFF, q.send(raw(alice, host, 64))); len(got) != 2 {
		t.Errorf("%d copies, want 2", len(got))
	}
	if a, b := p.counters(), q.counters(); a.TxFrames != 0 || a.RxFrames != 1 || b.RxFrames != 0 || b.TxFrames != 4 {
		t.Errorf("counters mix:\n%+v\n%+v", a, b)
	}

	// One batch, one source, the VNIs alternating.
	var mixed [][]byte
	for i := range 10 {
		v := vxlan.VNI(10)
		if i%2 == 1 {
			v = 0xFFFFFF
		}
		f := raw(host, alice, 64)
		f[20] = byte(i)
		mixed = append(mixed, encap(v, f))
	}
	r.datagrams(vtepA.Addr(), 0, mixed...)
	for i, port := range []*port{p, q} {
		frames := port.card.frames()
		if len(frames) != 5 {
			t.Errorf("%v got %d frames of the mixed batch, want 5", port.vni, len(frames))
		}
		for _, f := range frames {
			if int(f[20])%2 != i {
				t.Errorf("%v got frame %d", port.vni, f[20])
			}
		}
	}
}
