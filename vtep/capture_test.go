package vtep

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"pgregory.net/rapid"
)

// capture begins to capture.
func (r *rig) capture(cfg CaptureConfig) *Capture {
	r.t.Helper()
	c, err := r.e.Capture(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Stop)
	return c
}

// have is what is captured and was not read yet.
func (c *Capture) have(t tester) []CapturedFrame {
	t.Helper()
	var all []CapturedFrame
	for c.Pending() {
		f, err := c.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		kept := *f
		kept.Bytes = bytes.Clone(f.Bytes)
		all = append(all, kept)
	}
	return all
}

// standsFor is how many frames of a wire a captured one is.
func (f *CapturedFrame) standsFor() uint64 { return uint64(max(f.Superframe, 1)) }

// byVerdict counts captured frames by the name of their counter.
func byVerdict(all []CapturedFrame) map[string]uint64 {
	n := make(map[string]uint64)
	for i := range all {
		n[all[i].Verdict.String()] += all[i].standsFor()
	}
	return n
}

// counted are counters by their names in JSON.
func counted(t tester, counters ...any) map[string]uint64 {
	t.Helper()
	all := make(map[string]uint64)
	for _, c := range counters {
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		some := make(map[string]uint64)
		if err := json.Unmarshal(b, &some); err != nil {
			t.Fatal(err)
		}
		for k, n := range some {
			all[k] += n
		}
	}
	return all
}

// sameDrops compares what was captured with what was counted.
func sameDrops(t tester, all []CapturedFrame, counters ...any) {
	t.Helper()
	seen := byVerdict(all)
	for name, n := range counted(t, counters...) {
		if strings.Contains(name, "_drop_") && seen[name] != n {
			t.Fatalf("%s: %d counted, %d captured", name, n, seen[name])
		}
		delete(seen, name)
	}
	delete(seen, verdictPassed.String())
	delete(seen, verdictMade.String())
	if len(seen) > 0 {
		t.Fatalf("captured, and not counted: %v", seen)
	}
}

// unwrapped is the datagram in an outer packet, which gopacket reads.
func unwrapped(t tester, f *CapturedFrame) (outer gopacket.NetworkLayer, udp *layers.UDP) {
	t.Helper()
	p := gopacket.NewPacket(f.Bytes, layers.LayerTypeEthernet, gopacket.NoCopy)
	udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || !f.Outer {
		t.Fatalf("no outer packet with UDP: %+v: %v", f, p.ErrorLayer())
	}
	return p.NetworkLayer(), udp
}

