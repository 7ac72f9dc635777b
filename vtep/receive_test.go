package vtep

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

func (r *rig) endpointCounters() EndpointCounters { return r.e.Status().Counters }

func TestPacketsThatBelongToNoVNI(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA))
	good := encap(10, raw(host, alice, 64))
	noVNI := slices.Clone(good)
	noVNI[0] = 0xF7 // all flags but I
	for _, tc := range []struct {
		name     string
		datagram []byte
		want     EndpointCounters
	}{
		{"empty", nil, EndpointCounters{}}, // a train without a datagram
		{"1 byte", good[:1], EndpointCounters{RxDropBadHeader: 1}},
		{"7 bytes", good[:7], EndpointCounters{RxDropBadHeader: 1}},
		{"header alone", good[:8], EndpointCounters{RxDropShortFrame: 1}},
		{"frame of 13 bytes", good[:8+13], EndpointCounters{RxDropShortFrame: 1}},
		{"I flag clear", noVNI, EndpointCounters{RxDropBadHeader: 1}},
		{"unknown VNI", encap(11, raw(host, alice, 64)), EndpointCounters{RxDropUnknownVNI: 1}},
		{"unknown VNI, all bits", encap(0xFFFFFF, raw(host, alice, 64)), EndpointCounters{RxDropUnknownVNI: 1}},
		{"unknown VNI, no VNI near", encap(0xFE0000, raw(host, alice, 64)), EndpointCounters{RxDropUnknownVNI: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := r.endpointCounters()
			// Twice, with good packets around: nothing sticks.
			r.datagrams(vtepA.Addr(), 0, good, tc.datagram, tc.datagram, good)
			after := r.endpointCounters()
			got := EndpointCounters{
				RxDropBadHeader:  after.RxDropBadHeader - before.RxDropBadHeader,
				RxDropShortFrame: after.RxDropShortFrame - before.RxDropShortFrame,
				RxDropUnknownVNI: after.RxDropUnknownVNI - before.RxDropUnknownVNI,
			}
			want := tc.want
			want.RxDropBadHeader *= 2
			want.RxDropShortFrame *= 2
			want.RxDropUnknownVNI *= 2
			if got != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}
			if n := len(p.card.frames()); n != 2 {
				t.Errorf("%d frames delivered, want the two good ones", n)
			}
		})
	}
}

// RFC 7348 section 5: what is reserved is ignored on receipt.
func TestReservedBitsAreIgnored(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	f := raw(host, alice, 64)
	d := encap(10, f)
	d[0], d[1], d[2], d[3], d[7] = 0xFF, 0xFF, 0xFF, 0xFF, 0xFF
	p.rig.datagrams(vtepA.Addr(), 0, d)
	if got := p.card.frames(); len(got) != 1 || !bytes.Equal(got[0], f) {
		t.Errorf("delivered %x", got)
	}
}

func TestSmallestFrames(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	for size := 14; size < 80; size++ {
		f := raw(host, alice, size)
		if got := p.arrived(vtepA.Addr(), f); len(got) != 1 || !bytes.Equal(got[0], f) {
			t.Errorf("size %d: delivered %x", size, got)
		}
	}
}

// All sixteen pairs of RFC 6040 figure 4, through the whole way of a packet.
func TestECNOnTheWayIn(t *testing.T) {
	// Rows: inner; columns: outer Not-ECT, ECT(1), ECT(0), CE. -1: dropped.
	// Typed off figure 4, which has the columns in another order.
	results := map[vxlan.ECN][4]int{
		vxlan.NotECT: {0, 0, 0, -1},
		vxlan.ECT1:   {1, 1, 1, 3},
		vxlan.ECT0:   {2, 1, 2, 3},
		vxlan.CE:     {3, 3, 3, 3},
	}
	for inner, row := range results {
		for outer, want := range row {
			for _, v6 := range []bool{false, true} {
				name := fmt.Sprintf("inner %v outer %v v6 %v", inner, vxlan.ECN(outer), v6)
				p := newRig(t).add(10, peers(vtepA))
				const dscp = 0x2E << 2
				pkt := packet{dst: host, src: alice, v6: v6, tos: dscp | uint8(inner), payload: 100}
				p.rig.datagrams(vtepA.Addr(), uint8(outer), encap(10, pkt.frame(t)))
				got := p.card.frames()
				c := p.counters()
				if want < 0 {
					if got != nil || c.RxDropECN != 1 || c.RxFrames != 0 {
						t.Errorf("%s: delivered %d, counters %+v; want a drop", name, len(got), c)
					}
					continue
				}
				pkt.tos = dscp | uint8(want)
				if len(got) != 1 || !bytes.Equal(got[0], pkt.frame(t)) {
					t.Errorf("%s: got %x,\nwant %x", name, got, pkt.frame(t))
				}
				if c.RxFrames != 1 || c.RxDropECN != 0 {
					t.Errorf("%s: counters %+v", name, c)
				}
			}
		}
	}
}

