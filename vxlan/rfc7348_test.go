package vxlan

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
)

// One test for each demand of RFC 7348 that the codec can show; the number is
// that of the project's checklist, the brackets name the section. Demands on an
// endpoint (learning, flooding, membership) are tested where the endpoint is.

// conformanceVNIs cover the range of 24 bits.
var conformanceVNIs = []VNI{0, 1, 4097, 0x123456, 1<<23 - 1, 1 << 23, MaxVNI}

// eachSent calls f with every way to send a VXLAN packet, as the UDP payload on
// the wire, for each VNI.
func eachSent(t *testing.T, f func(what string, vni VNI, payload, frame []byte)) {
	t.Helper()
	frame := tcp4Frame(100)
	for _, vni := range conformanceVNIs {
		b := room(HeaderLen, frame)
		Header{vni}.Put(b)
		f("Header.Put", vni, b, frame)

		b, err := Header{vni}.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		f("Header.AppendBinary", vni, append(b, frame...), frame)

		for _, v6 := range []bool{false, true} {
			for _, tag := range []bool{false, true} {
				o := stackOuter(v6, tag)
				o.VNI = vni
				n := o.Len()
				pkt := room(n, frame)
				if err := o.Put(pkt); err != nil {
					t.Fatal(err)
				}
				f("Outer.Put", vni, pkt[n-HeaderLen:], frame)

				template, err := o.Compile()
				if err != nil {
					t.Fatal(err)
				}
				pkt = room(n, frame)
				if err := template.Put(pkt, o.SrcPort, o.TOS, o.ID); err != nil {
					t.Fatal(err)
				}
				f("Template.Put", vni, pkt[n-HeaderLen:], frame)
			}
		}
	}
}

// The I flag of a sent header is 1. [5]
func TestRFC7348_D01_IFlagSet(t *testing.T) {
	eachSent(t, func(what string, vni VNI, payload, _ []byte) {
		if payload[0]&0x08 == 0 {
			t.Errorf("%s, VNI %d: flags %#02x", what, vni, payload[0])
		}
	})
}

// The other seven flags of a sent header are 0. [5]
func TestRFC7348_D02_OtherFlagsZero(t *testing.T) {
	eachSent(t, func(what string, vni VNI, payload, _ []byte) {
		if payload[0]&^0x08 != 0 {
			t.Errorf("%s, VNI %d: flags %#02x", what, vni, payload[0])
		}
	})
}

// The 24 reserved bits behind the flags are 0 when sent. [5]
func TestRFC7348_D03_Reserved24Zero(t *testing.T) {
	eachSent(t, func(what string, vni VNI, payload, _ []byte) {
		if !bytes.Equal(payload[1:4], []byte{0, 0, 0}) {
			t.Errorf("%s, VNI %d: bytes 1 to 3 are % x", what, vni, payload[1:4])
		}
	})
}

// The 8 reserved bits at the end are 0 when sent. [5]
func TestRFC7348_D04_Reserved8Zero(t *testing.T) {
	eachSent(t, func(what string, vni VNI, payload, _ []byte) {
		if payload[7] != 0 {
			t.Errorf("%s, VNI %d: byte 7 is %#02x", what, vni, payload[7])
		}
	})
}

// The VNI stands in bytes 4 to 6, big-endian, over its full range. [5]
func TestRFC7348_D05_VNIBytes4To6(t *testing.T) {
	eachSent(t, func(what string, vni VNI, payload, _ []byte) {
		if want := []byte{byte(vni >> 16), byte(vni >> 8), byte(vni)}; !bytes.Equal(payload[4:7], want) {
			t.Errorf("%s, VNI %d: bytes 4 to 6 are % x, want % x", what, vni, payload[4:7], want)
		}
	})
}

// The inner frame starts at byte 8 and ends the datagram: nothing, such as a
// frame check sequence, follows. [5, figure 1]
func TestRFC7348_D06_FrameAtByte8WithoutFCS(t *testing.T) {
	eachSent(t, func(what string, vni VNI, payload, frame []byte) {
		if !bytes.Equal(payload[8:], frame) {
			t.Errorf("%s, VNI %d: behind the header\n% x, want\n% x", what, vni, payload[8:], frame)
		}
	})
	for _, v6 := range []bool{false, true} {
		o := stackOuter(v6, false)
		pkt := packet(t, o, tcp4Frame(100))
		udp := pkt[o.Len()-HeaderLen-UDPLen:]
		if got := int(binary.BigEndian.Uint16(udp[4:])); got != UDPLen+HeaderLen+100 || got != len(udp) {
			t.Errorf("IPv6 %v: UDP length %d", v6, got)
		}
	}
}

