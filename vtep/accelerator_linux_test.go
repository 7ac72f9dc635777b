package vtep

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/internal/datapath"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// elsewhere runs f on a thread in a network namespace of its own, where there is
// nothing but lo, which stands for every device.
func elsewhere(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		elsewhereOnce.Do(func() { elsewhereNS, elsewhereErr = netns.New() })
		if elsewhereErr == nil {
			elsewhereErr = netns.Set(elsewhereNS)
		}
		if elsewhereErr != nil {
			t.Errorf("a network namespace: %v (run it as root)", elsewhereErr)
			return
		}
		f()
	}()
	<-done
}

var (
	elsewhereOnce sync.Once
	elsewhereNS   netns.NsHandle
	elsewhereErr  error
)

const loopback = 1 // index of lo

// loCard is a card that passes for lo.
type loCard struct{ *card }

func (loCard) Index() int    { return loopback }
func (loCard) Netns() string { return "" }

// knownWays lead everywhere by lo.
type knownWays struct {
	a        *accelerator
	followed map[netip.AddrPort]int
}

func (w knownWays) Forget(to netip.AddrPort) { w.followed[to]-- }
func (w knownWays) Close()                   {}
func (w knownWays) Follow(to netip.AddrPort) {
	w.followed[to]++
	w.a.hop(transport.NextHop{To: to.Addr(), Device: loopback, Via: to.Addr(), MTU: 1500, TTL: 64})
}

// tryPort is a port whose endpoint has programs.
type tryPort struct {
	*port
	path *datapath.Path
}

// newTryPort makes one, in the namespace of elsewhere. alice is behind vtepA and
// bob, a static entry, behind vtepB.
func newTryPort(t tester, setup func(*VNIConfig)) *tryPort {
	t.Helper()
	r := newRig(t)
	path, err := datapath.Load(datapath.Config{
		Local: self.Addr(), Port: self.Port(), SourcePorts: []uint16{50000, 50001}, Stations: 64, Peers: 64, VNIs: 4, Log: r.e.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	a := &accelerator{
		log: r.e.log, path: path, peers: make(map[uint32]*acceleratedPeer), vteps: make(map[netip.Addr]*acceleratedVTEP),
		refused: make(map[int]bool), attach: make(chan struct{}, 1),
	}
	a.ways = knownWays{a, make(map[netip.AddrPort]int)}
	r.e.accel, r.e.slowReason = a, "" // closed with the endpoint
	p := r.add(10, func(c *VNIConfig) {
		c.Device = loCard{c.Device.(*card)}
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Static = []StaticEntry{{bob, vtepB}}
		if setup != nil {
			setup(c)
		}
	})
	if !p.o.accelerated {
		t.Fatal(p.o.datapath.Load().Reason)
	}
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	p.card.vectorsTaken()
	return &tryPort{p, path}
}

// sent has a frame leave the device twice, by the programs and by the endpoint,
// and compares. It returns whether the programs carried it.
func (p *tryPort) sent(t tester, frame []byte) bool {
	t.Helper()
	packet, carried, err := p.path.TrySend(loopback, frame)
	if errors.Is(err, unix.EINVAL) {
		return false // the kernel tries none without an IP header
	}
	if err != nil {
		t.Fatalf("%x: %v", frame, err)
	}
	trains := p.send(frame)
	if !carried {
		return false
	}
	if len(trains) != 1 || trains[0].Len() != 1 {
		t.Fatalf("%x: the programs send %x, the endpoint %d trains (%+v)", frame, packet, len(trains), p.counters())
	}
	tr := &trains[0]
	out, ok := outerOf(packet)
	if !ok {
		t.Fatalf("%x: the programs send %x", frame, packet)
	}
	ttl := tr.TTL
	if ttl == 0 {
		ttl = 64
	}
	switch {
	case out.src != self.Addr() || out.dst != tr.Addr:
		t.Errorf("%x: from %v to %v, want %v to %v", frame, out.src, out.dst, self.Addr(), tr.Addr)
	case out.tos != tr.TOS || out.ttl != ttl || out.df != tr.DontFragment:
		t.Errorf("%x: TOS %#x TTL %d DF %v, want %#x %d %v", frame, out.tos, out.ttl, out.df, tr.TOS, ttl, tr.DontFragment)
	case out.sport != 50000 && out.sport != 50001:
		t.Errorf("%x: source port %d", frame, out.sport)
	case !bytes.Equal(out.datagram, tr.Buf):
		t.Errorf("%x:\nthe programs send %x,\n    the endpoint %x", frame, out.datagram, tr.Buf)
	}
	return true
}

// came has a packet arrive twice, and compares.
func (p *tryPort) came(t tester, from netip.Addr, tos uint8, datagram []byte) bool {
	t.Helper()
	return p.cameAs(t, ipv4(from, self, tos, datagram), from, tos, datagram)
}

func (p *tryPort) cameAs(t tester, packet []byte, from netip.Addr, tos uint8, datagram []byte) bool {
	t.Helper()
	frame, carried, err := p.path.TryReceive(packet)
	if err != nil {
		t.Fatalf("%x: %v", packet, err)
	}
	p.card.vectorsTaken()
	p.rig.datagrams(from, tos, datagram)
	if !carried {
		return false
	}
	got := p.card.frames()
	if len(got) != 1 || !bytes.Equal(got[0], frame) {
		t.Errorf("%x:\nthe programs deliver %x,\n        the endpoint %x (%+v)", packet, frame, got, p.counters())
	}
	return true
}

// outerHeaders are those of a packet.
type outerHeaders struct {
	src      netip.Addr
	dst      netip.AddrPort
	sport    uint16
	tos, ttl uint8
	df       bool
	datagram []byte
}

// outerOf reads a packet and checks its sums and lengths.
func outerOf(b []byte) (h outerHeaders, ok bool) {
	if len(b) < 14+28+8 || binary.BigEndian.Uint16(b[12:]) != 0x0800 || b[14] != 0x45 || b[23] != 17 {
		return h, false
	}
	ip, udp := b[14:], b[34:]
	h = outerHeaders{
		src: netip.AddrFrom4([4]byte(ip[12:])), dst: netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:])), binary.BigEndian.Uint16(udp[2:])),
		sport: binary.BigEndian.Uint16(udp), tos: ip[1], ttl: ip[8], df: ip[6] == 0x40, datagram: udp[8:],
	}
	return h, ip[6]&^0x40 == 0 && ip[7] == 0 && checksum.Checksum(ip[:20], 0) == 0 &&
		int(binary.BigEndian.Uint16(ip[2:])) == len(ip) && int(binary.BigEndian.Uint16(udp[4:])) == len(udp) && udp[6]|udp[7] == 0
}