// Frames without IP have nothing to mark and are never dropped for it; in one
// batch with others they do not keep them from it.
func TestECNOfFramesWithoutIP(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	f := raw(host, alice, 64)
	deaf := packet{dst: host, src: alice, payload: 20}.frame(t)
	p.rig.datagrams(vtepA.Addr(), 3, encap(10, f), encap(10, deaf), encap(10, f))
	if got := p.card.frames(); len(got) != 2 || !bytes.Equal(got[0], f) || !bytes.Equal(got[1], f) {
		t.Errorf("delivered %x", got)
	}
	if c := p.counters(); c.RxDropECN != 1 {
		t.Errorf("counters %+v, want RxDropECN 1", c)
	}
}

func TestECNAlertIsCountedAndDelivered(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	f := packet{dst: host, src: alice, tos: 0, payload: 20}.frame(t)
	p.rig.datagrams(vtepA.Addr(), uint8(vxlan.ECT0), encap(10, f))
	if c := p.counters(); c.RxECNAlert != 1 || c.RxFrames != 1 {
		t.Errorf("counters %+v, want RxECNAlert 1, RxFrames 1", c)
	}
}

// A train is as many packets as it has datagrams, whatever the stride.
func TestTrainsOnTheWayIn(t *testing.T) {
	for _, size := range []int{14, 64, 300, 1464} {
		for _, count := range []int{1, 2, 7, 40} {
			for _, last := range []int{14, size} {
				p := newRig(t).add(10, peers(vtepA))
				var buf []byte
				var want [][]byte
				for i := range count {
					n := size
					if i == count-1 {
						n = last
					}
					f := raw(host, alice, n)
					f[13] = byte(i)
					want = append(want, f)
					buf = append(buf, encap(10, f)...)
				}
				p.rig.r.batch([]transport.Train{{Buf: buf, Stride: 8 + size, Addr: vtepA}}, 0)
				if got := p.card.frames(); !slices.EqualFunc(got, want, bytes.Equal) {
					t.Errorf("size %d, %d datagrams, last %d: %d frames delivered", size, count, last, len(got))
				}
			}
		}
	}
}

// An inner packet whose length is a lie must not take the rest of its train
// with it: others' frames lie behind it, perhaps of another VNI. One that says
// to end where the train ends cannot be told from a superframe but by the
// headers inside; then nothing is delivered, above all not to the liar's
// friend.
func TestLyingLengthGetsNobodysFrames(t *testing.T) {
	honest := packet{dst: host, src: bob, payload: 100}
	size := 8 + honest.headers() + 100
	for _, tc := range []struct {
		name   string
		length int // of the inner IPv4 packet
		want   int // honest frames delivered
	}{
		{"longest", 0xFFFF, 2},
		{"too long", 300, 2},
		{"one datagram", size - 8 - 14 + size, 2},
		{"the train", 3*size - 8 - 14, 0},
	} {
		r := newRig(t)
		p, q := r.add(10, peers(vtepA)), r.add(20, peers(vtepA))
		liar := packet{dst: host, src: alice, payload: tc.length - 28}.superframe(t, 100).Bytes
		liar = liar[:size-8] // UDP length and checksum as of the whole
		f := honest.frame(t)
		buf := slices.Concat(encap(10, liar), encap(20, f), encap(20, f))
		r.r.batch([]transport.Train{{Buf: buf, Stride: size, Addr: vtepA}}, 0)
		got := q.card.frames()
		if len(got) != tc.want {
			t.Errorf("%s: %d of the two honest frames behind it were delivered, want %d", tc.name, len(got), tc.want)
		}
		for _, f := range p.card.vectorsTaken() {
			if f.Len() > size-8 {
				t.Errorf("%s: VNI 10 got %d bytes, more than one frame", tc.name, f.Len())
			}
		}
		if c := r.endpointCounters(); tc.want == 0 && c.RxDropBadHeader != 3 {
			t.Errorf("%s: counters %+v, want RxDropBadHeader 3", tc.name, c)
		}
	}
}

