package vxlan

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
)

// packet returns a packet as the wire has it, in a slice without spare room.
func packet(t testing.TB, o Outer, frame []byte) []byte {
	t.Helper()
	pkt := make([]byte, o.Len()+len(frame))
	copy(pkt[o.Len():], frame)
	if err := o.Put(pkt); err != nil {
		t.Fatal(err)
	}
	return pkt
}

// fixHeader writes the right checksum into the IPv4 header at the start of b.
func fixHeader(b []byte) {
	h := b[:int(b[0]&15)*4]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], checksum.Checksum(h, 0))
}

func TestParsePacketErrors(t *testing.T) {
	frame := arpFrame()
	v4, v6 := packet(t, stackOuter(false, false), frame), packet(t, stackOuter(true, false), frame)
	tag4 := packet(t, stackOuter(false, true), frame)
	// edit returns b with bytes changed from at on; the IPv4 header holds again.
	edit := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		if b[12] == 8 && b[14]>>4 == 4 && b[14]&15 >= 5 {
			fixHeader(b[14:])
		}
		return b
	}
	length := func(b []byte, at, n int) []byte { return edit(b, at, byte(n>>8), byte(n)) }
	for _, tt := range []struct {
		name string
		pkt  []byte
		want error
	}{
		{"nothing", nil, ErrShort},
		{"13 bytes", v4[:13], ErrShort},
		{"Ethernet header only", v4[:14], ErrShort},
		{"tag cut short", tag4[:17], ErrShort},
		{"tag and nothing behind it", tag4[:18], ErrShort},
		{"IPv4 header cut short", v4[:33], ErrShort},
		{"IPv6 header cut short", v6[:53], ErrShort},
		{"ARP", edit(v4, 12, 0x08, 0x06), ErrEtherType},
		{"802.1ad", edit(tag4, 12, 0x88, 0xA8), ErrEtherType},
		{"two tags", edit(tag4, 16, 0x81, 0x00), ErrEtherType},
		{"IPv4 EtherType, version 6", edit(v4, 14, 0x65), ErrLength},
		{"IPv6 EtherType, version 4", edit(v6, 14, 0x45), ErrLength},
		{"IPv4 header length 16", edit(v4, 14, 0x44), ErrLength},
		{"IPv4 header length past total length", edit(length(v4, 16, 56), 14, 0x4F), ErrLength},
		{"IPv4 total length below its header", length(v4, 16, 19), ErrLength},
		{"IPv4 total length past the packet", length(v4, 16, len(v4)-14+1), ErrLength},
		{"IPv4 cut by one byte", v4[:len(v4)-1], ErrLength},
		{"IPv6 payload length past the packet", length(v6, 18, len(v6)-54+1), ErrLength},
		{"IPv6 cut by one byte", v6[:len(v6)-1], ErrLength},
		{"IPv4 TCP", edit(v4, 23, 6), ErrProtocol},
		{"IPv6 TCP", edit(v6, 20, 6), ErrProtocol},
		{"IPv6 hop-by-hop", edit(v6, 20, 0), ErrProtocol},
		{"IPv4 first fragment", edit(v4, 20, 0x20, 0), ErrFragment},
		{"IPv4 later fragment", edit(v4, 20, 0, 1), ErrFragment},
		{"IPv4 last fragment, high offset", edit(v4, 20, 0x1F, 0), ErrFragment},
		{"IPv6 fragment", edit(v6, 20, 44), ErrFragment},
		{"IPv4 without a UDP header", length(v4, 16, 27), ErrShort},
		{"IPv6 without a UDP header", length(v6, 18, 7), ErrShort},
		{"IPv6 jumbogram", length(v6, 18, 0), ErrShort},
		{"UDP length 7", length(v4, 38, 7), ErrLength},
		{"UDP length 0", length(v6, 58, 0), ErrLength},
		{"UDP length past the IP packet", length(v4, 38, len(v4)-34+1), ErrLength},
		{"UDP length past the IP packet on IPv6", length(v6, 58, len(v6)-54+1), ErrLength},
		{"no VXLAN header", length(v4, 38, 15), ErrShort},
		{"VXLAN header only", length(v4, 38, 16), ErrFrame},
		{"13 bytes of frame", length(v6, 58, 29), ErrFrame},
		{"I flag clear", edit(v4, 42, 0), ErrFlags},
		{"IPv4-mapped source", edit(v6, 22, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF), ErrFamily},
		{"IPv4-mapped destination", edit(v6, 38, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF), ErrFamily},
		{"IPv4 unharmed", edit(v4, 14, 0x45), nil},
		{"reserved IPv4 flag", edit(v4, 20, 0xC0), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := ParsePacket(tt.pkt)
			if err != tt.want {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err != nil && !reflect.DeepEqual(p, Packet{}) {
				t.Errorf("with the error came %+v", p)
			}
		})
	}
}

