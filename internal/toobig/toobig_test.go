package toobig

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/vxlan"
)

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xA}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 0xB}
	ip4A = net.IP{10, 0, 1, 100}
	ip4B = net.IP{10, 0, 1, 103}
	ip6A = net.ParseIP("fd00::100")
	ip6B = net.ParseIP("fd00::103")
)

// shape is a frame from A to B, built by gopacket.
type shape struct {
	v6, tagged, df bool
	l4             gopacket.SerializableLayer // nil = TCP
	payload        int
	fix            func(ip []byte, frame []byte) // afterwards
}

func (s shape) frame(t testing.TB) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: macA, DstMAC: macB}
	all := []gopacket.SerializableLayer{eth}
	kind := layers.EthernetTypeIPv4
	if s.v6 {
		kind = layers.EthernetTypeIPv6
	}
	eth.EthernetType = kind
	l3 := 14
	if s.tagged {
		eth.EthernetType = layers.EthernetTypeDot1Q
		all = append(all, &layers.Dot1Q{VLANIdentifier: 7, Priority: 3, Type: kind})
		l3 = 18
	}
	proto := layers.IPProtocolTCP
	switch s.l4.(type) {
	case *layers.UDP:
		proto = layers.IPProtocolUDP
	case *layers.ICMPv4:
		proto = layers.IPProtocolICMPv4
	case *layers.ICMPv6:
		proto = layers.IPProtocolICMPv6
	case nil:
		s.l4 = &layers.TCP{SrcPort: 40000, DstPort: 5201, Seq: 0x01020304, ACK: true, Window: 500}
	}
	var network gopacket.NetworkLayer
	if s.v6 {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: ip6A, DstIP: ip6B}
		network, all = ip, append(all, ip)
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, Id: 77, SrcIP: ip4A, DstIP: ip4B}
		if s.df {
			ip.Flags = layers.IPv4DontFragment
		}
		network, all = ip, append(all, ip)
	}
	type summed interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}
	if l, ok := s.l4.(summed); ok {
		if err := l.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
	}
	all = append(all, s.l4, gopacket.Payload(bytes.Repeat([]byte{0x5A}, s.payload)))
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	f := bytes.Clone(b.Bytes())
	if s.fix != nil {
		s.fix(f[l3:], f)
	}
	return f
}

// checked decodes an answer with gopacket, and again encodes it with checksums
// of its own: the bytes must be the same.
func checked(t testing.TB, answer []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(answer, layers.LayerTypeEthernet, gopacket.Default)
	var all []gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			all = append(all, l)
		case *layers.Dot1Q:
			all = append(all, l)
		case *layers.IPv4:
			network, all = l, append(all, l)
		case *layers.IPv6:
			network, all = l, append(all, l)
		case *layers.ICMPv4:
			all = append(all, l, gopacket.Payload(l.Payload))
		case *layers.ICMPv6:
			if err := l.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
			all = append(all, l, gopacket.Payload(l.Payload))
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), answer) {
		t.Errorf("answer %x\ngopacket %x", answer, b.Bytes())
	}
	return p
}

