package demo

import (
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/vxlan"
)

// The two containers of the demo.
var (
	macA, macB = vxlan.MAC{2, 0x42, 10, 0, 1, 100}, vxlan.MAC{2, 0x42, 10, 0, 1, 103}
	ipA, ipB   = netip.MustParseAddr("10.0.1.100"), netip.MustParseAddr("10.0.1.103")
	hostA      = netip.MustParseAddr("192.168.52.203")
	hostB      = netip.MustParseAddr("192.168.52.204")
)

func ethernet(dst, src vxlan.MAC, etherType uint16, payload ...byte) []byte {
	frame := append(dst[:len(dst):len(dst)], src[:]...)
	return append(append(frame, byte(etherType>>8), byte(etherType)), payload...)
}

// arpFrame makes an ARP packet: op 1 asks, 2 answers.
func arpFrame(dst vxlan.MAC, op byte, senderMAC vxlan.MAC, sender netip.Addr, targetMAC vxlan.MAC, target netip.Addr) []byte {
	body := []byte{0, 1, 8, 0, 6, 4, 0, op}
	body = append(append(body, senderMAC[:]...), sender.AsSlice()...)
	body = append(append(body, targetMAC[:]...), target.AsSlice()...)
	return ethernet(dst, senderMAC, etherTypeARP, body...)
}

// echoFrame makes an ICMP echo: type 8 asks, 0 answers.
func echoFrame(dstMAC, srcMAC vxlan.MAC, typ byte, src, dst netip.Addr, id, seq uint16) []byte {
	icmp := append([]byte{typ, 0, 0, 0, byte(id >> 8), byte(id), byte(seq >> 8), byte(seq)}, payload...)
	sum := checksum.Checksum(icmp, 0)
	icmp[2], icmp[3] = byte(sum>>8), byte(sum)
	ip := []byte{0x45, 0, 0, byte(20 + len(icmp)), 0, 0, 0x40, 0, 64, protoICMP, 0, 0}
	ip = append(append(ip, src.AsSlice()...), dst.AsSlice()...)
	sum = checksum.Checksum(ip, 0)
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	return ethernet(dstMAC, srcMAC, etherTypeIPv4, append(ip, icmp...)...)
}

// wrapped puts a frame into VXLAN between the two hosts.
func wrapped(t *testing.T, frame []byte, src, dst netip.Addr, port uint16, vni vxlan.VNI) []byte {
	t.Helper()
	o := vxlan.Outer{
		SrcMAC: macOf(2, 0, src), DstMAC: macOf(2, 0, dst), Src: src, Dst: dst, TTL: 64,
		SrcPort: port, DstPort: vxlan.Port, VNI: vni,
	}
	packet := append(make([]byte, o.Len()), frame...)
	if err := o.Put(packet); err != nil {
		t.Fatal(err)
	}
	return packet
}

func TestReadFrame(t *testing.T) {
	request := arpFrame(vxlan.Broadcast, 1, macA, ipA, vxlan.MAC{}, ipB)
	reply := arpFrame(macA, 2, macB, ipB, macA, ipA)
	ping := echoFrame(macB, macA, 8, ipA, ipB, 77, 2)
	if len(ping) != 98 {
		t.Fatalf("the frame of a ping has %d bytes, want 98 as ping(8) sends", len(ping))
	}
	unreachable := echoFrame(macB, macA, 3, ipA, ipB, 77, 2)
	for _, c := range []struct {
		name  string
		frame []byte
		key   key
		text  string
	}{
		{"ARP request", request, key{kind: arpRequest, asker: ipA, asked: ipB}, "ARP request: who has 10.0.1.103? Tell 10.0.1.100"},
		{"ARP reply", reply, key{kind: arpReply, asker: ipA, asked: ipB}, "ARP reply: 10.0.1.103 is at 02:42:0a:00:01:67"},
		{"echo request", ping, key{kind: echoRequest, id: 77, seq: 2}, "ICMP echo request 10.0.1.100 > 10.0.1.103"},
		{"echo reply", echoFrame(macA, macB, 0, ipB, ipA, 77, 2), key{kind: echoReply, id: 77, seq: 2}, "ICMP echo reply 10.0.1.103 > 10.0.1.100"},
		{"other ICMP", unreachable, key{}, "ICMP type 3"},
		{"other EtherType", ethernet(macB, macA, 0x88b5, 1, 2), key{}, "EtherType 0x88b5, 16 bytes"},
		{"short ARP", request[:41], key{}, "ARP, cut short"},
		{"RARP", arpFrame(vxlan.Broadcast, 3, macA, ipA, vxlan.MAC{}, ipB), key{}, "ARP of another kind"},
		{"no frame", ping[:13], key{}, "13 bytes"},
		{"nothing", nil, key{}, "0 bytes"},
	} {
		got, text := readFrame(c.frame)
		if got != c.key || text != c.text {
			t.Errorf("%s: got %+v %q, want %+v %q", c.name, got, text, c.key, c.text)
		}
	}
	// A ping that is cut short anywhere is no ping, and no panic.
	for n := range ping {
		if got, _ := readFrame(ping[:n]); got != (key{}) {
			t.Errorf("the first %d bytes of a ping are taken for one", n)
		}
	}
}
