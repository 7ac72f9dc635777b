package vtep

import (
	"bytes"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"pgregory.net/rapid"
)

// txDrops is all frames that were not sent.
func (c *Counters) txDrops() uint64 {
	return c.TxDropNoDestination + c.TxDropBadFrame + c.TxDropVLAN + c.TxDropTooBig + c.TxDropUnreachable + c.TxDropNoBuffer + c.TxDropError + c.TxDropARPProxy
}

// rxDrops is all frames that came for the VNI and were not delivered.
func (c *Counters) rxDrops() uint64 {
	return c.RxDropUnknownVTEP + c.RxDropInvalidSource + c.RxDropOwnMAC + c.RxDropOwnAddress + c.RxDropStaticMAC + c.RxDropECN + c.RxDropOversize + c.RxDropDevice + c.RxDropReservedBits + c.RxDropGroup + c.RxDropVLAN +
		c.RxDropMACHeld + c.RxDropStorm + c.RxDropProbe
}

// isSubsequence says whether a is b with some frames left out.
func isSubsequence(a, b [][]byte) bool {
	for _, f := range b {
		if len(a) > 0 && bytes.Equal(a[0], f) {
			a = a[1:]
		}
	}
	return len(a) == 0
}

// Whatever the device hands over: every frame is sent to whom it concerns or
// counted as dropped, and no flow's order changes.
func TestWayOutKeepsFramesAndOrder(t *testing.T) {
	everybody := []netip.AddrPort{vtepA, vtepB, vtepC}
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t)
		r.wire.limits = transport.Limits{
			Segments: rapid.SampledFrom([]int{1, 2, 64, 128}).Draw(t, "segments"),
			Flows:    rapid.IntRange(1, 16).Draw(t, "source ports"),
		}
		p := r.add(10, func(c *VNIConfig) {
			c.Peers = everybody
			c.Static = []StaticEntry{{alice, vtepA}, {bob, vtepB}, {group, vtepC}}
		})
		// Each train of some length or other is lost for some reason.
		unlucky := rapid.SampledFrom([]int{0, 2, 3, 7}).Draw(t, "one in so many trains fails")
		trains := 0
		var failed uint64
		r.wire.fail = func(tr *transport.Train) error {
			if trains++; unlucky == 0 || trains%unlucky != 0 {
				return nil
			}
			failed += uint64(tr.Len())
			return []error{syscall.ENETDOWN, syscall.ENOBUFS, syscall.EPERM}[trains/unlucky%3]
		}

		type flow struct {
			to    netip.AddrPort
			dst   vxlan.MAC
			sport uint16
		}
		in, out := make(map[flow][][]byte), make(map[flow][][]byte)
		var want, bad, copies uint64
		seq, id := make(map[uint16]uint32), make(map[uint16]uint16)
		for range rapid.IntRange(1, 3).Draw(t, "batches") {
			var batch []tap.Frame
			for range rapid.IntRange(0, 60).Draw(t, "frames") {
				dst := rapid.SampledFrom([]vxlan.MAC{alice, bob, broadcast, group, {2, 9}}).Draw(t, "to")
				sport := uint16(rapid.IntRange(1, 6).Draw(t, "flow"))
				pkt := packet{
					dst: dst, src: host, tcp: sport%2 == 0, v6: sport%3 == 0, sport: 1000 + sport,
					tos: rapid.SampledFrom([]uint8{0, 0, 0, 0, 2, 3}).Draw(t, "tos"),
					seq: seq[sport], id: id[sport],
				}
				var f tap.Frame
				switch rapid.IntRange(0, 9).Draw(t, "kind") {
				case 0:
					bad++
					batch = append(batch, tap.Frame{Bytes: make([]byte, rapid.IntRange(0, 13).Draw(t, "length"))})
					continue
				case 1, 2, 3:
					pkt.payload = rapid.SampledFrom([]int{1, 100, 1000, 5000, 30000}).Draw(t, "payload")
					f = pkt.superframe(t, rapid.SampledFrom([]int{100, 1000, 1398}).Draw(t, "segment"))
				case 4:
					pkt.payload = 500
					f = pkt.superframe(t, 0)
					f.Header.GSO = tap.GSONone
				default:
					pkt.payload = rapid.SampledFrom([]int{0, 64, 64, 64, 65, 1000, 1398}).Draw(t, "payload")
					f.Bytes = pkt.frame(t)
				}
				seq[sport] += uint32(pkt.payload)
				frames := plainFrames(t, &tap.Vector{Header: f.Header, Parts: [][]byte{f.Bytes}})
				id[sport] += uint16(len(frames))
				to := everybody
				switch dst {
				case alice:
					to = everybody[:1]
				case bob:
					to = everybody[1:2]
				case group:
					to = everybody[2:]
				}
				for _, a := range to {
					k := flow{a, dst, 1000 + sport}
					in[k] = append(in[k], frames...)
				}
				want += uint64(len(frames) * len(to))
				if len(to) > 1 || dst == group {
					copies += uint64(len(frames) * len(to))
				}
				f.Bytes = bytes.Clone(f.Bytes)
				batch = append(batch, f)
			}
			for _, tr := range p.carry(batch...) {
				if len(tr.Buf) > transport.MaxBytes || tr.Len() > max(r.wire.limits.Segments, 2) && r.wire.limits.Segments > 1 || tr.Len() > transport.MaxSegments {
					t.Fatalf("train of %d bytes and %d datagrams", len(tr.Buf), tr.Len())
				}
				for i := range tr.Len() {
					h, f, err := vxlan.Parse(tr.Datagram(i))
					var inner vxlan.Inner
					if err != nil || h.VNI != 10 || inner.Parse(f) != nil || inner.L4 == 0 {
						t.Fatalf("datagram %x: %v", tr.Datagram(i), err)
					}
					if uint8(inner.ECN()) != tr.TOS {
						t.Fatalf("outer TOS %x around inner ECN %v", tr.TOS, inner.ECN())
					}
					sport := uint16(f[inner.L4])<<8 | uint16(f[inner.L4+1])
					k := flow{tr.Addr, vxlan.MAC(f[:6]), sport}
					out[k] = append(out[k], f)
				}
			}
		}
		for k, frames := range out {
			if !isSubsequence(frames, in[k]) {
				t.Fatalf("%+v: %d frames in, %d out: order or content differ", k, len(in[k]), len(frames))
			}
			if unlucky == 0 && len(frames) != len(in[k]) {
				t.Fatalf("%+v: %d frames in, %d out", k, len(in[k]), len(frames))
			}
		}
		c := p.counters()
		if c.TxFrames+failed != want || c.txDrops() != failed+bad || c.TxDropBadFrame != bad {
			t.Fatalf("%d frames to send, %d bad, %d in failed trains; counters %+v", want, bad, failed, c)
		}
		if unlucky == 0 && c.TxFlooded != copies {
			t.Fatalf("%d copies by replication counted, want %d", c.TxFlooded, copies)
		}
	})
}

