package vtep

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// toAlice is a port on whose far side alice is known.
func toAlice(t tester) *port {
	return newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Static = []StaticEntry{{alice, vtepA}, {bob, vtepB}}
	})
}

// shape is the lengths of a train's datagrams.
func shape(tr *transport.Train) []int {
	var n []int
	for i := range tr.Len() {
		n = append(n, len(tr.Datagram(i)))
	}
	return n
}

func TestSmallFramesShareATrain(t *testing.T) {
	p := toAlice(t)
	var frames [][]byte
	for i := range 100 {
		frames = append(frames, packet{dst: alice, src: host, payload: 64, tag: byte(i)}.frame(t))
	}
	trains := p.send(frames...)
	if len(trains) != 1 {
		t.Fatalf("%d trains, want 1", len(trains))
	}
	if got := decaps(t, 10, trains); !slices.EqualFunc(got, frames, bytes.Equal) {
		t.Error("frames differ, or their order")
	}
	var in vxlan.Inner
	if err := in.Parse(frames[0]); err != nil || trains[0].Hash != in.Hash || trains[0].Addr != vtepA {
		t.Errorf("train %+v: want the flow's hash %x, to %v", trains[0], in.Hash, vtepA)
	}
	if c := p.counters(); c.TxFrames != 100 || c.TxBytes != uint64(100*len(frames[0])) || c.TxFlooded != 0 {
		t.Errorf("counters %+v", c)
	}
}

// A train has datagrams of one size; only its last may be shorter.
func TestShapesOfTrains(t *testing.T) {
	for _, tc := range []struct {
		name  string
		sizes []int // of frames
		want  [][]int
	}{
		{"equal", []int{64, 64, 64}, [][]int{{72, 72, 72}}},
		{"shorter at the end", []int{64, 64, 60}, [][]int{{72, 72, 68}}},
		{"shorter closes", []int{64, 60, 64}, [][]int{{72, 68}, {72}}},
		{"longer begins another", []int{60, 64, 64}, [][]int{{68}, {72, 72}}},
		{"falling", []int{70, 66, 60}, [][]int{{78, 74}, {68}}},
		{"one", []int{1464}, [][]int{{1472}}},
		{"minimum", []int{14, 14}, [][]int{{22, 22}}},
	} {
		p := toAlice(t)
		var frames [][]byte
		for i, n := range tc.sizes {
			f := raw(alice, host, n)
			f[len(f)-1] = byte(i)
			frames = append(frames, f)
		}
		trains := p.send(frames...)
		var got [][]int
		for i := range trains {
			got = append(got, shape(&trains[i]))
		}
		if !slices.EqualFunc(got, tc.want, slices.Equal) {
			t.Errorf("%s: trains %v, want %v", tc.name, got, tc.want)
		}
		if got := decaps(t, 10, trains); !slices.EqualFunc(got, frames, bytes.Equal) {
			t.Errorf("%s: frames differ, or their order", tc.name)
		}
	}
}

func TestTrainsEndAtTheLimits(t *testing.T) {
	r := newRig(t)
	r.wire.limits.Segments = 64
	p := r.add(10, func(c *VNIConfig) { c.Static = []StaticEntry{{alice, vtepA}} })
	frames := make([][]byte, 100)
	for i := range frames {
		frames[i] = raw(alice, host, 64)
	}
	trains := p.send(frames...)
	if len(trains) != 2 || trains[0].Len() != 64 || trains[1].Len() != 36 {
		t.Errorf("with 64 segments a train: %d trains", len(trains))
	}

	// Without segmentation offload the transport takes trains apart: long ones
	// still save passes through our own code.
	r.wire.limits.Segments = 1
	if trains = p.send(frames...); len(trains) != 1 || trains[0].Len() != 100 {
		t.Errorf("with 1 segment a train: %d trains", len(trains))
	}

	// 65,507 bytes: 44 datagrams of 1,472 are 64,768.
	for i := range frames {
		frames[i] = raw(alice, host, 1464)
	}
	trains = p.send(frames...)
	var lens []int
	for i := range trains {
		lens = append(lens, trains[i].Len())
		if n := len(trains[i].Buf); n > transport.MaxBytes {
			t.Errorf("train of %d bytes", n)
		}
	}
	if !slices.Equal(lens, []int{44, 44, 12}) {
		t.Errorf("trains of %v datagrams, want 44, 44, 12", lens)
	}
}