// Every reason to drop a frame that is in hand is seen by captures of both views,
// with the frame as it was; those that are not are listed.
func TestCaptureEveryVerdict(t *testing.T) {
	small := raw(alice, host, 64)
	from := func(src vxlan.MAC) []byte { return raw(host, src, 64) }
	with := func(change func(d []byte), frame []byte) []byte {
		d := encap(10, frame)
		change(d)
		return d
	}
	in := func(d []byte, setup func(*VNIConfig)) func(t *testing.T) (*rig, []byte) {
		return func(t *testing.T) (*rig, []byte) {
			r := newRig(t)
			r.add(10, func(c *VNIConfig) {
				c.Peers = []netip.AddrPort{vtepA}
				if setup != nil {
					setup(c)
				}
			})
			return r, d
		}
	}
	scenes := map[string]struct {
		from netip.Addr // VTEP; invalid: a frame of the device
		tos  uint8
		make func(t *testing.T) (*rig, []byte)
	}{
		"rx_drop_bad_header":     {from: vtepA.Addr(), make: in(make([]byte, 40), nil)},
		"rx_drop_short_frame":    {from: vtepA.Addr(), make: in(encap(10, small[:5]), nil)},
		"rx_drop_unknown_vni":    {from: vtepA.Addr(), make: in(encap(11, from(alice)), nil)},
		"rx_drop_unknown_vtep":   {from: vtepC.Addr(), make: in(encap(10, from(alice)), nil)},
		"rx_drop_invalid_source": {from: vtepA.Addr(), make: in(encap(10, from(group)), nil)},
		"rx_drop_own_mac":        {from: vtepA.Addr(), make: in(encap(10, from(host)), nil)},
		"rx_drop_static_mac": {from: vtepA.Addr(), make: in(encap(10, from(bob)), func(c *VNIConfig) {
			c.Static = []StaticEntry{{bob, vtepB}}
		})},
		"rx_drop_ecn": {from: vtepA.Addr(), tos: 3, make: in(encap(10, packet{dst: host, src: alice}.frame(t)), nil)},
		"rx_drop_oversize": {from: vtepA.Addr(), make: func(t *testing.T) (*rig, []byte) {
			// On a trunk, where the VXLAN header makes room for the tag.
			p := newTrunk(t, nil, 100)[0]
			return p.rig, encap(1100, packet{dst: host, src: alice, payload: 1500}.frame(t))
		}},
		"rx_drop_reserved_bits": {from: vtepA.Addr(), make: in(with(func(d []byte) { d[7] = 1 }, from(alice)), func(c *VNIConfig) {
			c.ReservedBits = 0xFF
		})},
		"rx_drop_group": {from: vtepA.Addr(), make: in(encap(10, from(alice)), func(c *VNIConfig) {
			c.GroupPolicy = &GroupPolicy{Accept: []uint16{5}}
		})},
		"rx_drop_mac_held": {from: vtepA.Addr(), make: func(t *testing.T) (*rig, []byte) {
			p := newRig(t).add(10, func(c *VNIConfig) {
				c.Peers, c.Guard.Damping.Moves = []netip.AddrPort{vtepA, vtepB}, 1
			})
			p.arrive(vtepB.Addr(), from(alice))
			return p.rig, encap(10, from(alice))
		}},
		"rx_drop_storm": {from: vtepA.Addr(), make: func(t *testing.T) (*rig, []byte) {
			p := newRig(t).add(10, func(c *VNIConfig) { c.Peers, c.Guard.Storm = []netip.AddrPort{vtepA}, Rate{1, 1} })
			p.arrive(vtepA.Addr(), raw(broadcast, alice, 64))
			return p.rig, encap(10, raw(broadcast, alice, 64))
		}},
		"tx_drop_storm": {make: func(t *testing.T) (*rig, []byte) {
			p := newRig(t).add(10, func(c *VNIConfig) { c.Peers, c.Guard.Storm = []netip.AddrPort{vtepA}, Rate{1, 1} })
			p.send(small)
			return p.rig, small
		}},
		"tx_drop_spoofed": {make: in(raw(alice, bob, 64), func(c *VNIConfig) { c.Guard.AntiSpoof = AntiSpoofMAC })},
		"rx_drop_probe":   {from: vtepA.Addr(), make: in(encap(10, request(probe.Frame{Kind: probe.Answer}, 60)), nil)},
		"rx_drop_vlan":    {from: vtepA.Addr(), make: in(encap(10, vlan(from(alice), 5)), func(c *VNIConfig) { c.VLAN = VLANDrop })},
		"rx_drop_device": {from: vtepA.Addr(), make: in(encap(10, from(alice)), func(c *VNIConfig) {
			c.Device.(*card).fail = func(*tap.Vector) error { return syscall.EIO }
		})},
		"rx_drop_own_address": {from: self.Addr(), make: func(t *testing.T) (*rig, []byte) {
			r, _ := newGroupRig(t)
			p := r.add(10, joins(groupOne))
			r.r.group = r.e.groups[groupOne.Addr()]
			return p.rig, encap(10, from(alice))
		}},

		"tx_drop_unknown_vlan": {make: func(t *testing.T) (*rig, []byte) {
			return newTrunk(t, nil, 100)[0].rig, vlan(small, 7)
		}},
		"tx_drop_no_destination": {make: in(small, func(c *VNIConfig) { c.Peers = nil })},
		"tx_drop_bad_frame":      {make: in(small[:13], nil)},
		"tx_drop_vlan":           {make: in(vlan(small, 5), func(c *VNIConfig) { c.VLAN = VLANDrop })},
		"tx_drop_too_big":        {make: unsendable(small, transport.ErrTooLong)},
		"tx_drop_unreachable":    {make: unsendable(small, syscall.ENETUNREACH)},
		"tx_drop_no_buffer":      {make: unsendable(small, syscall.ENOBUFS)},
		"tx_drop_error":          {make: unsendable(small, syscall.EPERM)},
		"tx_drop_arp_proxy":      {make: in(question{src: host, from: host4, target: bob4}.frame(t), knowing(ARPProxy))},
	}
	notInHand := []string{"rx_drop_bad_packet", "rx_drop_checksum", "rx_drop_queue_full"}

	var names []string
	for v := range Verdict(len(verdicts)) {
		if v.Dropped() {
			names = append(names, v.String())
			if !regexp.MustCompile("^dropped: " + v.String() + ": [a-z].{10,}[^.]$").MatchString(v.Comment()) {
				t.Errorf("%v: comment %q", v, v.Comment())
			}
		}
	}
	for name := range counted(t, Counters{}, EndpointCounters{}) {
		if strings.Contains(name, "_drop_") && !slices.Contains(notInHand, name) && !slices.Contains(names, name) {
			t.Errorf("%s has no verdict", name)
		}
	}
	for _, name := range names {
		scene, ok := scenes[name]
		if !ok {
			t.Errorf("%s has no scene", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			r, b := scene.make(t)
			outer, inner := r.capture(CaptureConfig{}), r.capture(CaptureConfig{Inner: true})
			drops := r.capture(CaptureConfig{CaptureFilter: CaptureFilter{Drops: true}})
			if scene.from.IsValid() {
				r.datagrams(scene.from, scene.tos, b)
			} else {
				var o *overlay
				for _, o = range r.e.overlays {
				}
				tx := &transmitter{e: r.e, o: o, trunk: o.trunk, sender: r.wire.NewSender(), reader: nil}
				w := workshops.Get().(*workshop)
				tx.carry(w, []tap.Frame{{Bytes: bytes.Clone(b)}})
				workshops.Put(w)
			}
			var all Counters
			for _, o := range r.e.overlays {
				all = read(&o.rx, &o.tx)
			}
			c := counted(t, all, r.endpointCounters())
			if c[name] != 1 {
				t.Fatalf("counters %+v: not what was to be seen", c)
			}
			for view, frames := range map[string][]CapturedFrame{"outer": outer.have(t), "inner": inner.have(t), "drops": drops.have(t)} {
				frames = slices.DeleteFunc(frames, func(f CapturedFrame) bool { return !f.Verdict.Dropped() })
				if len(frames) != 1 || frames[0].Verdict.String() != name {
					t.Errorf("%s: captured %+v", view, frames)
					continue
				}
				f := frames[0]
				want := b
				switch {
				case f.Outer && !scene.from.IsValid():
					want = encap(10, b)
				case !f.Outer && scene.from.IsValid():
					want = b[vxlan.HeaderLen:]
				}
				got := f.Bytes
				if f.Outer {
					_, udp := unwrapped(t, &f)
					got = udp.Payload
				}
				if !bytes.Equal(got, want) || f.Direction == In != scene.from.IsValid() || f.Known != (f.VNI != 0) {
					t.Errorf("%s: captured %+v\n%x, want\n%x", view, f, got, want)
				}
			}
		})
	}
}

