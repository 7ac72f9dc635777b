package tap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/captured"
	"github.com/govxlan/govxlan/internal/checksum"
	"pgregory.net/rapid"
)

const testMTU = 1450

func add(t testing.TB, c *Coalescer, frames ...[]byte) {
	t.Helper()
	for i, f := range frames {
		// The coalescer writes into what it is given.
		if v := c.Add(append([]byte(nil), f...), 0); v != Accepted {
			t.Fatalf("frame %d: verdict %d", i, v)
		}
	}
}

func TestCoalesceMergesConsecutiveSegments(t *testing.T) {
	for _, fl := range []flow{
		{src: 1, dst: 2, window: 500, df: true},
		{src: 1, dst: 2, window: 500},
		{v6: true, src: 1, dst: 2, window: 500, label: 77},
		{udp: true, src: 1, dst: 2},
		{udp: true, v6: true, src: 1, dst: 2},
		{vlan: 7, src: 1, dst: 2, window: 500},
		{vlan: 7, v6: true, src: 1, dst: 2, window: 500},
		{vlan: 7, udp: true, src: 1, dst: 2},
	} {
		t.Run(fmt.Sprintf("%+v", fl), func(t *testing.T) {
			c := Coalescer{MTU: testMTU}
			var frames [][]byte
			for i := range 5 {
				n := 1000
				if i == 4 {
					n = 300 // the last one may be shorter
				}
				frames = append(frames, fl.frame(t, uint32(i*1000), uint16(100+i), pattern(n, i*1000)))
			}
			add(t, &c, frames...)
			vectors := c.Vectors()
			if len(vectors) != 1 {
				t.Fatalf("%d vectors, want 1 superframe", len(vectors))
			}
			h := vectors[0].Header
			if h.SegmentBytes != 1000 || h.Flags != NeedsChecksum || h.GSO == GSONone || int(h.ChecksumStart) != fl.l4() {
				t.Errorf("header %+v", h)
			}
			got := plainFrames(t, vectors)
			if len(got) != len(frames) {
				t.Fatalf("taken apart again: %d frames, want %d", len(got), len(frames))
			}
			for i := range got {
				if !bytes.Equal(got[i], frames[i]) {
					t.Errorf("frame %d:\n got %x\nwant %x", i, got[i][:70], frames[i][:70])
				}
			}
		})
	}
}

