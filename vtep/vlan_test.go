package vtep

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
)

// vlanFrame is vlan for a frame with a header whose offsets move along.
func vlanFrame(f tap.Frame, tags ...uint16) tap.Frame {
	f.Bytes = vlan(f.Bytes, tags...)
	f.Header.HeaderBytes += 4 * uint16(len(tags))
	f.Header.ChecksumStart += 4 * uint16(len(tags))
	return f
}

// qinq is a frame with an 802.1ad tag around an 802.1Q one.
func qinq(f []byte) []byte {
	f = vlan(f, 5, 6)
	f[12], f[13] = 0x88, 0xA8
	return f
}

// PROTOCOL: D35 to D37.
func TestVLANModes(t *testing.T) {
	plain := packet{dst: alice, src: host, payload: 100}.frame(t)
	deep := vlan(plain, 1, 2, 3, 4)
	for _, tc := range []struct {
		mode    VLANMode
		frame   []byte
		out     []byte // nil: dropped
		arrives bool
	}{
		{VLANKeep, plain, plain, true},
		{VLANKeep, vlan(plain, 5), vlan(plain, 5), true},
		{VLANKeep, qinq(plain), qinq(plain), true},
		{VLANStrip, plain, plain, true},
		{VLANStrip, vlan(plain, 5), plain, false},
		{VLANStrip, vlan(plain, 0), plain, false},
		{VLANStrip, qinq(plain), plain, false},
		{VLANStrip, deep, plain, false},
		{VLANStrip, vlan(deep, 0), nil, false}, // one more than anybody looks at
		{VLANStrip, vlan(plain, 5)[:16], nil, false},
		{VLANDrop, plain, plain, true},
		{VLANDrop, vlan(plain, 5), nil, false},
		{VLANDrop, qinq(plain), nil, false},
	} {
		name := fmt.Sprintf("mode %d, %x", tc.mode, tc.frame[12:min(len(tc.frame), 24)])
		p := newRig(t).add(10, func(c *VNIConfig) { c.Peers, c.VLAN = []netip.AddrPort{vtepA}, tc.mode })
		var want [][]byte
		if tc.out != nil {
			want = [][]byte{tc.out}
		}
		if got := decaps(t, 10, p.send(tc.frame)); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%s: sent %x, want %x", name, got, want)
		}
		c := p.counters()
		if c.TxFrames != uint64(len(want)) || c.TxDropVLAN != uint64(1-len(want)) {
			t.Errorf("%s: counters %+v", name, c)
		}

		in := bytes.Clone(tc.frame)
		copy(in[6:], bob[:])
		got := p.arrived(vtepA.Addr(), in)
		if tc.arrives && !slices.EqualFunc(got, [][]byte{in}, bytes.Equal) || !tc.arrives && got != nil {
			t.Errorf("%s: arrived %x", name, got)
		}
		if c := p.counters(); tc.arrives != (c.RxDropVLAN == 0) || tc.arrives != (c.RxFrames == 1) {
			t.Errorf("%s: counters %+v", name, c)
		}
		if _, known := p.o.table.Lookup([6]byte(bob)); known != tc.arrives {
			t.Errorf("%s: learned %v", name, known)
		}
	}
}

// Superframes and partial checksums lose their tags, and what they stand for is
// as it was.
func TestVLANStripOffloads(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, tcp := range []bool{false, true} {
			p := newRig(t).add(10, func(c *VNIConfig) { c.Peers, c.VLAN = []netip.AddrPort{vtepA}, VLANStrip })
			pkt := packet{dst: alice, src: host, v6: v6, tcp: tcp, payload: 5000}
			want := plainOf(t, pkt.superframe(t, 1000))
			for _, tags := range [][]uint16{{5}, {5, 6}} {
				if got := decaps(t, 10, p.carry(vlanFrame(pkt.superframe(t, 1000), tags...))); !slices.EqualFunc(got, want, bytes.Equal) {
					t.Errorf("v6 %v, TCP %v: %d frames, want %d, or they differ", v6, tcp, len(got), len(want))
				}
			}
			partial := pkt.superframe(t, 0)
			partial.Header.GSO = tap.GSONone
			want = plainOf(t, partial)
			if got := decaps(t, 10, p.carry(vlanFrame(partial, 5))); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("v6 %v, TCP %v, partial checksum: frames differ", v6, tcp)
			}
		}
	}
	p := newRig(t).add(10, func(c *VNIConfig) { c.Peers, c.VLAN = []netip.AddrPort{vtepA}, VLANDrop })
	p.carry(vlanFrame(packet{dst: alice, src: host, tcp: true, payload: 5000}.superframe(t, 1000), 5))
	if c := p.counters(); c.TxDropVLAN != 5 {
		t.Errorf("a superframe of 5 frames was dropped: %+v", c)
	}
}

// plainOf is what a frame of the device stands for.
func plainOf(t tester, f tap.Frame) [][]byte {
	t.Helper()
	return plainFrames(t, &tap.Vector{Header: f.Header, Parts: [][]byte{bytes.Clone(f.Bytes)}})
}

func TestVLANModesAllocateNothing(t *testing.T) {
	for _, mode := range []VLANMode{VLANStrip, VLANDrop} {
		p := newRig(t).add(10, func(c *VNIConfig) {
			c.Peers, c.VLAN = []netip.AddrPort{vtepA}, mode
			c.Device.(*card).quiet = true
		})
		p.rig.wire.quiet = true
		frame := vlan(raw(broadcast, host, 64), 5)
		work := make([]byte, len(frame))
		batch := framesOf(work)
		in := []transport.Train{{Buf: encap(10, vlan(raw(host, alice, 64), 5)), Addr: vtepA}}
		if n := testing.AllocsPerRun(100, func() {
			copy(work, frame)
			batch[0].Bytes = work
			p.tx.carry(p.w, batch)
			p.rig.r.batch(in, p.rig.now)
		}); n != 0 {
			t.Errorf("mode %d: %v allocations", mode, n)
		}
		if c := p.counters(); c.TxFrames+c.TxDropVLAN < 100 || c.RxDropVLAN < 100 {
			t.Errorf("mode %d: counters %+v", mode, c)
		}
	}
}
