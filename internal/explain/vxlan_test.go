package explain_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/govxlan/govxlan/internal/explain"
)

const innerARP = "ffffffffffff 02420a000164 0806 0001080006040001 02420a000164 0a000164 000000000000 0a000167"

// field finds a field, or a part of one, by name; the first of that name.
func field(fields []explain.Field, name string) *explain.Field {
	for i := range fields {
		if fields[i].Name == name {
			return &fields[i]
		}
		if f := field(fields[i].Parts, name); f != nil {
			return f
		}
	}
	return nil
}

// Every bit of the header: what it is called, whether it is right.
func TestVXLANHeader(t *testing.T) {
	const (
		ok   = explain.Plain
		good = explain.Good
		note = explain.Note
		bad  = explain.Bad
	)
	type judged struct {
		field   string // "name" or "name@offset"
		text    string
		meaning string // its beginning
		verdict explain.Verdict
	}
	for _, c := range []struct {
		name, header, line string
		want               []judged
	}{
		{"plain", "0800000000100100", "VXLAN, flags [I] (0x08), vni 4097", []judged{
			{"flags", "0x08", "", ok},
			{"G", "0... ....", "clear: no group policy", ok},
			{"I", ".... 1...", "set: the VNI is valid", good},
			{"VNI", "4097", "0x001001", ok},
		}},
		{"I clear", "0000000000100100", "VXLAN, flags [.] (0x00), vni 4097", []judged{
			{"I", ".... 0...", "CLEAR: the VNI is not valid", bad},
		}},
		{"reserved flags", "4a00000000000100", "VXLAN, flags [I] (0x4a), vni 1", []judged{
			{"reserved", ".100 .010", "not zero: RFC 7348 ignores it, Linux drops it", note},
		}},
		{"reserved bytes", "08000001ffffffff", "VXLAN, flags [I] (0x08), vni 16777215", []judged{
			{"reserved@1", "0x000001", "not zero: RFC 7348 ignores it, Linux drops it", note},
			{"reserved@7", "0xff", "not zero: RFC 7348 ignores it, Linux drops it", note},
			{"VNI", "16777215", "0xffffff", ok},
		}},
		{"group policy", "8800ffff00000000", "VXLAN, flags [GI] (0x88), vni 0, policy 65535", []judged{
			{"G", "1... ....", "set: group policy (GBP) follows", ok},
			{"D", ".0.. ....", "clear: the source MAC may be learned", ok},
			{"A", ".... 0...", "clear: policy is yet to be applied", ok},
			{"policy", "65535", "the sender's group (GBP)", ok},
		}},
		{"group policy, all bits", "884800010000ff00", "VXLAN, flags [GI] (0x88), vni 255, policy 1", []judged{
			{"D", ".1.. ....", "set: the source MAC must not be learned", ok},
			{"A", ".... 1...", "set: policy has been applied", ok},
		}},
		// Where gopacket looks for the A bit there is a reserved one.
		{"group policy, reserved bit", "888000010000ff00", "VXLAN, flags [GI] (0x88), vni 255, policy 1", []judged{
			{"A", ".... 0...", "clear: policy is yet to be applied", ok},
			{"reserved@1", "1.00 .000", "not zero", note},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := explain.Packet(unhex(t, c.header+innerARP), explain.VXLAN, explain.Options{})
			check(t, e)
			if e.Lines[0] != c.line {
				t.Errorf("%q, want %q", e.Lines[0], c.line)
			}
			for _, w := range c.want {
				name, at, placed := strings.Cut(w.field, "@")
				fields := e.Layers[0].Fields
				if placed {
					off := int(at[0] - '0')
					for i, f := range fields {
						if f.Offset == off {
							fields = fields[i:]
							break
						}
					}
				}
				f := field(fields, name)
				if f == nil {
					t.Errorf("no field %s", w.field)
					continue
				}
				if f.Text != w.text || !strings.HasPrefix(f.Meaning, w.meaning) || f.Verdict != w.verdict {
					t.Errorf("%s: %q, %q, %v; want %q, %q, %v", w.field, f.Text, f.Meaning, f.Verdict, w.text, w.meaning, w.verdict)
				}
			}
		})
	}
}