func TestBuild(t *testing.T) {
	for _, tc := range []struct {
		name string
		shape
		most, mtu, length int // of the answer
	}{
		{"IPv4", shape{df: true, payload: 1410}, 1364, 1350, 14 + 576},
		{"IPv4, tag", shape{df: true, tagged: true, payload: 1410}, 1364, 1346, 18 + 576},
		{"IPv4, short", shape{df: true, payload: 100}, 100, 86, 14 + 20 + 8 + 140},
		{"IPv4, one byte too long", shape{df: true, payload: 100}, 153, 139, 14 + 20 + 8 + 140},
		{"IPv4, UDP", shape{df: true, payload: 1410, l4: &layers.UDP{SrcPort: 1, DstPort: 2}}, 1364, 1350, 14 + 576},
		{"IPv4, ping", shape{df: true, payload: 1410, l4: &layers.ICMPv4{TypeCode: 0x0800}}, 1364, 1350, 14 + 576},
		{"IPv6", shape{v6: true, payload: 1390}, 1344, 1330, 14 + 1280},
		{"IPv6, tag", shape{v6: true, tagged: true, payload: 1390}, 1344, 1326, 18 + 1280},
		{"IPv6, minimum", shape{v6: true, payload: 1390}, 1294, 1280, 14 + 1280},
		{"IPv6, ping", shape{v6: true, payload: 1390, l4: &layers.ICMPv6{TypeCode: 0x8000}}, 1344, 1330, 14 + 1280},
		{"superframe", shape{df: true, payload: 60000}, 1364, 1350, 14 + 576},
	} {
		t.Run(tc.name, func(t *testing.T) {
			frame := tc.frame(t)
			dst := bytes.Repeat([]byte{0xEE}, MaxLen) // what was there must not show
			n := Build(dst, frame, tc.most)
			if n != tc.length {
				t.Fatalf("%d bytes, want %d", n, tc.length)
			}
			p := checked(t, dst[:n])
			eth := p.LinkLayer().(*layers.Ethernet)
			if !bytes.Equal(eth.SrcMAC, macB) || !bytes.Equal(eth.DstMAC, macA) {
				t.Errorf("from %v to %v", eth.SrcMAC, eth.DstMAC)
			}
			if tag, _ := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); (tag != nil) != tc.tagged || tag != nil && (tag.VLANIdentifier != 7 || tag.Priority != 3) {
				t.Errorf("tag %+v", tag)
			}
			l3 := 14
			if tc.tagged {
				l3 = 18
			}
			if tc.v6 {
				ip := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
				icmp := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
				if !ip.SrcIP.Equal(ip6B) || !ip.DstIP.Equal(ip6A) || icmp.TypeCode != layers.CreateICMPv6TypeCode(layers.ICMPv6TypePacketTooBig, 0) {
					t.Errorf("from %v to %v: %v", ip.SrcIP, ip.DstIP, icmp.TypeCode)
				}
				if mtu := int(binary.BigEndian.Uint32(icmp.Payload)); mtu != tc.mtu || !bytes.HasPrefix(frame[l3:], icmp.Payload[4:]) {
					t.Errorf("MTU %d, want %d, quote %x", mtu, tc.mtu, icmp.Payload[4:])
				}
				return
			}
			ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			icmp := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
			if !ip.SrcIP.Equal(ip4B) || !ip.DstIP.Equal(ip4A) || icmp.TypeCode != layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded) {
				t.Errorf("from %v to %v: %v", ip.SrcIP, ip.DstIP, icmp.TypeCode)
			}
			if int(icmp.Seq) != tc.mtu || icmp.Id != 0 || !bytes.HasPrefix(frame[l3:], icmp.Payload) {
				t.Errorf("MTU %d, want %d, quote %x", icmp.Seq, tc.mtu, icmp.Payload)
			}
		})
	}
}

