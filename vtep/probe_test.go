package vtep

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// request is the frame of a probe.
func request(f probe.Frame, size int) []byte {
	b := make([]byte, size)
	f.Put(b)
	return b
}

func TestProbeIsAnswered(t *testing.T) {
	for name, tc := range map[string]struct{ size, want, answer int }{
		"small":              {60, 60, 60},
		"large, both ways":   {1400, 1400, 1400},
		"large, one way":     {1400, 60, 60},
		"more than was sent": {100, 9000, 100},
		"nothing wanted":     {100, 0, 60},
	} {
		t.Run(name, func(t *testing.T) {
			p := newRig(t).add(10, peers(vtepA))
			got := p.arrived(vtepA.Addr(), request(probe.Frame{Kind: probe.Request, ID: 7, Seq: 3, Want: tc.want}, tc.size))
			if len(got) != 0 {
				t.Errorf("the device got %x", got)
			}
			sent := p.rig.wire.take()
			if len(sent) != 1 || sent[0].Addr != vtepA || !sent[0].DontFragment {
				t.Fatalf("sent %+v, want one train with DF to %v", sent, vtepA)
			}
			frames := decaps(t, 10, sent)
			f, err := probe.Parse(frames[0])
			if want := (probe.Frame{Kind: probe.Answer, ID: 7, Seq: 3, Came: tc.size}); err != nil || f != want || len(frames[0]) != tc.answer {
				t.Errorf("answer of %d bytes %+v, %v; want %d bytes %+v", len(frames[0]), f, err, tc.answer, want)
			}
			c := p.counters()
			if c.RxProbes != 1 || c.TxProbes != 1 || c.RxFrames != 0 || c.TxFrames != 0 || c.RxDropProbe != 0 {
				t.Errorf("counters %+v", c)
			}
			if n := len(p.rig.e.FDB()); n != 1 { // the flood list
				t.Errorf("%d entries: the probe was learned", n)
			}
			if s := p.rig.e.Status().VNIs[0].Peers[0]; s.LastHeard == nil || !s.Probes {
				t.Errorf("the peer %+v was not heard", s)
			}
		})
	}
}

func TestProbesThatAreNotAnswered(t *testing.T) {
	good := request(probe.Frame{Kind: probe.Request, Want: 60}, 60)
	damaged := bytes.Clone(good)
	damaged[50] ^= 1
	plain := append(append(probe.MAC[:], probe.MAC[:]...), make([]byte, 60)...)
	for name, tc := range map[string]struct {
		from   netip.Addr
		frame  []byte
		mute   bool
		probes uint64 // counted as such, not as a drop
	}{
		"damaged":                {from: vtepA.Addr(), frame: damaged},
		"no probe but its MAC":   {from: vtepA.Addr(), frame: plain},
		"answers switched off":   {from: vtepA.Addr(), frame: good, mute: true},
		"answer nobody asked":    {from: vtepA.Addr(), frame: request(probe.Frame{Kind: probe.Answer}, 60)},
		"silent":                 {from: vtepA.Addr(), frame: request(probe.Frame{Kind: probe.Silent}, 60), probes: 1},
		"from a VTEP not let in": {from: vtepC.Addr(), frame: good},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.e.probes.mute = tc.mute
			p := r.add(10, peers(vtepA))
			if got := p.arrived(tc.from, tc.frame); len(got) != 0 {
				t.Errorf("the device got %x", got)
			}
			if sent := r.wire.take(); len(sent) != 0 {
				t.Errorf("sent %+v", sent)
			}
			c := p.counters()
			if c.RxProbes != tc.probes || c.RxProbes+c.RxDropProbe+c.RxDropUnknownVTEP != 1 || c.RxFrames != 0 {
				t.Errorf("counters %+v", c)
			}
		})
	}
}

