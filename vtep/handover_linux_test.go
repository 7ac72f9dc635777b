package vtep

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/descriptor"
	"github.com/govxlan/govxlan/internal/neighbour"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

func (j *jack) HandOver() (tap.Handover, []int) {
	return tap.Handover{Name: j.Name()}, []int{j.fd.Number()}
}

// again is the jack of another endpoint, by a copy of its descriptor.
func (j *jack) again(t *testing.T, fd int) *jack {
	n := &jack{card: newCard(t), fd: descriptor.New(fd, "jack"), host: j.host}
	return n
}

// copied are descriptors as another process gets them.
func copied(t *testing.T, fds []int) []int {
	t.Helper()
	var list []int
	for _, fd := range fds {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

// throughJSON is what another process reads of v.
func throughJSON[T any](t *testing.T, v T) (n T) {
	t.Helper()
	text, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// tagged is a frame that carries a number.
func tagged(dst, src vxlan.MAC, n uint32) []byte {
	return binary.BigEndian.AppendUint32(raw(dst, src, 60), n)
}

const handedVNI = vxlan.VNI(4097)

// handed is an endpoint that runs, on real sockets.
type handed struct {
	*Endpoint
	jack *jack
	stop context.CancelFunc
	ran  chan error
}

// peerOf opens the socket of a far VTEP.
func peerOf(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// handOn builds an endpoint from what another hands over, or anew when fds is
// nil, and has it run.
func handOn(t *testing.T, noRing bool, cfg transport.UDPConfig, peer netip.AddrPort, before *jack, d Descriptors, fds []int, s State) *handed {
	t.Helper()
	h := &handed{ran: make(chan error, 1)}
	var conn transport.Conn
	var err error
	if fds == nil {
		h.jack = newJack(t)
		conn, err = transport.ListenUDP(cfg)
	} else {
		fds = copied(t, fds)
		n := len(d.Conn.Sockets)
		conn, err = transport.InheritUDP(cfg, throughJSON(t, d.Conn), fds[:n])
		h.jack = before.again(t, fds[n])
	}
	if err != nil {
		t.Fatal(err)
	}
	if h.Endpoint, err = New(Config{Conn: conn, Workers: 2, NoRing: noRing}); err != nil {
		t.Fatal(err)
	}
	if err := h.AddVNI(VNIConfig{VNI: handedVNI, Device: h.jack, Peers: []netip.AddrPort{peer}, ARP: ARPSuppress, SnoopNeighbours: true}); err != nil {
		t.Fatal(err)
	}
	if fds != nil {
		h.Restore(throughJSON(t, s))
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() { h.ran <- h.Run(ctx) }()
	until(t, "it does not run", func() bool { return h.Status().IO != "goroutines" })
	return h
}

// TestHandOver: through handovers in the middle of traffic, and some that fail,
// every frame arrives, once and in order, both ways.
func TestHandOver(t *testing.T) {
	eachWorker(t, func(t *testing.T, noRing bool) {
		peer := peerOf(t)
		free := peerOf(t)
		port := free.LocalAddr().(*net.UDPAddr).Port
		free.Close()
		cfg := transport.UDPConfig{Local: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: uint16(port), Receivers: 3}
		h := handOn(t, noRing, cfg, peer.LocalAddr().(*net.UDPAddr).AddrPort(), nil, Descriptors{}, nil, State{})

		const window = 32
		stop := make(chan struct{})
		failed := make(chan error, 2)
		var out, in atomic.Uint32 // arrived
		// From the device to the peer.
		go func() {
			buf := make([]byte, 2000)
			for want := uint32(0); ; want++ {
				if err := peer.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
					failed <- err
					return
				}
				n, err := peer.Read(buf)
				if err != nil {
					failed <- fmt.Errorf("frame %d did not leave: %w", want, err)
					return
				}
				got := binary.BigEndian.Uint32(buf[n-4:])
				if got == ^uint32(0) {
					failed <- nil
					return
				}
				if got != want {
					failed <- fmt.Errorf("frame %d left, want %d", got, want)
					return
				}
				out.Store(want + 1)
			}
		}()
		pumped := make(chan struct{})
		device := h.jack.host
		put := func(n uint32) {
			for {
				_, err := unix.Write(device, tagged(alice, bob, n))
				if err != unix.EAGAIN {
					return
				}
				time.Sleep(100 * time.Microsecond)
			}
		}
		go func() {
			defer close(pumped)
			for n := uint32(0); ; {
				select {
				case <-stop:
					put(^uint32(0))
					return
				default:
				}
				if n < out.Load()+window {
					put(n)
					n++
				} else {
					time.Sleep(50 * time.Microsecond)
				}
			}
		}()
		// And from the peer to the device.
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(cfg.Local[0], cfg.Port))
		var sent uint32
		inbound := func(most int) {
			t.Helper()
			for range most {
				if _, err := peer.WriteTo(encap(handedVNI, tagged(bob, alice, sent)), to); err != nil {
					t.Fatal(err)
				}
				sent++
			}
		}
		settle := func(j *jack) {
			t.Helper()
			until(t, fmt.Sprintf("%d frames were sent to the device", sent), func() bool {
				for _, v := range j.vectorsTaken() {
					b := v.Parts[len(v.Parts)-1]
					if got := binary.BigEndian.Uint32(b[len(b)-4:]); got != in.Load() {
						t.Fatalf("frame %d arrived, want %d", got, in.Load())
					}
					in.Add(1)
				}
				return in.Load() == sent
			})
		}

		for round := range 6 {
			inbound(20)
			settle(h.jack)
			until(t, "frames do not leave", func() bool { return out.Load() > uint32(100*round) })
			refused := errors.New("not now")
			if err := h.HandOver(func(Descriptors, []int, State) error {
				inbound(20) // wait in the socket
				return refused
			}); !errors.Is(err, refused) {
				t.Fatalf("the failure of take: %v", err)
			}
			settle(h.jack)
			before := h
			if err := h.HandOver(func(d Descriptors, fds []int, s State) error {
				inbound(20)
				h = handOn(t, noRing, cfg, peer.LocalAddr().(*net.UDPAddr).AddrPort(), before.jack, d, fds, s)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := <-before.ran; err != nil {
				t.Errorf("the one that handed over: %v", err)
			}
			if err := before.HandOver(nil); !errors.Is(err, ErrClosed) {
				t.Errorf("again: %v", err)
			}
			settle(h.jack)
		}
		close(stop)
		<-pumped
		if err := <-failed; err != nil {
			t.Error(err)
		}
		until(t, fmt.Sprintf("%d frames came in and %d went out, and others are counted", sent, out.Load()+1), func() bool {
			c := h.Status().VNIs[0].Counters
			return c.RxFrames == uint64(sent) && c.TxFrames == uint64(out.Load())+1
		})
		h.stop()
		if err := <-h.ran; err != nil {
			t.Error(err)
		}
	})
}

// TestRestore: what an endpoint knows is there in the next, with its age.
func TestRestore(t *testing.T) {
	var clock time.Duration
	build := func(setup func(*VNIConfig)) *Endpoint {
		e, err := New(Config{Conn: newWire(), Clock: func() time.Duration { return clock }, PathMTU: 1400})
		if err != nil {
			t.Fatal(err)
		}
		cfg := VNIConfig{
			VNI: handedVNI, Device: newCard(t), Peers: []netip.AddrPort{vtepA}, AllowUnknownVTEPs: true,
			ARP: ARPSuppress, SnoopNeighbours: true, Ageing: time.Hour,
			GroupPolicy: &GroupPolicy{},
		}
		setup(&cfg)
		if err := e.AddVNI(cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return e
	}
	far := netip.MustParseAddrPort("198.51.100.9:4789")
	one := vxlan.MAC{2, 0, 0, 0, 1, 1}
	clock = time.Hour
	e := build(func(*VNIConfig) {})
	o := e.overlays[handedVNI]
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(e.AddPeer(handedVNI, vtepB))
	check(e.SetNexthops(handedVNI, 7, []fdb.Remote{{Addr: far}, {Addr: vtepA}}))
	set := func(mac byte, d fdb.Destination) {
		t.Helper()
		check(e.SetEntry(handedVNI, fdb.VerbAdd, Entry{vxlan.MAC{2, 0, 0, 0, 2, mac}, d}))
	}
	set(1, fdb.Destination{Remote: fdb.Remote{Addr: far, VNI: 9}})
	set(2, fdb.Destination{Remote: fdb.Remote{Addr: far}, Kind: fdb.KindPermanent})
	set(3, fdb.Destination{Remote: fdb.Remote{Addr: far}, Kind: fdb.KindDynamic})
	set(4, fdb.Destination{Nexthops: 7})
	check(e.SetEntry(handedVNI, fdb.VerbAppend, Entry{vxlan.MAC{3, 0, 0, 0, 0, 1}, fdb.Destination{Remote: fdb.Remote{Addr: vtepA}}}))
	e.admitStranger(o, netip.MustParseAddr("203.0.113.77"), 0, func(p *peer) { p.stranger = true })
	o.table.Learn(fdb.MAC(one), fdb.Remote{Addr: vtepA}, clock-time.Minute)
	o.table.Learn(fdb.MAC{2, 0, 0, 0, 1, 2}, fdb.Remote{Addr: netip.MustParseAddrPort("203.0.113.77:4789")}, clock-time.Second)
	check(e.AddNeighbour(handedVNI, Neighbour{IP: netip.MustParseAddr("10.0.0.9"), MAC: one, Router: true}))
	o.policy.Load().neighbours.table.Note(neighbour.Claim{IP: netip.MustParseAddr("10.0.0.8"), MAC: one}, true, clock-time.Minute)
	o.policy.Load().header.groups.add(77)
	// Every counter there is, each with a value of its own.
	next := uint64(1000)
	fill := func(of any) {
		eachCounter(of, func(_ string, c *atomic.Uint64) { next++; c.Store(next) })
	}
	fill(&e.counters)
	fill(&o.rx)
	fill(&o.tx)
	o.sender(vtepA.Addr()).touch(clock-30*time.Second, 5, 500)
	p := e.paths.to(vtepA.Addr())
	p.mtu.Store(1300)
	p.until.Store(int64(clock + 5*time.Minute))

	e.mu.Lock()
	s := throughJSON(t, e.state())
	e.mu.Unlock()
	clock += 10 * time.Second // it takes a while
	want := struct {
		status     Status
		fdb        []EntryStatus
		nexthops   []NexthopStatus
		neighbours []NeighbourStatus
	}{e.Status(), e.FDB(), e.Nexthops(), e.Neighbours()}

	show := func(v any) string {
		text, err := json.MarshalIndent(v, "", " ")
		check(err)
		return string(text)
	}
	next2 := build(func(*VNIConfig) {})
	next2.Restore(s)
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"status", next2.Status(), want.status}, {"fdb", next2.FDB(), want.fdb},
		{"nexthops", next2.Nexthops(), want.nexthops}, {"neighbours", next2.Neighbours(), want.neighbours},
	} {
		if g, w := show(c.got), show(c.want); g != w {
			t.Errorf("%s: got\n%s\nwant\n%s", c.what, g, w)
		}
	}
	if left := time.Duration(next2.paths.to(vtepA.Addr()).until.Load()) - clock; left != 5*time.Minute-10*time.Second {
		t.Errorf("the path's MTU holds for %v", left)
	}

	// One that is configured otherwise takes what it has a use for.
	strict := build(func(c *VNIConfig) {
		c.AllowUnknownVTEPs, c.ARP, c.SnoopNeighbours, c.GroupPolicy = false, ARPFlood, false, nil
		c.Static = []StaticEntry{{MAC: vxlan.MAC{2, 0, 0, 0, 2, 1}, VTEP: vtepA}}
	})
	strict.Restore(s)
	for _, f := range strict.FDB() {
		if f.VTEP == netip.MustParseAddr("203.0.113.77") {
			t.Errorf("a stranger is back: %+v", f)
		}
		if f.MAC == (vxlan.MAC{2, 0, 0, 0, 2, 1}) && f.VTEP != vtepA.Addr() {
			t.Errorf("its own entry is gone: %+v", f)
		}
	}
}

// TestHandOverRefused: an endpoint that cannot be handed over goes on.
func TestHandOverRefused(t *testing.T) {
	p := newRig(t).add(handedVNI, nil)
	if err := p.rig.e.HandOver(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("before Run: %v", err)
	}
	if _, _, err := p.rig.e.Descriptors(); !errors.Is(err, ErrNoHandover) {
		t.Errorf("in memory: %v", err)
	}
}

// TestPing: a worker that hangs is found.
func TestPing(t *testing.T) {
	w := oneWorker(t, true)
	e := &Endpoint{workers: []*worker{w}}
	never := make(chan struct{})
	if err := e.Ping(never); err != nil {
		t.Errorf("idle: %v", err)
	}
	hang := make(chan struct{})
	w.post(func() { <-hang })
	over := make(chan struct{})
	close(over)
	if err := e.Ping(over); err == nil {
		t.Error("a worker that hangs is said to be well")
	}
	close(hang)
	if err := e.Ping(never); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	w.stop()
	if err := e.Ping(never); err == nil {
		t.Error("a worker that has ended is said to be well")
	}
}
