package transport

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/vxlan"
)

// tooBigMessage is an ICMP or ICMPv6 message about a datagram from port 50000
// to port 4789, as raw sockets get it but for the outer IP header.
func tooBigMessage(t testing.TB, v6 bool, mtu uint16, payload []byte) []byte {
	t.Helper()
	o := vxlan.Outer{Src: netip.MustParseAddr("192.168.52.203"), Dst: netip.MustParseAddr("192.168.52.204"), DstPort: 4789}
	if v6 {
		o.Src, o.Dst = netip.MustParseAddr("fd52::203"), netip.MustParseAddr("fd52::204")
	}
	template, err := o.CompileUDP()
	if err != nil {
		t.Fatal(err)
	}
	quoted := make([]byte, template.Len())
	if err := template.Put(quoted, payload, &vxlan.UDPFields{SrcPort: 50000, TTL: 64}); err != nil {
		t.Fatal(err)
	}
	quoted = append(quoted[template.L3():], payload...)
	buf := gopacket.NewSerializeBuffer()
	if v6 {
		quoted = append([]byte{2, 0, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quoted...)
		err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, gopacket.Payload(quoted))
	} else {
		err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true},
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: mtu}, gopacket.Payload(quoted))
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestQuoteOf(t *testing.T) {
	payload := []byte("the beginning of a datagram")
	for _, v6 := range []bool{false, true} {
		good := tooBigMessage(t, v6, 1400, payload)
		w, from, ok := quoteOf(good, v6)
		if !ok || w.MTU != 1400 || w.To.Port() != 4789 || w.To.Addr().Is6() != v6 || from.Port() != 50000 || !bytes.Equal(w.Datagram, payload) {
			t.Errorf("v6=%v: %+v from %v, %v", v6, w, from, ok)
		}
		for n := range len(good) - len(payload) {
			if _, _, ok := quoteOf(good[:n], v6); ok {
				t.Errorf("v6=%v: taken with %d bytes", v6, n)
			}
		}
		if _, _, ok := quoteOf(good, !v6); ok {
			t.Errorf("v6=%v: taken for the other family's", v6)
		}
		other := bytes.Clone(good)
		other[0]++
		if _, _, ok := quoteOf(other, v6); ok {
			t.Errorf("v6=%v: another type was taken", v6)
		}
	}
	bad := tooBigMessage(t, false, 1400, payload)
	bad[len(bad)-1]++
	if _, _, ok := quoteOf(bad, false); ok {
		t.Error("a wrong checksum was taken")
	}
}

func FuzzQuoteOf(f *testing.F) {
	f.Add(tooBigMessage(f, false, 1400, []byte("payload")), false)
	f.Add(tooBigMessage(f, true, 1280, []byte("payload")), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		before := bytes.Clone(b)
		w, from, ok := quoteOf(b, v6)
		if !bytes.Equal(b, before) {
			t.Fatal("the message was changed")
		}
		if ok && (w.MTU < 0 || w.MTU > 65535 || w.To.Addr().Is4() == v6 || from.Addr().Is4() == v6 || len(w.Datagram) > len(b)-8-20-8) {
			t.Fatalf("%+v from %v", w, from)
		}
	})
}
