package transport

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/captured"
	"github.com/govxlan/govxlan/vxlan"
)

// received is a packet as a packet socket hands it over: payload in UDP from
// src to port 4789, behind a vnet header.
func received(t testing.TB, flags, gso byte, size uint16, src, dst string, payload []byte) []byte {
	t.Helper()
	o := vxlan.Outer{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), TTL: 64, TOS: 2, SrcPort: 50000, DstPort: 4789}
	template, err := o.CompileUDP()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, vnetHeaderLen+template.Len(), vnetHeaderLen+template.Len()+len(payload))
	if err := template.Put(b[vnetHeaderLen:], payload, &vxlan.UDPFields{SrcPort: 50000, TOS: 2, TTL: 64}); err != nil {
		t.Fatal(err)
	}
	b[0], b[1] = flags, gso
	binary.NativeEndian.PutUint16(b[4:], size)
	return append(b, payload...)
}

func noZone() string { return "eth7" }

func TestUnpack(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789"), 10)
	wrong := func(b []byte) []byte { b[len(b)-1]++; return b }
	noSum := func(b []byte) []byte {
		at := len(b) - len(payload) - 2
		b[at], b[at+1] = 0, 0
		return b
	}
	const a4, b4, a6, b6 = "192.168.52.203", "192.168.52.204", "fd52::203", "fd52::204"
	for _, tc := range []struct {
		name   string
		b      []byte
		want   verdict
		stride int
	}{
		{"IPv4", received(t, 0, 0, 0, a4, b4, payload), taken, 0},
		{"IPv6", received(t, 0, 0, 0, a6, b6, payload), taken, 0},
		{"link-local", received(t, 0, 0, 0, "fe80::1", "fe80::2", payload), taken, 0},
		{"a train", received(t, vnetNeedsChecksum, vnetGSOUDP, 30, a4, b4, payload), taken, 30},
		{"a train, ECN", received(t, vnetNeedsChecksum, vnetGSOUDP|vnetGSOECN, 30, a6, b6, payload), taken, 30},
		{"a train of one", received(t, vnetNeedsChecksum, vnetGSOUDP, 100, a4, b4, payload), taken, 0},
		{"inner TCP in one piece", received(t, vnetNeedsChecksum, 1, 30, a4, b4, payload), taken, 0},
		{"wrong checksum", wrong(received(t, 0, 0, 0, a4, b4, payload)), badChecksum, 0},
		{"wrong checksum, IPv6", wrong(received(t, 0, 0, 0, a6, b6, payload)), badChecksum, 0},
		{"verified by the device", wrong(received(t, vnetDataValid, 0, 0, a4, b4, payload)), taken, 0},
		{"partial", wrong(received(t, vnetNeedsChecksum, 0, 0, a6, b6, payload)), taken, 0},
		{"no checksum", noSum(received(t, 0, 0, 0, a4, b4, payload)), taken, 0},
		{"no checksum, IPv6", noSum(received(t, 0, 0, 0, a6, b6, payload)), badChecksum, 0},
		{"no checksum, IPv6, verified", noSum(received(t, vnetDataValid, 0, 0, a6, b6, payload)), badChecksum, 0},
		{"no payload", received(t, 0, 0, 0, a4, b4, nil), empty, 0},
		{"nothing", nil, badPacket, 0},
		{"a vnet header", make([]byte, vnetHeaderLen), badPacket, 0},
	} {
		for _, ethernet := range []bool{true, false} {
			b := tc.b
			if !ethernet && len(b) > vnetHeaderLen {
				b = append(bytes.Clone(b[:vnetHeaderLen]), b[vnetHeaderLen+vxlan.EthernetLen:]...)
			}
			u := unpacker{port: 4789}
			var tr Train
			if v := u.unpack(b, ethernet, noZone, &tr); v != tc.want {
				t.Errorf("%s: verdict %d, want %d", tc.name, v, tc.want)
				continue
			}
			if tc.want != taken {
				continue
			}
			from := u.packet.Src
			if from.IsLinkLocalUnicast() {
				from = from.WithZone("eth7")
			}
			if tr.Stride != tc.stride || len(tr.Buf) != len(payload) || tr.TOS != 2 || tr.Addr != netip.AddrPortFrom(from, 50000) {
				t.Errorf("%s: %d bytes, stride %d, TOS %d, from %v", tc.name, len(tr.Buf), tr.Stride, tr.TOS, tr.Addr)
			}
		}
		u := unpacker{port: 4790}
		var tr Train
		if v := u.unpack(tc.b, true, noZone, &tr); v == taken {
			t.Errorf("%s: taken at another port", tc.name)
		}
	}
}

// Whatever a packet socket brings: no panic, and what is taken is a train whose
// datagrams gopacket finds there too.
func FuzzUnpack(f *testing.F) {
	payload := bytes.Repeat([]byte("0123456789"), 10)
	f.Add(received(f, 0, 0, 0, "192.168.52.203", "192.168.52.204", payload), true)
	f.Add(received(f, vnetNeedsChecksum, vnetGSOUDP, 30, "fe80::1", "fe80::2", payload), true)
	f.Add(received(f, vnetNeedsChecksum, vnetGSOUDP, 30, "192.168.52.203", "192.168.52.204", payload)[vxlan.EthernetLen:], false)
	for _, p := range captured.Packets(f) {
		f.Add(append(make([]byte, vnetHeaderLen), p...), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, ethernet bool) {
		b = bytes.Clone(b)
		before := bytes.Clone(b)
		u := unpacker{port: 4789}
		var tr Train
		v := u.unpack(b, ethernet, noZone, &tr)
		if !bytes.Equal(b, before) {
			t.Fatal("unpack changed the packet")
		}
		if v != taken {
			return
		}
		if len(tr.Buf) == 0 || cap(tr.Buf) != len(tr.Buf) || tr.Stride < 0 || tr.Stride >= len(tr.Buf) || tr.Len() < 1 {
			t.Fatalf("train of %d bytes, stride %d", len(tr.Buf), tr.Stride)
		}
		first := gopacket.LayerType(layers.LayerTypeEthernet)
		if !ethernet {
			first = layers.LayerTypeIPv4
			if b[vnetHeaderLen]>>4 == 6 {
				first = layers.LayerTypeIPv6
			}
		}
		p := gopacket.NewPacket(b[vnetHeaderLen:], first, gopacket.NoCopy)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 4789 || uint16(udp.SrcPort) != tr.Addr.Port() || !bytes.Equal(udp.Payload, tr.Buf) {
			t.Fatalf("taken: %+v; gopacket: %v", tr, p)
		}
		if b[0]&(vnetNeedsChecksum|vnetDataValid) == 0 && !u.packet.ChecksumOK() {
			t.Fatal("taken with a wrong checksum")
		}
	})
}