// Each case is two frames that must stay two, though the second continues the
// first in every other respect.
func TestCoalesceKeepsApart(t *testing.T) {
	base := flow{src: 1, dst: 2, window: 500, ack: 9}
	ts := func(v byte) []layers.TCPOption {
		return []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{0, 0, 0, v, 0, 0, 0, 1}},
		}
	}
	with := func(change func(*flow)) flow { f := base; change(&f); return f }
	udp := flow{udp: true, src: 1, dst: 2}
	cases := []struct {
		name   string
		a, b   flow
		seq    uint32
		id     uint16
		na, nb int
	}{
		{"other TTL", base, with(func(f *flow) { f.ttl = 63 }), 1000, 2, 1000, 1000},
		{"other DSCP", base, with(func(f *flow) { f.tos = 0x20 }), 1000, 2, 1000, 1000},
		{"other ECN", with(func(f *flow) { f.tos = 2 }), with(func(f *flow) { f.tos = 3 }), 1000, 2, 1000, 1000},
		{"other DF", base, with(func(f *flow) { f.df = true }), 1000, 2, 1000, 1000},
		{"other port", base, with(func(f *flow) { f.src = 3 }), 1000, 2, 1000, 1000},
		{"other acknowledgement", base, with(func(f *flow) { f.ack = 10 }), 1000, 2, 1000, 1000},
		{"other window", base, with(func(f *flow) { f.window = 501 }), 1000, 2, 1000, 1000},
		{"other timestamp", with(func(f *flow) { f.options = ts(1) }), with(func(f *flow) { f.options = ts(2) }), 1000, 2, 1000, 1000},
		{"options against none", base, with(func(f *flow) { f.options = ts(2) }), 1000, 2, 1000, 1000},
		{"other flow label", flow{v6: true, src: 1, dst: 2, label: 1}, flow{v6: true, src: 1, dst: 2, label: 2}, 1000, 0, 1000, 1000},
		{"hole in the sequence", base, base, 1001, 2, 1000, 1000},
		{"overlap", base, base, 999, 2, 1000, 1000},
		{"repeated", base, base, 0, 2, 1000, 1000},
		{"identification jumps", base, base, 1000, 5, 1000, 1000},
		{"identification stands without DF", base, base, 1000, 1, 1000, 1000},
		{"second is longer", base, base, 1000, 2, 1000, 1001},
		{"first has PSH", with(func(f *flow) { f.flags = func(t *layers.TCP) { t.PSH = true } }), base, 1000, 2, 1000, 1000},
		{"first has FIN", with(func(f *flow) { f.flags = func(t *layers.TCP) { t.FIN = true } }), base, 1000, 2, 1000, 1000},
		{"SYN", base, with(func(f *flow) { f.flags = func(t *layers.TCP) { t.SYN = true } }), 1000, 2, 1000, 1000},
		{"RST", base, with(func(f *flow) { f.flags = func(t *layers.TCP) { t.RST = true } }), 1000, 2, 1000, 1000},
		{"URG", base, with(func(f *flow) { f.flags = func(t *layers.TCP) { t.URG = true; t.Urgent = 5 } }), 1000, 2, 1000, 1000},
		{"CWR", base, with(func(f *flow) { f.flags = func(t *layers.TCP) { t.CWR = true } }), 1000, 2, 1000, 1000},
		{"ECE in one", base, with(func(f *flow) { f.flags = func(t *layers.TCP) { t.ECE = true } }), 1000, 2, 1000, 1000},
		{"pure acknowledgement", base, base, 1000, 2, 1000, 0},
		{"wrong checksum", base, with(func(f *flow) { f.badSum = true }), 1000, 2, 1000, 1000},
		{"other VLAN", with(func(f *flow) { f.vlan = 7 }), with(func(f *flow) { f.vlan = 8 }), 1000, 2, 1000, 1000},
		{"VLAN in one", base, with(func(f *flow) { f.vlan = 7 }), 1000, 2, 1000, 1000},
		{"IPv4 options", with(func(f *flow) {
			f.ipOpts = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
		}),
			with(func(f *flow) {
				f.ipOpts = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
			}), 1000, 2, 1000, 1000},
		{"UDP second is longer", udp, udp, 0, 2, 100, 101},
		{"UDP other TTL", udp, flow{udp: true, src: 1, dst: 2, ttl: 9}, 0, 2, 100, 100},
		{"UDP wrong checksum", udp, flow{udp: true, src: 1, dst: 2, badSum: true}, 0, 2, 100, 100},
		{"UDP and TCP of the same ports", udp, base, 1000, 2, 100, 100},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			a := tc.a.frame(t, 0, 1, pattern(tc.na, 0))
			b := tc.b.frame(t, tc.seq, tc.id, pattern(tc.nb, 0))
			c := Coalescer{MTU: testMTU}
			add(t, &c, a, b)
			got := c.Vectors()
			if len(got) != 2 {
				t.Fatalf("%d vectors, want 2", len(got))
			}
			for i, want := range [][]byte{a, b} {
				if len(got[i].Parts) != 1 || !bytes.Equal(got[i].Parts[0], want) {
					t.Errorf("frame %d was changed", i)
				}
			}
		})
	}
}

func TestCoalesceFragmentsAndZeroChecksum(t *testing.T) {
	fl := flow{udp: true, src: 1, dst: 2}
	zero := fl.frame(t, 0, 1, pattern(100, 0))
	zero[14+20+6], zero[14+20+7] = 0, 0
	fragment := fl.frame(t, 0, 1, pattern(100, 0))
	fragment[14+6] = 0x20 // more fragments
	fixIPv4(fragment[14:])
	for name, f := range map[string][]byte{"UDP without checksum": zero, "fragment": fragment} {
		c := Coalescer{MTU: testMTU}
		second := append([]byte(nil), f...)
		binary.BigEndian.PutUint16(second[18:], 2)
		fixIPv4(second[14:])
		add(t, &c, f, second)
		got := c.Vectors()
		if len(got) != 2 || got[0].Header != (Header{}) || got[1].Header != (Header{}) {
			t.Errorf("%s: %d vectors, headers %+v", name, len(got), got)
		}
	}
}

func fixIPv4(ip []byte) {
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], checksum.Checksum(ip[:20], 0))
}

// makePartial leaves only the pseudo header's sum in the checksum field, as a
// veth pair hands a frame over.
func makePartial(fl flow, f []byte) {
	l4 := fl.l4()
	ip := f[14:]
	src, dst := ip[12:16], ip[16:20]
	if fl.v6 {
		src, dst = ip[8:24], ip[24:40]
	}
	proto, field := uint8(protoTCP), l4+tcpChecksum
	if fl.udp {
		proto, field = protoUDP, l4+udpChecksum
	}
	binary.BigEndian.PutUint16(f[field:], checksum.Fold(checksum.Pseudo(src, dst, proto, len(f)-l4)))
}

