package tap

import (
	"bytes"
	"testing"

	"github.com/google/gopacket/layers"
)

// super builds a superframe as the network stack hands it over.
func super(t testing.TB, fl flow, seq uint32, id uint16, data []byte, segment int) (Header, []byte) {
	f := fl.frame(t, seq, id, data)
	makePartial(fl, f)
	h := Header{Flags: NeedsChecksum, SegmentBytes: uint16(segment), ChecksumStart: uint16(fl.l4()), ChecksumOffset: tcpChecksum, GSO: GSOTCPv4}
	switch {
	case fl.udp:
		h.GSO, h.ChecksumOffset = GSOUDP, udpChecksum
	case fl.v6:
		h.GSO = GSOTCPv6
	}
	return h, f
}

func TestSplitIsWhatTheStackWouldHaveSent(t *testing.T) {
	ts := []layers.TCPOption{{OptionType: 1}, {OptionType: 1}, {OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}
	for _, fl := range []flow{
		{src: 1, dst: 2, df: true, options: ts},
		{src: 1, dst: 2, flags: func(t *layers.TCP) { t.PSH, t.FIN = true, true }},
		{v6: true, src: 1, dst: 2, options: ts, label: 5},
		{udp: true, src: 1, dst: 2},
		{udp: true, v6: true, src: 1, dst: 2},
	} {
		for _, size := range []int{1, 999, 1000, 1001, 5000, 61000} {
			data := pattern(size, 3)
			h, f := super(t, fl, 0xFFFFFF00, 0xFFF0, data, 1000)
			var s Splitter
			if err := s.Init(&h, f); err != nil {
				t.Fatalf("%+v: %v", fl, err)
			}
			const headroom = 8
			stride := s.Stride(headroom)
			var got [][]byte
			dst := make([]byte, 65507)
			for s.Segments() > 0 {
				n, used := s.Next(dst, headroom, 7)
				if n == 0 {
					t.Fatal("no progress")
				}
				for i := range n {
					got = append(got, append([]byte(nil), dst[i*stride+headroom:min((i+1)*stride, used)]...))
				}
			}
			for i := range got {
				from := i * 1000
				last := from+1000 >= size
				one := fl
				if !last {
					one.flags = nil // PSH and FIN belong to the last
				}
				want := one.frame(t, 0xFFFFFF00+uint32(from), uint16(0xFFF0+i), data[from:min(from+1000, size)])
				if !bytes.Equal(got[i], want) {
					t.Fatalf("%+v size %d segment %d:\n got %x\nwant %x", fl, size, i, got[i][:60], want[:60])
				}
			}
			if want := (size + 999) / 1000; len(got) != want {
				t.Errorf("size %d: %d segments, want %d", size, len(got), want)
			}
		}
	}
}

func TestSplitClearsCWRAfterTheFirst(t *testing.T) {
	fl := flow{src: 1, dst: 2, flags: func(t *layers.TCP) { t.CWR = true }}
	h, f := super(t, fl, 0, 0, pattern(2500, 0), 1000)
	h.GSO |= GSOECN
	var s Splitter
	if err := s.Init(&h, f); err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 4000)
	n, _ := s.Next(dst, 0, 3)
	if n != 3 {
		t.Fatalf("%d segments", n)
	}
	for i := range n {
		cwr := dst[i*s.Stride(0)+fl.l4()+13]&tcpCWR != 0
		if cwr != (i == 0) {
			t.Errorf("segment %d: CWR %v", i, cwr)
		}
	}
}