// unsendable has sending fail.
func unsendable(frame []byte, err error) func(t *testing.T) (*rig, []byte) {
	return func(t *testing.T) (*rig, []byte) {
		r := newRig(t)
		r.wire.fail = func(*transport.Train) error { return err }
		r.add(10, peers(vtepA))
		return r, frame
	}
}

// The outer view shows the packets as they travel: addresses, ports, TOS, and
// checksums that hold.
func TestCaptureOuterHeaders(t *testing.T) {
	local6 := netip.MustParseAddrPort("[fd00::203]:4789")
	for _, tc := range []struct {
		peer, self netip.AddrPort
	}{{vtepA, self}, {vtep6, local6}} {
		r := newRig(t)
		r.wire.locals = []netip.AddrPort{self, local6}
		p := r.add(10, func(c *VNIConfig) {
			c.Peers = []netip.AddrPort{tc.peer}
			c.Outer = OuterConfig{TTL: 9, TOS: 0x20}
			c.GroupPolicy = &GroupPolicy{Send: vxlan.GBP{ID: 77}}
		})
		c := r.capture(CaptureConfig{})
		p.send(packet{dst: alice, src: host, tos: 2, payload: 100}.frame(t))
		source := netip.AddrPortFrom(tc.peer.Addr(), 51234)
		back := encap(10, packet{dst: host, src: alice, payload: 33}.frame(t))
		r.r.batch([]transport.Train{{Buf: bytes.Clone(back), Addr: source, TOS: 0xB8}}, r.now)

		got := c.have(t)
		if len(got) != 2 {
			t.Fatalf("captured %+v", got)
		}
		for i, f := range got {
			network, udp := unwrapped(t, &f)
			from, to, tos, ttl := tc.self.Addr(), tc.peer, uint8(0x22), uint8(9)
			if i == 1 {
				from, to, tos, ttl = tc.peer.Addr(), tc.self, 0xB8, 0
				if udp.SrcPort != 51234 {
					t.Errorf("source port %d", udp.SrcPort)
				}
			}
			var gotTOS, gotTTL uint8
			switch ip := network.(type) {
			case *layers.IPv4:
				gotTOS, gotTTL = ip.TOS, ip.TTL
			case *layers.IPv6:
				gotTOS, gotTTL = ip.TrafficClass, ip.HopLimit
			}
			flow := network.NetworkFlow()
			if flow.Src().String() != from.String() || flow.Dst().String() != to.Addr().String() || uint16(udp.DstPort) != to.Port() || gotTOS != tos || gotTTL != ttl {
				t.Errorf("packet %d: %v port %d, TOS %#x, TTL %d", i, flow, udp.DstPort, gotTOS, gotTTL)
			}
			parsed, err := vxlan.ParsePacket(f.Bytes)
			if err != nil || !parsed.ChecksumOK() || parsed.ZeroChecksum {
				t.Errorf("packet %d: %v, checksum %#x", i, err, parsed.Checksum)
			}
			if f.Length != len(f.Bytes) || f.VNI != 10 || !f.Known || f.Device != "card0" || f.Peer.Addr() != tc.peer.Addr() || f.Comment() != "" {
				t.Errorf("packet %d: %+v", i, f)
			}
			if g, ok := vxlan.ParseGBP(udp.Payload); i == 0 && (!ok || g.ID != 77) {
				t.Errorf("packet %d: header %x without its extension", i, udp.Payload[:8])
			}
		}
	}
}

