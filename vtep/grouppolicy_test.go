package vtep

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// encapWith is encap with more bits set in the header.
func encapWith(v vxlan.VNI, bits uint64, frame []byte) []byte {
	b := encap(v, frame)
	binary.BigEndian.PutUint64(b, binary.BigEndian.Uint64(b)|bits)
	return b
}

func TestGroupSent(t *testing.T) {
	for _, tc := range []struct {
		policy *GroupPolicy
		want   uint64
	}{
		{nil, 0},
		{&GroupPolicy{}, 0},
		{&GroupPolicy{Accept: []uint16{1}}, 0},
		{&GroupPolicy{Send: vxlan.GBP{ID: 0x1234}}, 0x8000_1234 << 32},
		{&GroupPolicy{Send: vxlan.GBP{ID: 0xFFFF, DontLearn: true, Applied: true}}, 0x8048_FFFF << 32},
		{&GroupPolicy{Send: vxlan.GBP{Applied: true}}, 0x8008_0000 << 32},
	} {
		p := newRig(t).add(4097, func(c *VNIConfig) { c.Peers, c.GroupPolicy = []netip.AddrPort{vtepA}, tc.policy })
		small := raw(broadcast, host, 64)
		trains := p.send(small, small)
		trains = append(trains, p.carry(packet{dst: alice, src: host, tcp: true, payload: 5000}.superframe(t, 1000))...)
		n := 0
		for _, d := range datagrams(trains) {
			n++
			if got := vxlan.ReservedBits(d); got != tc.want {
				t.Errorf("%+v: bits %#016x, want %#016x", tc.policy, got, tc.want)
			}
			if h, _, err := vxlan.Parse(d); h.VNI != 4097 || err != nil {
				t.Errorf("%+v: VNI %v, %v", tc.policy, h.VNI, err)
			}
		}
		if n != 7 {
			t.Errorf("%d datagrams", n)
		}
	}
}

// PROTOCOL: B5, D9 to D11.
func TestReservedBits(t *testing.T) {
	const (
		strict = vxlan.ReservedBitsMask
		gbp    = uint64(0x8008_1234) << 32
		last   = uint64(1)
	)
	for _, tc := range []struct {
		name    string
		refused uint64
		policy  *GroupPolicy
		bits    uint64
		dropped bool
	}{
		{"ignore, none", 0, nil, 0, false},
		{"ignore, all", 0, nil, strict, false},
		{"strict, none", strict, nil, 0, false},
		{"strict, last", strict, nil, last, true},
		{"strict, group", strict, nil, gbp, true},
		{"strict with groups, group", strict &^ vxlan.GBPBits, &GroupPolicy{}, gbp, false},
		{"strict with groups, another", strict &^ vxlan.GBPBits, &GroupPolicy{}, gbp | 1<<48, true},
		{"mask, outside it", 0xFF, nil, gbp, false},
		{"mask, inside it", 0xFF, nil, last, true},
		{"highest bit of the mask", 1 << 63, nil, gbp, true},
	} {
		p := newRig(t).add(10, func(c *VNIConfig) {
			c.Peers, c.ReservedBits, c.GroupPolicy = []netip.AddrPort{vtepA}, tc.refused, tc.policy
		})
		frame := raw(host, alice, 64)
		p.rig.datagrams(vtepA.Addr(), 0, encapWith(10, tc.bits, frame))
		got, c := p.card.frames(), p.counters()
		if dropped := len(got) == 0; dropped != tc.dropped || c.RxDropReservedBits != uint64(1-len(got)) || c.RxFrames != uint64(len(got)) {
			t.Errorf("%s: dropped %v, counters %+v", tc.name, dropped, c)
		}
		if _, known := p.o.table.Lookup([6]byte(alice)); known == tc.dropped {
			t.Errorf("%s: learned %v", tc.name, known)
		}
	}
	for _, cfg := range []VNIConfig{
		{ReservedBits: 0x08 << 56}, {ReservedBits: 0x100}, {ReservedBits: strict, GroupPolicy: &GroupPolicy{}},
		{ReservedBits: 1 << 32, GroupPolicy: &GroupPolicy{}},
	} {
		r := newRig(t)
		cfg.VNI, cfg.Device = 1, newCard(t)
		if r.e.AddVNI(cfg) == nil {
			t.Errorf("bits %#x were accepted", cfg.ReservedBits)
		}
	}
}

