package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// sums is what was found out about the checksums of some packets: how often
// each kind was right, and what is wrong.
type sums struct {
	right map[string]int
	wrong []error
}

// check looks at the checksums of every layer of a packet, outer and inner.
// gopacket computes what they should be.
func (s *sums) check(packet []byte) {
	if s.right == nil {
		s.right = make(map[string]int)
	}
	p := gopacket.NewPacket(packet, layers.LayerTypeEthernet, gopacket.NoCopy)
	if e := p.ErrorLayer(); e != nil {
		s.wrong = append(s.wrong, fmt.Errorf("%w in %x", e.Error(), packet))
		return
	}
	where := "outer"
	var network gopacket.NetworkLayer
	for _, l := range p.Layers() {
		var again gopacket.SerializableLayer
		var at int // of the checksum in the header
		switch l := l.(type) {
		case *layers.VXLAN:
			where = "inner"
			continue
		case *layers.IPv4:
			c := *l
			network, again, at = l, &c, 10
		case *layers.IPv6:
			network = l
			continue
		case *layers.UDP:
			if l.Checksum == 0 && where == "outer" && network.LayerType() == layers.LayerTypeIPv4 {
				s.right["outer UDP zero"]++
				continue
			}
			c := *l
			again, at = &c, 6
		case *layers.TCP:
			c := *l
			again, at = &c, 16
		case *layers.ICMPv4:
			c := *l
			again, at = &c, 2
		case *layers.ICMPv6:
			c := *l
			again, at = &c, 2
		default:
			continue
		}
		name := fmt.Sprintf("%s %v", where, l.LayerType())
		if err := checksumAgain(again, network, l, at); err != nil {
			s.wrong = append(s.wrong, fmt.Errorf("%s: %w in %x", name, err, packet))
		} else {
			s.right[name]++
		}
	}
}

// checksumAgain serializes a layer with a checksum of gopacket's and compares.
func checksumAgain(again gopacket.SerializableLayer, network gopacket.NetworkLayer, l gopacket.Layer, at int) error {
	if c, ok := again.(interface {
		SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
	}); ok {
		if err := c.SetNetworkLayerForChecksum(network); err != nil {
			return err
		}
	}
	buf := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, options, again, gopacket.Payload(l.LayerPayload())); err != nil {
		return err
	}
	got, want := l.LayerContents()[at:at+2], buf.Bytes()[at:at+2]
	if bytes.Equal(want, []byte{0, 0}) {
		// RFC 768 wants 0xFFFF in UDP, which gopacket leaves out. Elsewhere it
		// adds up to the same, and whoever completes checksums without looking
		// at the protocol (Linux does) writes it too.
		want = []byte{0xFF, 0xFF}
		if l.LayerType() != layers.LayerTypeUDP && bytes.Equal(got, []byte{0, 0}) {
			return nil
		}
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("checksum %x, want %x", got, want)
	}
	return nil
}

// checkAll checks all packets that a port has seen.
func (s *sums) checkAll(t *testing.T, p *packetPort) {
	t.Helper()
	for {
		packet := p.recv(time.Time{})
		if packet == nil {
			break
		}
		s.check(packet)
	}
	if n := p.lost(); n > 0 {
		t.Errorf("the capture lost %d packets", n)
	}
	if len(s.wrong) > 0 {
		t.Errorf("%d wrong, for example %v", len(s.wrong), errors.Join(s.wrong[:min(3, len(s.wrong))]...))
	}
}

