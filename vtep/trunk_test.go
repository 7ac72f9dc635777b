package vtep

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// newTrunk is a device with the VNIs 1000 + VID, whose peer is vtepA. The ports
// share one card and one transmitter.
func newTrunk(t tester, setup func(*VNIConfig), vids ...uint16) []*port {
	t.Helper()
	r, c := newRig(t), newCard(t)
	var ports []*port
	for _, vid := range vids {
		p := r.add(1000+vxlan.VNI(vid), func(cfg *VNIConfig) {
			cfg.Device, cfg.Trunk, cfg.VID, cfg.Peers = c, true, vid, []netip.AddrPort{vtepA}
			if setup != nil {
				setup(cfg)
			}
		})
		p.card = c
		p.tx.trunk = p.o.trunk
		ports = append(ports, p)
	}
	return ports
}

// vnisOf are the VNIs of datagrams, in their order.
func vnisOf(trains []transport.Train) []vxlan.VNI {
	var all []vxlan.VNI
	for _, d := range datagrams(trains) {
		h, _, _ := vxlan.Parse(d)
		all = append(all, h.VNI)
	}
	return all
}

// PROTOCOL: D38, on the way out.
func TestTrunkOut(t *testing.T) {
	p := newTrunk(t, nil, 0, 100, 4094)[0]
	plain := func(i byte) []byte { return raw(alice, vxlan.MAC{2, 0, 0, 0, 1, i}, 64) }
	priority := vlan(plain(1), 0xE000|100) // with priority bits
	for _, tc := range []struct {
		name  string
		frame []byte
		vni   vxlan.VNI // 0: dropped
		sent  []byte
	}{
		{"untagged", plain(1), 1000, plain(1)},
		{"VLAN 100", vlan(plain(1), 100), 1100, plain(1)},
		{"VLAN 100 with priority", priority, 1100, plain(1)},
		{"VLAN 4094", vlan(plain(1), 4094), 5094, plain(1)},
		{"VLAN 0 is none", vlan(plain(1), 0x2000), 1000, plain(1)},
		{"a tag inside", vlan(plain(1), 100, 7), 1100, vlan(plain(1), 7)},
		{"802.1ad is no VLAN of ours", qinq(plain(1)), 1000, qinq(plain(1))},
		{"VLAN 101", vlan(plain(1), 101), 0, nil},
		{"VLAN 4095", vlan(plain(1), 4095), 0, nil},
	} {
		before := p.rig.e.Status().Counters.TxDropUnknownVLAN
		trains := p.send(tc.frame)
		if tc.vni == 0 {
			if n := p.rig.e.Status().Counters.TxDropUnknownVLAN - before; len(trains) != 0 || n != 1 {
				t.Errorf("%s: %d trains, %d counted", tc.name, len(trains), n)
			}
			continue
		}
		if got := vnisOf(trains); !slices.Equal(got, []vxlan.VNI{tc.vni}) {
			t.Errorf("%s: VNIs %v, want %v", tc.name, got, tc.vni)
			continue
		}
		if got := decaps(t, tc.vni, trains)[0]; !bytes.Equal(got, tc.sent) {
			t.Errorf("%s: sent %x, want %x", tc.name, got, tc.sent)
		}
	}
	// Mixed in one batch: each VNI's frames in their order.
	var batch [][]byte
	want := make(map[vxlan.VNI][][]byte)
	for i := range byte(60) {
		f := plain(i)
		switch i % 3 {
		case 0:
			batch, want[1000] = append(batch, f), append(want[1000], f)
		case 1:
			batch, want[1100] = append(batch, vlan(f, 100)), append(want[1100], f)
		default:
			batch, want[5094] = append(batch, vlan(f, 4094)), append(want[5094], f)
		}
	}
	got := make(map[vxlan.VNI][][]byte)
	for _, d := range datagrams(p.send(batch...)) {
		h, f, err := vxlan.Parse(d)
		if err != nil {
			t.Fatal(err)
		}
		got[h.VNI] = append(got[h.VNI], f)
	}
	for v := range want {
		if !slices.EqualFunc(got[v], want[v], bytes.Equal) {
			t.Errorf("VNI %v: %d frames, want %d, or another order", v, len(got[v]), len(want[v]))
		}
	}
}

