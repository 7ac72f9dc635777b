package vtep

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// synFrame is a SYN with an MSS, from src to dst.
func synFrame(t tester, dst, src vxlan.MAC, mss uint16) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{10, 0, 1, 1}, DstIP: []byte{10, 0, 1, 2}}
	tcp := &layers.TCP{SrcPort: 1, DstPort: 2, SYN: true, Options: []layers.TCPOption{
		{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{byte(mss >> 8), byte(mss)}}}}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeIPv4}, ip, tcp); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes()[:14+20+24])
}

// A SYN is clamped both ways: by the device's MTU, and by the path's as soon as
// that is known.
func TestClampMSS(t *testing.T) {
	for _, clamp := range []bool{false, true} {
		p := newPathRig(t, func(c *VNIConfig) { c.ClampMSS = clamp })
		check := func(when string, want uint16) {
			t.Helper()
			if !clamp {
				want = 1460
			}
			out := decaps(t, 10, p.send(synFrame(t, alice, host, 1460)))
			in := p.arrived(vtepA.Addr(), synFrame(t, host, alice, 1460))
			if len(out) != 1 || !bytes.Equal(out[0], synFrame(t, alice, host, want)) {
				t.Errorf("clamp %v, %s, out: %x", clamp, when, out)
			}
			if len(in) != 1 || !bytes.Equal(in[0], synFrame(t, host, alice, want)) {
				t.Errorf("clamp %v, %s, in: %x", clamp, when, in)
			}
		}
		check("by the device", 1410)
		p.complain(&p.send(packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t))[0], 1400)
		check("by the path", 1310)
		if err := p.rig.e.SetMTU(10, 1000); err != nil {
			t.Fatal(err)
		}
		check("by a smaller device", 960)
		// With a checksum that is still to be completed.
		f := synFrame(t, alice, host, 1460)
		f[14+20+16], f[14+20+17] = 0, 0
		whole := tap.Frame{Header: tap.Header{Flags: tap.NeedsChecksum, ChecksumStart: 34, ChecksumOffset: 16}, Bytes: f}
		// The sum of the pseudo header.
		sum := 10<<8 + 0 + 1<<8 + 1 + 10<<8 + 0 + 1<<8 + 2 + 6 + 24
		f[14+20+16], f[14+20+17] = byte(sum>>8), byte(sum)
		want := uint16(1460)
		if clamp {
			want = 960
		}
		if out := decaps(t, 10, p.carry(whole)); len(out) != 1 || !bytes.Equal(out[0], synFrame(t, alice, host, want)) {
			t.Errorf("clamp %v, partial checksum: %x", clamp, out)
		}
		c := p.counters()
		if clamp && (c.TxMSSClamped != 4 || c.RxMSSClamped != 3) || !clamp && c.TxMSSClamped+c.RxMSSClamped != 0 {
			t.Errorf("clamp %v: counters %+v", clamp, c)
		}
	}
}

// The device's MTU may change at any time, whoever changes it: what may come in
// follows with the next batch.
func TestMTUFollowed(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	frame := raw(host, alice, 14+1400)
	for _, tc := range []struct {
		mtu, arrive int
		oversize    uint64
	}{{1450, 1, 0}, {1399, 0, 1}, {1400, 1, 1}} {
		p.card.mtu = tc.mtu
		if got := p.arrived(vtepA.Addr(), frame); len(got) != tc.arrive || p.counters().RxDropOversize != tc.oversize {
			t.Errorf("MTU %d: %d arrived, %d oversize", tc.mtu, len(got), p.counters().RxDropOversize)
		}
		if s := p.rig.e.Status(); s.VNIs[0].MTU != tc.mtu {
			t.Errorf("status says MTU %d, want %d", s.VNIs[0].MTU, tc.mtu)
		}
	}
	if err := p.rig.e.SetMTU(11, 1400); err == nil {
		t.Error("the MTU of a VNI that is not there was set")
	}
}

// One peer on the flood list is a path like that of a known station; of several
// each gets what it may.
func TestTooBigFlooded(t *testing.T) {
	for _, count := range []int{1, 2} {
		p := newPathRig(t, func(c *VNIConfig) { c.Peers = []netip.AddrPort{vtepA, vtepB}[:count] })
		big := packet{dst: vxlan.MAC{2, 9, 9, 9, 9, 9}, src: host, tcp: true, payload: 1400}.frame(t)
		trains := p.send(big)
		if len(trains) != count {
			t.Fatalf("%d trains to %d peers", len(trains), count)
		}
		p.complain(&trains[0], 1400)
		p.card.vectorsTaken()
		sent, answers := len(p.send(big)), len(p.card.frames())
		if count == 1 && (sent != 0 || answers != 1) || count == 2 && (sent != 2 || answers != 0) {
			t.Errorf("%d peers: %d sent, %d answers", count, sent, answers)
		}
	}
}

