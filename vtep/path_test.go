package vtep

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

var (
	router = netip.MustParseAddr("192.0.2.1")
	vtep6  = netip.MustParseAddrPort("[fd00::204]:4789")
)

// hearingWire is a wire that is a transport.PathConn.
type hearingWire struct{ *wire }

func (w hearingWire) HearTooBig(func(*transport.TooBig)) {}

// newPathRig is a rig that finds out path MTUs, with alice behind vtepA and bob
// behind an IPv6 VTEP.
func newPathRig(t tester, setup func(*VNIConfig)) *port {
	t.Helper()
	r := &rig{t: t, wire: newWire(), now: time.Hour}
	e, err := New(Config{Conn: hearingWire{r.wire}, Clock: func() time.Duration { return r.now }})
	if err != nil {
		t.Fatal(err)
	}
	r.e = e
	r.r = &receiver{e: e, outlets: make(map[*overlay]*outlet)}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtep6}
		c.Static = []StaticEntry{{alice, vtepA}, {bob, vtep6}}
		if setup != nil {
			setup(c)
		}
	})
}

// complain has a router say that a datagram which was sent did not fit.
func (p *port) complain(tr *transport.Train, mtu int) {
	d := tr.Datagram(0)
	p.rig.e.hear(&transport.TooBig{To: tr.Addr, From: router, MTU: mtu, Datagram: bytes.Clone(d[:min(len(d), 500)])})
}

// pmtu is what status says of the path to a VTEP.
func (p *port) pmtu(a netip.AddrPort) int {
	for _, s := range p.rig.e.Status().VNIs[0].Peers {
		if s.VTEP == a.Addr() {
			return s.PathMTU
		}
	}
	return -1
}

func noDF(frame []byte) []byte {
	f := bytes.Clone(frame)
	f[20] &^= 0x40
	f[24], f[25] = 0, 0
	return f
}

// told is what an answer says: the MTU, and the quote.
func told(t tester, frame []byte) (mtu int, quote []byte) {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return int(icmp.Seq), icmp.Payload
	}
	if icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		return int(binary.BigEndian.Uint32(icmp.Payload)), icmp.Payload[4:]
	}
	t.Fatalf("no ICMP: %x", frame)
	return 0, nil
}

// A router's word about what was sent holds: longer frames are answered and
// dropped, those that fit are sent, and after ten minutes all are again.
func TestPathMTU(t *testing.T) {
	for _, tc := range []struct {
		name        string
		to          vxlan.MAC
		vtep        netip.AddrPort
		v6          bool
		most, inner int // of a frame, of its packet
	}{
		{"IPv4 in IPv4", alice, vtepA, false, 1364, 1350},
		{"IPv6 in IPv4", alice, vtepA, true, 1364, 1350},
		{"IPv4 in IPv6", bob, vtep6, false, 1344, 1330},
		{"IPv6 in IPv6", bob, vtep6, true, 1344, 1330},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPathRig(t, nil)
			of := func(size int) []byte {
				pk := packet{dst: tc.to, src: host, v6: tc.v6, tcp: true}
				pk.payload = size - pk.headers()
				return pk.frame(t)
			}
			big := of(1464)
			trains := p.send(big)
			if len(trains) != 1 || p.pmtu(tc.vtep) != 0 {
				t.Fatalf("%d trains sent, path MTU %d", len(trains), p.pmtu(tc.vtep))
			}
			p.complain(&trains[0], 1400)
			if got := p.pmtu(tc.vtep); got != 1400 {
				t.Fatalf("path MTU %d, want 1400", got)
			}
			p.card.vectorsTaken()
			trains = p.send(of(tc.most), of(tc.most+1), of(100))
			if got := decaps(t, 10, trains); len(got) != 2 || len(got[0]) != tc.most {
				t.Errorf("%d frames sent, want the two that fit", len(got))
			}
			answers := p.card.frames()
			if len(answers) != 1 {
				t.Fatalf("%d answers, want 1", len(answers))
			}
			if mtu, quote := told(t, answers[0]); mtu != tc.inner || !bytes.HasPrefix(of(tc.most + 1)[14:], quote) {
				t.Errorf("MTU %d, want %d; quote %x", mtu, tc.inner, quote)
			}
			c := p.counters()
			if c.TxDropTooBig != 1 || c.TxTooBigAnswered != 1 || c.TxFrames != 3 {
				t.Errorf("counters %+v", c)
			}
			if s := p.rig.e.Status().Counters; s.PathMTULowered != 1 || s.PathMTUIgnored != 0 {
				t.Errorf("counters %+v", s)
			}
			// Lower still, and not higher.
			trains = p.send(of(tc.most))
			p.complain(&trains[0], 1390)
			p.complain(&trains[0], 1395)
			if got := p.pmtu(tc.vtep); got != 1390 {
				t.Errorf("path MTU %d, want 1390", got)
			}

			p.rig.now += pathLife - 1
			p.rig.e.paths.age(p.rig.now)
			if trains := p.send(big); len(trains) != 0 {
				t.Error("sent before the time was over")
			}
			p.rig.now++
			p.rig.e.paths.age(p.rig.now)
			if trains := p.send(big); len(trains) != 1 || p.pmtu(tc.vtep) != 0 {
				t.Errorf("after ten minutes %d trains sent, path MTU %d", len(trains), p.pmtu(tc.vtep))
			}
			p.complain(&p.send(big)[0], 1400)
			p.rig.e.ForgetPathMTU()
			if trains := p.send(big); len(trains) != 1 || p.pmtu(tc.vtep) != 0 {
				t.Errorf("after ForgetPathMTU %d trains sent, path MTU %d", len(trains), p.pmtu(tc.vtep))
			}
		})
	}
}