// ipv4 is a packet with a datagram.
func ipv4(from netip.Addr, to netip.AddrPort, tos uint8, datagram []byte) []byte {
	b := make([]byte, 42, 42+len(datagram))
	b[12] = 8
	ip, udp := b[14:34], b[34:42]
	ip[0], ip[1], ip[8], ip[9] = 0x45, tos, 61, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(28+len(datagram)))
	a, d := from.As4(), to.Addr().As4()
	copy(ip[12:], a[:])
	copy(ip[16:], d[:])
	binary.BigEndian.PutUint16(ip[10:], checksum.Checksum(ip, 0))
	binary.BigEndian.PutUint16(udp, 50000)
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(datagram)))
	return append(b, datagram...)
}

// carriedFrames are such as the programs are for, with every ECN field.
func carriedFrames(t tester, dst, src vxlan.MAC) (frames [][]byte) {
	for _, v6 := range []bool{false, true} {
		for _, tcp := range []bool{false, true} {
			for tos := range uint8(4) {
				for _, payload := range []int{0, 1, 700, 1300} {
					frames = append(frames, packet{dst: dst, src: src, v6: v6, tcp: tcp, tos: 0xB8 | tos, payload: payload}.frame(t))
				}
			}
		}
	}
	return frames
}

var tryOptions = []struct {
	name  string
	setup func(*VNIConfig)
}{
	{"plain", nil},
	{"TTL and TOS", func(c *VNIConfig) { c.Outer = OuterConfig{TTL: 9, TOS: 0x28, DF: DFSet} }},
	{"inherited", func(c *VNIConfig) {
		c.Outer = OuterConfig{InheritTTL: true, InheritTOS: true, DF: DFInherit}
	}},
	{"ECN as the kernel's", func(c *VNIConfig) { c.Outer.ECN = ECNKernel }},
	{"a group", func(c *VNIConfig) { c.GroupPolicy = &GroupPolicy{Send: vxlan.GBP{ID: 77}} }},
	{"reserved bits", func(c *VNIConfig) { c.ReservedBits = KernelReservedBits(false) }},
	{"no VLAN", func(c *VNIConfig) { c.VLAN = VLANDrop }},
	{"MSS", func(c *VNIConfig) { c.ClampMSS = true }},
	{"neighbours", func(c *VNIConfig) { c.ARP, c.SnoopNeighbours = ARPSuppress, true }},
	{"no learning", func(c *VNIConfig) { c.DisableLearning = true }},
	{"strangers", func(c *VNIConfig) { c.AllowUnknownVTEPs = true }},
}