// Whatever arrives: every datagram becomes one frame at the device or is
// counted under the one reason that a plain reading of the rules gives, and no
// flow's order changes.
func TestWayInKeepsFramesAndOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t)
		features := rapid.SampledFrom([]tap.Features{0, tap.AllFeatures}).Draw(t, "features")
		ports := make(map[vxlan.VNI]*port)
		for _, v := range []vxlan.VNI{10, 11} {
			ports[v] = r.add(v, func(c *VNIConfig) {
				c.Peers = []netip.AddrPort{vtepA, vtepB}
				c.Static = []StaticEntry{{bob, vtepB}}
				c.Device.(*card).features = features
				c.DisableLearning = v == 11
			})
		}
		unlucky := rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "one in so many writes fails")
		writes := 0
		var failed uint64
		for _, p := range ports {
			p.card.fail = func(v *tap.Vector) error {
				if writes++; unlucky == 0 || writes%unlucky != 0 {
					return nil
				}
				failed += uint64(len(v.Parts))
				return syscall.EIO
			}
		}

		type flow struct {
			vni   vxlan.VNI
			sport uint16
		}
		want, got := make(map[flow][][]byte), make(map[flow][][]byte)
		var model struct {
			EndpointCounters
			Counters
			delivered uint64
		}
		var trains []transport.Train
		seq, id := make(map[uint16]uint32), make(map[uint16]uint16)
		for range rapid.IntRange(1, 8).Draw(t, "trains") {
			from := rapid.SampledFrom([]netip.AddrPort{vtepA, vtepA, vtepB, vtepC}).Draw(t, "from")
			outer := rapid.SampledFrom([]vxlan.ECN{0, 0, 0, 1, 2, 3}).Draw(t, "outer ECN")
			size := rapid.SampledFrom([]int{60, 64, 1000, 1392}).Draw(t, "payload")
			oversize := rapid.IntRange(0, 9).Draw(t, "oversize") == 0
			if oversize {
				size = 1500
			}
			stride := 0
			var buf []byte
			count := rapid.IntRange(1, 20).Draw(t, "datagrams")
			// All of one length, so that they are one train: 20 bytes more of
			// header mean 20 bytes less of payload.
			for i := range count {
				sport := uint16(rapid.IntRange(1, 4).Draw(t, "flow"))
				pkt := packet{
					dst: host, sport: 1000 + sport, tcp: sport == 4, seq: seq[sport], id: id[sport],
					src: rapid.SampledFrom([]vxlan.MAC{alice, alice, alice, bob, host, group, {}}).Draw(t, "source"),
					tos: rapid.SampledFrom([]uint8{0, 2, 2, 3}).Draw(t, "inner ECN"),
				}
				pkt.payload = 62 + size - pkt.headers()
				v := rapid.SampledFrom([]vxlan.VNI{10, 10, 10, 10, 11, 12}).Draw(t, "VNI")
				f := pkt.frame(t)
				d := encap(v, f)
				seq[sport] += uint32(pkt.payload)
				id[sport]++
				if stride == 0 {
					stride = len(d)
				}
				kind := rapid.IntRange(0, 19).Draw(t, "kind")
				if i == count-1 && kind < 6 {
					d = d[:kind*5+1] // the last may be short
				}
				if kind == 7 {
					d[0] &^= 8
				}
				buf = append(buf, d...)

				// The rules, one after the other.
				switch {
				case len(d) < 8 || d[0]&8 == 0:
					model.RxDropBadHeader++
					continue
				case len(d) < 22:
					model.RxDropShortFrame++
					continue
				case v == 12:
					model.RxDropUnknownVNI++
					continue
				case from == vtepC:
					model.RxDropUnknownVTEP++
					continue
				case pkt.src[0]&1 != 0 || pkt.src == vxlan.MAC{}:
					if len(d) >= 20 {
						model.RxDropInvalidSource++
					}
					continue
				case pkt.src == host:
					model.RxDropOwnMAC++
					continue
				case pkt.src == bob && from != vtepB:
					model.RxDropStaticMAC++
					continue
				}
				cut := len(d) != stride
				if !cut {
					e, verdict := vxlan.DecapECN(outer, vxlan.ECN(pkt.tos))
					if verdict == vxlan.ECNDrop {
						model.RxDropECN++
						continue
					}
					if verdict == vxlan.ECNAlert {
						model.RxECNAlert++
					}
					pkt.tos = uint8(e)
					f = pkt.frame(t)
				} else {
					f = d[8:]
				}
				if oversize && !cut {
					if !pkt.tcp {
						model.RxDropOversize++
						continue
					}
				}
				model.delivered++
				if !cut && !oversize {
					k := flow{v, 1000 + sport}
					want[k] = append(want[k], f)
				}
			}
			trains = append(trains, transport.Train{Buf: buf, Stride: stride, Addr: from, TOS: uint8(outer)})
		}
		r.r.batch(trains, r.now)

		if got := r.endpointCounters(); got != model.EndpointCounters {
			t.Fatalf("endpoint counts %+v, want %+v", got, model.EndpointCounters)
		}
		var sum Counters
		var arrived uint64
		for v, p := range ports {
			c := p.counters()
			sum.RxFrames += c.RxFrames
			sum.RxDropUnknownVTEP += c.RxDropUnknownVTEP
			sum.RxDropInvalidSource += c.RxDropInvalidSource
			sum.RxDropOwnMAC += c.RxDropOwnMAC
			sum.RxDropStaticMAC += c.RxDropStaticMAC
			sum.RxDropECN += c.RxDropECN
			sum.RxDropOversize += c.RxDropOversize
			sum.RxECNAlert += c.RxECNAlert
			sum.RxDropDevice += c.RxDropDevice
			for _, vector := range p.card.vectorsTaken() {
				arrived += uint64(len(vector.Parts))
				for _, f := range plainFrames(t, &vector) {
					var in vxlan.Inner
					if in.Parse(f) == nil && in.L4 != 0 {
						k := flow{v, uint16(f[in.L4])<<8 | uint16(f[in.L4+1])}
						got[k] = append(got[k], f)
					}
				}
			}
		}
		for k, frames := range want {
			// Segments of an oversize frame of the flow may lie between.
			if unlucky == 0 && !isSubsequence(frames, got[k]) {
				t.Fatalf("%+v: %d frames in, %d out: order or content differ", k, len(frames), len(got[k]))
			}
		}
		model.RxFrames, model.RxDropDevice = model.delivered-failed, failed
		if sum != model.Counters {
			t.Fatalf("counts %+v,\n  want %+v", sum, model.Counters)
		}
		if arrived != sum.RxFrames {
			t.Fatalf("%d frames at the devices, %d counted", arrived, sum.RxFrames)
		}
	})
}