// A forged ICMP error, for a packet that was never sent, changes nothing.
func TestForgedTooBig(t *testing.T) {
	sent := packet{dst: alice, src: host, tcp: true, payload: 1400}
	sent6 := packet{dst: bob, src: host, tcp: true, payload: 1300}
	quote := func(v vxlan.VNI, p packet) []byte { return encap(v, p.frame(t))[:500] }
	for name, w := range map[string]transport.TooBig{
		"other flow":               {MTU: 1400, Datagram: quote(10, packet{dst: alice, src: host, tcp: true, sport: 1001, payload: 1400})},
		"other protocol":           {MTU: 1400, Datagram: quote(10, packet{dst: alice, src: host, payload: 1412})},
		"other VNI":                {MTU: 1400, Datagram: quote(11, sent)},
		"other VTEP":               {To: vtepB, MTU: 1400, Datagram: quote(10, sent)},
		"the VTEP of another flow": {To: vtep6, MTU: 1400, Datagram: quote(10, sent)},
		"longer than was sent":     {MTU: 1400, Datagram: quote(10, packet{dst: alice, src: host, tcp: true, payload: 1401})},
		"it fits":                  {MTU: 8 + 54 + 1400 + 28, Datagram: quote(10, sent)},
		"huge MTU":                 {MTU: 65535, Datagram: quote(10, sent)},
		"MTU below 68":             {MTU: 67, Datagram: quote(10, sent)},
		"MTU below 1280, IPv6":     {To: vtep6, MTU: 1279, Datagram: quote(10, sent6)},
		"no MTU, IPv6":             {To: vtep6, MTU: 0, Datagram: quote(10, sent6)},
		"nothing quoted":           {MTU: 1400},
		"8 bytes quoted":           {MTU: 1400, Datagram: quote(10, sent)[:8]},
		"ports not quoted":         {MTU: 1400, Datagram: quote(10, sent)[:8+14+20+3]},
		"no I flag":                {MTU: 1400, Datagram: append(make([]byte, 8), quote(10, sent)[8:]...)},
		"not IP":                   {MTU: 1400, Datagram: encap(10, raw(alice, host, 400))},
		"flow sent, but short":     {MTU: 600, Datagram: quote(10, packet{dst: alice, src: host, tcp: true, sport: 2000, payload: 1400})},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPathRig(t, nil)
			p.send(sent.frame(t), sent6.frame(t),
				packet{dst: alice, src: host, tcp: true, sport: 2000, payload: 200}.frame(t))
			if !w.To.IsValid() {
				w.To = vtepA
			}
			w.From = router
			p.rig.e.hear(&w)
			if p.pmtu(vtepA) != 0 || p.pmtu(vtep6) != 0 || p.rig.e.Status().Counters.PathMTUIgnored != 1 {
				t.Errorf("path MTU %d and %d, counters %+v", p.pmtu(vtepA), p.pmtu(vtep6), p.rig.e.Status().Counters)
			}
		})
	}
	t.Run("too late", func(t *testing.T) {
		p := newPathRig(t, nil)
		tr := p.send(sent.frame(t))[0]
		p.rig.now += (sentLife + 1) * time.Second
		p.complain(&tr, 1400)
		if got := p.pmtu(vtepA); got != 0 {
			t.Errorf("path MTU %d", got)
		}
	})
	t.Run("true", func(t *testing.T) { // or else all of these prove nothing
		p := newPathRig(t, nil)
		p.send(sent.frame(t), sent6.frame(t))
		p.rig.e.hear(&transport.TooBig{To: vtepA, From: router, MTU: 1400, Datagram: quote(10, sent)[:8+14+20+4]})
		p.rig.e.hear(&transport.TooBig{To: vtep6, From: router, MTU: 1280, Datagram: quote(10, sent6)})
		if p.pmtu(vtepA) != 1400 || p.pmtu(vtep6) != 1280 {
			t.Errorf("path MTU %d and %d", p.pmtu(vtepA), p.pmtu(vtep6))
		}
	})
}