// A kernel VTEP across a veth pair hands a superframe of UDP datagrams over as
// one VXLAN packet, and the socket tells the inner segment size in place of a
// stride.
func TestUDPSuperframeInOneDatagram(t *testing.T) {
	tag := func(f []byte, tags int) []byte {
		for range tags {
			f = slices.Insert(f, 12, 0x81, 0x00, 0x00, 0x05)
		}
		return f
	}
	for _, v6 := range []bool{false, true} {
		for tags := range 3 {
			p := newRig(t).add(10, peers(vtepA))
			super := packet{dst: host, src: alice, v6: v6, id: 5, payload: 5000}
			f := tag(super.superframe(t, 1200).Bytes, tags)
			p.rig.r.batch([]transport.Train{{Buf: encap(10, f), Stride: 1200, Addr: vtepA}}, 0)
			got := p.card.frames()
			if len(got) != 5 {
				t.Errorf("v6 %v, %d tags: %d frames delivered, want 5; counters %+v", v6, tags, len(got), p.counters())
				continue
			}
			for i := range got {
				segment := packet{dst: host, src: alice, v6: v6, id: 5 + uint16(i), seq: uint32(i * 1200), payload: 1200}
				if i == 4 {
					segment.payload = 200
				}
				if want := tag(segment.frame(t), tags); !bytes.Equal(got[i], want) {
					t.Errorf("v6 %v, %d tags, segment %d:\n got %x\nwant %x", v6, tags, i, got[i][:60], want[:60])
				}
			}
		}
	}
}

// The same with TCP: nothing tells a segment size.
func TestTCPSuperframeInOneDatagram(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	f := packet{dst: host, src: alice, tcp: true, id: 5, payload: 20000}.superframe(t, 1)
	p.rig.datagrams(vtepA.Addr(), 0, encap(10, f.Bytes))
	const mss = 1450 - 40
	got := p.card.frames()
	if want := (20000 + mss - 1) / mss; len(got) != want {
		t.Fatalf("%d frames delivered, want %d", len(got), want)
	}
	for i := range got {
		want := packet{dst: host, src: alice, tcp: true, id: 5 + uint16(i), seq: uint32(i * mss), payload: min(mss, 20000-i*mss)}
		if !bytes.Equal(got[i], want.frame(t)) {
			t.Errorf("segment %d:\n got %x\nwant %x", i, got[i][:60], want.frame(t)[:60])
		}
	}
}

func TestOversizeIsCounted(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	if got := p.arrived(vtepA.Addr(), raw(host, alice, 14+1451), raw(host, alice, 14+1450)); len(got) != 1 {
		t.Errorf("%d frames delivered, want the one of the MTU", len(got))
	}
	if c := p.counters(); c.RxDropOversize != 1 || c.RxFrames != 1 {
		t.Errorf("counters %+v, want RxDropOversize 1, RxFrames 1", c)
	}
}

// TCP segments of one flow reach a device with offloads as one superframe, and
// one without as they came. The counters say the same.
func TestMergingOnTheWayIn(t *testing.T) {
	for _, features := range []tap.Features{0, tap.AllFeatures} {
		r := newRig(t)
		p := r.add(10, func(c *VNIConfig) {
			c.Peers = []netip.AddrPort{vtepA}
			c.Device.(*card).features = features
		})
		var want [][]byte
		size := 0
		for i := range 20 {
			f := packet{dst: host, src: alice, tcp: true, id: uint16(i), seq: uint32(i * 1000), payload: 1000}.frame(t)
			want = append(want, f)
			size += len(f)
		}
		p.arrive(vtepA.Addr(), want...)
		vectors := p.card.vectorsTaken()
		if n := len(vectors); (features == 0 && n != 20) || (features != 0 && n != 1) {
			t.Errorf("features %v: %d vectors", features, n)
		}
		var got [][]byte
		for i := range vectors {
			got = append(got, plainFrames(t, &vectors[i])...)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("features %v: frames differ", features)
		}
		if c := p.counters(); c.RxFrames != 20 || c.RxBytes != uint64(size) {
			t.Errorf("features %v: %d frames of %d bytes counted, want 20 of %d", features, c.RxFrames, c.RxBytes, size)
		}
	}
}

// Partial checksums, as a kernel VTEP across a veth pair sends them, are told
// to the device, or completed.
func TestPartialChecksumOnTheWayIn(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	want := packet{dst: host, src: alice, tcp: true, payload: 77}.frame(t)
	f := packet{dst: host, src: alice, tcp: true, payload: 77}.superframe(t, 77).Bytes
	if bytes.Equal(f, want) {
		t.Fatal("the frame of the test is not partial")
	}
	if got := p.arrived(vtepA.Addr(), f); len(got) != 1 || !bytes.Equal(got[0], want) {
		t.Errorf("got %x\nwant %x", got, want)
	}
}