// An endpoint whose Conn hears nothing is as before.
func TestNoPathConn(t *testing.T) {
	p := toAlice(t)
	p.rig.wire.fail = func(*transport.Train) error { return transport.ErrTooLong }
	p.send(packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t))
	if n := len(p.card.frames()); n != 0 {
		t.Errorf("%d answers without knowing what fits", n)
	}
	if c := p.counters(); c.TxDropTooBig != 1 {
		t.Errorf("counters %+v", c)
	}
}

// A path MTU that was given holds from the first frame on, for good, and routers
// can only lower it.
func TestPathMTUGiven(t *testing.T) {
	r := &rig{t: t, wire: newWire(), now: time.Hour}
	e, err := New(Config{Conn: r.wire, PathMTU: 1400, Clock: func() time.Duration { return r.now }})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	r.e = e
	p := r.add(10, func(c *VNIConfig) { c.Static = []StaticEntry{{alice, vtepA}} })
	big := packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t)
	fits := packet{dst: alice, src: host, tcp: true, payload: 1310}.frame(t)
	for _, wait := range []time.Duration{0, 2 * pathLife, 0} {
		r.now += wait
		e.paths.age(r.now)
		if got := decaps(t, 10, p.send(big, fits)); len(got) != 1 || !bytes.Equal(got[0], fits) {
			t.Errorf("%d frames sent, want the one that fits", len(got))
		}
		if n := len(p.card.frames()); n != 1 || p.pmtu(vtepA) != 1400 {
			t.Errorf("%d answers, path MTU %d", n, p.pmtu(vtepA))
		}
		e.ForgetPathMTU()
	}
	p.complain(&p.send(fits)[0], 1300)
	if got := p.pmtu(vtepA); got != 1300 {
		t.Errorf("path MTU %d, want 1300", got)
	}
	r.now += pathLife
	e.paths.age(r.now)
	if got := p.pmtu(vtepA); got != 1400 {
		t.Errorf("path MTU %d, want 1400 again", got)
	}
}

// On a trunk the answer carries the tag of the frame's VLAN, which was taken
// off; and what inherits DF is dropped where it cannot be answered.
func TestTooBigOnTrunk(t *testing.T) {
	for _, byDevice := range []bool{false, true} {
		p := newPathRig(t, func(c *VNIConfig) { c.Trunk, c.VID = true, 5 })
		big := packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t)
		if byDevice {
			p.rig.wire.fail = func(tr *transport.Train) error {
				p.rig.e.hear(&transport.TooBig{To: tr.Addr, MTU: 1400})
				return transport.ErrTooLong
			}
		} else {
			p.complain(&p.send(big)[0], 1400)
		}
		p.card.vectorsTaken()
		p.send(big)
		answers := p.card.frames()
		if len(answers) != 1 || !bytes.Equal(answers[0][12:18], []byte{0x81, 0, 0, 5, 8, 0}) {
			t.Fatalf("answers %x, want one with VLAN 5", answers)
		}
		if mtu, quote := told(t, answers[0]); mtu != 1350 || !bytes.HasPrefix(big[14:], quote) {
			t.Errorf("MTU %d, quote %x", mtu, quote)
		}
	}
}

func TestTooBigWithOuterDF(t *testing.T) {
	for _, df := range []DF{DFUnset, DFSet, DFInherit} {
		p := newPathRig(t, func(c *VNIConfig) { c.Outer.DF = df })
		p.complain(&p.send(packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t))[0], 1300)
		for name, frame := range map[string][]byte{
			"without DF": noDF(packet{dst: alice, src: host, payload: 1400}.frame(t)),
			// Less than 1280 would be left of it.
			"IPv6": packet{dst: alice, src: host, v6: true, payload: 1400}.frame(t),
		} {
			want := 1
			if df == DFSet || df == DFInherit && name == "IPv6" {
				want = 0
			}
			if got := len(p.send(frame)); got != want {
				t.Errorf("DF mode %d, %s: %d trains sent, want %d", df, name, got, want)
			}
		}
	}
}
