package vtep

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/vxlan"
)

// where is what the FDB says of a MAC: "VTEP kind", or "" when it is unknown.
func (p *port) where(mac vxlan.MAC) string {
	for _, e := range p.rig.e.FDB(p.vni) {
		if e.MAC == mac && e.Kind != "flood" {
			return netip.AddrPortFrom(e.VTEP, e.Port).String() + " " + e.Kind
		}
	}
	return ""
}

func TestLearnsWhereAStationIs(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA, vtepB))

	if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA, vtepB}) {
		t.Errorf("unknown MAC goes to %v, want all peers", got)
	}
	f := raw(host, alice, 64)
	if got := p.arrived(vtepB.Addr(), f); len(got) != 1 || !slices.Equal(got[0], f) {
		t.Fatalf("delivered %x, want %x", got, f)
	}
	if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepB}) {
		t.Errorf("learned MAC goes to %v, want %v alone", got, vtepB)
	}
	if got, want := p.where(alice), vtepB.String()+" learned"; got != want {
		t.Errorf("FDB says %q, want %q", got, want)
	}
}

func TestLearnedPortIsThePeersAndNotThePackets(t *testing.T) {
	own := netip.MustParseAddrPort("192.168.52.205:8472")
	p := newRig(t).add(10, peers(vtepA, own))
	for _, tc := range []struct {
		mac  vxlan.MAC
		peer netip.AddrPort
	}{{alice, vtepA}, {bob, own}} {
		p.arrive(tc.peer.Addr(), raw(host, tc.mac, 64)) // from source port 50000
		if got := destinations(p.send(raw(tc.mac, host, 64))); !slices.Equal(got, []netip.AddrPort{tc.peer}) {
			t.Errorf("frames to %v go to %v, want %v", tc.mac, got, tc.peer)
		}
	}
}

// One host may run two VTEPs. Frames show its address only, and answers go to
// the first of its ports that is still a peer.
func TestTwoPeersOfOneAddress(t *testing.T) {
	first, second := netip.AddrPortFrom(vtepA.Addr(), 4790), netip.AddrPortFrom(vtepA.Addr(), 4791)
	r := newRig(t)
	p := r.add(10, peers(first, second))
	answer := func(want netip.AddrPort) {
		t.Helper()
		p.arrive(vtepA.Addr(), raw(host, alice, 64))
		if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{want}) {
			t.Errorf("answers go to %v, want %v", got, want)
		}
	}
	if got := destinations(p.send(raw(bob, host, 64))); !slices.Equal(got, []netip.AddrPort{first, second}) {
		t.Errorf("flooded to %v", got)
	}
	answer(first)
	if err := r.e.DelPeer(10, first); err != nil {
		t.Fatal(err)
	}
	answer(second)
	if err := r.e.AddPeer(10, first); err != nil {
		t.Fatal(err)
	}
	answer(second)
	if err := r.e.DelPeer(10, second); err != nil {
		t.Fatal(err)
	}
	answer(first)
	if err := r.e.DelPeer(10, first); err != nil {
		t.Fatal(err)
	}
	if got := p.arrived(vtepA.Addr(), raw(host, alice, 64)); got != nil {
		t.Errorf("frame of a VTEP that is no peer any more was delivered: %x", got)
	}
}