// More vectors than one write takes: nothing is lost between.
func TestManyFramesInOneBatch(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	var trains []transport.Train
	for i := range recvTrains {
		var buf []byte
		for k := range 64 {
			f := raw(host, alice, 64)
			f[20], f[21] = byte(i), byte(k)
			buf = append(buf, encap(10, f)...)
		}
		trains = append(trains, transport.Train{Buf: buf, Stride: 72, Addr: vtepA})
	}
	p.rig.r.batch(trains, 0)
	got := p.card.frames()
	if len(got) != recvTrains*64 {
		t.Fatalf("%d frames delivered, want %d", len(got), recvTrains*64)
	}
	for i, f := range got {
		if int(f[20]) != i/64 || int(f[21]) != i%64 {
			t.Fatalf("frame %d is %d/%d: order changed", i, f[20], f[21])
		}
	}
}

func TestDeviceErrorsAreCounted(t *testing.T) {
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA}
		c.Device.(*card).features = tap.AllFeatures
	})
	q := r.add(11, peers(vtepA))
	calls := 0
	p.card.fail = func(v *tap.Vector) error {
		if calls++; calls%2 == 1 {
			return syscall.EIO
		}
		return nil
	}
	// Five superframes of three segments: the first, third and fifth fail.
	var frames [][]byte
	for flow := range 5 {
		for i := range 3 {
			frames = append(frames, packet{dst: host, src: alice, tcp: true, sport: 1000 + uint16(flow), id: uint16(i),
				seq: uint32(i * 500), payload: 500}.frame(t))
		}
	}
	p.arrive(vtepA.Addr(), frames...)
	if got := p.card.frames(); !slices.EqualFunc(got, slices.Concat(frames[3:6], frames[9:12]), bytes.Equal) {
		t.Errorf("%d frames reached the device, want those of the second and fourth flow", len(got))
	}
	size := uint64(len(frames[0]))
	if c := p.counters(); c.RxDropDevice != 9 || c.RxFrames != 6 || c.RxBytes != 6*size {
		t.Errorf("counters %+v, want 9 dropped, 6 delivered of %d bytes", c, 6*size)
	}
	// The other VNI has its own device.
	if got := q.arrived(vtepA.Addr(), raw(host, alice, 64)); len(got) != 1 {
		t.Error("another VNI's device suffers too")
	}
}

func TestGoneDeviceIsCounted(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	gone := errors.New("gone")
	p.card.fail = func(*tap.Vector) error { return gone }
	p.arrive(vtepA.Addr(), raw(host, alice, 64), raw(host, bob, 100))
	if c := p.counters(); c.RxDropDevice != 2 || c.RxFrames != 0 || c.RxBytes != 0 {
		t.Errorf("counters %+v, want RxDropDevice 2 and nothing delivered", c)
	}
}

// A UDP datagram that was sent without checksum stays without one.
func TestInnerZeroChecksumStays(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	f := packet{dst: host, src: alice, payload: 100}.frame(t)
	f[14+20+6], f[14+20+7] = 0, 0
	if got := p.arrived(vtepA.Addr(), f); len(got) != 1 || !bytes.Equal(got[0], f) {
		t.Errorf("got %x\nwant %x", got, f)
	}
}

// Damage inside is not ours to hide: the frame arrives as it came, and the
// station finds out.
func TestInnerDamageIsPassedOn(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	f := packet{dst: host, src: alice, tcp: true, payload: 100}.frame(t)
	f[len(f)-1] ^= 1
	if sum := checksum.Sum(f[34:], checksum.Pseudo(f[26:30], f[30:34], uint8(layers.IPProtocolTCP), len(f)-34)); checksum.Fold(sum) == 0xFFFF {
		t.Fatal("the damage does not show")
	}
	if got := p.arrived(vtepA.Addr(), f); len(got) != 1 || !bytes.Equal(got[0], f) {
		t.Errorf("got %x\nwant %x", got, f)
	}
}

// The ways into devices of VNIs that are gone do not pile up, nor does the
// search for them cost anything when thousands of VNIs get their first packet.
func TestOutletsOfDeletedVNIsGo(t *testing.T) {
	r := newRig(t)
	for range 50 {
		for v := range vxlan.VNI(3) {
			p := r.add(v, peers(vtepA))
			if got := p.arrived(vtepA.Addr(), raw(host, alice, 64)); len(got) != 1 {
				t.Fatal("frame was not delivered")
			}
		}
		for v := range vxlan.VNI(3) {
			if err := r.e.DelVNI(v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(r.r.outlets); n > 3 {
		t.Errorf("%d outlets are kept for no VNI at all, want at most those of the last three", n)
	}
}