func TestCoalesceCompletesPartialChecksums(t *testing.T) {
	for _, fl := range []flow{{src: 1, dst: 2}, {v6: true, src: 1, dst: 2}, {udp: true, src: 1, dst: 2}, {udp: true, v6: true, src: 1, dst: 2}} {
		want := fl.frame(t, 7, 1, pattern(333, 0))
		partial := append([]byte(nil), want...)
		makePartial(fl, partial)
		c := Coalescer{MTU: testMTU}
		add(t, &c, partial)
		vectors := c.Vectors()
		if vectors[0].Header.Flags != NeedsChecksum {
			t.Errorf("%+v: partial checksum not recognised", fl)
		}
		if got := plainFrames(t, vectors)[0]; !bytes.Equal(got, want) {
			t.Errorf("%+v:\n got %x\nwant %x", fl, got[:60], want[:60])
		}
	}
}

func TestCoalesceTrimsPaddingOfPartialFrames(t *testing.T) {
	fl := flow{src: 1, dst: 2}
	want := fl.frame(t, 7, 1, nil)
	padded := append([]byte(nil), want...)
	makePartial(fl, padded)
	padded = append(padded, 0xAA, 0xBB, 0xCC)
	c := Coalescer{MTU: testMTU}
	add(t, &c, padded)
	if got := plainFrames(t, c.Vectors())[0]; !bytes.Equal(got, want) {
		t.Errorf("got %x\nwant %x", got, want)
	}
}

// A kernel VTEP across a veth pair sends a whole superframe as one datagram.
func TestCoalesceSuperframeInOneDatagram(t *testing.T) {
	for _, partial := range []bool{true, false} {
		for _, fl := range []flow{{src: 1, dst: 2, df: true}, {v6: true, src: 1, dst: 2}} {
			data := pattern(20000, 0)
			super := fl.frame(t, 1000, 50, data)
			if partial {
				makePartial(fl, super)
			}
			c := Coalescer{MTU: testMTU}
			add(t, &c, super)
			vectors := c.Vectors()
			mss := testMTU - (fl.l4() - 14) - 20
			if int(vectors[0].Header.SegmentBytes) != mss {
				t.Errorf("segment %d, want %d", vectors[0].Header.SegmentBytes, mss)
			}
			got := plainFrames(t, vectors)
			for i, f := range got {
				from := i * mss
				want := fl.frame(t, 1000+uint32(from), 50+uint16(i), data[from:min(from+mss, len(data))])
				if !bytes.Equal(f, want) {
					t.Fatalf("partial %v, segment %d:\n got %x\nwant %x", partial, i, f[:60], want[:60])
				}
			}
			if want := (len(data) + mss - 1) / mss; len(got) != want {
				t.Errorf("%d segments, want %d", len(got), want)
			}
		}
	}
}

func TestCoalesceOversize(t *testing.T) {
	bad := flow{src: 1, dst: 2, badSum: true}
	c := Coalescer{MTU: testMTU}
	if v := c.Add(bad.frame(t, 0, 1, pattern(5000, 0)), 0); v != Oversize {
		t.Errorf("superframe with a wrong checksum: verdict %d, want Oversize", v)
	}
	udp := flow{udp: true, src: 1, dst: 2}
	if v := c.Add(udp.frame(t, 0, 1, pattern(5000, 0)), 0); v != Oversize {
		t.Errorf("UDP longer than the MTU: verdict %d, want Oversize", v)
	}
	if c.Len() != 0 {
		t.Errorf("%d frames accepted", c.Len())
	}
	// Told the segment size, it is a run of datagrams.
	if v := c.Add(udp.frame(t, 0, 1, pattern(5000, 0)), 1000); v != Accepted || len(plainFrames(t, c.Vectors())) != 5 {
		t.Errorf("UDP superframe: verdict %d, vectors %v", v, c.Len())
	}
}