// A VTEP that was known for another reason before answers at its configured
// port as soon as it is made a peer.
func TestPeerPortCountsOverOtherReasons(t *testing.T) {
	own := netip.AddrPortFrom(vtepA.Addr(), 8472)
	t.Run("stranger", func(t *testing.T) {
		r := newRig(t)
		p := r.add(10, func(c *VNIConfig) { c.AllowUnknownVTEPs = true })
		p.arrive(own.Addr(), raw(host, alice, 64))
		if got, want := p.where(alice), vtepA.String()+" learned"; got != want {
			t.Errorf("stranger's station: %q, want %q (our own port)", got, want)
		}
		if err := r.e.AddPeer(10, own); err != nil {
			t.Fatal(err)
		}
		p.arrive(own.Addr(), raw(host, alice, 64))
		if got, want := p.where(alice), own.String()+" learned"; got != want {
			t.Errorf("peer's station: %q, want %q", got, want)
		}
		if n := r.e.Status().VNIs[0].Peers[0].RxFrames; n != 2 {
			t.Errorf("%d frames counted for the peer, want both", n)
		}
	})
	t.Run("static entry", func(t *testing.T) {
		r := newRig(t)
		p := r.add(10, nil)
		if err := r.e.AddStatic(10, StaticEntry{bob, vtepA}); err != nil {
			t.Fatal(err)
		}
		if err := r.e.AddPeer(10, own); err != nil {
			t.Fatal(err)
		}
		p.arrive(own.Addr(), raw(host, alice, 64))
		if got, want := p.where(alice), own.String()+" learned"; got != want {
			t.Errorf("peer's station: %q, want %q", got, want)
		}
		if err := r.e.DelPeer(10, own); err != nil {
			t.Fatal(err)
		}
		p.arrive(own.Addr(), raw(host, alice, 64))
		if got, want := p.where(alice), vtepA.String()+" learned"; got != want {
			t.Errorf("station behind the static entry's VTEP: %q, want %q", got, want)
		}
	})
}

func TestStationMoves(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA, vtepB))
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	p.arrive(vtepB.Addr(), raw(host, alice, 64))
	if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepB}) {
		t.Errorf("after the move frames go to %v, want %v", got, vtepB)
	}
	if c := p.counters(); c.RxFrames != 2 {
		t.Errorf("%d frames delivered, want 2", c.RxFrames)
	}
	// Within one batch too: the memo of the last source must not hide it.
	p.arrive(vtepA.Addr(), raw(host, alice, 64), raw(host, alice, 64))
	if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA}) {
		t.Errorf("after moving back frames go to %v, want %v", got, vtepA)
	}
}

func TestLearningCanBeOff(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.DisableLearning = true
		c.Static = []StaticEntry{{bob, vtepB}}
	})
	if got := p.arrived(vtepA.Addr(), raw(host, alice, 64)); len(got) != 1 {
		t.Errorf("%d frames delivered, want 1", len(got))
	}
	if got := p.where(alice); got != "" {
		t.Errorf("learned %q", got)
	}
	if got := p.arrived(vtepA.Addr(), raw(host, bob, 64)); got != nil {
		t.Error("a frame that contradicts a static entry was delivered")
	}
	if c := p.counters(); c.RxDropStaticMAC != 1 {
		t.Errorf("counters %+v, want RxDropStaticMAC 1", c)
	}
}

func TestStaticEntryIsProtected(t *testing.T) {
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Static = []StaticEntry{{alice, vtepA}}
	})
	// Three frames: the verdict on the first must not let the others pass.
	f := raw(host, alice, 64)
	if got := p.arrived(vtepB.Addr(), f, f, f); got != nil {
		t.Errorf("%d frames from the wrong VTEP were delivered", len(got))
	}
	if got := p.arrived(vtepA.Addr(), f); len(got) != 1 {
		t.Errorf("%d frames from the right VTEP were delivered, want 1", len(got))
	}
	if got, want := p.where(alice), vtepA.String()+" static"; got != want {
		t.Errorf("entry is %q, want %q", got, want)
	}
	c := p.counters()
	if c.RxDropStaticMAC != 3 || c.RxFrames != 1 {
		t.Errorf("counters %+v, want RxDropStaticMAC 3, RxFrames 1", c)
	}

	if err := r.e.AddStatic(10, StaticEntry{alice, vtepB}); !errors.Is(err, fdb.ErrExists) {
		t.Errorf("second static entry: %v, want fdb.ErrExists", err)
	}
	if err := r.e.DelEntry(10, alice); err != nil {
		t.Fatal(err)
	}
	if got := p.arrived(vtepB.Addr(), f); len(got) != 1 {
		t.Error("after the entry was deleted, frames from the other VTEP are still dropped")
	}
	if err := r.e.DelEntry(10, bob); !errors.Is(err, fdb.ErrNotFound) {
		t.Errorf("delete of an unknown entry: %v, want fdb.ErrNotFound", err)
	}
}