// A superframe of the device is one frame in the inner view, with its checksum
// complete, and its segments are the packets of the outer view.
func TestCaptureSuperframe(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA, vtepB))
	outer, inner := p.rig.capture(CaptureConfig{}), p.rig.capture(CaptureConfig{Inner: true})
	cut := p.rig.capture(CaptureConfig{Inner: true, SnapLen: 60})
	super := packet{dst: broadcast, src: host, tcp: true, payload: 10000}.superframe(t, 1398)
	want := packet{dst: broadcast, src: host, tcp: true, payload: 10000}.frame(t)
	p.carry(tap.Frame{Header: super.Header, Bytes: bytes.Clone(super.Bytes)})

	got := inner.have(t)
	if len(got) != 1 || !bytes.Equal(got[0].Bytes, want) || got[0].Superframe != 8 || got[0].Outer || got[0].PartialChecksum ||
		got[0].Comment() != "superframe of 8 frames" || got[0].Peer.IsValid() {
		t.Errorf("inner view: %+v", got)
	}
	got = cut.have(t)
	if len(got) != 1 || !bytes.Equal(got[0].Bytes, super.Bytes[:60]) || got[0].Length != len(want) ||
		got[0].Comment() != "superframe of 8 frames; partial checksum" {
		t.Errorf("first 60 bytes: %+v", got)
	}
	segments := plainFrames(t, &tap.Vector{Header: super.Header, Parts: [][]byte{super.Bytes}})
	got = outer.have(t)
	if len(got) != 16 {
		t.Fatalf("outer view: %d packets", len(got))
	}
	for i, f := range got {
		if _, udp := unwrapped(t, &f); !bytes.Equal(udp.Payload[8:], segments[i%8]) || f.Peer != []netip.AddrPort{vtepA, vtepB}[i/8] {
			t.Errorf("packet %d to %v: %x", i, f.Peer, udp.Payload)
		}
	}

	// And one whose checksum alone is undone.
	partial := packet{dst: alice, src: host, payload: 500}.superframe(t, 0)
	partial.Header.GSO = tap.GSONone
	p.carry(tap.Frame{Header: partial.Header, Bytes: bytes.Clone(partial.Bytes)})
	got = inner.have(t)
	if want := (packet{dst: alice, src: host, payload: 500}.frame(t)); len(got) != 1 || !bytes.Equal(got[0].Bytes, want) || got[0].Comment() != "" {
		t.Errorf("partial checksum: %+v, want %x", got, want)
	}
}

// What this VTEP answers itself is seen, and its answer.
func TestCaptureAnswers(t *testing.T) {
	p := newRig(t).add(10, knowing(ARPSuppress))
	inner, outer := p.rig.capture(CaptureConfig{Inner: true}), p.rig.capture(CaptureConfig{})
	ask := question{src: host, from: host4, target: alice4}.frame(t)
	p.send(ask)
	for view, got := range map[string][]CapturedFrame{"inner": inner.have(t), "outer": outer.have(t)} {
		if len(got) != 2 || got[0].Verdict != verdictMade || got[0].Direction != In || got[1].Verdict != verdictAnswered ||
			!bytes.Equal(got[1].Bytes, ask) || got[1].Direction != Out || !bytes.Equal(got[0].Bytes[:6], host[:]) {
			t.Errorf("%s view: %+v", view, got)
		}
	}

	q := newPathRig(t, nil)
	inner = q.rig.capture(CaptureConfig{Inner: true})
	long := packet{dst: alice, src: host, payload: 1350}.frame(t)
	sent := q.send(long)
	q.complain(&sent[0], 1000)
	q.send(long)
	got := inner.have(t)
	if len(got) != 3 || got[0].Verdict != verdictPassed || got[1].Verdict != verdictMade || got[2].Verdict != txTooBig || !bytes.Equal(got[2].Bytes, long) {
		t.Errorf("too long for the path: %+v", got)
	}
	if mtu, _ := told(t, got[1].Bytes); mtu != 1000-50 {
		t.Errorf("the answer tells of %d bytes", mtu)
	}
}

