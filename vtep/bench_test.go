package vtep

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// perFrame reports what one frame of a batch costs.
func perFrame(b *testing.B, frames int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(frames), "ns/frame")
}

// BenchmarkWayOut is lookup, encapsulation and the building of trains; the
// system calls are not in it.
func BenchmarkWayOut(b *testing.B) {
	small := make([]tap.Frame, 128)
	flows := make([]tap.Frame, 128)
	full := make([]tap.Frame, 128)
	for i := range small {
		small[i].Bytes = packet{dst: alice, src: host, payload: 22}.frame(b)
		flows[i].Bytes = packet{dst: alice, src: host, sport: 1000 + uint16(i%32), payload: 22}.frame(b)
		full[i].Bytes = packet{dst: alice, src: host, tcp: true, payload: 1396}.frame(b)
	}
	super := make([]tap.Frame, 4)
	for i := range super {
		super[i] = packet{dst: alice, src: host, tcp: true, payload: 44 * 1398}.superframe(b, 1398)
	}
	for _, bc := range []struct {
		name   string
		batch  []tap.Frame
		frames int
	}{{"64 bytes", small, 128}, {"64 bytes, 32 flows", flows, 128}, {"1450 bytes", full, 128}, {"superframes", super, 4 * 44}} {
		b.Run(bc.name, func(b *testing.B) {
			p := toAlice(b)
			p.rig.wire.quiet = true
			p.rig.wire.limits.Flows = 16
			bytes := 0
			for _, f := range bc.batch {
				bytes += len(f.Bytes)
			}
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			for b.Loop() {
				p.tx.carry(p.w, bc.batch)
			}
			perFrame(b, bc.frames)
			if c := p.counters(); c.TxFrames != uint64(b.N*bc.frames) {
				b.Fatalf("%d frames sent in %d rounds", c.TxFrames, b.N)
			}
		})
	}
}

// BenchmarkWayIn is check, lookup of the VNI, learning, merging.
func BenchmarkWayIn(b *testing.B) {
	train := func(count int, frame func(i int) []byte) transport.Train {
		tr := transport.Train{Addr: vtepA}
		for i := range count {
			tr.Buf = append(tr.Buf, encap(10, frame(i))...)
		}
		tr.Stride = len(tr.Buf) / count
		return tr
	}
	small := train(64, func(int) []byte { return packet{dst: host, src: alice, payload: 22}.frame(b) })
	opaque := train(64, func(int) []byte { return raw(host, alice, 64) })
	segments := train(44, func(i int) []byte {
		return packet{dst: host, src: alice, tcp: true, id: uint16(i), seq: uint32(i * 1396), payload: 1396}.frame(b)
	})
	for _, bc := range []struct {
		name  string
		train transport.Train
	}{{"64 bytes UDP", small}, {"64 bytes not IP", opaque}, {"TCP segments", segments}} {
		b.Run(bc.name, func(b *testing.B) {
			p := newRig(b).add(10, func(c *VNIConfig) {
				c.Peers = []netip.AddrPort{vtepA}
				c.Device.(*card).features = tap.AllFeatures
				c.Device.(*card).quiet = true
			})
			buf := append([]byte(nil), bc.train.Buf...)
			work := []transport.Train{bc.train}
			work[0].Buf = buf
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf[:100], bc.train.Buf) // a superframe's headers were written there
				work[0].Stride = bc.train.Stride
				p.rig.r.batch(work, p.rig.now)
			}
			n := bc.train.Len()
			perFrame(b, n)
			if c := p.counters(); c.RxFrames != uint64(b.N*n) {
				b.Fatalf("counters %+v in %d rounds", c, b.N)
			}
		})
	}
}

// BenchmarkDemultiplex has each datagram of a batch be of another VNI than the
// one before: the worst case for everything that remembers the last one.
func BenchmarkDemultiplex(b *testing.B) {
	for _, vnis := range []int{1, 100, 10000} {
		b.Run(fmt.Sprintf("%d VNIs", vnis), func(b *testing.B) {
			r := newRig(b)
			shared := newCard(b)
			shared.quiet = true
			for i := range vnis {
				if err := r.e.AddVNI(VNIConfig{VNI: vxlan.VNI(i * 7), Device: shared, Peers: []netip.AddrPort{vtepA}}); err != nil {
					b.Fatal(err)
				}
			}
			trains := make([]transport.Train, 64)
			for i := range trains {
				trains[i] = transport.Train{Buf: encap(0, raw(host, alice, 64)), Addr: vtepA}
			}
			next := 0
			batch := func() {
				for i := range trains {
					vxlan.Header{VNI: vxlan.VNI(next * 7)}.Put(trains[i].Buf)
					if next++; next == vnis {
						next = 0
					}
				}
				r.r.batch(trains, r.now)
			}
			for range vnis/len(trains) + 1 {
				batch() // the first packet of a VNI makes its way to the device
			}
			b.ReportAllocs()
			for b.Loop() {
				batch()
			}
			perFrame(b, len(trains))
			if c := r.endpointCounters(); c != (EndpointCounters{}) {
				b.Fatalf("drops %+v", c)
			}
		})
	}
}

// BenchmarkStatus is what it costs to look at an endpoint; locked-us/op is how
// long changes of it have to wait for that.
func BenchmarkStatus(b *testing.B) {
	for _, bc := range []struct{ vnis, peers int }{{1, 4}, {1, 1000}, {10000, 4}} {
		b.Run(fmt.Sprintf("%d VNIs, %d peers each", bc.vnis, bc.peers), func(b *testing.B) {
			r := newRig(b)
			shared := newCard(b)
			var peers []netip.AddrPort
			for i := range bc.peers {
				peers = append(peers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 4789))
			}
			for i := range bc.vnis {
				if err := r.e.AddVNI(VNIConfig{VNI: vxlan.VNI(i), Device: shared, Peers: peers}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				s := r.e.Status()
				if n := len(s.VNIs); n != bc.vnis || len(s.VNIs[n-1].Peers) != bc.peers {
					b.Fatalf("%d VNIs", n)
				}
			}
			b.StopTimer()
			begin := time.Now()
			const rounds = 10
			for range rounds {
				r.e.mu.Lock()
				r.e.sorted()
				r.e.mu.Unlock()
			}
			b.ReportMetric(float64(time.Since(begin).Microseconds())/rounds, "locked-us/op")
		})
	}
}
