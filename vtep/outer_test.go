package vtep

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// withIP changes an inner frame's TTL, DF bit and, in IPv6, flow label.
func withIP(f []byte, ttl uint8, df bool, label uint32) []byte {
	f = bytes.Clone(f)
	ip := f[14:]
	if ip[0]>>4 == 6 {
		binary.BigEndian.PutUint32(ip, binary.BigEndian.Uint32(ip)&^0xFFFFF|label)
		ip[7] = ttl
		return f
	}
	ip[8], ip[6] = ttl, 0
	if df {
		ip[6] = 0x40
	}
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], checksum.Checksum(ip[:20], 0))
	return f
}

// vlan puts tags in front of a frame's EtherType, the outermost first.
func vlan(f []byte, tags ...uint16) []byte {
	b := bytes.Clone(f[:12])
	for _, t := range tags {
		b = binary.BigEndian.AppendUint16(b, 0x8100)
		b = binary.BigEndian.AppendUint16(b, t)
	}
	return append(b, f[12:]...)
}

// fields are the outer fields of a train.
func fields(t *transport.Train) outerFields {
	return outerFields{label: t.FlowLabel, ttl: t.TTL, tos: t.TOS, df: t.DontFragment}
}

// PROTOCOL: B7 to B10.
func TestOuterFields(t *testing.T) {
	v4 := withIP(packet{dst: alice, src: host, tos: 0xB8}.frame(t), 17, false, 0)
	v4df := withIP(packet{dst: alice, src: host, tos: 0xB9}.frame(t), 255, true, 0)
	v6 := withIP(packet{dst: alice, src: host, v6: true, tos: 0x2A}.frame(t), 3, false, 0xABCDE)
	zero := withIP(packet{dst: alice, src: host}.frame(t), 0, true, 0)
	other := raw(alice, host, 64)
	all := OuterConfig{InheritTTL: true, InheritTOS: true, DF: DFInherit, InheritFlowLabel: true}
	fixed := OuterConfig{TTL: 5, TOS: 0x48, DF: DFSet, FlowLabel: 7}
	for _, tc := range []struct {
		name  string
		outer OuterConfig
		frame []byte
		want  outerFields
	}{
		{"nothing, IPv4", OuterConfig{}, v4, outerFields{}},
		{"nothing, IPv4 with ECT(1)", OuterConfig{}, v4df, outerFields{tos: 1}},
		{"nothing, IPv6", OuterConfig{}, v6, outerFields{tos: 2}},
		{"nothing, not IP", OuterConfig{}, other, outerFields{}},
		{"fixed, IPv4", fixed, v4, outerFields{ttl: 5, tos: 0x48, df: true, label: 7}},
		{"fixed, IPv4 with ECT(1)", fixed, v4df, outerFields{ttl: 5, tos: 0x49, df: true, label: 7}},
		{"fixed, IPv6", fixed, v6, outerFields{ttl: 5, tos: 0x4A, df: true, label: 7}},
		{"fixed, not IP", fixed, other, outerFields{ttl: 5, tos: 0x48, df: true, label: 7}},
		{"inherited, IPv4", all, v4, outerFields{ttl: 17, tos: 0xB8}},
		{"inherited, IPv4 with DF", all, v4df, outerFields{ttl: 255, tos: 0xB9, df: true}},
		{"inherited, IPv6", all, v6, outerFields{ttl: 3, tos: 0x2A, df: true, label: 0xABCDE}},
		{"inherited, TTL 0", all, zero, outerFields{df: true}},
		{"inherited, not IP", all, other, outerFields{}},
		{"inherited, tagged IPv4 with DF", all, vlan(v4df, 5), outerFields{ttl: 255, tos: 0xB9, df: true}},
		{"inherited, IPv6 behind two tags", all, vlan(v6, 5, 6), outerFields{ttl: 3, tos: 0x2A, df: true, label: 0xABCDE}},
		{"TTL alone", OuterConfig{InheritTTL: true}, v6, outerFields{ttl: 3, tos: 2}},
		{"TOS alone", OuterConfig{InheritTOS: true}, v6, outerFields{tos: 0x2A}},
		{"DF alone", OuterConfig{DF: DFInherit}, v4df, outerFields{tos: 1, df: true}},
		{"flow label alone", OuterConfig{InheritFlowLabel: true}, v6, outerFields{tos: 2, label: 0xABCDE}},
		{"fixed TOS, inherited TTL", OuterConfig{InheritTTL: true, TOS: 0x20}, v4, outerFields{tos: 0x20, ttl: 17}},
	} {
		p := newRig(t).add(10, func(c *VNIConfig) { c.Peers, c.Outer = []netip.AddrPort{vtepA}, tc.outer })
		trains := p.send(tc.frame)
		if len(trains) != 1 || fields(&trains[0]) != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, trains, tc.want)
		}
	}
}

// PROTOCOL: B43. What the outer ECN field is, for each inner one.
func TestECNOut(t *testing.T) {
	for mode, want := range map[ECNMode][4]uint8{ECNRFC6040: {0, 1, 2, 3}, ECNKernel: {0, 1, 2, 2}} {
		for _, dscp := range []OuterConfig{{}, {TOS: 0xFC}, {InheritTOS: true}} {
			for _, v6 := range []bool{false, true} {
				cfg := dscp
				cfg.ECN = mode
				p := newRig(t).add(10, func(c *VNIConfig) { c.Peers, c.Outer = []netip.AddrPort{vtepA}, cfg })
				for inner := range uint8(4) {
					wantTOS := want[inner] | dscp.TOS
					if dscp.InheritTOS {
						wantTOS |= 0x28
					}
					trains := p.send(packet{dst: alice, src: host, v6: v6, tos: 0x28 | inner}.frame(t))
					if len(trains) != 1 || trains[0].TOS != wantTOS {
						t.Errorf("mode %d, inner %d: outer TOS %#x, want %#x", mode, inner, trains[0].TOS, wantTOS)
					}
				}
			}
		}
	}
}

