package neighbour

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/captured"
	"github.com/govxlan/govxlan/vxlan"
)

// FuzzFrame: whatever the frame, gopacket reads of it what we do, and every
// answer is one that gopacket reads as what RFC 826 and RFC 4861 want.
func FuzzFrame(f *testing.F) {
	for _, c := range samples(f) {
		f.Add(c.frame, true)
	}
	for _, frame := range captured.Frames(f) {
		f.Add(frame, false)
	}
	f.Fuzz(func(t *testing.T, frame []byte, router bool) {
		kept := bytes.Clone(frame)
		var m Message
		m.Parse(frame)
		if m.Kind != Other && !Candidate(frame) {
			t.Errorf("%x: kind %d, and no candidate", frame, m.Kind)
		}
		checkKind(t, &m, frame)
		if c := m.Claim; c != (Claim{}) && (!Usable(c.IP) || c.MAC != vxlan.MAC(frame[6:12]) || !unicast(c.MAC)) {
			t.Errorf("%x claims %+v", frame, c)
		}
		if m.Kind.Asks() && !(m.Kind == Solicitation && m.Probe) {
			answer := m.AppendAnswer(nil, frame, target, router)
			checkAnswer(t, &m, frame, answer, target, router)
		}
		if !bytes.Equal(frame, kept) {
			t.Errorf("the frame was changed")
		}
	})
}

func TestAnswer(t *testing.T) {
	n := 0
	for _, c := range samples(t) {
		var m Message
		m.Parse(c.frame)
		if !m.Kind.Asks() || m.Kind == Solicitation && m.Probe {
			continue
		}
		for _, router := range []bool{false, true} {
			answer := m.AppendAnswer(make([]byte, 0, MaxAnswer), c.frame, target, router)
			checkAnswer(t, &m, c.frame, answer, target, router)
			n++
		}
	}
	if n < 20 {
		t.Errorf("only %d answers", n)
	}
}

// decoded is a frame as gopacket sees it.
type decoded struct {
	tags  []byte // and EtherType
	arp   *layers.ARP
	ip    *layers.IPv6
	icmp  *layers.ICMPv6
	ask   *layers.ICMPv6NeighborSolicitation
	tell  *layers.ICMPv6NeighborAdvertisement
	whole bool // nothing was cut short or malformed
}

func decode(frame []byte) decoded {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	d := decoded{whole: p.ErrorLayer() == nil && !p.Metadata().Truncated}
	at := 12
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			at += 2
		case *layers.Dot1Q:
			at += 4
		case *layers.ARP:
			d.arp = l
		case *layers.IPv6:
			d.ip = l
		case *layers.ICMPv6:
			d.icmp = l
		case *layers.ICMPv6NeighborSolicitation:
			d.ask = l
		case *layers.ICMPv6NeighborAdvertisement:
			d.tell = l
		}
	}
	if at > 12 && at <= len(frame) {
		d.tags = frame[12:at]
	}
	return d
}

// checkKind compares with what gopacket makes of the frame.
func checkKind(t *testing.T, m *Message, frame []byte) {
	t.Helper()
	d := decode(frame)
	if len(d.tags) > 2+4*maxTags {
		return // gopacket looks behind any number of tags
	}
	if d.arp != nil {
		a := d.arp
		var want Kind = OtherARP
		// gopacket looks at the lower byte of the hardware type alone.
		if a.Contents[0] == 0 && a.AddrType == layers.LinkTypeEthernet && a.Protocol == layers.EthernetTypeIPv4 && a.HwAddressSize == 6 && a.ProtAddressSize == 4 &&
			unicast(vxlan.MAC(a.SourceHwAddress)) {
			switch a.Operation {
			case 1:
				want = Request
			case 2:
				want = Reply
			}
		}
		if m.Kind != want {
			t.Errorf("%x: kind %d, gopacket says %d: %+v", frame, m.Kind, want, a)
		}
		if want == Request && (!bytes.Equal(m.Target.AsSlice(), a.DstProtAddress) || !bytes.Equal(m.Asker[:], a.SourceHwAddress)) {
			t.Errorf("%x: %+v, gopacket says %+v", frame, m, a)
		}
		return
	}
	if d.ask != nil && d.whole && d.ip.Version == 6 { // gopacket takes any version
		want := BadSolicitation
		if soundSolicitation(d, frame) {
			want = Solicitation
		}
		if m.Kind != want {
			t.Errorf("%x: kind %d, gopacket says %d: %+v", frame, m.Kind, want, d.ask)
		}
		if want == Solicitation && !bytes.Equal(m.Target.AsSlice(), d.ask.TargetAddress) {
			t.Errorf("%x: target %v, gopacket says %v", frame, m.Target, d.ask.TargetAddress)
		}
		return
	}
	if m.Kind == Solicitation || m.Kind == Advertisement && d.tell == nil {
		t.Errorf("%x: kind %d, which gopacket does not see", frame, m.Kind)
	}
}