// Without a VNI for frames without a tag they are dropped.
func TestTrunkWithoutNative(t *testing.T) {
	p := newTrunk(t, nil, 100)[0]
	super := packet{dst: alice, src: host, tcp: true, payload: 3000}.superframe(t, 1000)
	if trains := p.carry(tap.Frame{Bytes: raw(alice, host, 64)}, super); trains != nil {
		t.Errorf("sent %v", trains)
	}
	if n := p.rig.e.Status().Counters.TxDropUnknownVLAN; n != 4 {
		t.Errorf("%d counted, want 4", n)
	}
}

// Superframes keep their offloads and lose their tag; they are one train each.
func TestTrunkSuperframes(t *testing.T) {
	p := newTrunk(t, nil, 0, 100)[0]
	for _, v6 := range []bool{false, true} {
		for _, tcp := range []bool{false, true} {
			pkt := packet{dst: alice, src: host, v6: v6, tcp: tcp, payload: 60000}
			want := plainOf(t, pkt.superframe(t, 1398))
			trains := p.carry(vlanFrame(pkt.superframe(t, 1398), 100))
			if len(trains) != 1 {
				t.Errorf("%d trains, want 1", len(trains))
			}
			if got := decaps(t, 1100, trains); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("v6 %v, TCP %v: %d frames, want %d, or they differ", v6, tcp, len(got), len(want))
			}
		}
	}
}

// PROTOCOL: D38, on the way in: the tag is back, whatever becomes of the frame.
func TestTrunkIn(t *testing.T) {
	ports := newTrunk(t, nil, 0, 100, 200)
	c := ports[0].card
	for _, f := range [][]byte{
		raw(host, alice, 64), raw(host, alice, 14), vlan(raw(host, alice, 64), 7),
		packet{dst: host, src: alice, payload: 100}.frame(t),
	} {
		for i, p := range ports {
			want := f
			if vid := []uint16{0, 100, 200}[i]; vid != 0 {
				want = vlan(f, vid)
			}
			before := p.counters().RxBytes
			if got := p.arrived(vtepA.Addr(), f); !slices.EqualFunc(got, [][]byte{want}, bytes.Equal) {
				t.Errorf("VNI %v: got %x, want %x", p.vni, got, want)
			}
			if n := p.counters().RxBytes - before; n != uint64(len(f)) {
				t.Errorf("VNI %v: %d bytes counted for %d", p.vni, n, len(f))
			}
		}
	}
	// Segments of one flow, congestion marks, a device that takes nothing.
	c.features = tap.AllFeatures
	var segments, want [][]byte
	for i := range 20 {
		f := packet{dst: host, src: alice, tcp: true, id: uint16(i), seq: uint32(i * 1000), payload: 1000, tos: 2}.frame(t)
		segments = append(segments, f)
		marked := packet{dst: host, src: alice, tcp: true, id: uint16(i), seq: uint32(i * 1000), payload: 1000, tos: 3}.frame(t)
		want = append(want, vlan(marked, 100))
	}
	ports = newTrunk(t, nil, 100)
	p := ports[0]
	p.card.features = tap.AllFeatures
	var datagrams [][]byte
	for _, f := range segments {
		datagrams = append(datagrams, encap(p.vni, f))
	}
	p.rig.datagrams(vtepA.Addr(), 3, datagrams...)
	if got := p.card.frames(); !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d segments arrived, want %d, or they differ", len(got), len(want))
	}
	p.card.fail = func(*tap.Vector) error { return syscall.EIO }
	before := p.counters()
	p.arrive(vtepA.Addr(), segments...)
	if after := p.counters(); after.RxBytes != before.RxBytes || after.RxFrames != before.RxFrames || after.RxDropDevice != 20 {
		t.Errorf("with the device down: %+v, before %+v", after, before)
	}
}