// Old routers tell no MTU, and some tell absurd ones.
func TestPlausiblePathMTU(t *testing.T) {
	for _, tc := range []struct {
		v6        bool
		mtu, size int
		want      int32
	}{
		{false, 1400, 1472, 1400}, {false, 1499, 1472, 1499}, {false, 1500, 1472, 0}, {false, 1400, 0, 0},
		{false, 0, 1472, 1492}, {false, 0, 1464, 1006}, {false, 0, 979, 1006}, {false, 0, 978, 552}, {false, 0, 600, 552}, {false, 0, 500, 0},
		{false, 0, 65507, 32000}, {false, 68, 1472, 552}, {false, 551, 1472, 552}, {false, 68, 500, 0}, {false, 67, 1472, 0},
		{true, 1400, 1452, 1400}, {true, 1500, 1452, 0}, {true, 1280, 1452, 1280}, {true, 1279, 1452, 0}, {true, 0, 1452, 0},
	} {
		if got := (&path{v6: tc.v6}).plausible(tc.mtu, tc.size); got != tc.want {
			t.Errorf("IPv6 %v, MTU %d for %d bytes: %d, want %d", tc.v6, tc.mtu, tc.size, got, tc.want)
		}
	}
}

// FuzzHear: whatever a router quotes, it is believed only when the quote has
// the VNI, addresses and ports of what was sent.
func FuzzHear(f *testing.F) {
	sent := packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(f)
	f.Add(encap(10, sent)[:500], 1400)
	f.Add(encap(10, sent)[:70], 0)
	f.Add(encap(11, sent)[:548], 1400)
	f.Add(encap(10, packet{dst: alice, src: host, v6: true, tcp: true, payload: 1400}.frame(f))[:500], 1300)
	f.Fuzz(func(t *testing.T, quote []byte, mtu int) {
		p := newPathRig(t, nil)
		p.send(sent)
		p.rig.e.hear(&transport.TooBig{To: vtepA, From: router, MTU: mtu, Datagram: quote})
		if p.pmtu(vtepA) == 0 {
			return
		}
		var in vxlan.Inner
		frame := quote[8:]
		l3 := 14
		for l3 < len(frame)-20 && frame[l3-2] != 8 {
			l3 += 4 // tags
		}
		if binary.BigEndian.Uint32(quote[4:])>>8 != 10 || in.Parse(sent) != nil ||
			!bytes.Equal(frame[l3+12:l3+20], sent[26:34]) || !bytes.Contains(frame[l3+20:], sent[34:38]) {
			t.Errorf("believed, with a quote of %x", quote)
		}
	})
}

// What cannot be answered goes on where routers may take its packet apart, and
// is dropped where they may not.
func TestTooBigWithoutDF(t *testing.T) {
	plain := func(to vxlan.MAC) []byte {
		return noDF(packet{dst: to, src: host, payload: 1410}.frame(t))
	}
	for _, tc := range []struct {
		name   string
		to     vxlan.MAC
		connDF bool
		sent   int
	}{
		{"IPv4", alice, false, 1}, {"IPv4 with DF", alice, true, 0}, {"IPv6", bob, false, 0},
	} {
		p := newPathRig(t, nil)
		p.rig.wire.limits.DontFragment = tc.connDF
		p.complain(&p.send(packet{dst: tc.to, src: host, payload: 1410}.frame(t))[0], 1400)
		p.card.vectorsTaken()
		trains := p.send(plain(tc.to), raw(tc.to, host, 1450))
		if len(datagrams(trains)) != 2*tc.sent || len(p.card.frames()) != 0 {
			t.Errorf("%s: %d sent", tc.name, len(datagrams(trains)))
		}
		for i := range trains {
			if trains[i].DontFragment {
				t.Errorf("%s: sent with DF", tc.name)
			}
		}
		if c := p.counters(); c.TxDropTooBig != uint64(2-2*tc.sent) || c.TxTooBigAnswered != 0 {
			t.Errorf("%s: counters %+v", tc.name, c)
		}
		// A group's frames are nobody's to answer.
		p.card.vectorsTaken()
		p.send(raw(group, host, 1450))
		if len(p.card.frames()) != 0 {
			t.Errorf("%s: a group was answered", tc.name)
		}
	}
}

