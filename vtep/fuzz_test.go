package vtep

import (
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/internal/captured"
	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// FuzzWayIn has any bytes arrive as a train of any stride: no panic, every
// datagram counted once, and whatever is written as a superframe can be taken
// apart.
func FuzzWayIn(f *testing.F) {
	small := encap(10, raw(host, alice, 64))
	f.Add(append(small, small...), uint16(72), uint8(0), true)
	f.Add(encap(10, packet{dst: host, src: alice, tcp: true, payload: 100}.frame(f)), uint16(0), uint8(3), true)
	f.Add(encap(11, packet{dst: host, src: bob, v6: true, payload: 100, tos: 2}.frame(f)), uint16(0), uint8(3), false)
	f.Add(encap(10, packet{dst: host, src: alice, payload: 5000}.superframe(f, 1200).Bytes), uint16(1200), uint8(1), true)
	f.Add(encap(10, packet{dst: host, src: alice, tcp: true, payload: 5000}.superframe(f, 1200).Bytes), uint16(0), uint8(1), true)
	f.Add(encap(10, request(probe.Frame{Kind: probe.Request, Want: 100}, 100)), uint16(0), uint8(0), false)
	f.Add([]byte{8, 0, 0, 0, 0, 0, 10, 0}, uint16(8), uint8(0), false)
	for i, frame := range captured.Frames(f) {
		f.Add(encap(10, frame), uint16(0), uint8(i%4), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, b []byte, stride uint16, tos uint8, offload bool) {
		if len(b) > transport.MaxBytes {
			return
		}
		r := newRig(t)
		var ports []*port
		for _, v := range []vxlan.VNI{10, 11} {
			ports = append(ports, r.add(v, func(c *VNIConfig) {
				c.Peers = []netip.AddrPort{vtepA}
				c.Static = []StaticEntry{{bob, vtepB}}
				if offload {
					c.Device.(*card).features = tap.AllFeatures
				}
			}))
		}
		tr := transport.Train{Buf: b, Stride: int(stride), Addr: vtepA, TOS: tos}
		datagrams := uint64(tr.Len())
		// A second one, so that something can be merged.
		again := tr
		again.Buf = append([]byte(nil), b...)
		r.r.batch([]transport.Train{tr, again}, r.now)
		e := r.endpointCounters()
		counted := e.RxDropBadHeader + e.RxDropShortFrame + e.RxDropUnknownVNI
		for _, p := range ports {
			c := p.counters()
			counted += c.RxFrames + c.RxProbes + c.rxDrops()
			var arrived uint64
			for _, v := range p.card.vectorsTaken() {
				arrived += uint64(len(v.Parts))
				plainFrames(t, &v)
			}
			if arrived != c.RxFrames {
				t.Errorf("%d frames at the device, %d counted", arrived, c.RxFrames)
			}
		}
		// One packet that the kernel left whole, or a train.
		if counted != 2*datagrams && (counted != 2 || stride == 0) {
			t.Errorf("%d datagrams, %d counted", 2*datagrams, counted)
		}
	})
}

// FuzzWayOut has the device hand over any bytes with any virtio-net header: no
// panic, every frame counted once for each VTEP that it goes to, and no
// datagram longer than one can be.
func FuzzWayOut(f *testing.F) {
	add := func(fr tap.Frame) {
		h := fr.Header
		f.Add(fr.Bytes, h.Flags, h.GSO, h.HeaderBytes, h.SegmentBytes, h.ChecksumStart, h.ChecksumOffset)
	}
	add(tap.Frame{Bytes: raw(alice, host, 64)})
	add(tap.Frame{Bytes: raw(broadcast, host, 14)})
	for _, v6 := range []bool{false, true} {
		for _, tcp := range []bool{false, true} {
			add(packet{dst: alice, src: host, v6: v6, tcp: tcp, payload: 5000}.superframe(f, 1000))
			add(packet{dst: broadcast, src: host, v6: v6, tcp: tcp, payload: 70}.superframe(f, 1))
		}
	}
	for _, frame := range captured.Frames(f) {
		add(tap.Frame{Bytes: frame})
	}
	f.Fuzz(func(t *testing.T, b []byte, flags, gso uint8, header, segment, start, offset uint16) {
		if len(b) > tap.MaxFrame {
			return
		}
		p := toAlice(t)
		fr := tap.Frame{
			Header: tap.Header{Flags: flags, GSO: gso, HeaderBytes: header, SegmentBytes: segment, ChecksumStart: start, ChecksumOffset: offset},
			Bytes:  b,
		}
		frames, copies := uint64(1), uint64(1)
		var s tap.Splitter
		if gso != tap.GSONone && s.Init(&fr.Header, b) == nil {
			frames = uint64(s.Segments())
		}
		if len(b) >= 14 {
			if to := vxlan.MAC(b[:6]); to != alice && to != bob && to != group {
				copies = 2 // flooded to the two peers
			}
		}
		var sent uint64
		for _, tr := range p.carry(fr) {
			sent += uint64(tr.Len())
			if len(tr.Buf) > transport.MaxBytes || tr.Len() > transport.MaxSegments {
				t.Errorf("train of %d bytes in %d datagrams", len(tr.Buf), tr.Len())
			}
			for i := range tr.Len() {
				if h, _, err := vxlan.Parse(tr.Datagram(i)); err != nil || h.VNI != 10 {
					t.Errorf("datagram %x: VNI %v, %v", tr.Datagram(i), h.VNI, err)
				}
			}
		}
		c := p.counters()
		if sent != c.TxFrames {
			t.Errorf("%d frames left, %d counted", sent, c.TxFrames)
		}
		if drops := c.txDrops(); !(drops == 0 && sent == frames*copies) && !(sent == 0 && drops == frames) {
			t.Errorf("%d frames for %d VTEPs: %d sent, %d dropped", frames, copies, sent, drops)
		}
	})
}
