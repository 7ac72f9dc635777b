package vxlan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// gopacket's layers are the independent oracle: another reading of the same
// RFCs. Where v1.1.19 is known to err, the comparison says so and steps aside.

// feedback remembers what a gopacket decoder thinks of the lengths.
type feedback struct{ truncated bool }

func (f *feedback) SetTruncated() { f.truncated = true }

// oracleSerialize writes the stack of o in front of frame.
func oracleSerialize(t testing.TB, o *Outer, frame []byte) []byte {
	t.Helper()
	var stack []gopacket.SerializableLayer
	etherType := layers.EthernetTypeIPv4
	if o.Dst.Is6() {
		etherType = layers.EthernetTypeIPv6
	}
	ethernet := &layers.Ethernet{SrcMAC: o.SrcMAC[:], DstMAC: o.DstMAC[:], EthernetType: etherType}
	stack = append(stack, ethernet)
	if o.Tagged {
		ethernet.EthernetType = layers.EthernetTypeDot1Q
		stack = append(stack, &layers.Dot1Q{
			Priority: uint8(o.VLAN >> 13), DropEligible: o.VLAN&0x1000 != 0, VLANIdentifier: o.VLAN & 0xFFF, Type: etherType,
		})
	}
	udp := &layers.UDP{SrcPort: layers.UDPPort(o.SrcPort), DstPort: layers.UDPPort(o.DstPort)}
	var network gopacket.NetworkLayer
	if o.Dst.Is6() {
		ip := &layers.IPv6{
			Version: 6, TrafficClass: o.TOS, FlowLabel: o.FlowLabel, NextHeader: layers.IPProtocolUDP, HopLimit: o.TTL,
			SrcIP: o.Src.AsSlice(), DstIP: o.Dst.AsSlice(),
		}
		stack, network = append(stack, ip), ip
	} else {
		ip := &layers.IPv4{
			Version: 4, IHL: 5, TOS: o.TOS, Id: o.ID, TTL: o.TTL, Protocol: layers.IPProtocolUDP,
			SrcIP: o.Src.AsSlice(), DstIP: o.Dst.AsSlice(),
		}
		if o.DF {
			ip.Flags = layers.IPv4DontFragment
		}
		stack, network = append(stack, ip), ip
	}
	if err := udp.SetNetworkLayerForChecksum(network); err != nil {
		t.Fatal(err)
	}
	stack = append(stack, udp, &layers.VXLAN{ValidIDFlag: true, VNI: uint32(o.VNI)}, gopacket.Payload(frame))
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatal(err)
	}
	pkt := buf.Bytes()
	check := pkt[len(pkt)-len(frame)-HeaderLen-2:]
	switch {
	case o.ZeroChecksum:
		check[0], check[1] = 0, 0
	case check[0] == 0 && check[1] == 0:
		check[0], check[1] = 0xFF, 0xFF // RFC 768, which gopacket leaves out
	}
	return pkt
}