// soundSolicitation is RFC 4861 section 7.1.1, on what gopacket read, and that there is
// a station to be answered: the one of the option, or of the frame.
func soundSolicitation(d decoded, frame []byte) bool {
	source := 0
	for _, o := range d.ask.Options {
		if o.Type != layers.ICMPv6OptSourceAddress {
			continue
		}
		if source++; source == 1 && (len(o.Data) != 6 || !unicast(vxlan.MAC(o.Data))) {
			return false
		}
	}
	p := bytes.Clone(append(d.ip.LayerContents(), d.ip.LayerPayload()...))
	sent := binary.BigEndian.Uint16(p[42:])
	p[42], p[43] = 0, 0
	sum := plainChecksum(p)
	from, to := netip.AddrFrom16([16]byte(d.ip.SrcIP)), netip.AddrFrom16([16]byte(d.ip.DstIP))
	return d.ip.HopLimit == 255 && d.icmp.TypeCode.Code() == 0 && !d.ask.TargetAddress.IsMulticast() &&
		(sent == sum || sent == 0xFFFF && sum == 0) && !from.IsMulticast() &&
		(!from.IsUnspecified() || source == 0 && to == group(to)) &&
		(source > 0 || unicast(vxlan.MAC(frame[6:12])))
}

// checkAnswer checks an answer field by field.
func checkAnswer(t *testing.T, m *Message, frame, answer []byte, mac vxlan.MAC, router bool) {
	t.Helper()
	if len(answer) > MaxAnswer || cap(answer) == 0 {
		t.Fatalf("answer of %d bytes", len(answer))
	}
	d := decode(answer)
	if !d.whole {
		t.Fatalf("answer %x is malformed", answer)
	}
	if vxlan.MAC(answer) != m.Asker || vxlan.MAC(answer[6:]) != mac {
		t.Errorf("answer %x: to %v from %v, want %v %v", answer, vxlan.MAC(answer), vxlan.MAC(answer[6:]), m.Asker, mac)
	}
	if want := decode(frame).tags; !bytes.Equal(d.tags, want) {
		t.Errorf("answer %x has tags %x, want %x", answer, d.tags, want)
	}
	if m.Kind == Request {
		asked := decode(frame).arp
		a := d.arp
		if a == nil || a.Operation != 2 || a.AddrType != 1 || a.Protocol != layers.EthernetTypeIPv4 || !bytes.Equal(a.SourceHwAddress, mac[:]) ||
			!bytes.Equal(a.SourceProtAddress, asked.DstProtAddress) || !bytes.Equal(a.DstHwAddress, asked.SourceHwAddress) ||
			!bytes.Equal(a.DstProtAddress, asked.SourceProtAddress) {
			t.Errorf("answer %+v to %+v", a, asked)
		}
	} else {
		asked := decode(frame)
		if d.tell == nil {
			t.Fatalf("answer %x is no advertisement", answer)
		}
		flags := byte(flagSolicited | flagOverride)
		if router {
			flags |= flagRouter
		}
		o := d.tell.Options
		if d.tell.Flags != flags || !d.tell.TargetAddress.Equal(asked.ask.TargetAddress) || !d.ip.SrcIP.Equal(asked.ask.TargetAddress) ||
			!d.ip.DstIP.Equal(asked.ip.SrcIP) || d.ip.HopLimit != 255 || d.icmp.TypeCode != layers.CreateICMPv6TypeCode(136, 0) ||
			len(o) != 1 || o[0].Type != layers.ICMPv6OptTargetAddress || !bytes.Equal(o[0].Data, mac[:]) {
			t.Errorf("answer %+v %+v", d.ip, d.tell)
		}
		p := bytes.Clone(answer[len(answer)-72:])
		sent := binary.BigEndian.Uint16(p[42:])
		p[42], p[43] = 0, 0
		if sum := plainChecksum(p); sent != sum {
			t.Errorf("answer %x: checksum %04x, want %04x", answer, sent, sum)
		}
	}
	// And we understand ourselves, and never answer an answer.
	var back Message
	back.Parse(answer)
	if back.Kind.Asks() || Usable(m.Target) && (back.Claim.IP != m.Target || back.Claim.MAC != mac || back.Claim.Router != (router && back.Kind == Advertisement)) {
		t.Errorf("answer %x is read as %+v", answer, back)
	}
}