// VLANMode is about the tags that are left.
func TestTrunkVLANMode(t *testing.T) {
	p := newTrunk(t, func(c *VNIConfig) { c.VLAN = VLANDrop }, 100)[0]
	f := raw(alice, host, 64)
	if got := decaps(t, 1100, p.send(vlan(f, 100), vlan(f, 100, 5))); !slices.EqualFunc(got, [][]byte{f}, bytes.Equal) {
		t.Errorf("sent %x", got)
	}
	in := raw(host, alice, 64)
	if got := p.arrived(vtepA.Addr(), in, vlan(in, 5)); !slices.EqualFunc(got, [][]byte{vlan(in, 100)}, bytes.Equal) {
		t.Errorf("arrived %x", got)
	}
	if c := p.counters(); c.TxDropVLAN != 1 || c.RxDropVLAN != 1 {
		t.Errorf("counters %+v", c)
	}
}

// An answer to an ARP request or a neighbour solicitation goes back with the tag
// that the question came with.
func TestTrunkAnswers(t *testing.T) {
	ports := newTrunk(t, func(c *VNIConfig) {
		c.ARP, c.Neighbours = ARPProxy, []Neighbour{{IP: alice4, MAC: alice}, {IP: alice6, MAC: alice}}
	}, 0, 100)
	for _, q := range []question{{src: guest, from: guest4, target: alice4}, {src: guest, from: guest6, target: alice6}} {
		plain := q.frame(t)
		if trains := ports[0].send(plain, vlan(plain, 100)); trains != nil {
			t.Errorf("sent %v", trains)
		}
		got := ports[0].card.frames()
		if len(got) != 2 || !bytes.Equal(got[1], vlan(got[0], 100)) || !bytes.Equal(got[0][:12], append(guest[:], alice[:]...)) {
			t.Errorf("answers %x", got)
		}
	}
}