// oracleParse reads the stack. It gives a reason where gopacket finds fault, and
// where gopacket accepts what is no VXLAN packet for us.
func oracleParse(pkt []byte) (o Outer, checksum uint16, frame []byte, reason error) {
	var df feedback
	var ethernet layers.Ethernet
	if err := ethernet.DecodeFromBytes(pkt, &df); err != nil {
		return o, 0, nil, err
	}
	copy(o.SrcMAC[:], ethernet.SrcMAC)
	copy(o.DstMAC[:], ethernet.DstMAC)
	etherType, payload := ethernet.EthernetType, ethernet.Payload
	if etherType == layers.EthernetTypeDot1Q {
		var tag layers.Dot1Q
		if err := tag.DecodeFromBytes(payload, &df); err != nil {
			return o, 0, nil, err
		}
		o.Tagged = true
		o.VLAN = uint16(tag.Priority)<<13 | tag.VLANIdentifier
		if tag.DropEligible {
			o.VLAN |= 0x1000
		}
		etherType, payload = tag.Type, tag.Payload
	}
	var protocol layers.IPProtocol
	switch etherType {
	case layers.EthernetTypeIPv4:
		var ip layers.IPv4
		if err := ip.DecodeFromBytes(payload, &df); err != nil {
			return o, 0, nil, err
		}
		if ip.Version != 4 {
			return o, 0, nil, errors.New("version")
		}
		if binary.BigEndian.Uint16(payload[2:]) == 0 {
			return o, 0, nil, errors.New("length 0, taken as segmentation offload")
		}
		if ip.Flags&layers.IPv4MoreFragments != 0 || ip.FragOffset != 0 {
			return o, 0, nil, errors.New("fragment")
		}
		o.TOS, o.ID, o.TTL, o.DF = ip.TOS, ip.Id, ip.TTL, ip.Flags&layers.IPv4DontFragment != 0
		o.Src, _ = netip.AddrFromSlice(ip.SrcIP)
		o.Dst, _ = netip.AddrFromSlice(ip.DstIP)
		protocol, payload = ip.Protocol, ip.Payload
	case layers.EthernetTypeIPv6:
		var ip layers.IPv6
		if err := ip.DecodeFromBytes(payload, &df); err != nil {
			return o, 0, nil, err
		}
		if ip.Version != 6 {
			return o, 0, nil, errors.New("version")
		}
		o.TOS, o.FlowLabel, o.TTL = ip.TrafficClass, ip.FlowLabel, ip.HopLimit
		o.Src, _ = netip.AddrFromSlice(ip.SrcIP)
		o.Dst, _ = netip.AddrFromSlice(ip.DstIP)
		if o.Src.Is4In6() || o.Dst.Is4In6() {
			return o, 0, nil, errors.New("IPv4-mapped address")
		}
		protocol, payload = ip.NextHeader, ip.Payload
	default:
		return o, 0, nil, errors.New("EtherType")
	}
	if protocol != layers.IPProtocolUDP {
		return o, 0, nil, errors.New("protocol")
	}
	var udp layers.UDP
	if err := udp.DecodeFromBytes(payload, &df); err != nil {
		return o, 0, nil, err
	}
	if udp.Length == 0 {
		return o, 0, nil, errors.New("UDP jumbogram")
	}
	o.SrcPort, o.DstPort = uint16(udp.SrcPort), uint16(udp.DstPort)
	o.ZeroChecksum = udp.Checksum == 0
	var vxlan layers.VXLAN
	if err := vxlan.DecodeFromBytes(udp.Payload, &df); err != nil {
		return o, 0, nil, err
	}
	if !vxlan.ValidIDFlag { // which gopacket accepts
		return o, 0, nil, errors.New("I flag")
	}
	o.VNI = VNI(vxlan.VNI)
	if len(vxlan.Payload) < EthernetLen {
		return o, 0, nil, errors.New("inner frame")
	}
	if df.truncated {
		return o, 0, nil, errors.New("truncated")
	}
	return o, udp.Checksum, vxlan.Payload, nil
}

// comparePacket holds ParsePacket against the oracle, both ways: what one reads
// the other reads, with the same fields.
func comparePacket(t testing.TB, pkt []byte) {
	t.Helper()
	p, err := ParsePacket(pkt)
	o, check, frame, reason := oracleParse(pkt)
	if err == ErrHeaderChecksum {
		err = nil // the oracle does not look at it
	}
	if (err == nil) != (reason == nil) {
		if reason != nil && err == nil && strings.Contains(reason.Error(), "option") {
			return // gopacket reads IPv4 options, which are stepped over here
		}
		t.Fatalf("ParsePacket: %v; oracle: %v\n% x", err, reason, pkt)
	}
	if err == nil && (p.Outer != o || p.Checksum != check || !bytes.Equal(p.Frame, frame)) {
		t.Fatalf("ParsePacket: %+v\noracle: %+v, checksum %#04x, frame of %d bytes\n% x", p, o, check, len(frame), pkt)
	}
}

