package vtep

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/captured"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// Addresses of the stations.
var (
	host4, alice4, bob4 = netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("10.0.1.2"), netip.MustParseAddr("10.0.1.3")
	host6, alice6, bob6 = netip.MustParseAddr("fd10::1"), netip.MustParseAddr("fd10::2"), netip.MustParseAddr("fd10::3")

	// guest is a station on our side that is not the device itself.
	guest  = vxlan.MAC{2, 0, 0, 0, 4, 0}
	guest4 = netip.MustParseAddr("10.0.1.4")
	guest6 = netip.MustParseAddr("fd10::4")
)

// question is an ARP request or a neighbour solicitation, by the family of its
// addresses.
type question struct {
	dst, src   vxlan.MAC // dst zero: to all
	from       netip.Addr
	target     netip.Addr
	reply      bool // ARP only
	hops       uint8
	noChecksum bool
}

func (q question) frame(t tester) []byte {
	t.Helper()
	eth := &layers.Ethernet{DstMAC: q.dst[:], SrcMAC: q.src[:], EthernetType: layers.EthernetTypeARP}
	if q.target.Is4() {
		if q.dst.IsZero() {
			eth.DstMAC = broadcast[:]
		}
		op := uint16(layers.ARPRequest)
		if q.reply {
			op = layers.ARPReply
		}
		return serialized(t, eth, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: op, SourceHwAddress: q.src[:], SourceProtAddress: q.from.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: q.target.AsSlice(),
		})[:42]
	}
	b := q.target.As16()
	to := []byte{0xFF, 2, 15: 0}
	copy(to[11:], []byte{1, 0xFF, b[13], b[14], b[15]})
	if q.dst.IsZero() {
		eth.DstMAC = append([]byte{0x33, 0x33}, to[12:]...)
	}
	if q.hops == 0 {
		q.hops = 255
	}
	eth.EthernetType = layers.EthernetTypeIPv6
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: q.hops, SrcIP: q.from.AsSlice(), DstIP: to}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	ns := &layers.ICMPv6NeighborSolicitation{TargetAddress: q.target.AsSlice()}
	if !q.from.IsUnspecified() {
		ns.Options = layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: q.src[:]}}
	}
	f := serialized(t, eth, ip, icmp, ns)
	if q.noChecksum {
		f[56] ^= 1
	}
	return f
}

func serialized(t tester, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// knowing is a setup in which alice is a neighbour behind vtepA.
func knowing(mode ARPMode) func(*VNIConfig) {
	return func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.ARP = mode
		c.Neighbours = []Neighbour{{IP: alice4, MAC: alice}, {IP: alice6, MAC: alice, Router: true}}
	}
}

// fate is what became of a frame from the device.
type fate string

const (
	sent     fate = "sent"
	answered fate = "answered"
	dropped  fate = "dropped"
)

// fateOf has the host send one frame, and checks that it is counted once.
func (p *port) fateOf(f []byte) fate {
	p.rig.t.Helper()
	before := p.counters()
	p.card.vectorsTaken()
	trains := p.send(f)
	after, back := p.counters(), p.card.frames()
	answers, drops := after.TxARPAnswered-before.TxARPAnswered, after.TxDropARPProxy-before.TxDropARPProxy
	if int(answers) != len(back) || after.txDrops()-before.txDrops() != drops {
		p.rig.t.Errorf("%d answers, %d counted; counters %+v", len(back), answers, after)
	}
	switch {
	case len(trains) > 0 && answers == 0 && drops == 0:
		if got := decaps(p.rig.t, p.vni, trains); !bytes.Equal(got[0], f) {
			p.rig.t.Errorf("sent %x, not %x", got[0], f)
		}
		return sent
	case len(trains) == 0 && answers == 1 && drops == 0:
		return answered
	case len(trains) == 0 && answers == 0 && drops == 1:
		return dropped
	}
	p.rig.t.Fatalf("%d trains, %d answers, %d drops", len(trains), answers, drops)
	return ""
}