func TestCaptureFilter(t *testing.T) {
	tcp6 := packet{dst: alice, src: host, v6: true, tcp: true}.frame(t)
	udp4 := packet{dst: bob, src: host}.frame(t)
	arp := question{src: host, from: host4, target: bob4}.frame(t)
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Static = []StaticEntry{{alice, vtepA}, {bob, vtepB}}
	})
	q := r.add(11, peers(vtepC))
	prefix := netip.MustParsePrefix
	for _, tc := range []struct {
		name   string
		filter CaptureFilter
		// How many of what follows, in the outer view and in the inner one.
		outer, inner int
	}{
		{"all", CaptureFilter{}, 12, 11},
		{"VNI", CaptureFilter{VNIs: []vxlan.VNI{10}}, 7, 6},
		{"two VNIs", CaptureFilter{VNIs: []vxlan.VNI{10, 11, 12}}, 10, 9},
		{"VNI that is not here", CaptureFilter{VNIs: []vxlan.VNI{99}}, 1, 1},
		{"in", CaptureFilter{Direction: In}, 6, 6},
		{"out", CaptureFilter{Direction: Out}, 6, 5},
		{"peer", CaptureFilter{Peer: vtepB.Addr()}, 2, 2},
		{"peer mapped into IPv6", CaptureFilter{Peer: netip.AddrFrom16(vtepC.Addr().As16())}, 4, 4},
		{"MAC, of either side", CaptureFilter{MAC: alice}, 5, 5},
		{"another MAC", CaptureFilter{MAC: guest}, 0, 0},
		{"IP, also of ARP and behind a tag", CaptureFilter{IP: prefix("10.0.1.3/32")}, 3, 2},
		{"IP prefix", CaptureFilter{IP: prefix("10.0.1.77/24")}, 9, 8},
		{"IPv4 prefix mapped into IPv6", CaptureFilter{IP: netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.1.0"), 120)}, 9, 8},
		{"IPv6", CaptureFilter{IP: prefix("fd00::2/128")}, 1, 1},
		{"all of IPv6", CaptureFilter{IP: prefix("::/0")}, 1, 1},
		{"drops", CaptureFilter{Drops: true}, 3, 3},
		{"drops of a VNI", CaptureFilter{Drops: true, VNIs: []vxlan.VNI{10}}, 1, 1},
		{"nothing", CaptureFilter{MAC: alice, Peer: vtepC.Addr(), Direction: Out}, 0, 0},
	} {
		outer, inner := r.capture(CaptureConfig{CaptureFilter: tc.filter}), r.capture(CaptureConfig{CaptureFilter: tc.filter, Inner: true})
		p.send(tcp6)                 // to A
		p.send(udp4)                 // to B
		p.send(vlan(arp, 7))         // to both
		q.send(arp)                  // to C
		q.send(raw(group, host, 64)) // to C
		p.arrive(vtepA.Addr(), packet{dst: host, src: alice}.frame(t))
		p.arrive(vtepA.Addr(), packet{dst: host, src: alice, tcp: true}.frame(t))
		p.arrive(vtepC.Addr(), packet{dst: host, src: alice}.frame(t)) // dropped
		q.arrive(vtepC.Addr(), packet{dst: host, src: alice}.frame(t))
		r.datagrams(vtepA.Addr(), 0, encap(99, packet{dst: host, src: bob}.frame(t)), make([]byte, 30))
		for view, n := range map[string]int{"outer": len(outer.have(t)) - tc.outer, "inner": len(inner.have(t)) - tc.inner} {
			if n != 0 {
				t.Errorf("%s, %s view: %+d frames", tc.name, view, n)
			}
		}
		outer.Stop()
		inner.Stop()
	}
}

// A capture of what is lost takes no room for what is not.
func TestCaptureDropsNeedRoomForDropsOnly(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	c := p.rig.capture(CaptureConfig{CaptureFilter: CaptureFilter{Drops: true}, Buffer: 1})
	for range 2 * leastCells {
		p.arrive(vtepA.Addr(), raw(host, alice, 64))
		p.send(raw(alice, host, 64))
	}
	p.arrive(vtepC.Addr(), raw(host, alice, 64))
	if got := c.have(t); len(got) != 1 || got[0].Verdict != rxUnknownVTEP || c.Missed() != 0 {
		t.Errorf("captured %+v, missed %d", got, c.Missed())
	}
}

// A reader who is slow loses captures and nothing else.
func TestCaptureMisses(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	full, idle := p.rig.capture(CaptureConfig{Buffer: 1}), p.rig.capture(CaptureConfig{})
	frame := raw(host, alice, 64)
	for range 3 * leastCells {
		if got := p.arrived(vtepA.Addr(), frame); len(got) != 1 {
			t.Fatal("the frame did not come")
		}
	}
	if got := full.have(t); len(got) != leastCells || full.Missed() != 2*leastCells {
		t.Errorf("captured %d, missed %d", len(got), full.Missed())
	}
	if got := idle.have(t); len(got) != 3*leastCells || idle.Missed() != 0 {
		t.Errorf("the other captured %d, missed %d", len(got), idle.Missed())
	}
	// There is room again, also for what goes over the end of the ring.
	long := raw(host, alice, 1400)
	for range leastCells {
		p.arrive(vtepA.Addr(), long)
		if got := full.have(t); len(got) != 1 || !bytes.Equal(got[0].Bytes[50:], long) {
			t.Fatalf("captured %+v", got)
		}
	}
}

// Whatever the device hands over and whatever arrives, captures and counters
// agree, and show the bytes of the wire.
func TestCaptureAgreesWithCounters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t)
		p := r.add(10, func(c *VNIConfig) {
			c.Peers = []netip.AddrPort{vtepA, vtepB}
			c.Static = []StaticEntry{{alice, vtepA}, {bob, vtepB}}
			c.VLAN = VLANDrop
			c.Device.(*card).features = rapid.SampledFrom([]tap.Features{0, tap.AllFeatures}).Draw(t, "features")
		})
		unlucky := rapid.SampledFrom([]int{0, 2, 5}).Draw(t, "one in so many fails")
		tries := 0
		fails := func() bool { tries++; return unlucky > 0 && tries%unlucky == 0 }
		r.wire.fail = func(*transport.Train) error {
			if fails() {
				return syscall.ENOBUFS
			}
			return nil
		}
		p.card.fail = func(*tap.Vector) error {
			if fails() {
				return syscall.EIO
			}
			return nil
		}
		outer, inner := r.capture(CaptureConfig{}), r.capture(CaptureConfig{Inner: true, SnapLen: 200})
		drops := r.capture(CaptureConfig{CaptureFilter: CaptureFilter{Drops: true}, SnapLen: 300})

		some := func() []byte {
			f := packet{
				dst: rapid.SampledFrom([]vxlan.MAC{alice, bob, host, broadcast, {2, 9}}).Draw(t, "to"),
				src: rapid.SampledFrom([]vxlan.MAC{host, alice, alice, bob, group}).Draw(t, "from"),
				tcp: rapid.Bool().Draw(t, "TCP"), tos: rapid.SampledFrom([]uint8{0, 1, 2, 3}).Draw(t, "ECN"),
				payload: rapid.SampledFrom([]int{0, 100, 1398}).Draw(t, "payload"),
			}.frame(t)
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0:
				return f[:rapid.IntRange(0, 30).Draw(t, "length")]
			case 1:
				return vlan(f, 5)
			}
			return f
		}
		var batch []tap.Frame
		for range rapid.IntRange(0, 30).Draw(t, "frames out") {
			if rapid.IntRange(0, 4).Draw(t, "superframe") == 0 {
				f := packet{dst: alice, src: host, tcp: true, payload: 5000}.superframe(t, 1000)
				f.Bytes = bytes.Clone(f.Bytes)
				batch = append(batch, f)
				continue
			}
			batch = append(batch, tap.Frame{Bytes: some()})
		}
		given := len(batch)
		var left [][]byte
		for _, d := range datagrams(p.carry(batch...)) {
			left = append(left, bytes.Clone(d))
		}
		var trains []transport.Train
		var came [][]byte
		for range rapid.IntRange(0, 30).Draw(t, "datagrams in") {
			d := encap(rapid.SampledFrom([]vxlan.VNI{10, 10, 10, 11}).Draw(t, "VNI"), some())
			came = append(came, bytes.Clone(d))
			trains = append(trains, transport.Train{
				Buf: d, Addr: rapid.SampledFrom([]netip.AddrPort{vtepA, vtepA, vtepB, vtepC}).Draw(t, "VTEP"),
				TOS: rapid.SampledFrom([]uint8{0, 1, 2, 3}).Draw(t, "outer ECN"),
			})
		}
		r.r.batch(trains, r.now)

		if n := outer.Missed() + inner.Missed() + drops.Missed(); n != 0 {
			t.Fatalf("%d missed", n)
		}
		c, e := p.counters(), r.endpointCounters()
		seen := outer.have(t)
		sameDrops(t, seen, c, e)
		var out, in [][]byte
		for i := range seen {
			if f := &seen[i]; f.Outer {
				_, udp := unwrapped(t, f)
				switch {
				case f.Direction == In:
					in = append(in, udp.Payload)
				case f.Verdict == verdictPassed:
					out = append(out, udp.Payload)
				}
			}
		}
		if !slices.EqualFunc(out, left, bytes.Equal) {
			t.Fatalf("%d datagrams left, %d captured, or not the same", len(left), len(out))
		}
		if !slices.EqualFunc(in, came, bytes.Equal) {
			t.Fatalf("%d datagrams came, %d captured, or not the same", len(came), len(in))
		}
		lost := drops.have(t)
		sameDrops(t, lost, c, e)
		if byVerdict(lost)[verdictPassed.String()] != 0 {
			t.Fatal("a capture of drops has more")
		}
		// Each frame of the device once, and again where it was lost later.
		seen = inner.have(t)
		n := 0
		for i := range seen {
			f := &seen[i]
			if f.Direction == Out && f.Verdict != txNoBuffer {
				n++
			}
			if len(f.Bytes) > 200 {
				t.Fatalf("%d bytes kept", len(f.Bytes))
			}
		}
		if n != given {
			t.Fatalf("%d frames of the device, %d captured", given, n)
		}
		sameDrops(t, seen, c, e)
	})
}