// randomOuter returns a stack with every field random.
func randomOuter(rng *rand.Rand) Outer {
	o := Outer{
		Tagged: rng.IntN(3) == 0, TTL: uint8(rng.Uint32()), TOS: uint8(rng.Uint32()),
		SrcPort: uint16(rng.Uint32()), DstPort: uint16(rng.Uint32()), ZeroChecksum: rng.IntN(4) == 0,
		VNI: VNI(rng.Uint32()) & MaxVNI,
	}
	if o.Tagged {
		o.VLAN = uint16(rng.Uint32())
	}
	randomBytes(rng, o.SrcMAC[:])
	randomBytes(rng, o.DstMAC[:])
	var src, dst [16]byte
	randomBytes(rng, src[:])
	randomBytes(rng, dst[:])
	if rng.IntN(2) == 0 {
		o.Src, o.Dst = netip.AddrFrom16(src), netip.AddrFrom16(dst)
		o.FlowLabel = rng.Uint32() & 0xFFFFF
	} else {
		o.Src, o.Dst = netip.AddrFrom4([4]byte(src[:4])), netip.AddrFrom4([4]byte(dst[:4]))
		o.DF, o.ID = rng.IntN(2) == 0, uint16(rng.Uint32())
	}
	return o
}

func randomBytes(rng *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

func TestGopacketOuter(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range 3000 {
		o := randomOuter(rng)
		frame := make([]byte, EthernetLen+rng.IntN(300))
		randomBytes(rng, frame)

		// What we write is what the oracle writes, byte by byte.
		want := oracleSerialize(t, &o, frame)
		pkt := room(o.Len(), frame)
		if err := o.Put(pkt); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(pkt, want) {
			t.Fatalf("%+v:\n% x, want\n% x", o, pkt, want)
		}

		// What the oracle writes we read.
		p, err := ParsePacket(want)
		if err != nil || p.Outer != o || !bytes.Equal(p.Frame, frame) {
			t.Fatalf("%+v, %v, want %+v", p, err, o)
		}
		if ok := p.ChecksumOK(); ok == (o.ZeroChecksum && o.Dst.Is6()) {
			t.Fatalf("%+v: ChecksumOK is %v", o, ok)
		}

		// Bytes turned at random are read alike.
		for range 10 {
			bad := bytes.Clone(pkt)
			for range 1 + rng.IntN(3) {
				bad[rng.IntN(min(len(bad), o.Len()+2))] ^= 1 << rng.IntN(8)
			}
			if rng.IntN(4) == 0 {
				bad = bad[:rng.IntN(len(bad))]
			}
			comparePacket(t, bad)
		}
	}
}

// oracleInner reads an inner frame into the fields of Inner, as far as gopacket
// gets, with the ports if it reaches them. ok is false for a frame without IP.
func oracleInner(frame []byte) (in Inner, ports string, ok bool) {
	pkt := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	off := 0
	for _, layer := range pkt.Layers() {
		if t := layer.LayerType(); ok && (t == layers.LayerTypeIPv4 || t == layers.LayerTypeIPv6) {
			return in, ports, ok // IP in IP: the outer one is meant
		}
		switch l := layer.(type) {
		case *layers.Ethernet:
			in.EtherType = uint16(l.EthernetType)
			off += EthernetLen
			continue
		case *layers.Dot1Q:
			if !in.Tagged {
				in.Tagged = true
				in.VLAN = binary.BigEndian.Uint16(l.Contents)
			}
			in.EtherType = uint16(l.Type)
		case *layers.IPv4:
			in.L3, in.End = off, off+int(l.Length)
			in.DSField, in.HopLimit, in.Proto = l.TOS, l.TTL, uint8(l.Protocol)
			in.DF = l.Flags&layers.IPv4DontFragment != 0
			in.Fragment = l.Flags&layers.IPv4MoreFragments != 0 || l.FragOffset != 0
			ok = true
		case *layers.IPv6:
			in.L3, in.End = off, off+IPv6Len+int(l.Length)
			in.DSField, in.HopLimit, in.Proto, in.FlowLabel = l.TrafficClass, l.HopLimit, uint8(l.NextHeader), l.FlowLabel
			ok = true
		case *layers.IPv6HopByHop:
			in.Proto = uint8(l.NextHeader)
		case *layers.IPv6Destination:
			in.Proto = uint8(l.NextHeader)
		case *layers.IPv6Routing:
			in.Proto = uint8(l.NextHeader)
		case *layers.IPSecAH:
			if in.EtherType == etherTypeIPv6 { // of IPv4 we take it for the transport
				in.Proto = uint8(l.NextHeader)
			}
		case *layers.IPv6Fragment:
			in.Proto = uint8(l.NextHeader)
			in.Fragment = l.MoreFragments || l.FragmentOffset != 0
		case *layers.TCP:
			in.L4, ports = off, fmt.Sprint(uint16(l.SrcPort), uint16(l.DstPort))
			return in, ports, ok
		case *layers.UDP:
			in.L4, ports = off, fmt.Sprint(uint16(l.SrcPort), uint16(l.DstPort))
			return in, ports, ok
		case *layers.SCTP:
			in.L4, ports = off, fmt.Sprint(uint16(l.SrcPort), uint16(l.DstPort))
			return in, ports, ok
		default:
			return in, ports, ok
		}
		off += len(layer.LayerContents())
	}
	return in, ports, ok
}

// randomFrame returns a sound frame of IP with what Inner.Parse should say of it,
// written by gopacket but for the IPv6 extension headers.
func randomFrame(t testing.TB, rng *rand.Rand) (frame []byte, want Inner, ports string) {
	t.Helper()
	v6 := rng.IntN(2) == 0
	want.EtherType = etherTypeIPv4
	if v6 {
		want.EtherType = etherTypeIPv6
	}

	var stack []gopacket.SerializableLayer
	mac := make([]byte, 12)
	randomBytes(rng, mac)
	ethernet := &layers.Ethernet{DstMAC: mac[:6], SrcMAC: mac[6:], EthernetType: layers.EthernetType(want.EtherType)}
	stack = append(stack, ethernet)
	want.L3 = EthernetLen
	next := &ethernet.EthernetType
	for n := rng.IntN(4); n > 0; n-- {
		tag := &layers.Dot1Q{Priority: uint8(rng.IntN(8)), DropEligible: rng.IntN(2) == 0, VLANIdentifier: uint16(rng.IntN(4096)), Type: *next}
		*next = layers.EthernetTypeDot1Q
		if rng.IntN(2) == 0 {
			*next = layers.EthernetTypeQinQ
		}
		next = &tag.Type
		stack = append(stack, tag)
		if !want.Tagged {
			want.Tagged = true
			want.VLAN = uint16(tag.Priority)<<13 | tag.VLANIdentifier
			if tag.DropEligible {
				want.VLAN |= 0x1000
			}
		}
		want.L3 += VLANTagLen
	}

	want.Proto = []uint8{protoTCP, protoUDP, protoSCTP, 1, 253}[rng.IntN(5)]
	want.DSField, want.HopLimit = uint8(rng.Uint32()), uint8(rng.Uint32())
	var extensions []byte
	first := want.Proto
	if v6 {
		for n := rng.IntN(4); n > 0; n-- {
			kind := []uint8{protoDestOptions, protoRouting, protoAH}[rng.IntN(3)]
			var h []byte
			switch kind {
			case protoAH:
				h = authentication(first)
			case protoRouting:
				h = extension(first, 3)
			default:
				h = extension(first, 1+rng.IntN(4))
			}
			extensions = append(h, extensions...)
			first = kind
		}
	}
	var network gopacket.NetworkLayer
	if v6 {
		want.FlowLabel = rng.Uint32() & 0xFFFFF
		ip := &layers.IPv6{Version: 6, TrafficClass: want.DSField, FlowLabel: want.FlowLabel, NextHeader: layers.IPProtocol(first),
			HopLimit: want.HopLimit, SrcIP: make([]byte, 16), DstIP: make([]byte, 16)}
		randomBytes(rng, ip.SrcIP)
		randomBytes(rng, ip.DstIP)
		stack, network = append(stack, ip, gopacket.Payload(extensions)), ip
		want.L4 = want.L3 + IPv6Len + len(extensions)
	} else {
		ip := &layers.IPv4{Version: 4, TOS: want.DSField, TTL: want.HopLimit, Protocol: layers.IPProtocol(want.Proto),
			Id: uint16(rng.Uint32()), SrcIP: make([]byte, 4), DstIP: make([]byte, 4)}
		randomBytes(rng, ip.SrcIP)
		randomBytes(rng, ip.DstIP)
		if want.DF = rng.IntN(2) == 0; want.DF {
			ip.Flags |= layers.IPv4DontFragment
		}
		if want.Fragment = rng.IntN(6) == 0; want.Fragment {
			ip.FragOffset = uint16(1 + rng.IntN(0x1FFF))
		}
		want.L4 = want.L3 + IPv4Len
		for n := rng.IntN(4) * rng.IntN(4); n > 0; n-- {
			ip.Options = append(ip.Options, layers.IPv4Option{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}})
			want.L4 += 4
		}
		stack, network = append(stack, ip), ip
	}

	src, dst := uint16(rng.Uint32()), uint16(rng.Uint32())
	payload := make([]byte, 1+rng.IntN(100))
	randomBytes(rng, payload)
	want.End = want.L4 + len(payload)
	switch want.Proto {
	case protoTCP:
		l := &layers.TCP{SrcPort: layers.TCPPort(src), DstPort: layers.TCPPort(dst), ACK: true}
		if err := l.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		stack = append(stack, l)
		want.End += 20
	case protoUDP:
		l := &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
		if err := l.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		stack = append(stack, l)
		want.End += UDPLen
	case protoSCTP:
		stack = append(stack, &layers.SCTP{SrcPort: layers.SCTPPort(src), DstPort: layers.SCTPPort(dst)})
		want.End += 12
	}
	if transportLen[want.Proto] > 1 && !want.Fragment {
		ports = fmt.Sprint(src, dst)
	}
	if want.Fragment {
		want.L4 = 0
	}
	stack = append(stack, gopacket.Payload(payload))
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatal(err)
	}
	frame = append(buf.Bytes(), make([]byte, rng.IntN(20))...)
	return frame, want, ports
}