// A static entry may name another port than the peer's: the packets of that
// VTEP carry neither of them.
func TestStaticEntryWithItsOwnPort(t *testing.T) {
	for _, learning := range []bool{true, false} {
		p := newRig(t).add(10, func(c *VNIConfig) {
			c.Peers = []netip.AddrPort{vtepA}
			c.Static = []StaticEntry{{alice, netip.AddrPortFrom(vtepA.Addr(), 5000)}}
			c.DisableLearning = !learning
		})
		if got := p.arrived(vtepA.Addr(), raw(host, alice, 64)); len(got) != 1 {
			t.Errorf("learning %v: frame from the VTEP that the static entry names was dropped: %+v", learning, p.counters())
		}
	}
}

// The target of a static entry may speak without being on the flood list.
func TestStaticEntryAdmitsItsVTEP(t *testing.T) {
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) { c.Static = []StaticEntry{{alice, vtepA}, {bob, vtepA}} })
	for left := 2; left >= 0; left-- {
		got := p.arrived(vtepA.Addr(), raw(host, vxlan.MAC{2, 9, 9, 9, 9, 9}, 64))
		if (len(got) == 1) != (left > 0) {
			t.Errorf("with %d static entries %d frames were delivered", left, len(got))
		}
		if left > 0 {
			if err := r.e.DelEntry(10, []vxlan.MAC{alice, bob}[left-1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := p.send(raw(broadcast, host, 64)); got != nil {
		t.Error("the target of a static entry got a broadcast")
	}
}

func TestSourcesThatAreNone(t *testing.T) {
	for _, tc := range []struct {
		name  string
		src   vxlan.MAC
		count func(*Counters) uint64
	}{
		{"own MAC", host, func(c *Counters) uint64 { return c.RxDropOwnMAC }},
		{"multicast", group, func(c *Counters) uint64 { return c.RxDropInvalidSource }},
		{"broadcast", broadcast, func(c *Counters) uint64 { return c.RxDropInvalidSource }},
		{"zero", vxlan.MAC{}, func(c *Counters) uint64 { return c.RxDropInvalidSource }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, learning := range []bool{true, false} {
				p := newRig(t).add(10, func(c *VNIConfig) {
					c.Peers = []netip.AddrPort{vtepA}
					c.DisableLearning = !learning
				})
				f := raw(broadcast, tc.src, 64)
				if got := p.arrived(vtepA.Addr(), raw(host, alice, 64), f, f, raw(host, alice, 64)); len(got) != 2 {
					t.Errorf("%d frames delivered, want the two good ones", len(got))
				}
				c := p.counters()
				if n := tc.count(&c); n != 2 || c.RxFrames != 2 {
					t.Errorf("counted %d drops, %d delivered; want 2, 2", n, c.RxFrames)
				}
				if got := p.where(tc.src); got != "" {
					t.Errorf("learned %q", got)
				}
			}
		})
	}
}

func TestSourceFilter(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA))
	f := raw(host, alice, 64)
	if got := p.arrived(vtepC.Addr(), f, f); got != nil {
		t.Errorf("%d frames of a stranger were delivered", len(got))
	}
	if c := p.counters(); c.RxDropUnknownVTEP != 2 || c.RxFrames != 0 {
		t.Errorf("counters %+v, want RxDropUnknownVTEP 2", c)
	}
	if got := p.where(alice); got != "" {
		t.Errorf("learned %q from a stranger", got)
	}
	if err := r.e.AddPeer(10, vtepC); err != nil {
		t.Fatal(err)
	}
	if got := p.arrived(vtepC.Addr(), f); len(got) != 1 {
		t.Error("frame of a new peer was dropped")
	}
}

