package vtep

import (
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"pgregory.net/rapid"
)

// sum adds up the counters whose names begin so, also those that come to be
// after this test.
func sum(counters any, prefix string) (n uint64) {
	v := reflect.ValueOf(counters)
	for i := range v.NumField() {
		if strings.HasPrefix(v.Type().Field(i).Tag.Get("json"), prefix) {
			n += v.Field(i).Uint()
		}
	}
	return n
}

// newLongRig is a rig that knows the MTU of all paths.
func newLongRig(t tester, pmtu int) *rig {
	t.Helper()
	r := &rig{t: t, wire: newWire(), now: time.Hour}
	e, err := New(Config{Conn: r.wire, PathMTU: pmtu, Clock: func() time.Duration { return r.now }})
	if err != nil {
		t.Fatal(err)
	}
	r.e, r.r = e, &receiver{e: e, outlets: make(map[*overlay]*outlet)}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// anyFrame is what a program may do to a device.
func anyFrame(t *rapid.T) tap.Frame {
	mac := rapid.SampledFrom([]vxlan.MAC{alice, bob, broadcast, group, {}, {2, 9}})
	size := rapid.SampledFrom([]int{0, 1, 64, 900, 1400, 1472})
	pkt := packet{dst: mac.Draw(t, "to"), src: host, payload: size.Draw(t, "payload"),
		tcp: rapid.Bool().Draw(t, "tcp"), v6: rapid.Bool().Draw(t, "v6")}
	var f tap.Frame
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		f.Bytes = rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "bytes")
		f.Header.Flags = rapid.SampledFrom([]uint8{0, tap.NeedsChecksum}).Draw(t, "flags")
		f.Header.ChecksumStart = rapid.Uint16Range(0, 100).Draw(t, "checksum")
	case 1, 2:
		pkt.payload = rapid.SampledFrom([]int{100, 3000, 20000}).Draw(t, "payload")
		f = pkt.superframe(t, rapid.SampledFrom([]int{50, 1000, 1398}).Draw(t, "segment"))
	case 3:
		f = pkt.superframe(t, 1000)
		f.Header.HeaderBytes = rapid.Uint16Range(0, 200).Draw(t, "header")
		f.Header.SegmentBytes = rapid.Uint16Range(0, 3).Draw(t, "segment")
	case 4:
		f.Bytes = vlan(pkt.frame(t), rapid.SampledFrom([]uint16{1, 100, 4095}).Draw(t, "VID"))
	case 5:
		f.Bytes = arpRequest(rapid.SampledFrom([]byte{1, 7, 9}).Draw(t, "target"))
	default:
		f.Bytes = pkt.frame(t)
	}
	f.Bytes = append([]byte(nil), f.Bytes...)
	return f
}

// arpRequest asks for 10.0.1.target.
func arpRequest(target byte) []byte {
	f := raw(broadcast, host, 42)
	copy(f[12:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1})
	copy(f[22:], host[:])
	copy(f[28:], []byte{10, 0, 1, 100, 0, 0, 0, 0, 0, 0, 10, 0, 1, target})
	return f
}

// standsFor is how many frames of a wire a frame is, said plainly.
func standsFor(f *tap.Frame) uint64 {
	var s tap.Splitter
	if f.Header.GSO == tap.GSONone || s.Init(&f.Header, f.Bytes) != nil {
		return 1
	}
	return uint64(s.Segments())
}