func TestARPModes(t *testing.T) {
	tag := func(f []byte) []byte {
		return slices.Concat(f[:12], []byte{0x81, 0, 0, 7}, f[12:])
	}
	for _, c := range []struct {
		name            string
		frame           []byte
		suppress, proxy fate
	}{
		{"ARP for a neighbour", question{src: guest, from: guest4, target: alice4}.frame(t), answered, answered},
		{"the same with a tag", tag(question{src: guest, from: guest4, target: alice4}.frame(t)), answered, answered},
		{"the same to one station", question{dst: alice, src: guest, from: guest4, target: alice4}.frame(t), sent, answered},
		{"ARP for somebody", question{src: guest, from: guest4, target: bob4}.frame(t), sent, dropped},
		{"ARP probe", question{src: guest, from: netip.IPv4Unspecified(), target: alice4}.frame(t), sent, answered},
		{"ARP probe of somebody", question{src: guest, from: netip.IPv4Unspecified(), target: bob4}.frame(t), sent, dropped},
		{"announcement", question{src: guest, from: guest4, target: guest4}.frame(t), sent, dropped},
		{"announcement of a neighbour's", question{src: guest, from: alice4, target: alice4}.frame(t), sent, answered},
		{"ARP reply", question{src: guest, from: guest4, target: alice4, reply: true}.frame(t), sent, dropped},
		{"broken ARP", question{src: guest, from: guest4, target: alice4}.frame(t)[:30], sent, dropped},
		{"a neighbour asks for itself", question{src: alice, from: netip.IPv4Unspecified(), target: alice4}.frame(t), sent, dropped},
		{"solicitation for a neighbour", question{src: guest, from: guest6, target: alice6}.frame(t), answered, answered},
		{"the same with a tag", tag(question{src: guest, from: guest6, target: alice6}.frame(t)), answered, answered},
		{"the same to one station", question{dst: alice, src: guest, from: guest6, target: alice6}.frame(t), sent, answered},
		{"the same from a router away", question{src: guest, from: guest6, target: alice6, hops: 254}.frame(t), sent, dropped},
		{"the same with a bad checksum", question{src: guest, from: guest6, target: alice6, noChecksum: true}.frame(t), sent, dropped},
		{"solicitation for somebody", question{src: guest, from: guest6, target: bob6}.frame(t), sent, dropped},
		{"duplicate address detection", question{src: guest, from: netip.IPv6Unspecified(), target: alice6}.frame(t), sent, dropped},
		{"duplicate address detection, unknown", question{src: guest, from: netip.IPv6Unspecified(), target: bob6}.frame(t), sent, dropped},
		{"IPv4", packet{dst: alice, src: guest, payload: 10}.frame(t), sent, sent},
		{"IPv6", packet{dst: alice, src: guest, v6: true, payload: 10}.frame(t), sent, sent},
		{"no protocol", raw(broadcast, guest, 64), sent, sent},
	} {
		for mode, want := range map[ARPMode]fate{ARPSuppress: c.suppress, ARPProxy: c.proxy} {
			p := newRig(t).add(10, knowing(mode))
			if got := p.fateOf(c.frame); got != want {
				t.Errorf("%s: %v: %s, want %s", c.name, mode, got, want)
			}
		}
		if got := newRig(t).add(10, peers(vtepA)).fateOf(c.frame); got != sent {
			t.Errorf("%s: flood: %s", c.name, got)
		}
	}
}

// The answer is the one that alice would give.
func TestARPAnswer(t *testing.T) {
	p := newRig(t).add(10, knowing(ARPProxy))
	p.send(question{src: guest, from: guest4, target: alice4}.frame(t), raw(alice, guest, 60), question{src: guest, from: guest6, target: alice6}.frame(t))
	got := p.card.frames()
	if len(got) != 2 {
		t.Fatalf("%d answers", len(got))
	}
	want := question{dst: guest, src: alice, from: alice4, target: guest4, reply: true}.frame(t)
	copy(want[32:38], guest[:])
	if !bytes.Equal(got[0], want) {
		t.Errorf("ARP:\n got %x\nwant %x", got[0], want)
	}
	na := gopacket.NewPacket(got[1], layers.LayerTypeEthernet, gopacket.Default)
	l, ok := na.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	if !ok || !l.Router() || !l.Solicited() || !l.Override() || l.TargetAddress.String() != alice6.String() ||
		vxlan.MAC(got[1]) != guest || vxlan.MAC(got[1][6:]) != alice {
		t.Errorf("advertisement %v", na)
	}
}