// compareInner holds Inner.Parse against the oracle where both see a sound IP
// header.
func compareInner(t testing.TB, frame []byte) (compared bool) {
	t.Helper()
	var in Inner
	if err := in.Parse(frame); err != nil {
		return false
	}
	want, ports, ok := oracleInner(frame)
	if !ok || in.L3 == 0 {
		return false
	}
	if in.EtherType != want.EtherType || in.L3 != want.L3 || in.End != want.End || in.DSField != want.DSField ||
		in.HopLimit != want.HopLimit || in.DF != want.DF || in.FlowLabel != want.FlowLabel ||
		in.Tagged != want.Tagged || in.VLAN != want.VLAN {
		t.Fatalf("\n got %+v\nwant %+v\n% x", in, want, frame)
	}
	if want.L4 != 0 && in.L4 != 0 {
		if in.L4 != want.L4 || in.Proto != want.Proto || portsOf(frame, &in) != ports {
			t.Fatalf("\n got %+v, ports %s\nwant %+v, ports %s\n% x", in, portsOf(frame, &in), want, ports, frame)
		}
	}
	return true
}

func portsOf(frame []byte, in *Inner) string {
	if in.L4 == 0 || transportLen[in.Proto] == 1 {
		return ""
	}
	return fmt.Sprint(binary.BigEndian.Uint16(frame[in.L4:]), binary.BigEndian.Uint16(frame[in.L4+2:]))
}

func TestGopacketInner(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	compared, turned := 0, 0
	for range 5000 {
		frame, want, ports := randomFrame(t, rng)
		var in Inner
		if err := in.Parse(frame); err != nil {
			t.Fatal(err)
		}
		want.Hash = in.Hash
		if in != want || portsOf(frame, &in) != ports {
			t.Fatalf("\n got %+v, ports %s\nwant %+v, ports %s\n% x", in, portsOf(frame, &in), want, ports, frame)
		}
		if compareInner(t, frame) {
			compared++
		}
		for range 4 {
			bad := bytes.Clone(frame)
			bad[rng.IntN(min(len(bad), 60))] ^= 1 << rng.IntN(8)
			if compareInner(t, bad) {
				turned++
			}
		}
	}
	if compared != 5000 || turned < 8000 {
		t.Errorf("only %d sound and %d turned frames could be compared", compared, turned)
	}
}