// TestEveryFrameOutIsAccountedFor: whatever a device hands over and whatever
// fails, each frame is sent, answered, or counted under one reason.
func TestEveryFrameOutIsAccountedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newLongRig(t, rapid.SampledFrom([]int{1500, 1500, 600}).Draw(t, "path MTU"))
		c := newCard(t)
		trunk := rapid.Bool().Draw(t, "trunk")
		arp := rapid.SampledFrom([]ARPMode{ARPFlood, ARPSuppress, ARPProxy}).Draw(t, "arp")
		mode := rapid.SampledFrom([]VLANMode{VLANKeep, VLANStrip, VLANDrop}).Draw(t, "vlan")
		df := rapid.SampledFrom([]DF{DFUnset, DFSet}).Draw(t, "df")
		guard := Guard{AntiSpoof: rapid.SampledFrom([]AntiSpoof{AntiSpoofOff, AntiSpoofMAC, AntiSpoofIP}).Draw(t, "anti-spoof")}
		if guard.AntiSpoof == AntiSpoofIP && rapid.Bool().Draw(t, "known") {
			guard.LocalIPs = []netip.Prefix{netip.MustParsePrefix("10.0.1.100/32"), netip.MustParsePrefix("fd00::/64")}
		}
		guard.Storm.PerSecond = rapid.SampledFrom([]int{0, 0, 1, 10}).Draw(t, "storm")
		flooding := rapid.Bool().Draw(t, "flooding")
		add := func(v vxlan.VNI, vid uint16) *port {
			p := r.add(v, func(cfg *VNIConfig) {
				cfg.Device, cfg.Trunk, cfg.VID = c, trunk, vid
				cfg.VLAN, cfg.ARP, cfg.Outer.DF, cfg.ClampMSS = mode, arp, df, true
				cfg.Guard = guard
				cfg.Static = []StaticEntry{{alice, vtepA}, {bob, vtepB}}
				if flooding {
					cfg.Peers = []netip.AddrPort{vtepA} // one: a copy is a frame
				}
				if arp != ARPFlood {
					cfg.Neighbours = []Neighbour{{IP: netip.MustParseAddr("10.0.1.9"), MAC: alice}}
				}
			})
			p.tx.trunk = p.o.trunk
			return p
		}
		ports := []*port{add(10, 0)}
		if trunk {
			ports = append(ports, add(11, 100))
		}
		errs := []error{nil, syscall.ENETDOWN, syscall.ENOBUFS, syscall.EPERM, syscall.EMSGSIZE, transport.ErrNoFamily}
		r.wire.fail = func(*transport.Train) error { return rapid.SampledFrom(errs).Draw(t, "error") }

		var in, left uint64
		for range rapid.IntRange(1, 3).Draw(t, "batches") {
			var batch []tap.Frame
			for range rapid.IntRange(0, 40).Draw(t, "frames") {
				f := anyFrame(t)
				in += standsFor(&f)
				batch = append(batch, f)
			}
			short := rapid.IntRange(0, 2).Draw(t, "too short to be read")
			in += uint64(short)
			ports[0].tx.short(short)
			left += uint64(len(datagrams(ports[0].carry(batch...))))
		}
		s, err := r.e.Stats()
		if err != nil {
			t.Fatal(err)
		}
		out, lost, answered := uint64(0), sum(s.Counters, "tx_drop_"), uint64(0)
		for _, v := range s.VNIs {
			out += v.Counters.TxFrames
			lost += sum(v.Counters, "tx_drop_")
			answered += v.Counters.TxARPAnswered
		}
		if out != left {
			t.Fatalf("%d datagrams left, %d frames counted", left, out)
		}
		if in != out+lost+answered {
			t.Fatalf("%d frames in, but %d sent, %d dropped, %d answered: %+v", in, out, lost, answered, s)
		}
	})
}