// Who is on our side answers for itself.
func TestARPNotAnsweredForNearStations(t *testing.T) {
	ask := question{src: guest, from: guest4, target: bob4}
	setup := func(mac vxlan.MAC) *port {
		return newRig(t).add(10, func(c *VNIConfig) {
			knowing(ARPProxy)(c)
			c.Neighbours = append(c.Neighbours, Neighbour{IP: bob4, MAC: mac})
		})
	}
	if p := setup(host); p.fateOf(ask.frame(t)) != dropped {
		t.Error("answered with the device's own MAC")
	}
	if p := setup(guest); p.fateOf(ask.frame(t)) != dropped {
		t.Error("answered with the asker's own MAC")
	}
	// Bob, whom the FDB does not know, speaks up on our side; then the FDB
	// learns where he is.
	p := setup(bob)
	if got := p.fateOf(ask.frame(t)); got != answered {
		t.Errorf("before bob was heard of: %s", got)
	}
	p.send(question{src: bob, from: bob4, target: alice4}.frame(t))
	if got := p.fateOf(ask.frame(t)); got != dropped {
		t.Errorf("when bob is near: %s", got)
	}
	p.arrive(vtepA.Addr(), raw(host, bob, 64))
	if got := p.fateOf(ask.frame(t)); got != answered {
		t.Errorf("when the FDB has bob behind a VTEP: %s", got)
	}
	// And without the FDB, a word of his from there will do.
	p = setup(bob)
	without := *p.o.policy.Load()
	without.learn = false
	p.o.policy.Store(&without)
	p.send(question{src: bob, from: bob4, target: alice4}.frame(t))
	p.arrive(vtepA.Addr(), question{src: bob, from: bob4, target: bob4, reply: true}.frame(t))
	if got := p.fateOf(ask.frame(t)); got != answered {
		t.Errorf("when bob was heard from a VTEP: %s", got)
	}
}

func TestSnoopedNeighbours(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		knowing(ARPSuppress)(c)
		c.SnoopNeighbours = true
		c.MaxEntries = 3
		c.Ageing = 10 * time.Second
	})
	ask4 := question{src: host, from: host4, target: bob4}.frame(t) // host is snooped too: 1
	ask6 := question{src: guest, from: guest6, target: bob6}.frame(t)
	if got := p.fateOf(ask4); got != sent {
		t.Errorf("ARP for a stranger: %s", got)
	}
	p.arrive(vtepB.Addr(), question{dst: host, src: bob, from: bob4, target: host4, reply: true}.frame(t)) // 2
	if got := p.fateOf(ask4); got != answered {
		t.Errorf("ARP for bob, who answered before: %s", got)
	}
	p.arrive(vtepB.Addr(), question{src: bob, from: bob6, target: alice6}.frame(t)) // 3
	if got := p.fateOf(ask6); got != answered {                                     // guest: no room
		t.Errorf("solicitation for bob, who asked before: %s", got)
	}
	// A static entry is not overridden.
	p.arrive(vtepB.Addr(), question{src: bob, from: alice4, target: alice4, reply: true}.frame(t))
	want := []NeighbourStatus{
		{VNI: 10, IP: host4, MAC: host, Kind: "snooped", Here: true},
		{VNI: 10, IP: alice4, MAC: alice, Kind: "static"},
		{VNI: 10, IP: bob4, MAC: bob, Kind: "snooped"},
		{VNI: 10, IP: alice6, MAC: alice, Kind: "static", Router: true},
		{VNI: 10, IP: bob6, MAC: bob, Kind: "snooped"},
	}
	got := p.rig.e.Neighbours(10)
	for i := range got {
		if (got[i].Age != nil) != (got[i].Kind == "snooped") {
			t.Errorf("age of %+v", got[i])
		}
		got[i].Age = nil
	}
	if !slices.Equal(got, want) {
		t.Errorf("neighbours\n%+v, want\n%+v", got, want)
	}
	p.arrive(vtepB.Addr(), question{src: bob, from: netip.MustParseAddr("10.0.1.9"), target: alice4}.frame(t))
	if c := p.counters(); c.NeighboursNotSnoopedFull != 2 {
		t.Errorf("%d not snooped for want of room, want 2", c.NeighboursNotSnoopedFull)
	}
	if s := p.rig.e.Status().VNIs[0]; s.ARP != "suppress" || s.Neighbours != 5 {
		t.Errorf("status %+v", s)
	}
	// They age, the static ones stay.
	p.rig.now += 11 * time.Second
	p.o.policy.Load().neighbours.table.Age(p.rig.now)
	if n := p.rig.e.Neighbours(10); len(n) != 2 || n[0].Kind != "static" || n[1].Kind != "static" {
		t.Errorf("after their time: %+v", n)
	}
	if got := p.fateOf(ask6); got != sent {
		t.Errorf("solicitation for a bob of long ago: %s", got)
	}
}

// Frames of a VTEP that may not speak are not believed.
func TestSnoopedNeighboursOfPeersOnly(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		knowing(ARPSuppress)(c)
		c.SnoopNeighbours = true
	})
	p.arrive(vtepC.Addr(), question{src: bob, from: bob4, target: bob4, reply: true}.frame(t))
	if n := p.rig.e.Neighbours(); len(n) != 2 {
		t.Errorf("neighbours %+v", n)
	}
}