func TestTrunkRefused(t *testing.T) {
	r, shared, alone := newRig(t), newCard(t), newCard(t)
	add := func(v vxlan.VNI, d tap.Device, trunk bool, vid uint16) error {
		return r.e.AddVNI(VNIConfig{VNI: v, Device: d, Trunk: trunk, VID: vid})
	}
	for _, err := range []error{add(1, shared, true, 0), add(2, shared, true, 5), add(3, alone, false, 0)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for what, err := range map[string]error{
		"VLAN twice": add(4, shared, true, 5), "no tag twice": add(4, shared, true, 0),
	} {
		if !errors.Is(err, ErrVLANExists) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"VNI twice": add(1, shared, true, 6), "VID 4095": add(4, shared, true, 4095), "VID without trunk": add(4, newCard(t), false, 5),
		"trunk, not so called": add(4, shared, false, 0), "device of another": add(4, alone, true, 5),
	} {
		if err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	s := r.e.Status()
	if len(s.VNIs) != 3 || s.VNIs[0].VLAN != 0 || s.VNIs[1].VLAN != 5 {
		t.Errorf("status %+v", s.VNIs)
	}
	// The device goes with the last VNI, and a VLAN is free when its VNI is gone.
	if err := r.e.DelVNI(2); err != nil || shared.closes.Load() != 0 {
		t.Error(err, "or the device is closed")
	}
	if err := add(5, shared, true, 5); err != nil {
		t.Error(err)
	}
	if err := errors.Join(r.e.DelVNI(1), r.e.DelVNI(5)); err != nil || shared.closes.Load() != 1 {
		t.Errorf("%v, closed %d times", err, shared.closes.Load())
	}
	if len(r.e.trunks) != 0 {
		t.Error("a trunk without VNIs is left")
	}
}

// Two sites that run, joined by trunks: what has a tag here has it there, VNIs
// come and go while the device lives on, and a device that vanishes takes all of
// its VNIs along.
func TestTrunkRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := transport.NewNetwork(transport.NetworkConfig{})
		a, b := on(t, network, self), on(t, network, vtepA)
		var devices []*tap.Memory
		for i, s := range []*site{a, b} {
			dev := tap.NewMemory(tap.MemoryConfig{Name: "trunk0", MAC: []byte{2, 0xFE, 0, 0, 0, byte(i)}})
			devices = append(devices, dev)
			other := vtepA
			if s == b {
				other = self
			}
			for _, vid := range []uint16{0, 100, 200} {
				err := s.e.AddVNI(VNIConfig{VNI: vxlan.VNI(vid), Device: dev, Trunk: true, VID: vid, Peers: []netip.AddrPort{other}})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		far := &station{dev: devices[1]}
		go far.collect()
		crosses := func(f []byte, want bool) {
			t.Helper()
			if err := devices[0].HostSend(f); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := far.take(); want && !slices.EqualFunc(got, [][]byte{f}, bytes.Equal) || !want && got != nil {
				t.Errorf("%x arrived for %x, wanted: %v", got, f, want)
			}
		}
		frame := raw(broadcast, host, 64)
		crosses(frame, true)
		crosses(vlan(frame, 100), true)
		crosses(vlan(frame, 200), true)
		crosses(vlan(frame, 300), false)
		if err := a.e.DelVNI(100); err != nil {
			t.Error(err)
		}
		crosses(vlan(frame, 100), false)
		crosses(vlan(frame, 200), true)
		if s := b.e.FDB(200); len(s) != 2 || s[1].MAC != host {
			t.Errorf("learned in VNI 200: %+v", s)
		}
		a.stop()
		b.stop()
	})
}

// A trunk that vanishes ends its VNIs, not the others; as the last device it
// ends Run.
func TestTrunkVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, newWire())
		shared, alone := newCard(t), newCard(t)
		for i, cfg := range []VNIConfig{
			{Device: shared, Trunk: true}, {Device: shared, Trunk: true, VID: 5}, {Device: alone},
		} {
			cfg.VNI = vxlan.VNI(i)
			if err := s.e.AddVNI(cfg); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		shared.pipe <- syscall.EIO
		synctest.Wait()
		if v := s.e.Status().VNIs; len(v) != 1 || v[0].VNI != 2 || shared.closes.Load() != 1 {
			t.Errorf("left: %+v, closed %d times", v, shared.closes.Load())
		}
		last := newCard(t)
		if err := errors.Join(s.e.AddVNI(VNIConfig{VNI: 7, Device: last, Trunk: true, VID: 1}), s.e.AddVNI(VNIConfig{VNI: 8, Device: last, Trunk: true, VID: 2}), s.e.DelVNI(2)); err != nil {
			t.Fatal(err)
		}
		last.pipe <- syscall.EIO
		if err := <-s.result; !errors.Is(err, syscall.EIO) {
			t.Errorf("run ended with %v", err)
		}
		s.cancel()
	})
}

func TestTrunkAllocatesNothing(t *testing.T) {
	ports := newTrunk(t, func(c *VNIConfig) { c.Device.(*card).quiet = true }, 0, 100, 200)
	p := ports[0]
	p.rig.wire.quiet = true
	var frames [][]byte
	for i := range 60 {
		frames = append(frames, vlan(raw(broadcast, host, 64), []uint16{100, 200, 300}[i%3]))
	}
	frames = append(frames, raw(broadcast, host, 64))
	work := make([]tap.Frame, len(frames))
	for i := range work {
		work[i].Bytes = make([]byte, len(frames[i]))
	}
	batch := make([]tap.Frame, len(frames))
	in := encap(1100, raw(host, alice, 64))
	buf := make([]byte, len(in))
	trains := []transport.Train{{Buf: buf, Addr: vtepA}}
	if n := testing.AllocsPerRun(100, func() {
		for i := range frames {
			copy(work[i].Bytes, frames[i])
		}
		copy(batch, work)
		p.tx.carry(p.w, batch)
		copy(buf, in)
		p.rig.r.batch(trains, p.rig.now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for i, want := range []uint64{100, 2000, 2000} {
		if c := ports[i].counters(); c.TxFrames < want {
			t.Errorf("VNI %v: %s", ports[i].vni, fmt.Sprintf("%+v", c))
		}
	}
	if c := ports[1].counters(); c.RxFrames < 100 {
		t.Errorf("counters %+v", c)
	}
}
