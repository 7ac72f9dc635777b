package tap

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// flow describes frames of one TCP or UDP flow for tests; gopacket builds
// them, so that our own code is not its own judge.
type flow struct {
	v6, udp  bool
	src, dst uint16
	ttl      uint8
	tos      uint8
	df       bool
	label    uint32
	vlan     uint16
	options  []layers.TCPOption
	window   uint16
	ack      uint32
	flags    func(*layers.TCP)
	ipOpts   []layers.IPv4Option
	badSum   bool
}

func (fl flow) frame(t testing.TB, seq uint32, id uint16, payload []byte) []byte {
	t.Helper()
	eth := &layers.Ethernet{
		SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		EthernetType: layers.EthernetTypeIPv4,
	}
	proto := layers.IPProtocolTCP
	if fl.udp {
		proto = layers.IPProtocolUDP
	}
	if fl.ttl == 0 {
		fl.ttl = 64
	}
	var ip gopacket.SerializableLayer
	var netLayer gopacket.NetworkLayer
	if fl.v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		l := &layers.IPv6{Version: 6, HopLimit: fl.ttl, TrafficClass: fl.tos, FlowLabel: fl.label, NextHeader: proto,
			SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
		ip, netLayer = l, l
	} else {
		l := &layers.IPv4{Version: 4, TTL: fl.ttl, TOS: fl.tos, Id: id, Protocol: proto, Options: fl.ipOpts,
			SrcIP: net.IP{10, 0, 1, 100}, DstIP: net.IP{10, 0, 1, 103}}
		if fl.df {
			l.Flags = layers.IPv4DontFragment
		}
		ip, netLayer = l, l
	}
	ls := []gopacket.SerializableLayer{eth}
	if fl.vlan != 0 {
		ls = append(ls, &layers.Dot1Q{VLANIdentifier: fl.vlan, Type: eth.EthernetType})
		eth.EthernetType = layers.EthernetTypeDot1Q
	}
	ls = append(ls, ip)
	if fl.udp {
		u := &layers.UDP{SrcPort: layers.UDPPort(fl.src), DstPort: layers.UDPPort(fl.dst)}
		if err := u.SetNetworkLayerForChecksum(netLayer); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, u)
	} else {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(fl.src), DstPort: layers.TCPPort(fl.dst), Seq: seq, Ack: fl.ack,
			ACK: true, Window: fl.window, Options: fl.options}
		if fl.flags != nil {
			fl.flags(tcp)
		}
		if err := tcp.SetNetworkLayerForChecksum(netLayer); err != nil {
			t.Fatal(err)
		}
		ls = append(ls, tcp)
	}
	ls = append(ls, gopacket.Payload(payload))
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	b := append([]byte(nil), buf.Bytes()...)
	// gopacket pads to 60 bytes; what a network stack sends is not padded.
	l3, _ := layer3(b)
	if fl.v6 {
		b = b[:l3+40+int(binary.BigEndian.Uint16(b[l3+4:]))]
	} else {
		b = b[:l3+int(binary.BigEndian.Uint16(b[l3+2:]))]
	}
	if fl.badSum {
		b[len(b)-1] ^= 0x40
	}
	return b
}

// l4 returns where the TCP or UDP header begins in a frame without IP options.
func (fl flow) l4() int {
	n := 14
	if fl.vlan != 0 {
		n += 4
	}
	if fl.v6 {
		return n + 40
	}
	return n + 20
}

// pattern is n bytes that differ from place to place.
func pattern(n, from int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((i + from) * 7)
	}
	return b
}

// plainFrames turns vectors into the frames that a wire would carry.
func plainFrames(t testing.TB, vectors []Vector) [][]byte {
	t.Helper()
	var out [][]byte
	p := plains.Get().(*plain)
	defer plains.Put(p)
	for i := range vectors {
		v := vectors[i]
		err := p.each(&v, func(f []byte) error {
			out = append(out, append([]byte(nil), f...))
			return nil
		})
		if err != nil {
			t.Fatalf("vector %d: %v", i, err)
		}
	}
	return out
}
