package vtep

import (
	"encoding/binary"
	"net"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
)

// Stations of the tests. host is on our side of the overlay, the others are
// behind other VTEPs.
var (
	host      = vxlan.MAC{2, 0, 0, 0, 1, 0}
	alice     = vxlan.MAC{2, 0, 0, 0, 2, 0}
	bob       = vxlan.MAC{2, 0, 0, 0, 3, 0}
	broadcast = vxlan.MAC{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	group     = vxlan.MAC{1, 0, 0x5E, 0, 0, 0xFB}
)

// raw is a frame of no protocol that anybody looks into, size bytes long.
func raw(dst, src vxlan.MAC, size int) []byte {
	f := make([]byte, max(size, 14))
	copy(f, dst[:])
	copy(f[6:], src[:])
	binary.BigEndian.PutUint16(f[12:], 0x88B5) // local experimental
	for i := 14; i < len(f); i++ {
		f[i] = byte(i * 7)
	}
	return f
}

// packet describes an inner frame with TCP or UDP in it. gopacket builds it,
// so that no code of ours is its own judge.
type packet struct {
	dst, src     vxlan.MAC
	v6, tcp      bool
	sport, dport uint16
	seq          uint32
	id           uint16
	tos          uint8
	payload      int
	tag          byte // of the payload
}

func (p packet) frame(t tester) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: p.src[:], DstMAC: p.dst[:], EthernetType: layers.EthernetTypeIPv4}
	proto := layers.IPProtocolUDP
	if p.tcp {
		proto = layers.IPProtocolTCP
	}
	if p.sport == 0 {
		p.sport = 1000
	}
	if p.dport == 0 {
		p.dport = 80
	}
	var ip gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	if p.v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		l := &layers.IPv6{Version: 6, HopLimit: 64, TrafficClass: p.tos, NextHeader: proto,
			SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
		ip, network = l, l
	} else {
		l := &layers.IPv4{Version: 4, TTL: 64, TOS: p.tos, Id: p.id, Flags: layers.IPv4DontFragment, Protocol: proto,
			SrcIP: net.IP{10, 0, 1, 100}, DstIP: net.IP{10, 0, 1, 103}}
		ip, network = l, l
	}
	var l4 gopacket.SerializableLayer
	var err error
	if p.tcp {
		l := &layers.TCP{SrcPort: layers.TCPPort(p.sport), DstPort: layers.TCPPort(p.dport), Seq: p.seq, ACK: true, Window: 500}
		err, l4 = l.SetNetworkLayerForChecksum(network), l
	} else {
		l := &layers.UDP{SrcPort: layers.UDPPort(p.sport), DstPort: layers.UDPPort(p.dport)}
		err, l4 = l.SetNetworkLayerForChecksum(network), l
	}
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, p.payload)
	for i := range payload {
		payload[i] = p.tag + byte((uint32(i)+p.seq)*7)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		eth, ip, l4, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	// gopacket pads to 60 bytes; what a network stack sends is not padded.
	b := buf.Bytes()[:p.headers()+p.payload]
	return append([]byte(nil), b...)
}

// headers is the length of all headers of the frame.
func (p packet) headers() int {
	n := 14 + 20 + 8
	if p.v6 {
		n += 20
	}
	if p.tcp {
		n += 12
	}
	return n
}

// superframe is the packet as the network stack hands it over for us to take
// apart: the checksum partial, and the segment size in the header.
func (p packet) superframe(t tester, segment int) tap.Frame {
	t.Helper()
	f := p.frame(t)
	l4, offset := 14+20, 6
	src, dst, proto := f[26:30], f[30:34], uint8(17)
	h := tap.Header{Flags: tap.NeedsChecksum, GSO: tap.GSOUDP, SegmentBytes: uint16(segment), HeaderBytes: uint16(p.headers())}
	if p.v6 {
		l4 += 20
		src, dst = f[22:38], f[38:54]
	}
	if p.tcp {
		offset, proto, h.GSO = 16, 6, tap.GSOTCPv4
		if p.v6 {
			h.GSO = tap.GSOTCPv6
		}
	}
	h.ChecksumStart, h.ChecksumOffset = uint16(l4), uint16(offset)
	binary.BigEndian.PutUint16(f[l4+offset:], checksum.Fold(checksum.Pseudo(src, dst, proto, len(f)-l4)))
	return tap.Frame{Header: h, Bytes: f}
}

// encap puts a VXLAN header in front of a frame.
func encap(v vxlan.VNI, frame []byte) []byte {
	b := make([]byte, vxlan.HeaderLen+len(frame))
	vxlan.Header{VNI: v}.Put(b)
	copy(b[vxlan.HeaderLen:], frame)
	return b
}

// plainFrames is what a vector stands for: its frames as a wire carries them.
func plainFrames(t tester, v *tap.Vector) [][]byte {
	t.Helper()
	var flat []byte
	for _, p := range v.Parts {
		flat = append(flat, p...)
	}
	h := v.Header
	if h.GSO == tap.GSONone {
		if err := tap.CompleteChecksum(&h, flat); err != nil {
			t.Errorf("vector %+v: %v", h, err)
		}
		return [][]byte{flat}
	}
	var s tap.Splitter
	if err := s.Init(&h, flat); err != nil {
		t.Errorf("vector %+v: %v", h, err)
		return nil
	}
	var frames [][]byte
	for s.Segments() > 0 {
		b := make([]byte, s.Stride(0))
		_, n := s.Next(b, 0, 1)
		frames = append(frames, b[:n])
	}
	return frames
}