// The programs send and deliver what the endpoint would, under every option, and
// leave it what is not for them.
func TestProgramsDoAsTheEndpoint(t *testing.T) {
	for _, o := range tryOptions {
		t.Run(o.name, func(t *testing.T) {
			elsewhere(t, func() {
				p := newTryPort(t, o.setup)
				learning := o.name != "no learning"
				for _, f := range carriedFrames(t, bob, host) {
					if !p.sent(t, f) {
						t.Errorf("not carried out: %x", f)
					}
				}
				for _, f := range carriedFrames(t, alice, host) {
					if p.sent(t, f) != learning {
						t.Errorf("carried %v, a station that is learned: %x", !learning, f)
					}
				}
				for tos := range uint8(4) {
					for _, f := range carriedFrames(t, host, bob) {
						inner := f[15] & 3
						if f[12] == 0x86 {
							inner = f[15] >> 4 & 3
						}
						// Marks that need thought are the endpoint's.
						want := (tos == 0 || tos == inner || tos == 3 && inner != 0) && o.name != "a group"
						if p.came(t, vtepB.Addr(), tos, encap(10, f)) != want {
							t.Errorf("TOS %d, carried in %v: %x", tos, !want, f)
						}
					}
				}
				for _, f := range [][]byte{
					raw(bob, host, 64), packet{dst: broadcast, src: host, payload: 10}.frame(t), packet{dst: group, src: host, payload: 10}.frame(t),
					packet{dst: vxlan.MAC{2, 9, 9, 9, 9, 9}, src: host, payload: 10}.frame(t),
					packet{dst: bob, src: host, payload: 1460}.frame(t),
				} {
					if p.sent(t, f) {
						t.Errorf("carried out: %x", f[:14])
					}
				}
				bobs := packet{dst: host, src: bob, payload: 10}
				good := encap(10, bobs.frame(t))
				for what, d := range map[string][]byte{
					"another VNI": encap(11, bobs.frame(t)), "no flag": append([]byte{0}, good[1:]...),
					"reserved bit": append(append([]byte{8, 0, 0, 1}, good[4:7]...), append([]byte{0}, good[8:]...)...),
					"no IP":        encap(10, raw(host, bob, 64)), "broadcast": encap(10, packet{dst: broadcast, src: bob, payload: 10}.frame(t)),
					"a new station": encap(10, packet{dst: host, src: vxlan.MAC{2, 7, 7, 7, 7, 7}, payload: 10}.frame(t)),
					"our own MAC":   encap(10, packet{dst: host, src: host, payload: 10}.frame(t)),
					"too long":      encap(10, packet{dst: host, src: bob, payload: 1430}.frame(t)),
					"short":         good[:20],
				} {
					if p.came(t, vtepB.Addr(), 0, d) {
						t.Errorf("%s, carried in", what)
					}
				}
				if p.came(t, vtepA.Addr(), 0, good) {
					t.Error("bob's frame, from where he is not: carried in")
				}
				if p.came(t, vtepC.Addr(), 0, good) {
					t.Error("from a stranger: carried in")
				}
			})
		})
	}
}