// Of a superframe the segments are judged, and the first of them is answered.
func TestTooBigSuperframe(t *testing.T) {
	for _, tcp := range []bool{true, false} {
		p := newPathRig(t, nil)
		super := func(segment int) tap.Frame {
			return packet{dst: alice, src: host, tcp: tcp, payload: 10*segment + 7}.superframe(t, segment)
		}
		p.complain(&p.carry(super(1400))[0], 1400)
		p.card.vectorsTaken()
		trains := p.carry(super(1300))
		if n := len(datagrams(trains)); n != 11 {
			t.Errorf("%d segments sent that fit, want 11", n)
		}
		if trains := p.carry(super(1400)); len(trains) != 0 {
			t.Errorf("%d trains sent", len(trains))
		}
		answers := p.card.frames()
		if len(answers) != 1 {
			t.Fatalf("%d answers, want 1", len(answers))
		}
		mtu, quote := told(t, answers[0])
		if length := int(binary.BigEndian.Uint16(quote[2:])); mtu != 1350 || length != (packet{tcp: tcp}).headers()-14+1400 {
			t.Errorf("MTU %d, and a packet of %d bytes quoted", mtu, length)
		}
		if c := p.counters(); c.TxDropTooBig != 11 || c.TxTooBigAnswered != 1 {
			t.Errorf("counters %+v", c)
		}
	}
}

// The answers are limited, the drops are counted all the same.
func TestAnswersAreLimited(t *testing.T) {
	p := newPathRig(t, nil)
	big := packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t)
	p.complain(&p.send(big)[0], 1400)
	p.card.vectorsTaken()
	for range 300 {
		p.send(big)
	}
	if c := p.counters(); c.TxTooBigAnswered != answerBurst || c.TxTooBigUnanswered != 300-answerBurst || c.TxDropTooBig != 300 {
		t.Errorf("counters %+v", c)
	}
	p.rig.now += 10 * answerEvery
	for range 20 {
		p.send(big)
	}
	if n := len(p.card.frames()); n != answerBurst+10 {
		t.Errorf("%d answers, want %d", n, answerBurst+10)
	}
}

// What the underlay device itself refuses is answered with what it carries.
func TestRefusedByDevice(t *testing.T) {
	p := newPathRig(t, nil)
	p.rig.wire.fail = func(tr *transport.Train) error {
		if len(tr.Datagram(0)) <= 1372 {
			return nil
		}
		p.rig.e.hear(&transport.TooBig{To: tr.Addr, MTU: 1400})
		return syscall.EMSGSIZE
	}
	fits := packet{dst: alice, src: host, tcp: true, payload: 1310}.frame(t)
	trains := p.carry(packet{dst: alice, src: host, tcp: true, payload: 2800}.superframe(t, 1400), tap.Frame{Bytes: fits})
	if got := decaps(t, 10, trains); len(got) != 1 || !bytes.Equal(got[0], fits) {
		t.Errorf("%d frames sent, want the one that fits", len(got))
	}
	answers := p.card.frames()
	if len(answers) != 1 {
		t.Fatalf("%d answers, want 1", len(answers))
	}
	if mtu, _ := told(t, answers[0]); mtu != 1350 {
		t.Errorf("MTU %d, want 1350", mtu)
	}
	if c := p.counters(); c.TxDropTooBig != 2 || c.TxTooBigAnswered != 1 {
		t.Errorf("counters %+v", c)
	}
	// It binds nobody: the device is asked each time.
	if p.pmtu(vtepA) != 0 {
		t.Errorf("path MTU %d", p.pmtu(vtepA))
	}
	p.rig.wire.fail = nil
	if n := len(p.send(packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t))); n != 1 {
		t.Errorf("%d trains sent over a device that carries it", n)
	}
}

