package tap

import (
	"bytes"
	"testing"
)

// BenchmarkDevice is a real TAP: what one frame costs to write, up to where the
// network stack throws it away, and to read.
func BenchmarkDevice(b *testing.B) {
	ns := namespace1(b)
	d := openIn(b, ns, Config{Name: "tap0", MTU: testMTU, Offload: AllFeatures})
	w, r := d.NewWriter(0), d.Readers()[0]
	small := make([]Vector, 64)
	for i := range small {
		small[i].Parts = [][]byte{testFrame(64, i)}
	}
	h, super := super(b, flow{src: 1, dst: 2}, 0, 0, pattern(43*1398, 0), 1398)
	for _, bc := range []struct {
		name    string
		vectors []Vector
		bytes   int
	}{
		{"write 64 bytes", small, 64 * 64},
		{"write superframe", []Vector{{Header: h, Parts: [][]byte{super}}}, len(super)},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.SetBytes(int64(bc.bytes))
			b.ReportAllocs()
			for b.Loop() {
				if n, err := w.Write(bc.vectors); n != len(bc.vectors) || err != nil {
					b.Fatalf("wrote %d, %v", n, err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(bc.vectors)), "ns/frame")
		})
	}
	b.Run("write 64 bytes, io_uring", func(b *testing.B) {
		ring := newRing(b)
		b.SetBytes(64 * 64)
		b.ReportAllocs()
		for b.Loop() {
			if err := w.(RingWriter).WriteRing(ring, small, func(_ *Vector, err error) { b.Fatal(err) }); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(small)), "ns/frame")
	})
	b.Run("read 64 bytes", func(b *testing.B) {
		s := sniff(b, ns, "tap0")
		want := testFrame(64, 0)
		b.SetBytes(64 * 64)
		b.ReportAllocs()
		var batch Batch
		for b.Loop() {
			b.StopTimer()
			for range 64 {
				s.send(b, want)
			}
			b.StartTimer()
			for left := 64; left > 0; {
				if err := r.Read(&batch); err != nil {
					b.Fatal(err)
				}
				for _, f := range batch.Frames {
					if isOurs(f.Bytes) {
						left--
					}
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/frame")
		if n := len(batch.Frames); n == 0 || !bytes.Equal(batch.Frames[n-1].Bytes, want) {
			b.Fatalf("read something else")
		}
	})
}