// The same with an IPv6 outer header: EtherType 0x86DD, next header 17, UDP
// checksum in place. [5, figure 2; RFC 6935]
func TestRFC7348_D07_IPv6Outer(t *testing.T) {
	o := stackOuter(true, false)
	frame := tcp4Frame(100)
	pkt := packet(t, o, frame)
	if !bytes.Equal(pkt[12:14], []byte{0x86, 0xDD}) || pkt[14]>>4 != 6 || pkt[20] != 17 {
		t.Errorf("outer headers: % x", pkt[:54])
	}
	if got := int(binary.BigEndian.Uint16(pkt[18:])); got != UDPLen+HeaderLen+len(frame) {
		t.Errorf("payload length %d", got)
	}
	if !bytes.Equal(pkt[62:70], []byte{8, 0, 0, 0, 0, 0x10, 0x01, 0}) || !bytes.Equal(pkt[70:], frame) {
		t.Errorf("VXLAN header % x", pkt[62:70])
	}
	if p, err := ParsePacket(pkt); err != nil || p.ZeroChecksum || !p.ChecksumOK() {
		t.Errorf("reads back as %+v, %v", p, err)
	}
}

// eachReceived parses the header, with the inner frame behind it, in every way
// there is to receive one.
func eachReceived(t *testing.T, header []byte, f func(what string, vni VNI, frame []byte, err error)) {
	t.Helper()
	payload := append(bytes.Clone(header), arpFrame()...)
	h, frame, err := Parse(payload)
	f("Parse", h.VNI, frame, err)
	for _, v6 := range []bool{false, true} {
		o := stackOuter(v6, false)
		o.ZeroChecksum = true
		pkt := packet(t, o, arpFrame())
		copy(pkt[o.Len()-HeaderLen:], header)
		p, err := ParsePacket(pkt)
		f("ParsePacket", p.VNI, p.Frame, err)
	}
}

// A header with the I flag 0 carries no valid VNI: not delivered. [5]
func TestRFC7348_D08_IFlagClearIsRefused(t *testing.T) {
	for flags := range 256 {
		if flags&0x08 != 0 {
			continue
		}
		eachReceived(t, []byte{byte(flags), 0, 0, 0, 0, 0x10, 0x01, 0}, func(what string, _ VNI, frame []byte, err error) {
			if err != ErrFlags || frame != nil {
				t.Errorf("%s, flags %#02x: %v, frame of %d bytes", what, flags, err, len(frame))
			}
		})
	}
}

func wantDelivered(t *testing.T, header []byte) {
	t.Helper()
	eachReceived(t, header, func(what string, vni VNI, frame []byte, err error) {
		if err != nil || vni != 4097 || !bytes.Equal(frame, arpFrame()) {
			t.Errorf("%s, header % x: VNI %d, frame of %d bytes, %v", what, header, vni, len(frame), err)
		}
	})
}

// Any value of the seven R flags is ignored: all 127 that are not 0. [5]
func TestRFC7348_D09_ReservedFlagsIgnored(t *testing.T) {
	n := 0
	for flags := range 256 {
		if flags&0x08 == 0 || flags == 0x08 {
			continue
		}
		n++
		wantDelivered(t, []byte{byte(flags), 0, 0, 0, 0, 0x10, 0x01, 0})
	}
	if n != 127 {
		t.Errorf("%d patterns", n)
	}
}

// Any value of bytes 1 to 3 is ignored. [5]
func TestRFC7348_D10_Reserved24Ignored(t *testing.T) {
	for at := 1; at <= 3; at++ {
		for v := range 256 {
			header := []byte{8, 0, 0, 0, 0, 0x10, 0x01, 0}
			header[at] = byte(v)
			wantDelivered(t, header)
		}
	}
	wantDelivered(t, []byte{8, 0xFF, 0xFF, 0xFF, 0, 0x10, 0x01, 0})
}

// Any value of byte 7 is ignored. [5]
func TestRFC7348_D11_Reserved8Ignored(t *testing.T) {
	for v := range 256 {
		wantDelivered(t, []byte{8, 0, 0, 0, 0, 0x10, 0x01, byte(v)})
	}
}

// The VNI of a packet comes through whole, so that two never mix. [4, 5]
func TestRFC7348_D12_VNIKeptApart(t *testing.T) {
	for _, want := range conformanceVNIs {
		header := []byte{0xFF, 0xFF, 0xFF, 0xFF, byte(want >> 16), byte(want >> 8), byte(want), 0xFF}
		eachReceived(t, header, func(what string, vni VNI, _ []byte, err error) {
			if vni != want || err != nil {
				t.Errorf("%s: VNI %d, %v, want %d", what, vni, err, want)
			}
		})
	}
}