// tallyConn counts the datagrams that arrive.
type tallyConn struct {
	transport.Conn
	arrived atomic.Uint64
}

type tallyReceiver struct {
	transport.Receiver
	c *tallyConn
}

func (c *tallyConn) Receivers() []transport.Receiver {
	var receivers []transport.Receiver
	for _, r := range c.Conn.Receivers() {
		receivers = append(receivers, tallyReceiver{r, c})
	}
	return receivers
}

func (r tallyReceiver) Recv(trains []transport.Train) (int, error) {
	n, err := r.Receiver.Recv(trains)
	for i := range n {
		r.c.arrived.Add(uint64(trains[i].Len()))
	}
	return n, err
}

// Two endpoints on a network that is as bad as it likes: no frame disappears
// between the counters.
func TestNothingIsLostBetweenTheCounters(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		percent := rapid.SampledFrom([]float64{0, 0, 0.05, 0.5})
		cfg := transport.NetworkConfig{
			Seed: rapid.Uint64().Draw(rt, "seed"), Loss: percent.Draw(rt, "loss"), Duplicate: percent.Draw(rt, "duplicate"),
			Reorder: percent.Draw(rt, "reorder"), Corrupt: percent.Draw(rt, "corrupt"),
		}
		sizes := rapid.SliceOfN(rapid.SampledFrom([]int{14, 60, 64, 64, 64, 500, 1464}), 1, 200).Draw(rt, "sizes")
		var a, b Counters
		var endpoint EndpointCounters
		var arrived uint64
		var got [][]byte
		var sent [][]byte
		synctest.Test(t, func(t *testing.T) {
			n := transport.NewNetwork(cfg)
			conn, err := n.Listen(vtepB)
			if err != nil {
				t.Fatal(err)
			}
			counted := &tallyConn{Conn: conn}
			sa, sb := on(t, n, vtepA), newSite(t, counted)
			x := sa.join(10, alice, peers(vtepB))
			y := sb.join(10, bob, func(c *VNIConfig) {
				c.Peers = []netip.AddrPort{vtepA}
				c.DisableLearning = true
			})
			for i, size := range sizes {
				f := raw(bob, alice, size)
				if size > 14 {
					f[14], f[15] = byte(i), byte(i>>8)
				}
				sent = append(sent, f)
			}
			x.send(t, sent...)
			a, b, endpoint = sa.counters(10), sb.counters(10), sb.e.Status().Counters
			arrived, got = counted.arrived.Load(), y.take()
			sa.stop()
			sb.stop()
		})
		if a.TxFrames != uint64(len(sizes)) || a.txDrops() != 0 {
			rt.Fatalf("%d frames to send, counters %+v", len(sizes), a)
		}
		lost := endpoint.RxDropBadHeader + endpoint.RxDropShortFrame + endpoint.RxDropUnknownVNI
		if arrived != b.RxFrames+b.rxDrops()+lost {
			rt.Fatalf("%d datagrams arrived; counters %+v %+v", arrived, b, endpoint)
		}
		if uint64(len(got)) != b.RxFrames {
			rt.Fatalf("%d frames at the station, %d counted", len(got), b.RxFrames)
		}
		if cfg.Duplicate == 0 && arrived > a.TxFrames {
			rt.Fatalf("%d frames sent, %d arrived", a.TxFrames, arrived)
		}
		if cfg.Loss == 0 && cfg.Reorder == 0 && arrived < a.TxFrames {
			rt.Fatalf("%d frames sent, %d arrived on a network that loses none", a.TxFrames, arrived)
		}
		if cfg.Reorder == 0 && cfg.Corrupt == 0 && cfg.Duplicate == 0 && !isSubsequence(got, sent) {
			rt.Fatalf("order or content differ on a network that only loses")
		}
	})
}