func TestProbesAreLimitedForEachPeer(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA, vtepB))
	f := request(probe.Frame{Kind: probe.Request, Want: 60}, 60)
	for range 2 * probe.Burst {
		p.arrive(vtepA.Addr(), f)
	}
	if n := len(p.rig.wire.take()); n != probe.Burst {
		t.Errorf("%d answers, want %d", n, probe.Burst)
	}
	if c := p.counters(); c.RxProbes != probe.Burst || c.RxDropProbe != probe.Burst {
		t.Errorf("counters %+v", c)
	}
	p.arrive(vtepB.Addr(), f)
	if n := len(p.rig.wire.take()); n != 1 {
		t.Errorf("%d answers to the other peer, want 1", n)
	}
	p.rig.now += probe.Every
	p.arrive(vtepA.Addr(), f)
	if n := len(p.rig.wire.take()); n != 1 {
		t.Errorf("%d answers a moment later, want 1", n)
	}
}

// A probe between frames of one station disturbs nothing.
func TestFramesAroundAProbe(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	a := raw(host, alice, 64)
	if got := p.arrived(vtepA.Addr(), a, request(probe.Frame{Kind: probe.Request}, 60), a); len(got) != 2 {
		t.Errorf("%d frames delivered, want 2", len(got))
	}
	if c := p.counters(); c.RxFrames != 2 || c.RxProbes != 1 {
		t.Errorf("counters %+v", c)
	}
}

func TestProbeAnswerGoesToTheRemoteVNI(t *testing.T) {
	p := newRig(t).add(10, nil)
	if err := p.rig.e.SetEntry(10, fdb.VerbAppend, Entry{Destination: fdb.Destination{Remote: fdb.Remote{Addr: vtepA, VNI: 4097}}}); err != nil {
		t.Fatal(err)
	}
	p.arrive(vtepA.Addr(), request(probe.Frame{Kind: probe.Request}, 60))
	if sent := p.rig.wire.take(); len(decaps(t, 4097, sent)) != 1 {
		t.Errorf("sent %+v", sent)
	}
}

// Probes are of the group that frames of the VNI are of, or where that matters
// they would not arrive.
// Captures see a probe that comes, and the answer that leaves.
func TestProbesAreCaptured(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA))
	all, drops := r.capture(CaptureConfig{}), r.capture(CaptureConfig{CaptureFilter: CaptureFilter{Drops: true}})
	p.arrive(vtepA.Addr(), request(probe.Frame{Kind: probe.Request}, 60))
	seen := all.have(t)
	if len(seen) != 2 || seen[0].Direction != In || seen[0].Verdict != verdictProbe || seen[1].Direction != Out || seen[1].Verdict != verdictPassed {
		t.Errorf("captured %+v", seen)
	}
	if seen := drops.have(t); len(seen) != 0 {
		t.Errorf("captured as dropped: %+v", seen)
	}
	if c := verdictProbe.Comment(); c == "" || verdictProbe.Dropped() {
		t.Errorf("a probe: comment %q, dropped %v", c, verdictProbe.Dropped())
	}
}

func TestProbesHaveTheGroup(t *testing.T) {
	p := newRig(t).add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA}
		c.GroupPolicy = &GroupPolicy{Send: vxlan.GBP{ID: 77}}
	})
	prober, err := p.rig.e.NewProber(10, vtepA)
	if err != nil {
		t.Fatal(err)
	}
	defer prober.Close()
	if _, err := prober.Send(Probe{Size: 60}); err != nil {
		t.Fatal(err)
	}
	p.arrive(vtepA.Addr(), request(probe.Frame{Kind: probe.Request}, 60))
	sent := datagrams(p.rig.wire.take())
	if len(sent) != 2 {
		t.Fatalf("%d datagrams, want a probe and an answer", len(sent))
	}
	for _, d := range sent {
		if g, ok := vxlan.ParseGBP(d); !ok || g.ID != 77 {
			t.Errorf("header %x: group %+v, %v", d[:8], g, ok)
		}
	}
}