// split(coalesce(x)) delivers, flow by flow, the same frames in the same order.
func TestCoalesceThenSplitIsIdentity(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var flows []flow
		for i := range rapid.IntRange(1, 12).Draw(r, "flows") {
			flows = append(flows, flow{
				v6: rapid.Bool().Draw(r, "v6"), udp: rapid.Bool().Draw(r, "udp"), df: rapid.Bool().Draw(r, "df"),
				src: uint16(1000 + i), dst: 80, window: 100,
			})
		}
		seq := make([]uint32, len(flows))
		id := make([]uint16, len(flows))
		want := make([][][]byte, len(flows))
		c := Coalescer{MTU: testMTU}
		sizes := []int{0, 1, 64, 64, 64, 1000, 1000, 1000, 1378}
		for range rapid.IntRange(1, 120).Draw(r, "frames") {
			i := rapid.IntRange(0, len(flows)-1).Draw(r, "flow")
			fl := flows[i]
			switch rapid.IntRange(0, 15).Draw(r, "oddity") {
			case 0:
				fl.ttl = 9
			case 1:
				fl.tos = 3
			case 2:
				fl.flags = func(t *layers.TCP) { t.PSH = true }
			case 3:
				fl.flags = func(t *layers.TCP) { t.FIN = true }
			case 4:
				fl.window = 7
			case 5:
				seq[i] += 5
			case 6:
				fl.badSum = true
			case 7:
				id[i] += 3
			case 8:
				fl.ack = 4
			}
			n := rapid.SampledFrom(sizes).Draw(r, "size")
			if n == 0 {
				fl.badSum = false // would hit the header
			}
			f := fl.frame(t, seq[i], id[i], pattern(n, int(seq[i])))
			seq[i] += uint32(n)
			id[i]++
			want[i] = append(want[i], f)
			if c.Add(append([]byte(nil), f...), 0) != Accepted {
				r.Fatalf("not accepted")
			}
		}
		got := make([][][]byte, len(flows))
		for _, f := range plainFrames(t, c.Vectors()) {
			l4 := 34
			if f[12] == 0x86 {
				l4 = 54
			}
			i := int(binary.BigEndian.Uint16(f[l4:])) - 1000
			got[i] = append(got[i], f)
		}
		for i := range flows {
			if len(got[i]) != len(want[i]) {
				r.Fatalf("flow %d: %d frames, want %d", i, len(got[i]), len(want[i]))
			}
			for k := range got[i] {
				if !bytes.Equal(got[i][k], want[i][k]) {
					r.Fatalf("flow %d frame %d:\n got %x\nwant %x", i, k, got[i][k], want[i][k])
				}
			}
		}
	})
}

func TestCoalesceAllocatesNothing(t *testing.T) {
	fl := flow{src: 1, dst: 2, df: true}
	frames := make([][]byte, 40)
	for i := range frames {
		frames[i] = fl.frame(t, uint32(i*1000), uint16(i), pattern(1000, 0))
	}
	work := make([][]byte, len(frames))
	for i := range work {
		work[i] = make([]byte, len(frames[i]))
	}
	c := Coalescer{MTU: testMTU}
	n := testing.AllocsPerRun(100, func() {
		for i := range frames {
			copy(work[i], frames[i])
			c.Add(work[i], 0)
		}
		if len(c.Vectors()) != 1 {
			t.Fatal("not merged")
		}
		c.Reset()
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever arrives, the coalescer neither panics nor invents a superframe that
// cannot be taken apart, and every byte of an untouched frame stays.
func FuzzCoalesce(f *testing.F) {
	for _, fl := range []flow{{src: 1, dst: 2}, {v6: true, src: 1, dst: 2}, {udp: true, src: 1, dst: 2}, {vlan: 5, src: 1, dst: 2}} {
		f.Add(fl.frame(f, 0, 1, pattern(100, 0)), uint16(0))
		f.Add(fl.frame(f, 0, 1, pattern(3000, 0)), uint16(1000))
	}
	for _, frame := range captured.Frames(f) {
		f.Add(frame, uint16(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, segment uint16) {
		if len(b) < 14 || len(b) > 65507 {
			return
		}
		c := Coalescer{MTU: testMTU}
		for range 3 {
			c.Add(append([]byte(nil), b...), int(segment))
		}
		plainFrames(t, c.Vectors())
	})
}

func BenchmarkCoalesceTCP(b *testing.B) {
	benchmarkCoalesce(b, flow{src: 1, dst: 2, df: true}, 1398, 44)
}
func BenchmarkCoalesceUDP64(b *testing.B) {
	benchmarkCoalesce(b, flow{udp: true, src: 1, dst: 2, df: true}, 64, 64)
}

func benchmarkCoalesce(b *testing.B, fl flow, size, count int) {
	frames := make([][]byte, count)
	heads := make([][]byte, count)
	for i := range frames {
		frames[i] = fl.frame(b, uint32(i*size), uint16(i), pattern(size, rand.Int()))
		heads[i] = append([]byte(nil), frames[i][:66]...)
	}
	c := Coalescer{MTU: testMTU}
	b.SetBytes(int64(len(frames[0]) * count))
	b.ReportAllocs()
	for b.Loop() {
		for i := range frames {
			c.Add(frames[i], 0)
		}
		if len(c.Vectors()) != 1 {
			b.Fatal("not merged")
		}
		c.Reset()
		copy(frames[0], heads[0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/frame")
}
