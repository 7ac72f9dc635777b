package vxlan

import "testing"

// Nothing on the packet path allocates, whichever way a packet goes and whatever
// is wrong with it.
func TestNoAllocs(t *testing.T) {
	var in Inner
	frame4, frame6, arp := tcp4Frame(100), tcp6Frame(100), arpFrame()
	extended, twoTags := tcp6ExtensionFrame(), tagged(tagged(frame4, 1), 2)
	payload := append([]byte{8, 0, 0, 0, 0, 0x10, 0x01, 0}, frame4...)
	noFlag := append([]byte{0, 0, 0, 0, 0, 0x10, 0x01, 0}, frame4...)
	o4, o6, bad := stackOuter(false, false), stackOuter(true, true), Outer{}
	pkt4, pkt6 := packet(t, o4, frame4), packet(t, o6, frame6)
	wrong4 := packet(t, o4, frame4)
	wrong4[24] ^= 1
	t4, err := o4.Compile()
	if err != nil {
		t.Fatal(err)
	}
	t6, err := o6.Compile()
	if err != nil {
		t.Fatal(err)
	}
	room := make([]byte, 0, 64)
	ports := PortRange{SourcePortLo, SourcePortHi}
	if err := in.Parse(frame4); err != nil {
		t.Fatal(err)
	}
	tagged4 := in

	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"Parse", func() { sinkHeader, sinkFrame, sinkErr = Parse(payload) }},
		{"Parse, I flag clear", func() { sinkHeader, sinkFrame, sinkErr = Parse(noFlag) }},
		{"Parse, short", func() { sinkHeader, sinkFrame, sinkErr = Parse(payload[:7]) }},
		{"ReservedBits", func() { sinkBool = ReservedBits(payload) == 0 }},
		{"Header.Put", func() { Header{4097}.Put(payload) }},
		{"Header.AppendBinary", func() { sinkFrame, sinkErr = Header{4097}.AppendBinary(room) }},
		{"Inner.Parse, IPv4", func() { sinkErr = in.Parse(frame4) }},
		{"Inner.Parse, IPv6", func() { sinkErr = in.Parse(frame6) }},
		{"Inner.Parse, extension header", func() { sinkErr = in.Parse(extended) }},
		{"Inner.Parse, two tags", func() { sinkErr = in.Parse(twoTags) }},
		{"Inner.Parse, ARP", func() { sinkErr = in.Parse(arp) }},
		{"Inner.Parse, short", func() { sinkErr = in.Parse(arp[:13]) }},
		{"PortRange.Port", func() { sinkPort = ports.Port(in.Hash) }},
		{"SetECN", func() { SetECN(frame4, &tagged4, tagged4.ECN()^1) }},
		{"DecapECN", func() { sinkECN, _ = DecapECN(CE, EncapECN(ECT0)) }},
		{"Outer.Put, IPv4", func() { sinkErr = o4.Put(pkt4) }},
		{"Outer.Put, IPv6", func() { sinkErr = o6.Put(pkt6) }},
		{"Outer.Put, wrong", func() { sinkErr = bad.Put(pkt4) }},
		{"Template.Put, IPv4", func() { sinkErr = t4.Put(pkt4, 1, 2, 3) }},
		{"Template.Put, IPv6", func() { sinkErr = t6.Put(pkt6, 1, 2, 3) }},
		{"Template.Put, wrong", func() { sinkErr = t6.Put(pkt6[:20], 1, 2, 3) }},
		{"ParsePacket, IPv4", func() { sinkPacket, sinkErr = ParsePacket(pkt4) }},
		{"ParsePacket, IPv6", func() { sinkPacket, sinkErr = ParsePacket(pkt6) }},
		{"ParsePacket, header checksum", func() { sinkPacket, sinkErr = ParsePacket(wrong4) }},
		{"ParsePacket, short", func() { sinkPacket, sinkErr = ParsePacket(pkt4[:30]) }},
		{"Packet.ChecksumOK", func() { sinkBool = sinkPacket.ChecksumOK() }},
		{"MAC.AppendText", func() { sinkFrame, sinkErr = Broadcast.AppendText(room) }},
	} {
		if n := testing.AllocsPerRun(100, tt.f); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}
