package vxlan

import (
	"fmt"
	"net/netip"
	"testing"
)

// Sinks keep the compiler from leaving out what is measured.
var (
	sinkErr    error
	sinkFrame  []byte
	sinkHeader Header
	sinkPacket Packet
	sinkBool   bool
	sinkPort   uint16
	sinkECN    ECN
)

// frameSizes are those of inner frames: the smallest that is sent, and a full
// one on an overlay of MTU 1450.
var frameSizes = []int{60, 1464}

func benchOuter(v6 bool) Outer {
	o := Outer{
		SrcMAC: MAC{0x02, 0x42, 0, 0, 0, 1}, DstMAC: MAC{0x02, 0x42, 0, 0, 0, 2},
		Src: netip.MustParseAddr("192.168.52.203"), Dst: netip.MustParseAddr("192.168.52.204"),
		TTL: 64, DF: true, ID: 7, SrcPort: 50000, DstPort: Port, VNI: 4097,
	}
	if v6 {
		o.Src, o.Dst = netip.MustParseAddr("2001:db8::203"), netip.MustParseAddr("2001:db8::204")
	}
	return o
}

func BenchmarkHeaderPut(b *testing.B) {
	buf := make([]byte, 64)
	h := Header{4097}
	for b.Loop() {
		h.Put(buf)
	}
}

func BenchmarkParse(b *testing.B) {
	buf := make([]byte, 1472)
	Header{4097}.Put(buf)
	for b.Loop() {
		sinkHeader, sinkFrame, sinkErr = Parse(buf)
	}
}

// What the UDP transport does with a frame: hash, port, header.
func BenchmarkEncapsulate(b *testing.B) {
	buf := make([]byte, HeaderLen+1464)
	copy(buf[HeaderLen:], tcp4Frame(1464))
	ports := PortRange{SourcePortLo, SourcePortHi}
	h := Header{4097}
	var in Inner
	for b.Loop() {
		sinkErr = in.Parse(buf[HeaderLen:])
		sinkPort = ports.Port(in.Hash)
		sinkECN = EncapECN(in.ECN())
		h.Put(buf)
	}
}

// What the UDP transport does with a datagram: header, inner frame, ECN.
func BenchmarkDecapsulate(b *testing.B) {
	buf := make([]byte, HeaderLen+1464)
	copy(buf[HeaderLen:], tcp4Frame(1464))
	Header{4097}.Put(buf)
	var in Inner
	for b.Loop() {
		sinkHeader, sinkFrame, sinkErr = Parse(buf)
		sinkErr = in.Parse(sinkFrame)
		sinkECN, _ = DecapECN(ECT0, in.ECN())
	}
}

func eachStack(b *testing.B, run func(b *testing.B, o Outer, size int)) {
	for _, v6 := range []bool{false, true} {
		for _, zero := range []bool{true, false} {
			for _, size := range frameSizes {
				if zero && size != frameSizes[0] {
					continue // the frame is not touched
				}
				family, sum := "IPv4", "checksum"
				if v6 {
					family = "IPv6"
				}
				if zero {
					sum = "zero"
				}
				b.Run(fmt.Sprintf("%s/%s/%d", family, sum, size), func(b *testing.B) {
					o := benchOuter(v6)
					o.ZeroChecksum = zero
					if !zero {
						b.SetBytes(int64(size))
					}
					run(b, o, size)
				})
			}
		}
	}
}

func BenchmarkTemplatePut(b *testing.B) {
	eachStack(b, func(b *testing.B, o Outer, size int) {
		t, err := o.Compile()
		if err != nil {
			b.Fatal(err)
		}
		pkt := make([]byte, t.Len()+size)
		for b.Loop() {
			sinkErr = t.Put(pkt, 50000, 0, 7)
		}
	})
}

func BenchmarkOuterPut(b *testing.B) {
	eachStack(b, func(b *testing.B, o Outer, size int) {
		pkt := make([]byte, o.Len()+size)
		for b.Loop() {
			sinkErr = o.Put(pkt)
		}
	})
}

func BenchmarkParsePacket(b *testing.B) {
	for _, v6 := range []bool{false, true} {
		b.Run(map[bool]string{false: "IPv4", true: "IPv6"}[v6], func(b *testing.B) {
			o := benchOuter(v6)
			pkt := make([]byte, o.Len()+1464)
			if err := o.Put(pkt); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				sinkPacket, sinkErr = ParsePacket(pkt)
			}
			if sinkErr != nil {
				b.Fatal(sinkErr)
			}
		})
	}
}

func BenchmarkPacketChecksumOK(b *testing.B) {
	for _, size := range frameSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			o := benchOuter(false)
			pkt := make([]byte, o.Len()+size)
			if err := o.Put(pkt); err != nil {
				b.Fatal(err)
			}
			p, err := ParsePacket(pkt)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			for b.Loop() {
				sinkBool = p.ChecksumOK()
			}
			if !sinkBool {
				b.Fatal("checksum is wrong")
			}
		})
	}
}

func BenchmarkInnerParse(b *testing.B) {
	for _, tt := range []struct {
		name  string
		frame []byte
	}{
		{"IPv4-TCP", tcp4Frame(1464)},
		{"IPv6-TCP", tcp6Frame(1464)},
		{"IPv4-TCP-802.1Q", tagged(tcp4Frame(1464), 100)},
		{"IPv6-TCP-extension", tcp6ExtensionFrame()},
		{"ARP", arpFrame()},
	} {
		b.Run(tt.name, func(b *testing.B) {
			var in Inner
			for b.Loop() {
				sinkErr = in.Parse(tt.frame)
			}
			if sinkErr != nil {
				b.Fatal(sinkErr)
			}
		})
	}
}

func BenchmarkSetECN(b *testing.B) {
	frame := tcp4Frame(100)
	var in Inner
	if err := in.Parse(frame); err != nil {
		b.Fatal(err)
	}
	e := CE
	for b.Loop() {
		SetECN(frame, &in, e)
		e ^= 1
	}
}