// Less than 8 bytes of header, or less than 14 of frame: refused. [5]
func TestRFC7348_D13_ShortIsRefused(t *testing.T) {
	payload := append([]byte{8, 0, 0, 0, 0, 0x10, 0x01, 0}, arpFrame()...)
	for n := 0; n < HeaderLen+EthernetLen; n++ {
		want := ErrFrame
		if n < HeaderLen {
			want = ErrShort
		}
		if _, frame, err := Parse(payload[:n:n]); err != want || frame != nil {
			t.Errorf("%d bytes: %v, want %v", n, err, want)
		}
	}
	if _, _, err := Parse(payload[: HeaderLen+EthernetLen : HeaderLen+EthernetLen]); err != nil {
		t.Errorf("22 bytes: %v", err)
	}
}

// The port assigned is 4789. [5]
func TestRFC7348_D14_Port4789(t *testing.T) {
	if Port != 4789 {
		t.Errorf("Port = %d", Port)
	}
}

// The destination port is free to choose, packet by packet. [5]
func TestRFC7348_D15_PortConfigurable(t *testing.T) {
	for _, port := range []uint16{1, LinuxPort, 65535} {
		o := stackOuter(false, false)
		o.DstPort = port
		pkt := packet(t, o, arpFrame())
		if got := binary.BigEndian.Uint16(pkt[36:]); got != port {
			t.Errorf("destination port %d, want %d", got, port)
		}
	}
}

// The source port is a hash of the inner headers: one flow has one port, and
// different flows spread. [5]
func TestRFC7348_D16_SourcePortByInnerFlow(t *testing.T) {
	r := PortRange{SourcePortLo, SourcePortHi}
	seen := make(map[uint16]bool)
	for flow := range 1000 {
		frame := tcp4Frame(100)
		binary.BigEndian.PutUint16(frame[34:], uint16(flow))
		port := r.Port(hashOf(t, frame))
		for i := 38; i < len(frame); i++ { // the rest of the segment changes
			frame[i] ^= byte(i + flow)
		}
		if again := r.Port(hashOf(t, frame)); again != port {
			t.Fatalf("flow %d has ports %d and %d", flow, port, again)
		}
		seen[port] = true
	}
	// 1000 balls in 16384 boxes fill 970 on average.
	if len(seen) < 930 {
		t.Errorf("1000 flows have %d ports", len(seen))
	}
}

// The recommended range of source ports is 49152 to 65535, and the choice stays
// in it. [5]
func TestRFC7348_D17_SourcePortRange(t *testing.T) {
	if SourcePortLo != 49152 || SourcePortHi != 65535 {
		t.Errorf("range %d to %d", SourcePortLo, SourcePortHi)
	}
	r := PortRange{SourcePortLo, SourcePortHi}
	for h := uint64(0); h < 1<<32; h += 65521 {
		if p := r.Port(uint32(h)); p < 49152 {
			t.Fatalf("hash %#x: port %d", h, p)
		}
	}
}

// The UDP checksum can be sent as zero. [5]
func TestRFC7348_D18_ZeroChecksumSent(t *testing.T) {
	o := stackOuter(false, false)
	o.ZeroChecksum = true
	if pkt := packet(t, o, arpFrame()); pkt[40] != 0 || pkt[41] != 0 {
		t.Errorf("checksum % x", pkt[40:42])
	}
}

// A checksum of zero is accepted on IPv4; on IPv6 only by one who looks for it.
// [5; RFC 6936 section 4]
func TestRFC7348_D19_ZeroChecksumAccepted(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		o := stackOuter(v6, false)
		o.ZeroChecksum = true
		p, err := ParsePacket(packet(t, o, arpFrame()))
		if err != nil || !bytes.Equal(p.Frame, arpFrame()) || !p.ZeroChecksum {
			t.Errorf("IPv6 %v: %+v, %v", v6, p, err)
		}
		if p.ChecksumOK() != !v6 {
			t.Errorf("IPv6 %v: ChecksumOK is %v", v6, p.ChecksumOK())
		}
	}
}