// More than the memory of one batch's trains: sent in between, nothing lost.
func TestBatchLongerThanItsMemory(t *testing.T) {
	p := toAlice(t)
	const count = 128
	batch := make([]tap.Frame, count)
	total := 0
	for i := range batch {
		// Flow by flow to two VTEPs, in long and short frames.
		dst := []vxlan.MAC{alice, bob}[i%2]
		batch[i] = packet{dst: dst, src: host, tcp: true, seq: uint32(i), payload: 30000}.superframe(t, 1398-i)
		total += 30000
	}
	trains := p.carry(batch...)
	got := 0
	for _, f := range decaps(t, 10, trains) {
		got += len(f) - 54
	}
	if got != total {
		t.Errorf("%d bytes of payload came out, %d went in", got, total)
	}
}

func TestSuperframesBecomeTrains(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, tcp := range []bool{false, true} {
			for _, size := range []int{1, 1000, 1001, 2000, 40000} {
				p := toAlice(t)
				super := packet{dst: alice, src: host, v6: v6, tcp: tcp, id: 7, seq: 5, payload: size}
				if !tcp {
					super.seq = 0
				}
				trains := p.carry(super.superframe(t, 1000))
				frames := decaps(t, 10, trains)
				if want := (size + 999) / 1000; len(frames) != want {
					t.Errorf("%+v: %d frames, want %d", super, len(frames), want)
				}
				for i, f := range frames {
					want := super
					want.id, want.payload = super.id+uint16(i), min(1000, size-i*1000)
					want.seq += uint32(i * 1000)
					if !bytes.Equal(f, want.frame(t)) {
						t.Errorf("%+v: segment %d:\n got %x\nwant %x", super, i, f[:60], want.frame(t)[:60])
						break
					}
				}
				stride := 8 + super.headers() + min(1000, size)
				for i := range trains {
					if trains[i].Stride != stride {
						t.Errorf("%+v: stride %d, want %d", super, trains[i].Stride, stride)
					}
				}
				if c := p.counters(); c.TxFrames != uint64(len(frames)) || c.TxBytes != uint64(len(frames)*super.headers()+size) {
					t.Errorf("%+v: counters %+v", super, c)
				}
			}
		}
	}
}

// Superframes of one size and flow continue each other's trains, and plain
// frames of that size do too.
func TestSuperframesAndFramesShareTrains(t *testing.T) {
	p := toAlice(t)
	first := packet{dst: alice, src: host, tcp: true, id: 0, seq: 0, payload: 5000}
	second := packet{dst: alice, src: host, tcp: true, id: 5, seq: 5000, payload: 5000}
	third := packet{dst: alice, src: host, tcp: true, id: 10, seq: 10000, payload: 1000}
	fourth := packet{dst: alice, src: host, tcp: true, id: 11, seq: 11000, payload: 1500}
	trains := p.carry(first.superframe(t, 1000), second.superframe(t, 1000), tap.Frame{Bytes: third.frame(t)}, fourth.superframe(t, 1000))
	if len(trains) != 1 || trains[0].Len() != 13 {
		t.Fatalf("%d trains, the first of %d; want one of 13", len(trains), trains[0].Len())
	}
	for i, f := range decaps(t, 10, trains) {
		want := packet{dst: alice, src: host, tcp: true, id: uint16(i), seq: uint32(i * 1000), payload: min(1000, 12500-i*1000)}
		if !bytes.Equal(f, want.frame(t)) {
			t.Errorf("frame %d:\n got %x\nwant %x", i, f[:60], want.frame(t)[:60])
		}
	}
}

func TestPartialChecksumsLeaveComplete(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, tcp := range []bool{false, true} {
			p := toAlice(t)
			pkt := packet{dst: alice, src: host, v6: v6, tcp: tcp, payload: 333}
			f := pkt.superframe(t, 0)
			f.Header.GSO, f.Header.SegmentBytes = tap.GSONone, 0
			if got := decaps(t, 10, p.carry(f)); len(got) != 1 || !bytes.Equal(got[0], pkt.frame(t)) {
				t.Errorf("%+v:\n got %x\nwant %x", pkt, got, pkt.frame(t))
			}
		}
	}
}

// The ECN bits of the inner packet are copied to the outer one; the rest of
// the TOS is not (RFC 6040 section 4.1).
func TestECNOnTheWayOut(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for ecn := range uint8(4) {
			p := toAlice(t)
			pkt := packet{dst: alice, src: host, v6: v6, tos: 0x2E<<2 | ecn, payload: 64}
			trains := p.send(pkt.frame(t))
			if len(trains) != 1 || trains[0].TOS != ecn {
				t.Errorf("v6 %v ECN %v: outer TOS %#x", v6, vxlan.ECN(ecn), trains[0].TOS)
			}
			if got := decaps(t, 10, trains); !bytes.Equal(got[0], pkt.frame(t)) {
				t.Errorf("v6 %v ECN %v: the inner frame was changed", v6, vxlan.ECN(ecn))
			}
		}
	}
	p := toAlice(t)
	if trains := p.send(raw(alice, host, 64)); trains[0].TOS != 0 {
		t.Errorf("frame without IP: outer TOS %#x", trains[0].TOS)
	}
}