func TestGroupsAccepted(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers, c.GroupPolicy = []netip.AddrPort{vtepA}, &GroupPolicy{Accept: []uint16{7, 0xFFFF}}
	})
	var want [][]byte
	var drops uint64
	for i, tc := range []struct {
		bits      uint64
		delivered bool
	}{
		{vxlan.GBP{ID: 7}.Bits(), true},
		{vxlan.GBP{ID: 0xFFFF}.Bits(), true},
		{vxlan.GBP{ID: 6}.Bits(), false},
		{vxlan.GBP{ID: 0x0700}.Bits(), false},
		{vxlan.GBP{}.Bits(), false},
		{0, false},
		{7 << 32, false}, // without the G bit
		{vxlan.GBP{ID: 6, Applied: true}.Bits(), true},
		{vxlan.GBP{ID: 7, Applied: true, DontLearn: true}.Bits(), true},
	} {
		frame := raw(host, vxlan.MAC{2, 7, 7, 7, 7, byte(i)}, 64+i)
		p.rig.datagrams(vtepA.Addr(), 0, encapWith(10, tc.bits, frame))
		if tc.delivered {
			want = append(want, frame)
		} else {
			drops++
		}
	}
	if got := p.card.frames(); !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("got %x, want %x", got, want)
	}
	if c := p.counters(); c.RxDropGroup != drops || c.RxFrames != uint64(len(want)) {
		t.Errorf("counters %+v", c)
	}
	groups := p.rig.e.Status().VNIs[0].Groups
	if !slices.Equal(groups, []GroupStatus{{6, 1}, {7, 2}, {0xFFFF, 1}}) {
		t.Errorf("groups %+v", groups)
	}
	// Frames without a group are group 0.
	p = newRig(t).add(10, func(c *VNIConfig) {
		c.Peers, c.GroupPolicy = []netip.AddrPort{vtepA}, &GroupPolicy{Accept: []uint16{0}}
	})
	if got := p.arrived(vtepA.Addr(), raw(host, alice, 64)); len(got) != 1 {
		t.Error("a frame without a group was dropped")
	}
	if without := newRig(t).add(10, peers(vtepA)); without.rig.e.Status().VNIs[0].Groups != nil {
		t.Error("groups without a policy")
	}
}

// The D flag: nothing is learned, and static entries still hold.
func TestDontLearn(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers, c.GroupPolicy = []netip.AddrPort{vtepA, vtepB}, &GroupPolicy{}
		c.Static = []StaticEntry{{bob, vtepB}}
	})
	dont, may := vxlan.GBP{ID: 1, DontLearn: true}.Bits(), vxlan.GBP{ID: 1}.Bits()
	is := func(mac vxlan.MAC, want netip.AddrPort) {
		t.Helper()
		to, ok := p.o.table.Lookup([6]byte(mac))
		if ok != want.IsValid() || ok && to.Addr != want {
			t.Errorf("%v is at %v (%v), want %v", mac, to, ok, want)
		}
	}
	say := func(from netip.AddrPort, mac vxlan.MAC, bits ...uint64) int {
		t.Helper()
		var all [][]byte
		for _, b := range bits {
			all = append(all, encapWith(10, b, raw(host, mac, 64)))
		}
		p.rig.datagrams(from.Addr(), 0, all...)
		return len(p.card.frames())
	}
	if n := say(vtepA, alice, dont); n != 1 {
		t.Error("not delivered")
	}
	is(alice, netip.AddrPort{})
	if n := say(vtepA, alice, dont, may, dont); n != 3 {
		t.Errorf("%d delivered, want 3", n)
	}
	is(alice, vtepA)
	// It neither moves nor is it refused.
	if n := say(vtepB, alice, dont); n != 1 {
		t.Error("not delivered from another VTEP")
	}
	is(alice, vtepA)
	say(vtepB, alice, may)
	is(alice, vtepB)
	if n := say(vtepA, bob, dont); n != 0 || p.counters().RxDropStaticMAC != 1 {
		t.Errorf("a static entry was passed by: %+v", p.counters())
	}
	if n := say(vtepB, bob, dont); n != 1 {
		t.Error("not delivered from where the static entry points to")
	}
	if n := say(vtepA, broadcast, dont); n != 0 {
		t.Error("a source that cannot be was delivered")
	}
}

// Nothing is allocated for packets with a group, and a train of them is one.
func TestGroupsAllocateNothing(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers, c.GroupPolicy = []netip.AddrPort{vtepA}, &GroupPolicy{Send: vxlan.GBP{ID: 3}, Accept: []uint16{5, 6}}
		c.ReservedBits = vxlan.ReservedBitsMask &^ vxlan.GBPBits
		c.Device.(*card).quiet = true
	})
	p.rig.wire.quiet = true
	out := framesOf(raw(broadcast, host, 64))
	var in []transport.Train
	for _, id := range []uint16{5, 6, 7} {
		in = append(in, transport.Train{Buf: encapWith(10, vxlan.GBP{ID: id}.Bits(), raw(host, alice, 64)), Addr: vtepA})
	}
	if n := testing.AllocsPerRun(100, func() {
		p.tx.carry(p.w, out)
		p.rig.r.batch(in, p.rig.now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if c := p.counters(); c.TxFrames < 100 || c.RxFrames < 200 || c.RxDropGroup < 100 {
		t.Errorf("counters %+v", c)
	}
}
