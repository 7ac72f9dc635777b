package explain_test

import (
	"bytes"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/govxlan/govxlan/internal/explain"
)

// crafted are packets that no capture here has: what they are, and their bytes
// from the Ethernet header on.
type crafted struct {
	name string
	b    []byte
}

var (
	macA = net.HardwareAddr{2, 0x42, 10, 0, 1, 0x64}
	macB = net.HardwareAddr{2, 0x42, 10, 0, 1, 0x67}
	ipA  = net.IP{10, 0, 1, 100}
	ipB  = net.IP{10, 0, 1, 103}
	ip6A = net.ParseIP("fd01:1::100")
	ip6B = net.ParseIP("fd01:1::103")
)

func ether(t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: t}
}

func ipv4(p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Id: 7, Protocol: p, SrcIP: ipA, DstIP: ipB}
}

func ipv6(p layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, FlowLabel: 0x12345, NextHeader: p, SrcIP: ip6A, DstIP: ip6B}
}

func udp(ip gopacket.NetworkLayer, src, dst layers.UDPPort) *layers.UDP {
	u := &layers.UDP{SrcPort: src, DstPort: dst}
	u.SetNetworkLayerForChecksum(ip)
	return u
}

// build serializes layers with lengths and checksums.
func build(t testing.TB, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

func craft(t testing.TB) []crafted {
	hex := func(s string) gopacket.Payload { return payload(unhex(t, s)) }
	v4, v6 := ipv4(layers.IPProtocolUDP), ipv6(layers.IPProtocolUDP)
	ping := build(t, ether(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 9, Seq: 1}, payload([]byte("abcdefgh")))
	quoted := build(t, v4, udp(v4, 50000, 4789), hex("0800000000100100"), payload(ping))
	tcp := func(ip gopacket.NetworkLayer, set func(*layers.TCP)) *layers.TCP {
		l := &layers.TCP{SrcPort: 4000, DstPort: 5000, Seq: 100, Ack: 200, Window: 64, ACK: true}
		set(l)
		l.SetNetworkLayerForChecksum(ip)
		return l
	}
	tcp4, tcp6 := ipv4(layers.IPProtocolTCP), ipv6(layers.IPProtocolTCP)
	icmp := func(typ, code uint8, id, seq uint16, rest []byte) []byte {
		return build(t, ether(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, code), Id: id, Seq: seq}, payload(rest))
	}
	icmp6ip := ipv6(layers.IPProtocolICMPv6)
	icmp6 := func(typ, code uint8, rest []byte) []byte {
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, code)}
		l.SetNetworkLayerForChecksum(icmp6ip)
		return build(t, ether(layers.EthernetTypeIPv6), icmp6ip, l, payload(rest))
	}
	dns := func(set func(*layers.DNS)) []byte {
		m := &layers.DNS{ID: 4242, Questions: []layers.DNSQuestion{{Name: []byte("web.example"), Type: layers.DNSTypeAAAA, Class: layers.DNSClassIN}}}
		set(m)
		return build(t, ether(layers.EthernetTypeIPv4), v4, udp(v4, 53, 40000), m)
	}
	arp := func(op uint16, sender, target net.IP, targetMAC net.HardwareAddr) []byte {
		return build(t, ether(layers.EthernetTypeARP), &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: op, SourceHwAddress: macA, SourceProtAddress: sender, DstHwAddress: targetMAC, DstProtAddress: target,
		})
	}
	zero := net.HardwareAddr{0, 0, 0, 0, 0, 0}
	quoted6 := build(t, v6, udp(v6, 50000, 4789), hex("0800000000100100"), payload(ping))
	unreachable := func(code uint8) []byte { return icmp(3, code, 0, 1400, quoted[:28]) }
	first := ipv4(layers.IPProtocolUDP)
	first.Flags = layers.IPv4MoreFragments
	dhcp := func(op layers.DHCPOp, kind layers.DHCPMsgType, src, dst layers.UDPPort) []byte {
		return build(t, ether(layers.EthernetTypeIPv4), v4, udp(v4, src, dst), &layers.DHCPv4{
			Operation: op, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, Xid: 0x1234, ClientHWAddr: macA, YourClientIP: ipB,
			Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)})},
		})
	}
	return []crafted{
		{"VXLAN in VXLAN", build(t, ether(layers.EthernetTypeIPv4), v4, udp(v4, 50001, 4789), hex("0800000000000100"),
			ether(layers.EthernetTypeIPv6), v6, udp(v6, 50002, 4789), hex("0800000000000200"), payload(ping))},
		{"TCP: selective acknowledgment", build(t, ether(layers.EthernetTypeIPv4), tcp4, tcp(tcp4, func(l *layers.TCP) {
			l.Options = []layers.TCPOption{{OptionType: 1}, {OptionType: 1}, {OptionType: 5, OptionLength: 18, OptionData: unhex(t, "00000100 00000200 00000300 00000400")}}
		}))},
		{"TCP: reset", build(t, ether(layers.EthernetTypeIPv4), tcp4, tcp(tcp4, func(l *layers.TCP) { l.RST = true }))},
		{"TCP: urgent, congestion marks", build(t, ether(layers.EthernetTypeIPv6), tcp6, tcp(tcp6, func(l *layers.TCP) {
			l.URG, l.Urgent, l.PSH, l.ECE, l.CWR = true, 3, true, true, true
		}), payload([]byte("data")))},
		{"TCP: no flag", build(t, ether(layers.EthernetTypeIPv4), tcp4, tcp(tcp4, func(l *layers.TCP) { l.ACK = false }))},
		{"TCP: unknown option", build(t, ether(layers.EthernetTypeIPv4), tcp4, tcp(tcp4, func(l *layers.TCP) {
			l.Options = []layers.TCPOption{{OptionType: 200, OptionLength: 3, OptionData: []byte{1}}, {OptionType: 0}}
		}))},
		{"ICMP: too big for the path", icmp(3, 4, 0, 1400, quoted)},
		{"ICMP: network", unreachable(0)},
		{"ICMP: host", unreachable(1)},
		{"ICMP: protocol", unreachable(2)},
		{"ICMP: port", unreachable(3)},
		{"ICMP: host prohibited", unreachable(10)},
		{"ICMP: filtered", unreachable(13)},
		{"ICMP: TTL", icmp(11, 0, 0, 0, quoted[:28])},
		{"ICMP: reassembly", icmp(11, 1, 0, 0, quoted[:28])},
		{"ICMP: redirect", icmp(5, 1, 0x0a00, 0x01fe, quoted[:28])},
		{"ICMPv6: too big", icmp6(2, 0, append(unhex(t, "00000500"), quoted6...))},
		{"ICMPv6: hop limit", icmp6(3, 0, append(make([]byte, 4), quoted6...))},
		{"ICMPv6: no route", icmp6(1, 0, append(make([]byte, 4), quoted6...))},
		{"ICMPv6: prohibited", icmp6(1, 1, append(make([]byte, 4), quoted6...))},
		{"ICMPv6: address", icmp6(1, 3, append(make([]byte, 4), quoted6...))},
		{"ICMPv6: port", icmp6(1, 4, append(make([]byte, 4), quoted6...))},
		{"ICMPv6: router solicitation", icmp6(133, 0, unhex(t, "00000000 0101 02420a000164"))},
		{"ICMPv6: router advertisement", icmp6(134, 0, unhex(t, "40c0 0708 00000000 00000000 0501 0000 000005aa 0304 40c0 00015180 00003840 00000000 fd010001000000000000000000000000"))},
		{"ARP: announcement", arp(1, ipA, ipA, zero)},
		{"ARP: probe", arp(1, net.IP{0, 0, 0, 0}, ipB, zero)},
		{"ARP: unicast request", arp(1, ipA, ipB, macB)},
		{"ARP: reply", arp(2, ipA, ipB, macB)},
		{"DNS: query", dns(func(m *layers.DNS) { m.RD = true })},
		{"DNS: no such name", dns(func(m *layers.DNS) {
			m.QR, m.RD, m.RA, m.ResponseCode = true, true, true, layers.DNSResponseCodeNXDomain
		})},
		{"DNS: authoritative, without recursion", dns(func(m *layers.DNS) {
			m.QR, m.AA = true, true
			m.Answers = []layers.DNSResourceRecord{
				{Name: []byte("web.example"), Type: layers.DNSTypeAAAA, Class: layers.DNSClassIN, TTL: 60, IP: ip6B},
				{Name: []byte("web.example"), Type: layers.DNSTypeCNAME, Class: layers.DNSClassIN, TTL: 60, CNAME: []byte("other.example")},
			}
		})},
		{"DHCP: discover", dhcp(layers.DHCPOpRequest, layers.DHCPMsgTypeDiscover, 68, 67)},
		{"DHCP: offer", dhcp(layers.DHCPOpReply, layers.DHCPMsgTypeOffer, 67, 68)},
		{"IPv4 in IPv4", build(t, ether(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolIPv4), payload(ping[14:]))},
		{"UDP to nobody", build(t, ether(layers.EthernetTypeIPv6), v6, udp(v6, 1000, 2000), payload([]byte("hello")))},
		{"first fragment", build(t, ether(layers.EthernetTypeIPv4), first, udp(first, 1000, 2000), payload(make([]byte, 32)))},
		{"IPv6 fragments: the last", build(t, ether(layers.EthernetTypeIPv6), ipv6(layers.IPProtocolIPv6Fragment), hex("1100 05a8 12345678"), payload(make([]byte, 16)))},
		{"IGMP: leave", build(t, ether(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolIGMP), hex("1700 f8fc ef010101"))},
		{"IGMP: v2 report", build(t, ether(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolIGMP), hex("1600 f9fc ef010101"))},
	}
}

// The crafted packets lie in a capture too, so that tcpdump can say what they
// are.
func TestCraftedCapture(t *testing.T) {
	var out bytes.Buffer
	w := pcapgo.NewWriter(&out)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range craft(t) {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(c.b), Length: len(c.b)}, c.b); err != nil {
			t.Fatal(err)
		}
		e := explain.Packet(c.b, explain.Ethernet, explain.Options{})
		check(t, e)
		for _, p := range e.Problems {
			t.Errorf("%s: %v", c.name, p)
		}
		for _, f := range sums(e) {
			if f.Verdict != explain.Good && !strings.Contains(f.Meaning, "not judged") {
				t.Errorf("%s: checksum at %d: %s", c.name, f.Offset, f.Meaning)
			}
		}
	}
	const path = "testdata/crafted.pcap"
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, out.Bytes()) {
		t.Errorf("%s is not what this test crafts: run with -update, then make-captures.sh", path)
	}
}

func payload(b []byte) gopacket.Payload { return gopacket.Payload(b) }