// Those who carry frames and the reader do not get into each other's way, and
// each frame is whole.
func TestCaptureConcurrently(t *testing.T) {
	const writers, each = 4, 3000
	for _, size := range []int{64, 700, 5000} {
		ring := newCaptureRing(64 << 10)
		var writing sync.WaitGroup
		for w := range writers {
			writing.Go(func() {
				b := make([]byte, size)
				for i := range each {
					for k := 0; k+8 <= size; k += 8 {
						binary.LittleEndian.PutUint64(b[k:], uint64(w)<<32|uint64(i))
					}
					s := sighting{vni: vxlan.VNI(w)}
					ring.put(&s, size, size, b[:size/3], b[:0], b[size/3:]).commit(Verdict(i % 3))
				}
			})
		}
		c := &Capture{e: &Endpoint{}, ring: ring, ended: make(chan struct{}), snapLen: size, inner: true}
		go func() {
			writing.Wait()
			c.end()
		}()
		var got, want [writers]uint64
		read := uint64(0)
		for {
			f, err := c.Next(context.Background())
			if err != nil {
				if !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				break
			}
			read++
			first := binary.LittleEndian.Uint64(f.Bytes)
			w, i := first>>32, first&0xFFFFFFFF
			for k := 0; k+8 <= size; k += 8 {
				if binary.LittleEndian.Uint64(f.Bytes[k:]) != first {
					t.Fatalf("%d bytes: torn at %d", size, k)
				}
			}
			if uint64(f.VNI) != w || f.Verdict != Verdict(i%3) || i < want[w] {
				t.Fatalf("%d bytes: frame %d of writer %d after %d, %+v", size, i, w, want[w], f)
			}
			want[w] = i + 1
			got[w]++
		}
		if total := read + c.Missed(); total != writers*each {
			t.Errorf("%d bytes: %d read and %d missed of %d", size, read, c.Missed(), writers*each)
		}
	}
}