func TestNoAnswer(t *testing.T) {
	big := shape{df: true, payload: 1410}
	big6 := shape{v6: true, payload: 1390}
	with := func(s shape, fix func(ip, frame []byte)) shape { s.fix = fix; return s }
	icmp4 := func(kind uint16) shape {
		return shape{df: true, payload: 1400, l4: &layers.ICMPv4{TypeCode: layers.ICMPv4TypeCode(kind << 8)}}
	}
	icmp6 := func(kind uint16) shape {
		return shape{v6: true, payload: 1400, l4: &layers.ICMPv6{TypeCode: layers.ICMPv6TypeCode(kind << 8)}}
	}
	put := func(at int, b ...byte) func(ip, frame []byte) {
		return func(ip, _ []byte) { copy(ip[at:], b) }
	}
	for name, tc := range map[string]struct {
		shape
		most int
	}{
		"fits":                    {big, 14 + 20 + 20 + 1410},
		"fits, IPv6":              {big6, 14 + 40 + 20 + 1390},
		"no DF":                   {shape{payload: 1410}, 1364},
		"Ethernet multicast":      {with(big, func(_, f []byte) { f[0] |= 1 }), 1364},
		"from Ethernet multicast": {with(big, func(_, f []byte) { f[6] |= 1 }), 1364},
		"not IP":                  {with(big, func(_, f []byte) { f[12], f[13] = 0x88, 0xB5 }), 1364},
		"broken header":           {with(big, put(0, 0x44)), 1364},
		"cut":                     {with(big, put(2, 0x7F, 0xFF)), 1364},
		"later fragment":          {with(big, put(6, 0x40, 0x01)), 1364},
		"to a group":              {with(big, put(16, 239, 1, 1, 1)), 1364},
		"to all":                  {with(big, put(16, 255, 255, 255, 255)), 1364},
		"to nobody":               {with(big, put(16, 0, 0, 0, 0)), 1364},
		"to itself":               {with(big, put(16, 127, 0, 0, 1)), 1364},
		"from nobody":             {with(big, put(12, 0, 0, 0, 0)), 1364},
		"from itself":             {with(big, put(12, 127, 0, 0, 1)), 1364},
		"from a group":            {with(big, put(12, 224, 0, 0, 1)), 1364},
		"from all":                {with(big, put(12, 255, 255, 255, 255)), 1364},
		"unreachable":             {icmp4(3), 1364},
		"source quench":           {icmp4(4), 1364},
		"redirect":                {icmp4(5), 1364},
		"time exceeded":           {icmp4(11), 1364},
		"parameter problem":       {icmp4(12), 1364},
		"ICMP without type":       {with(icmp4(8), put(0, 0x46, 0, 0, 24)), 30},
		"long by padding":         {with(big, put(2, 0x01, 0x00)), 1364},
		"MTU below 68":            {big, 14 + 67},
		"IPv6 to a group":         {with(big6, put(24, 0xFF, 2)), 1344},
		"IPv6 from a group":       {with(big6, put(8, 0xFF, 2)), 1344},
		"IPv6 from nobody":        {with(big6, put(8, make([]byte, 16)...)), 1344},
		"IPv6 from itself":        {with(big6, put(8, append(make([]byte, 15), 1)...)), 1344},
		"IPv6 to itself":          {with(big6, put(24, append(make([]byte, 15), 1)...)), 1344},
		"IPv6 unreachable":        {icmp6(1), 1344},
		"IPv6 too big":            {icmp6(2), 1344},
		"IPv6 time exceeded":      {icmp6(3), 1344},
		"IPv6 parameter problem":  {icmp6(4), 1344},
		"IPv6 error unknown":      {icmp6(127), 1344},
		"IPv6 redirect":           {icmp6(137), 1344},
		"IPv6 MTU below 1280":     {big6, 14 + 1279},
		"IPv6 later fragment": {with(big6, func(ip, _ []byte) {
			ip[6] = 44
			copy(ip[40:], []byte{6, 0, 0x00, 0x09, 0, 0, 0, 1})
		}), 1344},
		"IPv6 error behind options": {with(big6, func(ip, _ []byte) {
			ip[6] = 60
			copy(ip[40:], []byte{58, 0, 1, 4, 0, 0, 0, 0, 2, 0})
		}), 1344},
		"IPv6 options without end": {with(big6, func(ip, _ []byte) {
			ip[6] = 60
			for at := 40; at+8 <= len(ip); at += 8 {
				copy(ip[at:], []byte{60, 0, 1, 4, 0, 0, 0, 0})
			}
		}), 1344},
	} {
		t.Run(name, func(t *testing.T) {
			dst := make([]byte, MaxLen)
			if n := Build(dst, tc.frame(t), tc.most); n != 0 {
				t.Errorf("answered: %x", dst[:n])
			}
		})
	}
	if n := Build(make([]byte, MaxLen), nil, -1); n != 0 {
		t.Errorf("no frame: answered")
	}
	// The first fragment is answered, and so is what is behind options.
	for name, s := range map[string]shape{
		"first fragment": with(big, put(6, 0x60, 0)),
		"IPv6 first fragment": with(big6, func(ip, _ []byte) {
			ip[6] = 44
			copy(ip[40:], []byte{6, 0, 0, 1, 0, 0, 0, 1})
		}),
		"IPv6 ping behind options": with(big6, func(ip, _ []byte) {
			ip[6] = 60
			copy(ip[40:], []byte{58, 0, 1, 4, 0, 0, 0, 0, 128, 0})
		}),
	} {
		if mtu := MTU(s.frame(t), 1344); mtu != 1330 {
			t.Errorf("%s: MTU %d, want 1330", name, mtu)
		}
	}
}

