package wireguard

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// FuzzTake: whatever a peer has encrypted, each packet is counted as bad or its
// datagram is handed over, in order and as it was.
func FuzzTake(f *testing.F) {
	o := vxlan.Outer{Src: innerB, Dst: innerA, TTL: 9, SrcPort: 50000, DstPort: 4789}
	good := make([]byte, o.Len()+64)
	if err := o.Put(good); err != nil {
		f.Fatal(err)
	}
	good = good[vxlan.EthernetLen:]
	f.Add(good, good, uint8(0), uint8(100))
	f.Add(good, good[:40], uint8(3), uint8(3))
	f.Add([]byte{0x60}, []byte{}, uint8(1), uint8(1))
	f.Fuzz(func(t *testing.T, a, b []byte, order, copies uint8) {
		c := &Conn{opt: Options{Port: 4789}, local: [2]netip.Addr{innerA, innerA6}}
		closed := make(chan struct{})
		r := newReceiver(closed)
		var bufs [][]byte
		var want []byte
		accepted := 0
		for i := range 2 + copies%120 {
			p := a
			if order>>(i%8)&1 == 1 {
				p = b
			}
			if len(p) > 65535 {
				p = p[:65535]
			}
			bufs = append(bufs, append(make([]byte, 16), p...))
			var packet parcel
			payload := (&Conn{opt: c.opt, local: c.local}).unpack(&packet, p)
			if len(payload) > 0 {
				accepted++
				want = append(want, payload...)
			}
		}
		if len(want) > (parcels-2)*(parcelBytes-65535) {
			return // more than waits; the library would wait
		}
		if n, err := r.take(c, bufs, 16); n != len(bufs) || err != nil {
			t.Fatal(n, err)
		}
		counts := c.Counters()
		if int(counts.RxBadPacket+counts.RxChecksum)+accepted != len(bufs) {
			t.Fatalf("%d packets, %d accepted, counted %+v", len(bufs), accepted, counts)
		}
		var got []byte
		seen := 0
		for trains := make([]transport.Train, 5); len(r.full) > 0 || len(r.held) > 0 && r.begun < len(r.held[len(r.held)-1].trains); {
			n, err := r.Recv(trains)
			if err != nil {
				t.Fatal(err)
			}
			for _, tr := range trains[:n] {
				if len(tr.Buf) > transport.MaxBytes || tr.Len() > transport.MaxSegments {
					t.Fatalf("a train of %d bytes, %d datagrams", len(tr.Buf), tr.Len())
				}
				got, seen = append(got, tr.Buf...), seen+tr.Len()
			}
		}
		if !bytes.Equal(got, want) || seen != accepted {
			t.Fatalf("%d datagrams of %d bytes, want %d of %d", seen, len(got), accepted, len(want))
		}
		r.release()
		if len(r.free) != parcels {
			t.Fatalf("%d parcels of %d are back", len(r.free), parcels)
		}
	})
}