// TestEveryDatagramInIsAccountedFor: whatever arrives and whatever fails, each
// datagram is a frame of the device, or counted under one reason.
func TestEveryDatagramInIsAccountedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(t)
		var ports []*port
		for _, v := range []vxlan.VNI{10, 11} {
			ports = append(ports, r.add(v, func(c *VNIConfig) {
				c.Peers = []netip.AddrPort{vtepA, vtepB}
				c.Static = []StaticEntry{{bob, vtepB}}
				c.VLAN = rapid.SampledFrom([]VLANMode{VLANKeep, VLANDrop}).Draw(t, "vlan")
				c.ReservedBits = rapid.SampledFrom([]uint64{0, vxlan.ReservedBitsMask &^ vxlan.GBPBits}).Draw(t, "reserved bits")
				c.MaxEntries = 2
				if rapid.Bool().Draw(t, "group policy") {
					c.GroupPolicy = &GroupPolicy{Accept: []uint16{0, 5}}
				}
				c.Device.(*card).features = rapid.SampledFrom([]tap.Features{0, tap.AllFeatures}).Draw(t, "features")
				c.Device.(*card).fail = func(*tap.Vector) error {
					return rapid.SampledFrom([]error{nil, nil, syscall.EIO}).Draw(t, "error")
				}
			}))
		}
		var in, arrived uint64
		for range rapid.IntRange(1, 3).Draw(t, "batches") {
			var trains []transport.Train
			for range rapid.IntRange(0, 20).Draw(t, "trains") {
				var buf []byte
				stride := rapid.SampledFrom([]int{0, 30, 72, 1508}).Draw(t, "stride")
				for range rapid.IntRange(1, 4).Draw(t, "datagrams") {
					v := rapid.SampledFrom([]vxlan.VNI{10, 11, 12}).Draw(t, "VNI")
					bits := rapid.SampledFrom([]uint64{0, 0, 1, uint64(5) << 32, vxlan.GBPBits}).Draw(t, "bits")
					src := rapid.SampledFrom([]vxlan.MAC{alice, bob, host, group, {}, {2, 9}, {2, 8}}).Draw(t, "source")
					dst := rapid.SampledFrom([]vxlan.MAC{host, broadcast, group}).Draw(t, "destination")
					f := raw(dst, src, max(stride, 30)-vxlan.HeaderLen)
					if rapid.Bool().Draw(t, "tagged") {
						f[12], f[13] = 0x81, 0
					}
					d := encapWith(v, bits, f)
					if rapid.IntRange(0, 5).Draw(t, "I flag") == 0 {
						d[0] &^= 8
					}
					buf = append(buf, d...)
					if stride == 0 {
						break
					}
				}
				if stride == 0 {
					buf = buf[:rapid.IntRange(0, len(buf)).Draw(t, "length")]
				}
				trains = append(trains, transport.Train{
					Buf: buf, Stride: stride, TOS: uint8(rapid.IntRange(0, 3).Draw(t, "ECN")),
					Addr: rapid.SampledFrom([]netip.AddrPort{vtepA, vtepB, vtepC}).Draw(t, "from"),
				})
				in += uint64(trains[len(trains)-1].Len())
			}
			r.r.batch(trains, r.now)
		}
		for _, p := range ports {
			for _, v := range p.card.vectorsTaken() {
				arrived += uint64(len(v.Parts))
			}
		}
		s, err := r.e.Stats()
		if err != nil {
			t.Fatal(err)
		}
		out, lost := uint64(0), sum(s.Counters, "rx_drop_")
		for _, v := range s.VNIs {
			out += v.Counters.RxFrames
			lost += sum(v.Counters, "rx_drop_")
			if c := v.Counters; c.RxBroadcast+c.RxMulticast > c.RxFrames+c.RxDropDevice || c.RxCoalesced > c.RxFrames {
				t.Fatalf("more of a kind than there are: %+v", c)
			}
		}
		if out != arrived {
			t.Fatalf("%d frames at the devices, %d counted", arrived, out)
		}
		if in != out+lost {
			t.Fatalf("%d datagrams in, but %d delivered and %d dropped: %+v", in, out, lost, s)
		}
	})
}

// TestKindsOfFramesAreCounted: what is for many, and what offloads made one.
func TestKindsOfFramesAreCounted(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Static = []StaticEntry{{alice, vtepA}}
		c.Device.(*card).features = tap.AllFeatures
	})
	super := func(to vxlan.MAC) tap.Frame {
		return packet{dst: to, src: host, tcp: true, payload: 3000}.superframe(t, 1000)
	}
	plain := func(to vxlan.MAC) tap.Frame { return tap.Frame{Bytes: raw(to, host, 64)} }
	p.carry(plain(broadcast), plain(broadcast), plain(group), plain(bob), plain(alice), super(alice), super(bob))
	c := p.counters()
	if c.TxBroadcast != 2 || c.TxMulticast != 1 || c.TxUnknown != 1+3 || c.TxSuperframes != 2 {
		t.Errorf("out: %+v", c)
	}
	if flooded := 2 * uint64(2+1+1+3); c.TxFlooded != flooded || c.TxFrames != flooded+1+3 {
		t.Errorf("out: %+v", c)
	}
	if c.TxTrains == 0 || c.TxTrains > c.TxFrames {
		t.Errorf("%d trains of %d frames", c.TxTrains, c.TxFrames)
	}
	var segments [][]byte
	for i := range 3 {
		segments = append(segments, packet{dst: host, src: alice, tcp: true, payload: 1000, seq: uint32(1000 * i)}.frame(t))
	}
	p.arrive(vtepA.Addr(), append(segments, raw(broadcast, alice, 64), raw(group, alice, 64), raw(group, alice, 64))...)
	if c = p.counters(); c.RxBroadcast != 1 || c.RxMulticast != 2 || c.RxSuperframes != 1 || c.RxCoalesced != 3 || c.RxFrames != 6 {
		t.Errorf("in: %+v", c)
	}
	p.card.fail = func(*tap.Vector) error { return syscall.EIO }
	p.arrive(vtepA.Addr(), segments...)
	if c = p.counters(); c.RxSuperframes != 1 || c.RxCoalesced != 3 || c.RxFrames != 6 || c.RxDropDevice != 3 {
		t.Errorf("in, of a device that is down: %+v", c)
	}
}