// A reader waits for frames, for the end of the capture, of the endpoint and of
// its own patience.
func TestCaptureWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		p := r.add(10, peers(vtepA))
		c := r.capture(CaptureConfig{})
		next := make(chan error)
		wait := func(ctx context.Context) {
			go func() {
				_, err := c.Next(ctx)
				next <- err
			}()
			synctest.Wait()
		}
		wait(context.Background())
		p.send(raw(alice, host, 64))
		if err := <-next; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		wait(ctx)
		if err := <-next; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.send(raw(alice, host, 64))
		c.Stop()
		c.Stop()
		p.send(raw(alice, host, 64))
		for _, want := range []error{nil, ErrClosed, ErrClosed} {
			if _, err := c.Next(context.Background()); err != want {
				t.Errorf("%v, want %v", err, want)
			}
		}
		c = r.capture(CaptureConfig{})
		wait(context.Background())
		if err := r.e.Close(); err != nil {
			t.Error(err)
		}
		if err := <-next; err != ErrClosed {
			t.Error(err)
		}
		if _, err := r.e.Capture(CaptureConfig{}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestCaptureRefused(t *testing.T) {
	e := newRig(t).e
	for _, cfg := range []CaptureConfig{
		{SnapLen: -1}, {Buffer: -1}, {Buffer: mostCaptureBuffer + 1},
		{CaptureFilter: CaptureFilter{VNIs: []vxlan.VNI{1 << 24}}}, {CaptureFilter: CaptureFilter{Direction: 3}},
	} {
		if _, err := e.Capture(cfg); err == nil || !strings.HasPrefix(err.Error(), "vtep: capture: ") {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	for range mostCaptures {
		if _, err := e.Capture(CaptureConfig{Buffer: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Capture(CaptureConfig{}); !errors.Is(err, ErrCaptures) {
		t.Errorf("one more: %v", err)
	}
	e.capturing()[3].Stop()
	if _, err := e.Capture(CaptureConfig{}); err != nil {
		t.Error(err)
	}
}

func TestParseDirection(t *testing.T) {
	for s, want := range map[string]Direction{"in": In, "out": Out, "both": Both} {
		if d, err := ParseDirection(s); d != want || err != nil || d.String() != s {
			t.Errorf("%q: %v, %v", s, d, err)
		}
	}
	if _, err := ParseDirection("inout"); err == nil || !strings.Contains(err.Error(), `"inout"`) {
		t.Errorf("%v", err)
	}
}

// A capture takes frames without allocating.
func TestCaptureAllocatesNothing(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA}
		c.Device.(*card).quiet = true
	})
	p.rig.wire.quiet = true
	for _, cfg := range []CaptureConfig{{}, {Inner: true}, {CaptureFilter: CaptureFilter{Drops: true, IP: netip.MustParsePrefix("10.0.0.0/8")}}} {
		defer p.rig.capture(cfg).Stop()
	}
	small := packet{dst: alice, src: host, payload: 22}.frame(t)
	frames := []tap.Frame{{Bytes: small}, {Bytes: small[:10]}}
	train := transport.Train{Buf: encap(10, raw(host, alice, 64)), Addr: vtepA}
	stranger := transport.Train{Buf: encap(10, packet{dst: host, src: alice}.frame(t)), Addr: vtepC}
	trains := make([]transport.Train, 2)
	n := testing.AllocsPerRun(1000, func() {
		p.tx.carry(p.w, frames)
		trains[0], trains[1] = train, stranger
		p.rig.r.batch(trains, p.rig.now)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Any filter on any bytes: no panic, and the verdict of a plain reading.
func FuzzCaptureFilter(f *testing.F) {
	f.Add(packet{dst: alice, src: host}.frame(f), uint8(0), []byte{10, 0, 1, 100})
	f.Add(vlan(question{src: host, from: host4, target: bob4}.frame(f), 1, 2, 3, 4), uint8(1), []byte{10, 0, 1, 3})
	f.Add(packet{dst: alice, src: host, v6: true, tcp: true}.frame(f), uint8(2), netip.MustParseAddr("fd00::1").AsSlice())
	f.Fuzz(func(t *testing.T, b []byte, bits uint8, ip []byte) {
		var filter CaptureFilter
		if a, ok := netip.AddrFromSlice(ip); ok {
			filter.IP = netip.PrefixFrom(a, int(bits)%(a.BitLen()+1))
		}
		if len(ip) >= 6 {
			copy(filter.MAC[:], ip)
		}
		if err := filter.check(); err != nil {
			t.Skip()
		}
		s := sighting{}
		got := filter.wants(&s, b)
		if !got {
			return
		}
		if filter.MAC != (vxlan.MAC{}) && !bytes.Contains(b[:min(len(b), 12)], filter.MAC[:]) {
			t.Errorf("%+v wants %x", filter, b)
		}
		// An address of the prefix is somewhere in the frame.
		if !filter.IP.IsValid() {
			return
		}
		n := len(filter.IP.Addr().AsSlice())
		for i := 14; i+n <= len(b); i++ {
			if a, _ := netip.AddrFromSlice(b[i : i+n]); filter.IP.Contains(a) {
				return
			}
		}
		t.Errorf("%+v wants %x", filter, b)
	})
}