// Routers answer only what has DF: now and then a train has it, though nobody
// asked.
func TestPathProbes(t *testing.T) {
	p := newPathRig(t, nil)
	probe := func(to vxlan.MAC, payload int) bool {
		t.Helper()
		trains := p.send(packet{dst: to, src: host, tcp: true, payload: payload}.frame(t))
		if len(trains) != 1 {
			t.Fatalf("%d trains", len(trains))
		}
		return trains[0].DontFragment
	}
	var got []bool
	for _, payload := range []int{100, 1000, 1000, 900, 1400, 1400} {
		got = append(got, probe(alice, payload))
	}
	p.rig.now += probeEvery - 1
	got = append(got, probe(alice, 1400))
	p.rig.now++
	got = append(got, probe(alice, 1000), probe(alice, 1000), probe(alice, 1400), probe(alice, 1400))
	if want := []bool{false, true, false, false, true, false, false, true, false, true, false}; !slices.Equal(got, want) {
		t.Errorf("DF %v, want %v", got, want)
	}
	if probe(bob, 1400) {
		t.Error("a DF for IPv6")
	}
	tr := p.send(packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t))[0]
	p.complain(&tr, 1450)
	p.rig.now += 2 * probeEvery
	if probe(alice, 1300) {
		t.Error("a probe of what is known")
	}
	p.rig.e.ForgetPathMTU()
	if !probe(alice, 1300) {
		t.Error("no probe after all was forgotten")
	}
}

func TestPathMTUOff(t *testing.T) {
	w := hearingWire{newWire()}
	e, err := New(Config{Conn: w, DisablePathMTU: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if e.findPaths {
		t.Error("paths are found out")
	}
	p := toAlice(t) // its Conn hears nothing either
	for _, tr := range p.send(packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t)) {
		if tr.DontFragment {
			t.Error("probed")
		}
	}
	p.rig.e.hear(&transport.TooBig{To: vtepA, From: router, MTU: 1400})
	if p.pmtu(vtepA) != 0 {
		t.Error("learned")
	}
}

// Nothing of all that allocates, once it was needed for the first time.
func TestPathMTUAllocatesNothing(t *testing.T) {
	p := newPathRig(t, func(c *VNIConfig) { c.ClampMSS = true })
	p.rig.wire.quiet, p.card.quiet = true, true
	big := packet{dst: alice, src: host, tcp: true, payload: 1400}
	frames := []tap.Frame{{Bytes: big.frame(t)}, big.superframe(t, 1400)}
	frames[1].Bytes = packet{dst: alice, src: host, tcp: true, payload: 14000}.superframe(t, 1400).Bytes
	quoted := &transport.TooBig{To: vtepA, From: router, MTU: 1400, Datagram: encap(10, frames[0].Bytes)[:500]}
	work := make([]tap.Frame, len(frames))
	for _, state := range []string{"unknown", "known"} {
		if n := testing.AllocsPerRun(100, func() {
			copy(work, frames)
			p.tx.carry(p.w, work)
			p.rig.now += time.Second
		}); n != 0 {
			t.Errorf("%s: %v allocations", state, n)
		}
		p.rig.e.hear(quoted)
	}
	if c := p.counters(); c.TxDropTooBig < 1000 || c.TxTooBigAnswered < 100 || c.TxFrames < 1000 {
		t.Errorf("counters %+v: not what was to be measured", c)
	}
}

// The whole of it, over a network in memory whose router has an MTU of 1400.
func TestPathMTUEndToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(transport.NetworkConfig{PathMTU: 1400 - 28})
		a, b := on(t, n, self), on(t, n, vtepA)
		stationA := a.join(10, host, func(c *VNIConfig) { c.Static = []StaticEntry{{alice, vtepA}} })
		stationB := b.join(10, alice, peers(self))
		big := packet{dst: alice, src: host, tcp: true, payload: 1400}.frame(t)
		stationA.send(t, big)
		stationA.send(t, big)
		answers := stationA.take()
		if len(answers) != 1 {
			t.Fatalf("%d answers, want 1", len(answers))
		}
		mtu, _ := told(t, answers[0])
		fits := packet{dst: alice, src: host, tcp: true, payload: mtu - 40}.frame(t)
		stationA.send(t, fits)
		if got := stationB.take(); len(got) != 1 || !bytes.Equal(got[0], fits) {
			t.Errorf("%d frames arrived, want the one that fits an MTU of %d", len(got), mtu)
		}
		time.Sleep(pathLife + longestSweep)
		stationA.send(t, big)
		if got := stationA.take(); len(got) != 0 {
			t.Error("answered after ten minutes")
		}
		a.stop()
		b.stop()
	})
}