// Cut anywhere, a packet is refused.
func TestParsePacketCutAnywhere(t *testing.T) {
	for _, tt := range stacks {
		pkt := unhex(t, tt.bytes)
		for n := range pkt {
			if _, err := ParsePacket(pkt[:n:n]); err == nil {
				t.Errorf("%s: the first %d of %d bytes are a packet", tt.name, n, len(pkt))
			}
		}
	}
}

func TestParsePacketCutsPaddingOff(t *testing.T) {
	frame := arpFrame()
	for _, v6 := range []bool{false, true} {
		o := stackOuter(v6, false)
		pkt := append(packet(t, o, frame), 1, 2, 3)
		p, err := ParsePacket(pkt)
		if err != nil || !bytes.Equal(p.Frame, frame) || p.Outer != o || !p.ChecksumOK() {
			t.Errorf("Ethernet padding, IPv6 %v: %+v, %v", v6, p, err)
		}
		if &p.Frame[0] != &pkt[o.Len()] {
			t.Error("the frame does not alias the packet")
		}
		// Bytes between the end of the datagram and that of the IP packet.
		ip := pkt[EthernetLen:]
		if v6 {
			binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-IPv6Len))
		} else {
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
			fixHeader(ip)
		}
		if p, err = ParsePacket(pkt); err != nil || !bytes.Equal(p.Frame, frame) || !p.ChecksumOK() {
			t.Errorf("behind UDP, IPv6 %v: %+v, %v", v6, p, err)
		}
	}
}

func TestParsePacketIPv4Options(t *testing.T) {
	o := stackOuter(false, false)
	plain := packet(t, o, arpFrame())
	for n := 1; n <= 10; n++ {
		pkt := bytes.Clone(plain[:34])
		pkt = append(pkt, bytes.Repeat([]byte{1}, 4*n)...)
		pkt = append(pkt, plain[34:]...)
		pkt[14] += byte(n)
		binary.BigEndian.PutUint16(pkt[16:], uint16(len(pkt)-14))
		fixHeader(pkt[14:])
		p, err := ParsePacket(pkt)
		if err != nil || p.Outer != o || !bytes.Equal(p.Frame, arpFrame()) || !p.ChecksumOK() {
			t.Errorf("%d words of options: %+v, %v", n, p, err)
		}
		// The checksum covers them.
		pkt[34] ^= 0x80
		if _, err := ParsePacket(pkt); err != ErrHeaderChecksum {
			t.Errorf("%d words, one changed: %v, want ErrHeaderChecksum", n, err)
		}
	}
}

// With a wrong header checksum the packet is returned all the same, for a
// decoder to show.
func TestParsePacketHeaderChecksum(t *testing.T) {
	o := stackOuter(false, false)
	pkt := packet(t, o, arpFrame())
	for bit := range 16 {
		bad := bytes.Clone(pkt)
		binary.BigEndian.PutUint16(bad[24:], binary.BigEndian.Uint16(pkt[24:])^1<<bit)
		p, err := ParsePacket(bad)
		if err != ErrHeaderChecksum {
			t.Fatalf("bit %d turned: %v, want ErrHeaderChecksum", bit, err)
		}
		if p.Outer != o || !bytes.Equal(p.Frame, arpFrame()) {
			t.Errorf("bit %d turned: %+v", bit, p)
		}
	}
}

func TestPacketChecksumOK(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		o := stackOuter(v6, false)
		pkt := packet(t, o, append(arpFrame(), 7)) // an odd length
		ip := EthernetLen
		if p, err := ParsePacket(pkt); err != nil || !p.ChecksumOK() {
			t.Fatalf("IPv6 %v: %v, checksum right: %v", v6, err, p.ChecksumOK())
		}
		// Each byte that the checksum covers, turned in one bit that leaves the
		// packet readable: ports, VXLAN reserved bits and VNI, frame, addresses.
		udp := o.Len() - HeaderLen - UDPLen
		covered := []int{udp, udp + 1, udp + 2, udp + 3, udp + 6, udp + 7}
		for i := udp + 8; i < len(pkt); i++ {
			covered = append(covered, i)
		}
		if v6 {
			covered = append(covered, ip+8, ip+23, ip+24, ip+39)
		} else {
			covered = append(covered, ip+12, ip+15, ip+16, ip+19)
		}
		for _, at := range covered {
			bad := bytes.Clone(pkt)
			bad[at] ^= 0x10
			if !v6 {
				fixHeader(bad[14:])
			}
			if p, err := ParsePacket(bad); err != nil || p.ChecksumOK() {
				t.Errorf("IPv6 %v, byte %d turned: %v, checksum right: %v", v6, at, err, p.ChecksumOK())
			}
		}

		o.ZeroChecksum = true
		p, err := ParsePacket(packet(t, o, arpFrame()))
		if err != nil || !p.ZeroChecksum || p.Checksum != 0 || p.ChecksumOK() == v6 {
			t.Errorf("zero checksum, IPv6 %v: %+v, %v, right: %v", v6, p, err, p.ChecksumOK())
		}
	}
}