// A checksum that is sent covers pseudo-header, UDP, VXLAN and frame; a computed
// 0 is sent as 0xFFFF, which TestUDPChecksumZeroIsSentAsOnes shows. [5]
func TestRFC7348_D20_ChecksumRight(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for n := EthernetLen; n < 200; n++ {
			o := stackOuter(v6, false)
			frame := tcp4Frame(200)[:n]
			pkt := packet(t, o, frame)
			// The pseudo-header and the datagram as bytes, of even length.
			var b []byte
			if v6 {
				b = append(b, pkt[22:54]...)
			} else {
				b = append(b, pkt[26:34]...)
			}
			udp := pkt[o.Len()-HeaderLen-UDPLen:]
			b = binary.BigEndian.AppendUint32(b, uint32(len(udp)))
			b = binary.BigEndian.AppendUint32(b, 17)
			b = append(b, udp...)
			sum := 0
			for i, v := range b {
				sum += int(v) << (8 * (1 - i%2))
			}
			for sum > 0xFFFF {
				sum = sum>>16 + sum&0xFFFF
			}
			if sum != 0xFFFF {
				t.Fatalf("IPv6 %v, frame of %d bytes: sum %#04x", v6, n, sum)
			}
		}
	}
}

// A checksum that is verified and wrong is told, [5] and one that is right or not
// verified is accepted. [5]
func TestRFC7348_D21_D22_ChecksumVerified(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		o := stackOuter(v6, false)
		pkt := packet(t, o, arpFrame())
		p, err := ParsePacket(pkt)
		if err != nil || !p.ChecksumOK() {
			t.Errorf("IPv6 %v, right: %v, ChecksumOK %v", v6, err, p.ChecksumOK())
		}
		pkt[len(pkt)-1] ^= 1
		p, err = ParsePacket(pkt)
		if err != nil || p.ChecksumOK() {
			t.Errorf("IPv6 %v, wrong: %v, ChecksumOK %v", v6, err, p.ChecksumOK())
		}
	}
}

// No packet is sent as a fragment, whatever its size: more fragments and offset
// are 0, and no fragment header. [4.3]
func TestRFC7348_D23_NeverAFragment(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, df := range []bool{false, true} {
			o := stackOuter(v6, false)
			o.DF = df
			template, err := o.Compile()
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{14, 60, 1464, 1465, 1500, 9000, 65400} {
				pkt := packet(t, o, make([]byte, n))
				again := make([]byte, len(pkt))
				if err := template.Put(again, 1, 2, 3); err != nil {
					t.Fatal(err)
				}
				for _, pkt := range [][]byte{pkt, again} {
					if v6 && pkt[20] != 17 {
						t.Errorf("IPv6, %d bytes: next header %d", n, pkt[20])
					}
					if want := flagDF(df); !v6 && binary.BigEndian.Uint16(pkt[20:]) != want {
						t.Errorf("IPv4, %d bytes: flags and offset % x, want %04x", n, pkt[20:22], want)
					}
				}
			}
		}
	}
}

// Fragments made on the way are refused, with an error of their own. [4.3]
func TestRFC7348_D24_FragmentsRefused(t *testing.T) {
	o := stackOuter(false, false)
	for _, flags := range []uint16{0x2000, 0x2001, 0x0001, 0x1FFF} {
		pkt := packet(t, o, arpFrame())
		binary.BigEndian.PutUint16(pkt[20:], flags)
		fixHeader(pkt[14:])
		if _, err := ParsePacket(pkt); err != ErrFragment {
			t.Errorf("flags %#04x: %v, want ErrFragment", flags, err)
		}
	}
	pkt := packet(t, stackOuter(true, false), arpFrame())
	pkt[20] = 44
	if _, err := ParsePacket(pkt); err != ErrFragment {
		t.Errorf("IPv6: %v, want ErrFragment", err)
	}
}

// What the underlay must carry more than the overlay is 50 bytes of IPv4, 70 of
// IPv6. [4.3]
func TestRFC7348_D25_Overhead(t *testing.T) {
	if OverheadIPv4 != 50 || OverheadIPv6 != 70 {
		t.Errorf("overhead %d and %d", OverheadIPv4, OverheadIPv6)
	}
	// An inner IP packet of 1450 bytes makes an outer one of 1500.
	for _, v6 := range []bool{false, true} {
		o, overhead := stackOuter(v6, false), OverheadIPv4
		if v6 {
			overhead = OverheadIPv6
		}
		frame := tcp4Frame(EthernetLen + 1500 - overhead)
		if got := len(packet(t, o, frame)) - EthernetLen; got != 1500 {
			t.Errorf("IPv6 %v: outer packet of %d bytes", v6, got)
		}
	}
}