func TestNeighbourMissed(t *testing.T) {
	for mode, want := range map[ARPMode][]NeighbourMiss{
		ARPFlood:    nil,
		ARPSuppress: {{10, bob4}, {10, bob6}},
		// As Linux's proxy: also of those who only make sure.
		ARPProxy: {{10, bob4}, {10, bob6}, {10, bob6}},
	} {
		var missed []NeighbourMiss
		w := newWire()
		e, err := New(Config{Conn: w, NeighbourMissed: func(m NeighbourMiss) { missed = append(missed, m) }})
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{t: t, e: e, wire: w}
		watcher, err := e.Watch(0)
		if err != nil {
			t.Fatal(err)
		}
		p := r.add(10, func(c *VNIConfig) {
			c.Peers = []netip.AddrPort{vtepA}
			c.ARP = mode
			if mode != ARPFlood {
				knowing(mode)(c)
			}
		})
		p.send(question{src: guest, from: guest4, target: alice4}.frame(t),
			question{src: guest, from: guest4, target: bob4}.frame(t),
			question{src: guest, from: guest4, target: netip.MustParseAddr("224.0.0.1")}.frame(t),
			question{src: guest, from: guest6, target: bob6}.frame(t),
			question{src: guest, from: netip.IPv6Unspecified(), target: bob6}.frame(t))
		if !slices.Equal(missed, want) {
			t.Errorf("%v: missed %v, want %v", mode, missed, want)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		// Watchers hear the same.
		var watched []NeighbourMiss
		for {
			ev, err := watcher.Next(t.Context())
			if err != nil {
				break
			}
			if ev.What == "noneigh" {
				watched = append(watched, NeighbourMiss{ev.VNI, ev.IP})
			}
		}
		if !slices.Equal(watched, want) {
			t.Errorf("%v: watched %v, want %v", mode, watched, want)
		}
	}
}

// An answer that the device does not take is counted as what it is: a frame for
// the host that was lost.
func TestARPAnswerLost(t *testing.T) {
	p := newRig(t).add(10, knowing(ARPProxy))
	p.card.fail = func(*tap.Vector) error { return syscall.EIO }
	p.send(question{src: guest, from: guest4, target: alice4}.frame(t))
	if c := p.counters(); c.RxDropDevice != 1 || c.TxARPAnswered != 0 || c.TxFrames != 0 {
		t.Errorf("counters %+v", c)
	}
}

func TestNeighboursAllocateNothing(t *testing.T) {
	for name, f := range map[string][]byte{
		"ARP": question{src: guest, from: guest4, target: alice4}.frame(t), "ARP unknown": question{src: guest, from: guest4, target: bob4}.frame(t),
		"ND": question{src: guest, from: guest6, target: alice6}.frame(t), "ND unknown": question{src: guest, from: guest6, target: bob6}.frame(t),
		"IPv4": packet{dst: alice, src: guest, payload: 10}.frame(t),
	} {
		for _, mode := range []ARPMode{ARPSuppress, ARPProxy} {
			r := newRig(t)
			r.wire.quiet = true
			misses := 0
			r.e.neighbourMissed = func(NeighbourMiss) { misses++ }
			p := r.add(10, func(c *VNIConfig) {
				knowing(mode)(c)
				c.SnoopNeighbours = true
				c.Device.(*card).quiet = true
			})
			batch := []tap.Frame{{Bytes: f}}
			trains := []transport.Train{{Buf: encap(10, question{src: bob, from: bob4, target: bob4, reply: true}.frame(t)), Addr: vtepA}}
			n := testing.AllocsPerRun(100, func() {
				p.tx.carry(p.w, batch)
				r.r.batch(trains, r.now)
				r.now += time.Second
			})
			if n != 0 {
				t.Errorf("%s, %v: %v allocations", name, mode, n)
			}
			if c := p.counters(); c.TxARPAnswered+c.TxFrames+c.TxDropARPProxy < 100 || c.RxFrames < 100 {
				t.Errorf("%s, %v: counters %+v: not what was to be measured", name, mode, c)
			}
		}
	}
}

func TestNeighbourMethods(t *testing.T) {
	r := newRig(t)
	r.add(10, knowing(ARPProxy))
	r.add(20, nil)
	n := Neighbour{IP: bob4, MAC: bob}
	for _, c := range []struct {
		name string
		got  error
		want error
	}{
		{"add", r.e.AddNeighbour(10, n), nil},
		{"add again", r.e.AddNeighbour(10, n), ErrNeighbourExists},
		{"replace", r.e.ReplaceNeighbour(10, Neighbour{IP: bob4, MAC: alice, Router: true}), nil},
		{"delete", r.e.DelNeighbour(10, alice4), nil},
		{"delete again", r.e.DelNeighbour(10, alice4), ErrNoNeighbour},
		{"add a group", r.e.AddNeighbour(10, Neighbour{IP: netip.MustParseAddr("224.0.0.1"), MAC: bob}), errAny},
		{"add where all is flooded", r.e.AddNeighbour(20, n), ErrARPFlood},
		{"delete where all is flooded", r.e.DelNeighbour(20, bob4), ErrARPFlood},
		{"add where nothing is", r.e.AddNeighbour(30, n), ErrNoVNI},
	} {
		if c.want == errAny && c.got != nil {
			continue
		}
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
	want := []NeighbourStatus{{VNI: 10, IP: bob4, MAC: alice, Kind: "static", Router: true}, {VNI: 10, IP: alice6, MAC: alice, Kind: "static", Router: true}}
	if got := r.e.Neighbours(); !slices.Equal(got, want) {
		t.Errorf("neighbours %+v", got)
	}
	if got := r.e.Neighbours(20); got == nil || len(got) != 0 {
		t.Errorf("neighbours of another VNI: %+v", got)
	}
	for name, cfg := range map[string]VNIConfig{
		"neighbours without a use": {Neighbours: []Neighbour{n}},
		"snooping without a use":   {SnoopNeighbours: true},
		"no such mode":             {ARP: 3},
		"neighbour twice":          {ARP: ARPProxy, Neighbours: []Neighbour{n, n}},
	} {
		cfg.VNI, cfg.Device = 40, newCard(t)
		if err := r.e.AddVNI(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

var errAny = errors.New("any error")

func TestParseARPMode(t *testing.T) {
	for _, m := range []ARPMode{ARPFlood, ARPSuppress, ARPProxy} {
		if got, err := ParseARPMode(m.String()); got != m || err != nil {
			t.Errorf("%v: %v %v", m, got, err)
		}
	}
	if _, err := ParseARPMode("on"); err == nil {
		t.Error("on is a mode")
	}
}

// The whole of it at work: the host asks and is answered, the other end hears
// nothing but the ping.
func TestProxyRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := transport.NewNetwork(transport.NetworkConfig{})
		a, b := on(t, network, self), on(t, network, vtepA)
		host := a.join(10, host, func(c *VNIConfig) { knowing(ARPProxy)(c); c.Peers = []netip.AddrPort{vtepA} })
		alice := b.join(10, alice, peers(self))
		host.send(t, question{src: host.mac, from: host4, target: alice4}.frame(t), question{src: host.mac, from: host6, target: alice6}.frame(t), host.to(alice.mac))
		if got := host.take(); len(got) != 2 {
			t.Errorf("%d answers", len(got))
		}
		if got := alice.take(); len(got) != 1 || !bytes.Equal(got[0], host.to(alice.mac)) {
			t.Errorf("alice got %x", got)
		}
		a.stop()
		b.stop()
	})
}

// FuzzARP: whatever the frame, it is sent unchanged, answered once or dropped
// once; and with proxy, nothing that gopacket would call ARP is sent.
func FuzzARP(f *testing.F) {
	for _, q := range []question{
		{src: guest, from: guest4, target: alice4}, {src: guest, from: guest6, target: alice6}, {src: guest, from: guest4, target: bob4},
		{src: guest, from: guest6, target: bob6}, {dst: alice, src: guest, from: guest4, target: alice4, reply: true},
	} {
		f.Add(q.frame(f), uint8(1))
		f.Add(q.frame(f), uint8(2))
	}
	f.Add(packet{dst: alice, src: guest, v6: true, payload: 10}.frame(f), uint8(2))
	for i, frame := range captured.Frames(f) {
		f.Add(frame, uint8(i%3))
	}
	f.Fuzz(func(t *testing.T, b []byte, mode uint8) {
		if len(b) < 14 || len(b) > 1500 {
			return
		}
		m := []ARPMode{ARPSuppress, ARPProxy}[mode%2]
		p := newRig(t).add(10, func(c *VNIConfig) { knowing(m)(c); c.SnoopNeighbours = true })
		got := p.fateOf(b)
		if binary.BigEndian.Uint16(b[12:]) == 0x0806 && m == ARPProxy && got == sent {
			t.Errorf("%x was sent", b)
		}
		if m == ARPSuppress && got == dropped {
			t.Errorf("%x was dropped", b)
		}
		statics := 0
		for _, n := range p.rig.e.Neighbours() {
			if n.Kind == "static" && n.MAC == alice {
				statics++
			}
		}
		if statics != 2 {
			t.Errorf("%x changed a static neighbour", b)
		}
	})
}