// The generic protocol extension on port 4790 says itself what follows.
func TestGPE(t *testing.T) {
	v4 := ipv4(layers.IPProtocolUDP)
	inner := ipv4(layers.IPProtocolICMPv4)
	packet := func(header string, rest []byte) []byte {
		return build(t, v4, udp(v4, 50000, 4790), payload(append(unhex(t, header), rest...)))
	}
	ping := build(t, inner, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 2})
	for _, c := range []struct {
		name string
		b    []byte
		want []string
	}{
		{"Ethernet, unsaid", packet("0800000000000500", unhex(t, innerARP)),
			[]string{"VXLAN-GPE, flags [I] (0x08), vni 5", "ARP, Request who-has 10.0.1.103 tell 10.0.1.100, length 28"}},
		{"Ethernet, said", packet("0c00000300000500", unhex(t, innerARP)),
			[]string{"VXLAN-GPE, flags [IP] (0x0c), vni 5", "ARP, Request who-has 10.0.1.103 tell 10.0.1.100, length 28"}},
		{"IPv4", packet("0c00000100000500", ping),
			[]string{"VXLAN-GPE, flags [IP] (0x0c), vni 5", "IP 10.0.1.100 > 10.0.1.103: ICMP echo request, id 1, seq 2, length 8"}},
		{"NSH", packet("0f00000400000500", []byte{1, 2, 3}),
			[]string{"VXLAN-GPE, flags [IPBO] (0x0f), vni 5", "NSH, length 3"}},
	} {
		e := explain.Packet(c.b, explain.IP, explain.Options{})
		check(t, e)
		got := slices.Clone(e.Lines)
		got[0] = strings.TrimPrefix(got[0], "IP 10.0.1.100.50000 > 10.0.1.103.4790: ")
		if !slices.Equal(got, c.want) || len(e.Problems) > 0 {
			t.Errorf("%s: %q, %v", c.name, got, e.Problems)
		}
	}
}

// Which datagrams are taken for VXLAN, and what is said of their ports.
func TestPorts(t *testing.T) {
	v4 := ipv4(layers.IPProtocolUDP)
	vxlan := unhex(t, "0800000000000900"+innerARP)
	for _, c := range []struct {
		name     string
		src, dst layers.UDPPort
		ports    []uint16
		body     []byte
		tunnel   bool
		srcSaid  string
		dstSaid  string
	}{
		{"assigned", 49152, 4789, nil, vxlan, true, "in RFC 7348's range, 49152-65535", "VXLAN"},
		{"Linux", 49151, 8472, nil, vxlan, true, "not in RFC 7348's range, 49152-65535 (recommended there)", "VXLAN, Linux's default (RFC 7348: 4789)"},
		{"asked for", 65535, 5555, []uint16{1, 5555}, vxlan, true, "in RFC 7348's range, 49152-65535", "VXLAN, by --port"},
		{"by its looks", 50000, 5555, nil, vxlan, true, "in RFC 7348's range, 49152-65535", "not VXLAN's, but the payload looks like it"},
		{"asked for, whatever its looks", 50000, 5555, []uint16{5555}, unhex(t, "0000000000000900"+innerARP), true, "in RFC 7348's range, 49152-65535", "VXLAN, by --port"},
		{"something else", 50000, 5555, nil, []byte("hello, I am no tunnel at all"), false, "", ""},
		{"only from the port", 4789, 50000, nil, []byte("hello, I am no tunnel at all"), false, "VXLAN", ""},
	} {
		e := explain.Packet(build(t, v4, udp(v4, c.src, c.dst), payload(c.body)), explain.IP, explain.Options{Ports: c.ports})
		check(t, e)
		f := e.Layers[1].Fields
		if e.HasInner() != c.tunnel || f[0].Meaning != c.srcSaid || f[1].Meaning != c.dstSaid {
			t.Errorf("%s: tunnel %v, %q, %q", c.name, e.HasInner(), f[0].Meaning, f[1].Meaning)
		}
		if c.tunnel && (!e.HasVNI(9) || e.HasVNI(8)) {
			t.Errorf("%s: VNIs %v", c.name, e.VNIs)
		}
	}
}