// PROTOCOL: B44. All 16 pairs on the way in, by both sets of rules.
func TestECNIn(t *testing.T) {
	for _, mode := range []ECNMode{ECNRFC6040, ECNKernel} {
		decap := vxlan.DecapECN
		if mode == ECNKernel {
			decap = vxlan.KernelDecapECN
		}
		for outer := range vxlan.ECN(4) {
			for inner := range vxlan.ECN(4) {
				r := newRig(t)
				p := r.add(10, func(c *VNIConfig) { c.Peers, c.Outer.ECN = []netip.AddrPort{vtepA}, mode })
				pkt := packet{dst: host, src: alice, tos: 0xB8 | uint8(inner)}
				r.datagrams(vtepA.Addr(), 0x40|uint8(outer), encap(10, pkt.frame(t)))
				e, verdict := decap(outer, inner)
				pkt.tos = 0xB8 | uint8(e)
				var want [][]byte
				var c Counters
				if verdict == vxlan.ECNDrop {
					c.RxDropECN = 1
				} else {
					want = [][]byte{pkt.frame(t)}
				}
				if verdict == vxlan.ECNAlert {
					c.RxECNAlert = 1
				}
				if got := p.card.frames(); !slices.EqualFunc(got, want, bytes.Equal) {
					t.Errorf("mode %d, outer %v, inner %v: got %x, want %x", mode, outer, inner, got, want)
				}
				if got := p.counters(); got.RxDropECN != c.RxDropECN || got.RxECNAlert != c.RxECNAlert {
					t.Errorf("mode %d, outer %v, inner %v: counters %+v", mode, outer, inner, got)
				}
			}
		}
	}
}

// Frames with other outer fields do not share a train; those of a flow keep
// their order; a superframe is as whole as without.
func TestOuterFieldsPartTrains(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Static = []StaticEntry{{alice, vtepA}}
		c.Outer = OuterConfig{InheritTTL: true, InheritTOS: true, DF: DFInherit, InheritFlowLabel: true}
	})
	base := packet{dst: alice, src: host, payload: 100}.frame(t)
	var frames [][]byte
	var want []string
	for _, run := range []struct {
		ttl uint8
		df  bool
		n   int
	}{{64, true, 3}, {63, true, 2}, {63, false, 1}, {64, true, 4}} {
		for range run.n {
			frames = append(frames, withIP(base, run.ttl, run.df, 0))
		}
		want = append(want, fmt.Sprint(run.n, run.ttl, run.df))
	}
	trains := p.send(frames...)
	var got []string
	for i := range trains {
		got = append(got, fmt.Sprint(trains[i].Len(), trains[i].TTL, trains[i].DontFragment))
	}
	if !slices.Equal(got, want) {
		t.Errorf("trains %v, want %v", got, want)
	}
	if got := decaps(t, 10, trains); !slices.EqualFunc(got, frames, bytes.Equal) {
		t.Error("frames differ, or their order")
	}
	for _, v6 := range []bool{false, true} {
		trains = p.carry(packet{dst: alice, src: host, v6: v6, tcp: true, tos: 2, payload: 60000}.superframe(t, 1398))
		if len(trains) != 1 || trains[0].Len() != 43 {
			t.Errorf("superframe: %d trains", len(trains))
		}
		if got, want := fields(&trains[0]), (outerFields{ttl: 64, tos: 2, df: true}); got != want {
			t.Errorf("superframe: %+v, want %+v", got, want)
		}
	}
	// Flooded copies are all alike.
	flood := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers, c.Outer = []netip.AddrPort{vtepA, vtepB}, OuterConfig{InheritTTL: true}
	})
	trains = flood.send(withIP(packet{dst: broadcast, src: host}.frame(t), 9, false, 0))
	if len(trains) != 2 || trains[0].TTL != 9 || trains[1].TTL != 9 {
		t.Errorf("flooded: %+v", trains)
	}
}

func TestOuterConfigRefused(t *testing.T) {
	for _, outer := range []OuterConfig{
		{TTL: 1, InheritTTL: true}, {TOS: 4, InheritTOS: true}, {FlowLabel: 1, InheritFlowLabel: true},
		{TOS: 1}, {TOS: 0xB9}, {FlowLabel: 1 << 20}, {DF: 3}, {ECN: 2},
	} {
		r := newRig(t)
		if err := r.e.AddVNI(VNIConfig{VNI: 1, Device: newCard(t), Outer: outer}); err == nil {
			t.Errorf("%+v was accepted", outer)
		}
	}
}

func TestInheritingAllocatesNothing(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Static = []StaticEntry{{alice, vtepA}}
		c.Outer = OuterConfig{InheritTTL: true, InheritTOS: true, DF: DFInherit, InheritFlowLabel: true}
	})
	p.rig.wire.quiet = true
	batch := framesOf(withIP(packet{dst: alice, src: host}.frame(t), 9, false, 0), withIP(packet{dst: alice, src: host, v6: true}.frame(t), 8, false, 5))
	if n := testing.AllocsPerRun(100, func() { p.tx.carry(p.w, batch) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if c := p.counters(); c.TxFrames < 200 {
		t.Errorf("counters %+v", c)
	}
}

// framesOf is a batch of plain frames.
func framesOf(frames ...[]byte) []tap.Frame {
	batch := make([]tap.Frame, len(frames))
	for i, f := range frames {
		batch[i].Bytes = f
	}
	return batch
}
