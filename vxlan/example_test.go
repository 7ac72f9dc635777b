package vxlan_test

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

// arp is a frame to send: who has 10.0.1.102, asks 10.0.1.101.
var arp = []byte{
	0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02, 0x42, 0x0A, 0x00, 0x01, 0x65, 0x08, 0x06,
	0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
	0x02, 0x42, 0x0A, 0x00, 0x01, 0x65, 10, 0, 1, 101,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 10, 0, 1, 102,
}

// The payload of a UDP datagram: header and frame.
func Example() {
	buf := make([]byte, vxlan.HeaderLen+len(arp))
	copy(buf[vxlan.HeaderLen:], arp)
	vxlan.Header{VNI: 4097}.Put(buf)
	fmt.Printf("% x\n", buf[:vxlan.HeaderLen])

	header, frame, err := vxlan.Parse(buf)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("VNI %v, %d bytes from %v to %v\n",
		header.VNI, len(frame), vxlan.MAC(frame[6:12]), vxlan.MAC(frame[0:6]))
	// Output:
	// 08 00 00 00 00 10 01 00
	// VNI 4097, 42 bytes from 02:42:0a:00:01:65 to ff:ff:ff:ff:ff:ff
}

func ExampleParse_errors() {
	datagram := append([]byte{0, 0, 0, 0, 0, 0x10, 0x01, 0}, arp...)
	_, _, err := vxlan.Parse(datagram)
	fmt.Println(errors.Is(err, vxlan.ErrFlags), err)
	// Output: true vxlan: I flag is clear, the header carries no valid VNI
}

// The strict rule of the Linux kernel, which drops a packet with a reserved bit
// that is not tolerated; here all 8 of the last byte are.
func ExampleReservedBits() {
	const tolerated = 0xFF
	for _, header := range [][]byte{
		{0x08, 0, 0, 0, 0, 0x10, 0x01, 0x2A},
		{0x88, 0, 0, 7, 0, 0x10, 0x01, 0x00},
	} {
		fmt.Println(vxlan.ReservedBits(header)&^tolerated == 0)
	}
	// Output:
	// true
	// false
}

func ExampleParseVNI() {
	vni, err := vxlan.ParseVNI("4097")
	fmt.Println(vni, err)
	_, err = vxlan.ParseVNI("16777216")
	fmt.Println(err)
	// Output:
	// 4097 <nil>
	// vxlan: VNI is not in 0-16777215: "16777216"
}

// The source port of a frame: by its flow, so that routers on the way can spread
// flows over paths and keep each in order.
func ExampleInner_Parse() {
	var in vxlan.Inner
	if err := in.Parse(arp); err != nil {
		fmt.Println(err)
		return
	}
	ports := vxlan.PortRange{Lo: vxlan.SourcePortLo, Hi: vxlan.SourcePortHi}
	fmt.Printf("EtherType %#04x, source port %d\n", in.EtherType, ports.Port(in.Hash))
	// Output: EtherType 0x0806, source port 57851
}

// A packet arrived that met congestion on the way.
func ExampleDecapECN() {
	e, verdict := vxlan.DecapECN(vxlan.CE, vxlan.ECT0)
	fmt.Println(e, verdict)
	e, verdict = vxlan.DecapECN(vxlan.CE, vxlan.NotECT)
	fmt.Println(e, verdict)
	// Output:
	// CE deliver
	// Not-ECT drop
}

// A whole packet, as a raw socket or a capture file has it.
func ExampleOuter_Put() {
	outer := vxlan.Outer{
		SrcMAC:  vxlan.MAC{0x02, 0x42, 0xC0, 0xA8, 0x34, 0xCB},
		DstMAC:  vxlan.MAC{0x02, 0x42, 0xC0, 0xA8, 0x34, 0xCC},
		Src:     netip.MustParseAddr("192.168.52.203"),
		Dst:     netip.MustParseAddr("192.168.52.204"),
		TTL:     64,
		DF:      true,
		SrcPort: 50000,
		DstPort: vxlan.Port,
		VNI:     4097,
	}
	pkt := make([]byte, outer.Len()+len(arp))
	copy(pkt[outer.Len():], arp)
	if err := outer.Put(pkt); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("% x\n% x\n% x\n% x\n", pkt[:14], pkt[14:34], pkt[34:42], pkt[42:50])
	// Output:
	// 02 42 c0 a8 34 cc 02 42 c0 a8 34 cb 08 00
	// 45 00 00 4e 00 00 40 00 40 11 4f b7 c0 a8 34 cb c0 a8 34 cc
	// c3 50 12 b5 00 3a ed 56
	// 08 00 00 00 00 10 01 00
}

// Many packets to one peer: compile once, write each with its own source port,
// TOS and identification.
func ExampleTemplate() {
	outer := vxlan.Outer{
		SrcMAC: vxlan.MAC{0x02, 0, 0, 0, 0, 1}, DstMAC: vxlan.MAC{0x02, 0, 0, 0, 0, 2},
		Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("2001:db8::2"),
		TTL: 64, DstPort: vxlan.Port, VNI: 4097,
	}
	template, err := outer.Compile()
	if err != nil {
		fmt.Println(err)
		return
	}
	pkt := make([]byte, template.Len()+len(arp))
	copy(pkt[template.Len():], arp)
	for id := range uint16(2) {
		if err := template.Put(pkt, 50000+id, 0, id); err != nil {
			fmt.Println(err)
			return
		}
		p, err := vxlan.ParsePacket(pkt)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(p.Src, p.SrcPort, p.Dst, p.DstPort, p.VNI, len(p.Frame), p.ChecksumOK())
	}
	// Output:
	// 2001:db8::1 50000 2001:db8::2 4789 4097 42 true
	// 2001:db8::1 50001 2001:db8::2 4789 4097 42 true
}