// Outer Ethernet: the destination is the next hop's address; an 802.1Q tag may
// be sent, and is read and stepped over. [5]
func TestRFC7348_D29_OuterEthernet(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		o := stackOuter(v6, true)
		pkt := packet(t, o, arpFrame())
		if MAC(pkt[0:6]) != o.DstMAC || MAC(pkt[6:12]) != o.SrcMAC {
			t.Errorf("addresses % x", pkt[:12])
		}
		if !bytes.Equal(pkt[12:16], []byte{0x81, 0x00, 0x60, 0x64}) {
			t.Errorf("tag % x", pkt[12:16])
		}
		p, err := ParsePacket(pkt)
		if err != nil || !p.Tagged || p.VLAN != 0x6064 || !bytes.Equal(p.Frame, arpFrame()) {
			t.Errorf("reads back as %+v, %v", p, err)
		}
		untagged := append(bytes.Clone(pkt[:12]), pkt[16:]...)
		q, err := ParsePacket(untagged)
		if err != nil || q.Tagged || q.VLAN != 0 || !bytes.Equal(q.Frame, arpFrame()) {
			t.Errorf("without the tag: %+v, %v", q, err)
		}
	}
}

// An inner VLAN tag is told, also one of VLAN 0, so that an endpoint can discard
// or strip it. [6.1]
func TestRFC7348_D35_D36_D37_InnerTagTold(t *testing.T) {
	for _, frame := range [][]byte{tcp4Frame(60), tcp6Frame(80), arpFrame()} {
		var in Inner
		if err := in.Parse(frame); err != nil || in.Tagged {
			t.Errorf("without a tag: %+v, %v", in, err)
		}
		for _, tpid := range []uint16{0x8100, 0x88A8} {
			for _, tci := range []uint16{0, 1, 0xFFF, 0xE000, 0xFFFF} {
				if err := in.Parse(taggedAs(frame, tpid, tci)); err != nil || !in.Tagged || in.VLAN != tci {
					t.Errorf("tag %04x %04x: %+v, %v", tpid, tci, in, err)
				}
			}
		}
	}
}

// Through the tunnel: the outer field is a copy of the inner one, the inner one
// after it is what figure 4 says, and the IPv4 header checksum is right. All 16
// pairs, in frames. [RFC 6040 4.1, 4.2; the table itself is in ecn_test.go]
func TestRFC7348_D40_ECNThroughTheTunnel(t *testing.T) {
	for inner := NotECT; inner <= CE; inner++ {
		for outer := NotECT; outer <= CE; outer++ {
			frame := ethernet(etherTypeIPv4, ipv4(0xB8|uint8(inner), protoTCP, 0, tcp(20)...)...)
			var in Inner
			if err := in.Parse(frame); err != nil {
				t.Fatal(err)
			}
			o := stackOuter(false, false)
			o.TOS = uint8(EncapECN(in.ECN()))
			pkt := packet(t, o, frame)
			if got := ECN(pkt[15] & 3); got != inner {
				t.Errorf("inner %v: outer %v", inner, got)
			}
			pkt[15] = pkt[15]&^3 | uint8(outer) // by a router on the way
			fixHeader(pkt[14:])

			p, err := ParsePacket(pkt)
			if err != nil {
				t.Fatal(err)
			}
			if err := in.Parse(p.Frame); err != nil {
				t.Fatal(err)
			}
			e, verdict := DecapECN(ECN(p.TOS&3), in.ECN())
			if drop := inner == NotECT && outer == CE; (verdict == ECNDrop) != drop {
				t.Errorf("inner %v, outer %v: %v", inner, outer, verdict)
			}
			SetECN(p.Frame, &in, e)
			if got := p.Frame[15]; got != 0xB8|uint8(e) {
				t.Errorf("inner %v, outer %v: TOS %#02x", inner, outer, got)
			}
			if checksum.Checksum(p.Frame[14:34], 0) != 0 {
				t.Errorf("inner %v, outer %v: IPv4 header checksum is wrong", inner, outer)
			}
		}
	}
}

// On IPv6 a checksum is sent unless asked otherwise, and zero is refused unless
// looked for. [RFC 6935 5; RFC 6936 4, 5]
func TestRFC7348_D41_IPv6ZeroChecksumOffByDefault(t *testing.T) {
	o := stackOuter(true, false)
	pkt := packet(t, o, arpFrame())
	if pkt[60] == 0 && pkt[61] == 0 {
		t.Error("sent without a checksum")
	}
	pkt[60], pkt[61] = 0, 0
	p, err := ParsePacket(pkt)
	if err != nil || p.ChecksumOK() || !p.ZeroChecksum {
		t.Errorf("zero: %v, ChecksumOK %v, ZeroChecksum %v", err, p.ChecksumOK(), p.ZeroChecksum)
	}
}