// What is broken in the outer headers goes the way that knows what to do.
func TestProgramsLeaveBrokenPackets(t *testing.T) {
	elsewhere(t, func() {
		p := newTryPort(t, nil)
		d := encap(10, packet{dst: host, src: bob, payload: 10}.frame(t))
		good := func() []byte { return ipv4(vtepB.Addr(), self, 0, d) }
		if _, carried, err := p.path.TryReceive(good()); err != nil || !carried {
			t.Fatal(carried, err)
		}
		sum := func(b []byte) []byte {
			b[24], b[25] = 0, 0
			binary.BigEndian.PutUint16(b[24:], checksum.Checksum(b[14:34], 0))
			return b
		}
		for what, change := range map[string]func([]byte) []byte{
			"header checksum":  func(b []byte) []byte { b[24] ^= 1; return b },
			"options":          func(b []byte) []byte { b[14] = 0x46; return sum(b) },
			"version":          func(b []byte) []byte { b[14] = 0x55; return sum(b) },
			"first fragment":   func(b []byte) []byte { b[20] = 0x20; return sum(b) },
			"a later fragment": func(b []byte) []byte { b[21] = 1; return sum(b) },
			"not UDP":          func(b []byte) []byte { b[23] = 6; return sum(b) },
			"another host":     func(b []byte) []byte { b[33]++; return sum(b) },
			"another port":     func(b []byte) []byte { b[37]++; return b },
			"UDP checksum":     func(b []byte) []byte { b[40] = 1; return b }, // nobody has verified it
			"UDP too short":    func(b []byte) []byte { b[39]--; return b },
			"UDP too long":     func(b []byte) []byte { b[39]++; return b },
			"IP too short":     func(b []byte) []byte { b[17]--; return sum(b) },
			"IP too long":      func(b []byte) []byte { b[17]++; return sum(b) },
			"padding":          func(b []byte) []byte { return append(b, 0) },
		} {
			if frame, carried, err := p.path.TryReceive(change(good())); err != nil || carried {
				t.Errorf("%s: carried %v: %x, %v", what, carried, frame, err)
			}
		}
	})
}

// Every change of the tables holds for the programs when the call returns.
func TestProgramsFollowTheTables(t *testing.T) {
	elsewhere(t, func() {
		p := newTryPort(t, nil)
		e := p.rig.e
		toAlice, toBob := packet{dst: alice, src: host, payload: 10}.frame(t), packet{dst: bob, src: host, payload: 10}.frame(t)
		fromAlice := encap(10, packet{dst: host, src: alice, payload: 10}.frame(t))
		check := func(when string, out, in bool) {
			t.Helper()
			// The programs alone: the endpoint would learn.
			if _, carried, err := p.path.TrySend(loopback, toAlice); err != nil || carried != out {
				t.Errorf("%s: to alice carried %v, %v", when, carried, err)
			}
			if _, carried, err := p.path.TryReceive(ipv4(vtepA.Addr(), self, 0, fromAlice)); err != nil || carried != in {
				t.Errorf("%s: from alice carried %v, %v", when, carried, err)
			}
		}
		check("learned", true, true)
		p.arrive(vtepB.Addr(), raw(host, alice, 64))
		check("moved to vtepB", true, false)
		if tr := p.send(toAlice); len(tr) != 1 || tr[0].Addr != vtepB {
			t.Errorf("to %v", destinations(tr))
		}
		p.sent(t, toAlice) // to where the endpoint sends
		p.arrive(vtepA.Addr(), raw(host, alice, 64))
		check("moved back", true, true)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(e.DelEntry(10, alice))
		check("deleted", false, false)
		p.arrive(vtepA.Addr(), raw(host, alice, 64))
		check("learned again", true, true)
		must(e.DelPeer(10, vtepA))
		check("peer deleted", false, false)
		must(e.AddPeer(10, vtepA))
		p.arrive(vtepA.Addr(), raw(host, alice, 64))
		check("peer added", true, true)
		p.rig.now += fdb.DefaultAgeing + time.Second
		p.o.table.Age(p.rig.now)
		check("aged", false, false)
		must(e.AddStatic(10, StaticEntry{alice, vtepA}))
		check("static", true, true)
		must(e.AddStatic(10, StaticEntry{vxlan.MAC{2, 5, 5, 5, 5, 5}, vtepC}))
		if !p.sent(t, packet{dst: vxlan.MAC{2, 5, 5, 5, 5, 5}, src: host, payload: 10}.frame(t)) {
			t.Error("a static entry that names a new VTEP: not carried")
		}
		must(e.ChangeVNI(VNIConfig{VNI: 10, Outer: OuterConfig{TTL: 3}}))
		if !p.sent(t, toBob) {
			t.Error("not carried after a change of options")
		}
		must(e.DelVNI(10))
		check("VNI deleted", false, false)
		if _, carried, _ := p.path.TrySend(loopback, toBob); carried {
			t.Error("VNI deleted: to bob carried")
		}
	})
}