func TestAllowUnknownVTEPs(t *testing.T) {
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) { c.AllowUnknownVTEPs = true })
	if got := p.arrived(vtepC.Addr(), raw(host, alice, 64)); len(got) != 1 {
		t.Fatal("frame of a stranger was dropped")
	}
	// Answers go to our own port, as Linux has it.
	if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{netip.AddrPortFrom(vtepC.Addr(), self.Port())}) {
		t.Errorf("answer goes to %v", got)
	}
	if got := p.send(raw(broadcast, host, 64)); got != nil {
		t.Errorf("a stranger got a broadcast: %v", destinations(got))
	}
	peers := r.e.Status().VNIs[0].Peers
	if len(peers) != 1 || peers[0].VTEP != vtepC.Addr() || peers[0].RxFrames != 1 || peers[0].TxFrames != 1 {
		t.Errorf("status lists %+v", peers)
	}
}

// However many addresses speak (or are forged), what is remembered of them is
// bounded, and all are served.
func TestStrangersAreBounded(t *testing.T) {
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) { c.AllowUnknownVTEPs = true })
	a := netip.MustParseAddr("10.0.0.0")
	const many = maxStrangers + 100
	for range many {
		p.arrive(a, raw(host, alice, 64))
		a = a.Next()
	}
	if n := len(*p.o.senders.Load()); n > maxStrangers {
		t.Errorf("%d strangers are remembered, want at most %d", n, maxStrangers)
	}
	if c := p.counters(); c.RxFrames != many {
		t.Errorf("%d frames delivered, want %d", c.RxFrames, many)
	}
	// Who is not remembered cannot be limited, and is not answered.
	r.wire.take()
	p.arrive(a, request(probe.Frame{Kind: probe.Request}, 60))
	if sent := r.wire.take(); len(sent) != 0 {
		t.Errorf("a probe of one more was answered: %+v", sent)
	}
}

func TestFullTableStillDelivers(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA}
		c.MaxEntries = 1
	})
	if got := p.arrived(vtepA.Addr(), raw(host, alice, 64), raw(host, bob, 64)); len(got) != 2 {
		t.Errorf("%d frames delivered, want 2", len(got))
	}
	if c := p.counters(); c.RxNotLearnedFull != 1 || c.RxFrames != 2 {
		t.Errorf("counters %+v, want RxNotLearnedFull 1", c)
	}
	if p.where(alice) == "" || p.where(bob) != "" {
		t.Errorf("alice %q, bob %q; want alice alone", p.where(alice), p.where(bob))
	}
}

func TestDelPeerForgets(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA, vtepB))
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	p.arrive(vtepB.Addr(), raw(host, bob, 64))
	if err := r.e.DelPeer(10, vtepA); err != nil {
		t.Fatal(err)
	}
	if p.where(alice) != "" || p.where(bob) == "" {
		t.Errorf("alice %q, bob %q; want bob alone", p.where(alice), p.where(bob))
	}
	if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepB}) {
		t.Errorf("alice's frames go to %v, want the remaining peer", got)
	}
	if got := p.arrived(vtepA.Addr(), raw(host, alice, 64)); got != nil {
		t.Error("frame of a deleted peer was delivered")
	}
	if err := r.e.DelPeer(10, vtepA); !errors.Is(err, ErrNoPeer) {
		t.Errorf("second delete: %v, want ErrNoPeer", err)
	}
	if err := r.e.AddPeer(10, vtepB); !errors.Is(err, ErrPeerExists) {
		t.Errorf("peer that is there: %v, want ErrPeerExists", err)
	}
	if err := r.e.AddPeer(11, vtepB); !errors.Is(err, ErrNoVNI) {
		t.Errorf("VNI that is not there: %v, want ErrNoVNI", err)
	}
}

func TestLastHeardAndAge(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA, vtepB))
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	r.now += 90 * time.Second
	s := r.e.Status()
	heard := s.VNIs[0].Peers
	if heard[0].LastHeard == nil || *heard[0].LastHeard != 90 || heard[1].LastHeard != nil {
		t.Errorf("peers %+v: want 90 s for the first, never for the second", heard)
	}
	if s.Uptime != 90 {
		t.Errorf("uptime %v, want 90", s.Uptime)
	}
	for _, e := range r.e.FDB() {
		if e.MAC == alice && (e.Age == nil || *e.Age != 90) {
			t.Errorf("entry %+v: want age 90 s", e)
		}
	}
}