// TestD20ChecksumsOnTheWire: what leaves on a real wire has no checksum, outer
// or inner, that a receiver or a capture would call wrong. (On a veth pair with
// its offloads on nobody completes them, not the kernel either.)
func TestD20ChecksumsOnTheWire(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, how := range [][]string{
			{"--offload", "auto"}, {"--offload", "off"}, {"--transport", "packet"}, {"--offload", "off", "--transport", "packet"},
		} {
			t.Run(family(v6)+"/"+flagsName(how), func(t *testing.T) {
				t.Parallel()
				tn := kernelTunnel(t, "sums", wiring{real: true}, v6, how...)
				wire := openPort(t, tn.b.Namespace, underlayDevice, false)
				ping(t, tn.a.Namespace, inner4B, 2)
				ping(t, tn.a.Namespace, inner6B, 2)
				must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 1<<20))
				must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner6B, 1<<20))
				path := openUDP(t, tn.a.Namespace, inner4A, tn.b.Namespace, inner4B)
				must(t, path.carry([]int{4, 5, 64, 65, 1001, 1002, 1300, 5000}))
				must(t, path.carry(slices.Repeat([]int{100}, 64)))
				must(t, path.carrySegments(20*1001+7, 1001))
				path = openUDP(t, tn.a.Namespace, inner6A, tn.b.Namespace, inner6B)
				must(t, path.carry([]int{4, 5, 64, 65, 1001, 1002, 1300, 5000}))
				must(t, path.carrySegments(20*1001+7, 1001))

				var s sums
				s.checkAll(t, wire)
				for kind, atLeast := range map[string]int{
					"inner TCP": 1400, "inner UDP": 100, "inner IPv4": 700, "inner ICMPv4": 2, "inner ICMPv6": 2,
				} {
					if s.right[kind] < atLeast {
						t.Errorf("%s: only %d seen, want %d", kind, s.right[kind], atLeast)
					}
				}
				outer := s.right["outer UDP"] + s.right["outer UDP zero"]
				if outer < 1500 || v6 && s.right["outer UDP zero"] > 0 {
					t.Errorf("outer UDP checksums: %v", s.right)
				}
				t.Log(strings.TrimPrefix(fmt.Sprint(s.right), "map"))
			})
		}
	}
}

// TestSums: the judge of checksums knows right from wrong.
func TestSums(t *testing.T) {
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: []byte{192, 168, 52, 203}, DstIP: []byte{192, 168, 52, 204}}
	udp := &layers.UDP{SrcPort: 50000, DstPort: 4789}
	inner := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{10, 0, 1, 100}, DstIP: []byte{10, 0, 1, 103}}
	tcp := &layers.TCP{SrcPort: 1, DstPort: 2, DataOffset: 5}
	ethernet := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	must(t, udp.SetNetworkLayerForChecksum(ip))
	must(t, tcp.SetNetworkLayerForChecksum(inner))
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ethernet, ip, udp, &layers.VXLAN{ValidIDFlag: true, VNI: 1}, ethernet, inner, tcp, gopacket.Payload("0123456789")))
	var s sums
	s.check(buf.Bytes())
	if fmt.Sprint(s.right) != "map[inner IPv4:1 inner TCP:1 outer IPv4:1 outer UDP:1]" || s.wrong != nil {
		t.Errorf("a right packet: %v %v", s.right, s.wrong)
	}
	for _, c := range []struct {
		at    int
		wrong []string
	}{
		{14 + 8, []string{"outer IPv4"}},
		{14 + 20 + 6, []string{"outer UDP"}},
		{50 + 14 + 10, []string{"outer UDP", "inner IPv4"}},
		{50 + 14 + 20 + 16, []string{"outer UDP", "inner TCP"}},
		{len(buf.Bytes()) - 1, []string{"outer UDP", "inner TCP"}},
	} {
		bad := bytes.Clone(buf.Bytes())
		bad[c.at] ^= 1
		var s sums
		s.check(bad)
		var wrong []string
		for _, err := range s.wrong {
			what, _, _ := strings.Cut(err.Error(), ":")
			wrong = append(wrong, what)
		}
		if !slices.Equal(wrong, c.wrong) {
			t.Errorf("byte %d wrong: found %v, want %v", c.at, wrong, c.wrong)
		}
	}
}