// While somebody captures, all comes to where it is seen.
func TestProgramsPauseForCaptures(t *testing.T) {
	elsewhere(t, func() {
		p := newTryPort(t, nil)
		f := packet{dst: bob, src: host, payload: 10}.frame(t)
		d := encap(10, packet{dst: host, src: bob, payload: 10}.frame(t))
		c, err := p.rig.e.Capture(CaptureConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if p.sent(t, f) || p.came(t, vtepB.Addr(), 0, d) {
			t.Error("carried past a capture")
		}
		c.Stop()
		if !p.sent(t, f) || !p.came(t, vtepB.Addr(), 0, d) {
			t.Error("not carried after the capture")
		}
	})
}

// The way to a VTEP is followed as long as it is a peer in some VNI.
func TestProgramsFollowWays(t *testing.T) {
	elsewhere(t, func() {
		p := newTryPort(t, nil)
		e := p.rig.e
		followed := e.accel.ways.(knownWays).followed
		check := func(when string, a, c int) {
			t.Helper()
			if followed[vtepA] != a || followed[vtepC] != c {
				t.Errorf("%s: followed %v", when, followed)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		check("at first", 1, 0)
		p.rig.add(11, func(c *VNIConfig) {
			c.Device = loCard{c.Device.(*card)}
			c.Peers = []netip.AddrPort{vtepA, vtepC}
		})
		check("with another VNI", 1, 1)
		must(e.DelPeer(10, vtepA))
		check("a peer of one VNI less", 1, 1)
		must(e.DelVNI(11))
		check("one VNI less", 0, 0)
		must(e.AddPeer(10, vtepA))
		check("a peer again", 1, 0)
		p.arrive(vtepA.Addr(), raw(host, alice, 64))
		// (Both VNIs had lo for a device, which knows no VNI now.)
		if !p.came(t, vtepA.Addr(), 0, encap(10, packet{dst: host, src: alice, payload: 10}.frame(t))) {
			t.Error("a peer that came back is not heard")
		}
	})
}

// What the programs carried is in the counters, and keeps stations alive.
func TestProgramsCount(t *testing.T) {
	elsewhere(t, func() {
		p := newTryPort(t, nil)
		before := p.rig.e.Status().VNIs[0]
		frame := packet{dst: alice, src: host, payload: 100}.frame(t)
		for range 3 {
			if _, carried, err := p.path.TrySend(loopback, frame); err != nil || !carried {
				t.Fatal(carried, err)
			}
		}
		in := packet{dst: host, src: alice, payload: 50}.frame(t)
		for range 5 {
			if _, carried, err := p.path.TryReceive(ipv4(vtepA.Addr(), self, 0, encap(10, in))); err != nil || !carried {
				t.Fatal(carried, err)
			}
		}
		after := p.rig.e.Status().VNIs[0]
		b, a := before.Counters, after.Counters
		if a.TxFrames-b.TxFrames != 3 || a.TxBytes-b.TxBytes != uint64(3*len(frame)) || a.RxFrames-b.RxFrames != 5 || a.RxBytes-b.RxBytes != uint64(5*len(in)) {
			t.Errorf("counters: %+v, before: %+v", a, b)
		}
		peer := after.Peers[0]
		if peer.TxFrames != 3 || peer.RxFrames != 5+before.Peers[0].RxFrames {
			t.Errorf("peer: %+v", peer)
		}
		if again := p.rig.e.Status().VNIs[0].Counters; again != a {
			t.Errorf("counted twice: %+v, then %+v", a, again)
		}

		// The clock of the rig says what that of the kernel was when alice sent.
		seen := false
		p.path.Seen(func(v vxlan.VNI, mac [6]byte, vtep netip.AddrPort, at uint64) {
			if v != 10 || vxlan.MAC(mac) != alice || vtep != vtepA {
				t.Errorf("seen: %v %v behind %v", v, vxlan.MAC(mac), vtep)
			}
			seen = true
			later := p.rig.now + fdb.DefaultAgeing - 1
			p.rig.e.accel.origin = int64(at) - int64(later)
		})
		if !seen {
			t.Fatal("alice was not seen")
		}
		p.rig.now += fdb.DefaultAgeing
		p.rig.e.accel.refresh(p.rig.e.vnis.load)
		p.o.table.Age(p.rig.now)
		if _, ok := p.o.table.Lookup(alice); !ok {
			t.Error("alice has aged, though she sent")
		}
		p.rig.now += fdb.DefaultAgeing
		p.rig.e.accel.refresh(p.rig.e.vnis.load)
		p.o.table.Age(p.rig.now)
		if _, ok := p.o.table.Lookup(alice); ok {
			t.Error("alice has not aged, though she sent nothing more")
		}
	})
}

// A full map leaves the stations to the endpoint that have no place in it.
func TestProgramsWithFullMaps(t *testing.T) {
	elsewhere(t, func() {
		p := newTryPort(t, nil)
		carried := 0
		for i := range 100 {
			mac := vxlan.MAC{2, 6, 0, 0, 0, byte(i)}
			p.arrive(vtepA.Addr(), raw(host, mac, 64))
			if p.sent(t, packet{dst: mac, src: host, payload: 10}.frame(t)) {
				carried++
			}
		}
		// 64 in all, with alice and bob.
		if carried < 32 || carried > 62 {
			t.Errorf("%d carried", carried)
		}
		// What moves when the map is full does not leave its old place behind.
		p.arrive(vtepB.Addr(), raw(host, alice, 64))
		p.sent(t, packet{dst: alice, src: host, payload: 10}.frame(t))
	})
}

// FuzzProgramsOut has any frame leave the device: what the programs send is what
// the endpoint sends.
func FuzzProgramsOut(f *testing.F) {
	for _, b := range corpus(f, "FuzzInnerParse") {
		f.Add(b)
	}
	for _, b := range carriedFrames(f, bob, host) {
		f.Add(b)
	}
	p := fuzzPort(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 15 || len(b) > 4000 {
			return // the kernel tries none of these
		}
		b = bytes.Clone(b)
		copy(b, bob[:])
		p.card.t = t
		elsewhere(t, func() { p.sent(t, b) })
	})
}

// FuzzProgramsIn has any datagram arrive: what the programs deliver is what the
// endpoint delivers.
func FuzzProgramsIn(f *testing.F) {
	for _, b := range corpus(f, "FuzzParse") {
		f.Add(b, uint8(0))
	}
	for i, b := range carriedFrames(f, host, bob) {
		f.Add(encap(10, b), uint8(i))
	}
	for _, b := range corpus(f, "FuzzInnerParse") {
		if len(b) >= 14 {
			copy(b[6:], bob[:])
			f.Add(encap(10, b), uint8(1))
		}
	}
	p := fuzzPort(f)
	f.Fuzz(func(t *testing.T, b []byte, tos uint8) {
		if len(b) > 3000 {
			return
		}
		p.card.t = t
		elsewhere(t, func() { p.came(t, vtepB.Addr(), tos, b) })
	})
}

// fuzzPort is one port for all tries: making it takes longer than hundreds.
func fuzzPort(f *testing.F) (p *tryPort) {
	elsewhere(f, func() { p = newTryPort(f, nil) })
	return p
}

// corpus are the byte strings of a fuzz target of package vxlan.
func corpus(t testing.TB, target string) (all [][]byte) {
	files, err := filepath.Glob("../vxlan/testdata/fuzz/" + target + "/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no corpus of "+target, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(text), "\n") {
			if quoted, ok := strings.CutPrefix(line, "[]byte("); ok {
				s, err := strconv.Unquote(strings.TrimSuffix(quoted, ")"))
				if err != nil {
					t.Fatal(fmt.Errorf("%s: %w", name, err))
				}
				all = append(all, []byte(s))
			}
		}
	}
	return all
}

var _ tap.Device = loCard{}