// A train has one outer header for all: another TOS begins another train, and
// the order stays.
func TestTOSBreaksATrain(t *testing.T) {
	p := toAlice(t)
	var frames [][]byte
	for i, ecn := range []uint8{2, 2, 3, 2, 2} {
		frames = append(frames, packet{dst: alice, src: host, tos: ecn, payload: 64, tag: byte(i)}.frame(t))
	}
	trains := p.send(frames...)
	var got []int
	for i := range trains {
		got = append(got, int(trains[i].TOS), trains[i].Len())
	}
	if !slices.Equal(got, []int{2, 2, 3, 1, 2, 2}) {
		t.Errorf("trains as TOS, length: %v; want 2 of ECT(0), 1 of CE, 2 of ECT(0)", got)
	}
	if got := decaps(t, 10, trains); !slices.EqualFunc(got, frames, bytes.Equal) {
		t.Error("frames differ, or their order")
	}
}

// Flows that leave from one source port share trains; others do not. Every
// train's hash leads to the port of all its frames.
func TestSourcePortsOfFlows(t *testing.T) {
	r := newRig(t)
	r.wire.limits.Flows = 16
	p := r.add(10, func(c *VNIConfig) { c.Static = []StaticEntry{{alice, vtepA}} })
	var frames [][]byte
	for i := range 120 {
		frames = append(frames, packet{dst: alice, src: host, sport: 2000 + uint16(i%40), payload: 64, tag: byte(i)}.frame(t))
	}
	slot := func(hash uint32) int { return int(uint64(hash) * 16 >> 32) }
	trains := p.send(frames...)
	used := make(map[int]bool)
	total := 0
	for i := range trains {
		used[slot(trains[i].Hash)] = true
		for _, f := range decaps(t, 10, trains[i:i+1]) {
			var in vxlan.Inner
			if err := in.Parse(f); err != nil {
				t.Fatal(err)
			}
			if slot(in.Hash) != slot(trains[i].Hash) {
				t.Errorf("train of port %d has a frame of port %d", slot(trains[i].Hash), slot(in.Hash))
			}
			total++
		}
	}
	if len(trains) != len(used) {
		t.Errorf("%d trains for %d source ports", len(trains), len(used))
	}
	if len(used) < 8 || total != 120 {
		t.Errorf("40 flows leave from %d ports in %d frames; want most of 16 ports, 120 frames", len(used), total)
	}
}

func TestBadFramesFromTheDevice(t *testing.T) {
	p := toAlice(t)
	good := raw(alice, host, 64)
	lie := packet{dst: alice, src: host, tcp: true, payload: 5000}.superframe(t, 1000)
	lie.Header.ChecksumStart = 9999
	far := tap.Frame{Header: tap.Header{Flags: tap.NeedsChecksum, ChecksumStart: 60, ChecksumOffset: 6}, Bytes: slices.Clone(good)}
	trains := p.carry(tap.Frame{Bytes: good}, tap.Frame{}, tap.Frame{Bytes: good[:13]}, lie, far, tap.Frame{Bytes: good})
	if got := decaps(t, 10, trains); len(got) != 2 {
		t.Errorf("%d frames left, want the two good ones", len(got))
	}
	if c := p.counters(); c.TxDropBadFrame != 4 || c.TxFrames != 2 {
		t.Errorf("counters %+v, want TxDropBadFrame 4, TxFrames 2", c)
	}
}

// Longer than any datagram.
func TestFramesTooBigForUDP(t *testing.T) {
	p := toAlice(t)
	trains := p.send(raw(alice, host, tap.MaxFrame), raw(alice, host, transport.MaxBytes-8), raw(alice, host, transport.MaxBytes-7))
	if len(trains) != 1 || len(trains[0].Buf) != transport.MaxBytes {
		t.Errorf("%d trains, want the one that fits", len(trains))
	}
	if c := p.counters(); c.TxDropTooBig != 2 || c.TxFrames != 1 {
		t.Errorf("counters %+v, want TxDropTooBig 2, TxFrames 1", c)
	}
	if got := p.carry(packet{dst: alice, src: host, payload: 65490}.superframe(t, 65480)); got != nil {
		t.Errorf("a superframe of segments that do not fit was sent")
	}
	if c := p.counters(); c.TxDropTooBig != 4 {
		t.Errorf("counters %+v, want TxDropTooBig 4: two segments more", c)
	}
}