func TestBuildAllocatesNothing(t *testing.T) {
	dst := make([]byte, MaxLen)
	for _, v6 := range []bool{false, true} {
		frame := shape{v6: v6, df: true, payload: 1410}.frame(t)
		if n := testing.AllocsPerRun(100, func() { Build(dst, frame, 1344) }); n != 0 {
			t.Errorf("IPv6 %v: %v allocations", v6, n)
		}
	}
}

// FuzzBuild: whatever the frame, an answer is a sound ICMP error to the
// frame's sender that quotes it, is never itself answered, and there is none
// to an ICMP error.
func FuzzBuild(f *testing.F) {
	for _, s := range []shape{{df: true, payload: 1410}, {v6: true, payload: 1390}, {df: true, tagged: true, payload: 700}, {payload: 1400}} {
		f.Add(s.frame(f), 1344)
	}
	f.Fuzz(func(t *testing.T, frame []byte, most int) {
		if len(frame) > 70000 {
			return
		}
		was := bytes.Clone(frame)
		dst := make([]byte, MaxLen)
		n := Build(dst, frame, most)
		if !bytes.Equal(was, frame) {
			t.Fatal("the frame was changed")
		}
		if n == 0 {
			return
		}
		answer := dst[:n]
		if !bytes.Equal(answer[:6], frame[6:12]) || !bytes.Equal(answer[6:12], frame[:6]) {
			t.Error("Ethernet addresses are not turned round")
		}
		var in vxlan.Inner
		if err := in.Parse(answer); err != nil || in.L3 == 0 || in.End != n {
			t.Fatalf("%v: no packet to the end: %x", err, answer)
		}
		ip, icmp := answer[in.L3:in.L4], answer[in.L4:]
		var mtu int
		if ip[0]>>4 == 4 {
			mtu = int(binary.BigEndian.Uint16(icmp[6:]))
			if len(ip)+len(icmp) > 576 || checksum.Checksum(ip, 0) != 0 || checksum.Checksum(icmp, 0) != 0 {
				t.Errorf("length or checksum of %x", answer)
			}
		} else {
			mtu = int(binary.BigEndian.Uint32(icmp[4:]))
			if len(ip)+len(icmp) > 1280 || checksum.Checksum(icmp, checksum.Pseudo(ip[8:24], ip[24:40], 58, len(icmp))) != 0 {
				t.Errorf("length or checksum of %x", answer)
			}
		}
		quote := icmp[8:]
		if !bytes.Contains(frame, quote) || len(quote) < 20 {
			t.Error("no quote of the frame")
		}
		if mtu != MTU(frame, most) || mtu >= len(frame) {
			t.Errorf("MTU %d of a frame of %d bytes", mtu, len(frame))
		}
		if again := MTU(answer, 20); again != 0 {
			t.Errorf("the answer would be answered")
		}
	})
}

func TestBucket(t *testing.T) {
	b := Bucket{Burst: 3, Every: time.Second}
	at := func(ms ...int) (taken []bool) {
		for _, m := range ms {
			taken = append(taken, b.Take(time.Duration(m)*time.Millisecond))
		}
		return taken
	}
	if got := at(0, 0, 0, 0, 999, 1000, 1001, 2500, 3000, 10000, 10000, 10000, 10000); !slices.Equal(got,
		[]bool{true, true, true, false, false, true, false, true, true, true, true, true, false}) {
		t.Errorf("taken %v", got)
	}
	if at(9000)[0] {
		t.Error("time that went back filled the bucket")
	}
	if new(Bucket).Take(time.Hour) {
		t.Error("the zero bucket lets something through")
	}
}