// Sums, wherever the bytes begin.
func TestSizes(t *testing.T) {
	wire := read(t, "v4-wire.pcap")[2] // a ping: 98 bytes of inner frame
	v6 := read(t, "v6-wire.pcap")[2]
	tail := func(b []byte, n int) []byte { return b[len(b)-n:] }
	for _, c := range []struct {
		name string
		e    *explain.Explanation
		want string
	}{
		{"Ethernet", wire, "148 bytes on the wire = 98 inner + 50 (14 Ethernet + 20 IPv4 + 8 UDP + 8 VXLAN)"},
		{"IPv6", v6, "168 bytes on the wire = 98 inner + 70 (14 Ethernet + 40 IPv6 + 8 UDP + 8 VXLAN)"},
		{"IP", explain.Packet(wire.Bytes[14:], explain.Detect, explain.Options{}), "134 bytes from the IP header on = 98 inner + 36 (20 IPv4 + 8 UDP + 8 VXLAN)"},
		{"VXLAN", explain.Packet(wire.Bytes[42:], explain.Detect, explain.Options{}), "106 bytes from the VXLAN header on = 98 inner + 8 VXLAN"},
		{"frame", explain.Packet(wire.Bytes[50:], explain.Detect, explain.Options{}), "98 bytes on the wire = 14 Ethernet + 20 IPv4 + 8 ICMP + 56 data"},
		{"cut", explain.Packet(wire.Bytes[:60], explain.Ethernet, explain.Options{Length: 148}), "148 bytes on the wire = 98 inner + 50 (14 Ethernet + 20 IPv4 + 8 UDP + 8 VXLAN)"},
		{"padded", explain.Packet(append(slices.Clone(tail(wire.Bytes, 98)), 0, 0), explain.Ethernet, explain.Options{}),
			"100 bytes on the wire = 14 Ethernet + 20 IPv4 + 8 ICMP + 56 data + 2 padding"},
		{"cut, no tunnel", explain.Packet(wire.Bytes[50:100], explain.Ethernet, explain.Options{Length: 98}),
			"98 bytes on the wire = 14 Ethernet + 20 IPv4 + 8 ICMP + 8 data + 48 not captured"},
	} {
		var out strings.Builder
		if err := c.e.WriteText(&out, explain.Style{}); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), "\n"+c.want+"\n\n") {
			t.Errorf("%s: want %q at the end of\n%s", c.name, c.want, out.String())
		}
	}
}

// What a packet may repeat without end is bounded.
func TestBounds(t *testing.T) {
	tags := "02420a000167 02420a000164 " + strings.Repeat("8100 0001 ", 5000) + "0806"
	e := explain.Packet(unhex(t, tags), explain.Ethernet, explain.Options{})
	check(t, e)
	if n := len(e.Layers); n != 1+8+1 {
		t.Errorf("5000 tags make %d layers", n)
	}
	headers := "60000000 9c40 3c 40 fd000000000000000000000000000001 fd000000000000000000000000000002" + strings.Repeat("3c00010400000000", 5000)
	e = explain.Packet(unhex(t, headers), explain.IP, explain.Options{})
	check(t, e)
	if len(e.Problems) != 1 || e.Problems[0].String() != "IPv6 at byte 296: has more than 32 extension headers" {
		t.Errorf("5000 extension headers: %v", e.Problems)
	}
	v4 := ipv4(layers.IPProtocolUDP)
	b := unhex(t, innerARP)
	for range 12 {
		b = build(t, ether(layers.EthernetTypeIPv4), v4, udp(v4, 50000, 4789), payload(append(unhex(t, "0800000000000900"), b...)))
	}
	e = explain.Packet(b, explain.Ethernet, explain.Options{})
	check(t, e)
	if len(e.VNIs) != 8 {
		t.Errorf("12 tunnels: %d VNIs", len(e.VNIs))
	}
}

func TestLoopback(t *testing.T) {
	ip := "4500 0018 0000 4000 4011 0000 0a000164 0a000167 00000000"
	for name, c := range map[string]struct{ b, line string }{
		"written on a little-endian machine": {"02000000" + ip, "IP 10.0.1.100 > 10.0.1.103: UDP, malformed"},
		"in network order":                   {"00000002" + ip, "IP 10.0.1.100 > 10.0.1.103: UDP, malformed"},
		"another family":                     {"07000000" + ip, "AF 7, length 28"},
	} {
		e := explain.Packet(unhex(t, c.b), explain.Loopback, explain.Options{})
		check(t, e)
		if e.Lines[0] != c.line {
			t.Errorf("%s: %q", name, e.Lines[0])
		}
	}
}