func TestProbeAllocatesNothing(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA))
	p.rig.wire.quiet = true
	d := encap(10, request(probe.Frame{Kind: probe.Request, Want: 1000}, 1000))
	trains := []transport.Train{{Buf: d, Addr: vtepA}}
	if n := testing.AllocsPerRun(100, func() {
		p.rig.now += probe.Every
		p.rig.r.batch(trains, p.rig.now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if c := p.counters(); c.RxProbes < 100 {
		t.Errorf("counters %+v: not what was to be measured", c)
	}
}

// pair runs two endpoints in memory with VNI 10, peers of each other.
func pair(t *testing.T, cfg transport.NetworkConfig) (*transport.Network, *Endpoint, *Endpoint) {
	t.Helper()
	underlay := transport.NewNetwork(cfg)
	make1 := func(at, peer netip.AddrPort) *Endpoint {
		conn, err := underlay.Listen(at)
		if err != nil {
			t.Fatal(err)
		}
		e, err := New(Config{Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		dev := tap.NewMemory(tap.MemoryConfig{Name: "vx10"})
		if err := e.AddVNI(VNIConfig{VNI: 10, Device: dev, Peers: []netip.AddrPort{peer}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return e
	}
	a := make1(self, vtepA)
	return underlay, a, make1(vtepA, self)
}

func TestProber(t *testing.T) {
	_, a, _ := pair(t, transport.NetworkConfig{})
	p, err := a.NewProber(10, netip.AddrPortFrom(vtepA.Addr(), 0))
	if err != nil {
		t.Fatal(err)
	}
	if p.To() != vtepA {
		t.Errorf("to %v, want %v", p.To(), vtepA)
	}
	sent, err := p.Send(Probe{Seq: 1, Size: 1000, AnswerSize: 500}, Probe{Seq: 2, Size: 1000, AnswerSize: 60})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []ProbeAnswer{{Seq: 1, Came: 1000, Size: 500}, {Seq: 2, Came: 1000, Size: 60}} {
		got := <-p.Answers()
		if got.At.Before(sent) {
			t.Errorf("answer at %v, before %v", got.At, sent)
		}
		got.At = time.Time{}
		if got != want {
			t.Errorf("answer %+v, want %+v", got, want)
		}
	}
	p.Close()
	p.Close()
	if _, open := <-p.Answers(); open {
		t.Error("an answer after Close")
	}
}

func TestProberRefuses(t *testing.T) {
	_, a, _ := pair(t, transport.NetworkConfig{})
	if _, err := a.NewProber(11, vtepA); !errors.Is(err, ErrNoVNI) {
		t.Errorf("no such VNI: %v", err)
	}
	if _, err := a.NewProber(10, vtepC); !errors.Is(err, ErrNoPeer) {
		t.Errorf("no peer: %v", err)
	}
	p, err := a.NewProber(10, vtepA)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for name, probes := range map[string][]Probe{
		"short": {{Size: MinProbe - 1}},
		"long":  {{Size: MaxProbe + 1}},
		"mixed": {{Size: 60}, {Size: 61}},
		"many":  make([]Probe, 1000),
	} {
		for i := range probes {
			if name == "many" {
				probes[i].Size = 60
			}
		}
		if _, err := p.Send(probes...); err == nil {
			t.Errorf("%s: sent", name)
		}
	}
}

func TestProberEndsWithTheEndpoint(t *testing.T) {
	r := newRig(t)
	r.add(10, peers(vtepA))
	p, err := r.e.NewProber(10, vtepA)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, open := <-p.Answers(); open {
		t.Error("an answer")
	}
	p.Close()
}

func TestStrangersAreRemembered(t *testing.T) {
	r := newRig(t)
	p := r.add(10, peers(vtepA))
	if s := r.e.Status(); s.Unknown != nil || s.VNIs[0].Stranger != nil {
		t.Errorf("status %+v before anybody spoke", s)
	}
	p.arrive(vtepC.Addr(), raw(host, alice, 64))
	r.datagrams(vtepB.Addr(), 0, encap(77, raw(host, alice, 64)))
	s := r.e.Status()
	if s.Unknown == nil || *s.Unknown != (Sighting{vtepB.Addr(), 77}) {
		t.Errorf("last unknown VNI %+v", s.Unknown)
	}
	if got := s.VNIs[0].Stranger; got == nil || *got != (Sighting{vtepC.Addr(), vxlan.VNI(10)}) {
		t.Errorf("last stranger %+v", got)
	}
}