func TestSplitRefusesHeadersThatLie(t *testing.T) {
	fl := flow{src: 1, dst: 2}
	h, f := super(t, fl, 0, 0, pattern(3000, 0), 1000)
	bad := map[string]func(h *Header, f *[]byte){
		"no segment size":       func(h *Header, f *[]byte) { h.SegmentBytes = 0 },
		"no partial checksum":   func(h *Header, f *[]byte) { h.Flags = 0 },
		"start inside IP":       func(h *Header, f *[]byte) { h.ChecksumStart = 20 },
		"start behind the end":  func(h *Header, f *[]byte) { h.ChecksumStart = 5000 },
		"wrong offset":          func(h *Header, f *[]byte) { h.ChecksumOffset = 2 },
		"IPv6 kind":             func(h *Header, f *[]byte) { h.GSO = GSOTCPv6 },
		"unknown kind":          func(h *Header, f *[]byte) { h.GSO = 99 },
		"not IP":                func(h *Header, f *[]byte) { (*f)[12] = 9 },
		"cut inside TCP":        func(h *Header, f *[]byte) { *f = (*f)[:40] },
		"TCP header too long":   func(h *Header, f *[]byte) { (*f)[34+12] = 0xF0; *f = (*f)[:60] },
		"TCP header too short":  func(h *Header, f *[]byte) { (*f)[34+12] = 0x10 },
		"shorter than Ethernet": func(h *Header, f *[]byte) { *f = (*f)[:10] },
	}
	for name, spoil := range bad {
		h, f := h, append([]byte(nil), f...)
		spoil(&h, &f)
		var s Splitter
		if err := s.Init(&h, f); err != ErrHeader {
			t.Errorf("%s: error %v, want ErrHeader", name, err)
		}
	}
}

func TestCompleteChecksum(t *testing.T) {
	for _, fl := range []flow{{src: 1, dst: 2}, {udp: true, v6: true, src: 5, dst: 6}, {udp: true, src: 5, dst: 6, vlan: 9}} {
		want := fl.frame(t, 0, 1, pattern(77, 0))
		got := append([]byte(nil), want...)
		h := Header{Flags: NeedsChecksum, ChecksumStart: uint16(fl.l4()), ChecksumOffset: tcpChecksum}
		if fl.udp {
			h.ChecksumOffset = udpChecksum
		}
		if fl.vlan == 0 {
			makePartial(fl, got)
			if err := CompleteChecksum(&h, got); err != nil || !bytes.Equal(got, want) || h.Flags != 0 {
				t.Errorf("%+v: %v\n got %x\nwant %x", fl, err, got, want)
			}
		}
		h = Header{Flags: NeedsChecksum, ChecksumStart: uint16(len(got) - 1), ChecksumOffset: 6}
		if err := CompleteChecksum(&h, got); err != ErrHeader {
			t.Errorf("field behind the end: %v", err)
		}
	}
}

func TestSplitAllocatesNothing(t *testing.T) {
	h, f := super(t, flow{src: 1, dst: 2}, 0, 0, pattern(60000, 0), 1398)
	dst := make([]byte, 1<<17)
	var s Splitter
	n := testing.AllocsPerRun(100, func() {
		if s.Init(&h, f) != nil {
			t.Fatal("refused")
		}
		if n, _ := s.Next(dst, 8, 128); n != 43 {
			t.Fatal(n)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSplit(f *testing.F) {
	for _, fl := range []flow{{src: 1, dst: 2}, {v6: true, src: 1, dst: 2}, {udp: true, src: 1, dst: 2}} {
		h, frame := super(f, fl, 0, 0, pattern(3000, 0), 1000)
		f.Add(frame, h.Flags, h.GSO, h.SegmentBytes, h.ChecksumStart, h.ChecksumOffset)
	}
	f.Fuzz(func(t *testing.T, frame []byte, flags, gso uint8, segment, start, offset uint16) {
		h := Header{Flags: flags, GSO: gso, SegmentBytes: segment, ChecksumStart: start, ChecksumOffset: offset}
		if len(frame) > MaxFrame {
			return
		}
		var s Splitter
		if s.Init(&h, frame) == nil {
			total := 0
			dst := make([]byte, 65507)
			stride := s.Stride(8)
			if stride > len(dst) {
				return
			}
			for s.Segments() > 0 {
				n, bytes := s.Next(dst, 8, 128)
				if n == 0 {
					t.Fatal("no progress")
				}
				total += bytes - n*(8+s.headers)
			}
			if total != len(frame)-s.headers {
				t.Fatalf("%d bytes of payload came out, %d went in", total, len(frame)-s.headers)
			}
			return
		}
		_ = CompleteChecksum(&h, frame)
	})
}

func BenchmarkSplit(b *testing.B) {
	h, f := super(b, flow{src: 1, dst: 2}, 0, 0, pattern(61000, 0), 1398)
	dst := make([]byte, 65507)
	var s Splitter
	b.SetBytes(int64(len(f)))
	b.ReportAllocs()
	for b.Loop() {
		if s.Init(&h, f) != nil {
			b.Fatal("refused")
		}
		if n, _ := s.Next(dst, 8, 128); n != 44 {
			b.Fatal(n)
		}
	}
}