func TestEntriesAge(t *testing.T) {
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA}
		c.Ageing = time.Minute
		c.Static = []StaticEntry{{group, vtepA}, {vxlan.MAC{2, 7}, vtepA}}
	})
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	r.now += 45 * time.Second
	p.arrive(vtepA.Addr(), raw(host, bob, 64))
	r.now += 30 * time.Second // alice is silent for 75 s, bob for 30
	// What we send keeps nobody alive.
	p.send(raw(alice, host, 64))
	p.o.table.Age(r.now)
	if p.where(alice) != "" || p.where(bob) == "" {
		t.Errorf("alice %q, bob %q; want bob alone", p.where(alice), p.where(bob))
	}
	r.now += 24 * time.Hour
	p.o.table.Age(r.now)
	if p.where(bob) != "" || p.where(vxlan.MAC{2, 7}) == "" || p.where(group) == "" {
		t.Errorf("after a day: %+v; want the static entries alone", r.e.FDB())
	}
}

func TestRefusesWhatIsNoVTEP(t *testing.T) {
	r := newRig(t)
	r.add(10, nil)
	for _, a := range []netip.AddrPort{
		{},
		netip.MustParseAddrPort("0.0.0.0:4789"),
		netip.MustParseAddrPort("[::]:4789"),
		netip.MustParseAddrPort("239.1.1.1:4789"),
		netip.MustParseAddrPort("[ff02::1]:4789"),
		netip.MustParseAddrPort("10.0.0.1:0"),
	} {
		if err := r.e.AddPeer(10, a); err == nil {
			t.Errorf("peer %v was accepted", a)
		}
		if err := r.e.AddStatic(10, StaticEntry{alice, a}); err == nil {
			t.Errorf("static entry to %v was accepted", a)
		}
		if err := r.e.AddVNI(VNIConfig{VNI: 11, Device: newCard(t), Peers: []netip.AddrPort{a}}); err == nil {
			t.Errorf("VNI with peer %v was accepted", a)
		}
	}
	// An IPv4 address in IPv6 clothes is the same peer.
	if err := r.e.AddPeer(10, netip.MustParseAddrPort("[::ffff:192.168.52.204]:4789")); err != nil {
		t.Fatal(err)
	}
	if err := r.e.AddPeer(10, vtepA); !errors.Is(err, ErrPeerExists) {
		t.Errorf("the same peer in IPv4: %v, want ErrPeerExists", err)
	}
}

// The clock steps: forward, as after a machine was suspended, and back, as it never
// should. What is too old goes, nothing goes early, and learning goes on.
func TestClockSteps(t *testing.T) {
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Ageing = 5 * time.Minute
	})
	hears := func(mac vxlan.MAC, from netip.AddrPort) {
		t.Helper()
		if got := p.arrived(from.Addr(), raw(host, mac, 64)); len(got) != 1 {
			t.Fatalf("%d frames of %v delivered", len(got), mac)
		}
	}
	hears(alice, vtepA)
	r.now -= 30 * time.Minute
	p.o.table.Age(r.now)
	if got := p.where(alice); got != vtepA.String()+" learned" {
		t.Errorf("after a step back: %q", got)
	}
	hears(alice, vtepB) // it moves all the same
	hears(bob, vtepA)
	for mac, at := range map[vxlan.MAC]netip.AddrPort{alice: vtepB, bob: vtepA} {
		if got := destinations(p.send(raw(mac, host, 64))); !slices.Equal(got, []netip.AddrPort{at}) {
			t.Errorf("frames to %v go to %v, want %v", mac, got, at)
		}
	}
	r.now += 4 * time.Minute
	if n := p.o.table.Age(r.now); n != 0 {
		t.Errorf("%d entries went after four minutes", n)
	}
	hears(bob, vtepA)
	r.now += 24 * time.Hour
	if n := p.o.table.Age(r.now); n != 2 {
		t.Errorf("%d entries went after a day, want both", n)
	}
	hears(alice, vtepA)
	if got := destinations(p.send(raw(alice, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA}) {
		t.Errorf("what is learned after a day goes to %v", got)
	}
}
