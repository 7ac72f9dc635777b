package vtep

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// Three VTEPs: a broadcast reaches each once, the answer goes where it was
// learned and nowhere else, a station that moves is followed.
func TestThreeVTEPs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(transport.NetworkConfig{})
		a, b, c := on(t, n, vtepA), on(t, n, vtepB), on(t, n, vtepC)
		sa := a.join(10, alice, peers(vtepB, vtepC))
		sb := b.join(10, bob, peers(vtepA, vtepC))
		sc := c.join(10, host, peers(vtepA, vtepB))

		sa.send(t, sa.to(broadcast))
		if x, y, z := sa.take(), sb.take(), sc.take(); len(x) != 0 || len(y) != 1 || len(z) != 1 {
			t.Errorf("broadcast: %d back, %d at b, %d at c; want 0, 1, 1", len(x), len(y), len(z))
		}
		sb.send(t, sb.to(alice))
		if x, z := sa.take(), sc.take(); len(x) != 1 || len(z) != 0 {
			t.Errorf("answer: %d at a, %d at c; want 1, 0", len(x), len(z))
		}
		// Alice turns up behind c.
		sc.send(t, raw(broadcast, alice, 64))
		sa.take()
		sb.take()
		sb.send(t, sb.to(alice))
		if x, z := sa.take(), sc.take(); len(x) != 0 || len(z) != 1 {
			t.Errorf("after the move: %d at a, %d at c; want 0, 1", len(x), len(z))
		}
		for _, s := range []*site{a, b, c} {
			s.stop()
		}
	})
}

// Entries go when their time is over, and no earlier: a quarter of it later at
// most. That holds for VNIs that come while the endpoint runs too.
func TestSweep(t *testing.T) {
	for _, ageing := range []time.Duration{time.Second, time.Minute, 0, -1} {
		synctest.Test(t, func(t *testing.T) {
			n := transport.NewNetwork(transport.NetworkConfig{})
			a, b := on(t, n, vtepA), on(t, n, vtepB)
			time.Sleep(25 * time.Second) // the sweeper has found its rhythm
			sa := a.join(10, alice, func(c *VNIConfig) {
				c.Peers = []netip.AddrPort{vtepB}
				c.Ageing = ageing
			})
			sb := b.join(10, bob, peers(vtepA))
			sb.send(t, sb.to(alice))
			if got := sa.take(); len(got) != 1 || !a.knows(bob) {
				t.Fatalf("not learned")
			}
			lives := ageing
			switch ageing {
			case 0:
				lives = 300 * time.Second
			case -1:
				lives = 24 * time.Hour
			}
			time.Sleep(lives - 200*time.Millisecond)
			synctest.Wait()
			if !a.knows(bob) {
				t.Errorf("ageing %v: the entry went before its time", ageing)
			}
			time.Sleep(lives/4 + 500*time.Millisecond)
			synctest.Wait()
			if a.knows(bob) != (ageing < 0) {
				t.Errorf("ageing %v: known %v a quarter of the time later", ageing, a.knows(bob))
			}
			a.stop()
			b.stop()
		})
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWire(), newCard(t)
		c.queues = 3
		s := newSite(t, w)
		if err := s.e.AddVNI(VNIConfig{VNI: 10, Device: c}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		s.stop()
		if c.closes.Load() != 1 || w.closes.Load() != 1 {
			t.Errorf("device closed %d times, underlay %d; want once", c.closes.Load(), w.closes.Load())
		}
		if err := s.e.Close(); err != nil {
			t.Errorf("close afterwards: %v", err)
		}
		if err := s.e.Run(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("second run: %v, want ErrClosed", err)
		}
	})
}

func TestContextCancelledBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWire(), newCard(t)
		e, err := New(Config{Conn: w})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.AddVNI(VNIConfig{VNI: 10, Device: c}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := e.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
		if c.closes.Load() != 1 || w.closes.Load() != 1 {
			t.Errorf("device closed %d times, underlay %d; want once", c.closes.Load(), w.closes.Load())
		}
	})
}

func TestCloseWithoutRun(t *testing.T) {
	w, c := newWire(), newCard(t)
	e, err := New(Config{Conn: w})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddVNI(VNIConfig{VNI: 10, Device: c}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if c.closes.Load() != 1 || w.closes.Load() != 1 {
		t.Errorf("device closed %d times, underlay %d; want once", c.closes.Load(), w.closes.Load())
	}
	if err := e.AddVNI(VNIConfig{VNI: 11, Device: newCard(t)}); !errors.Is(err, ErrClosed) {
		t.Errorf("add VNI: %v, want ErrClosed", err)
	}
	for what, err := range map[string]error{
		"delete VNI": e.DelVNI(10), "add peer": e.AddPeer(10, vtepA), "delete entry": e.DelEntry(10, alice),
	} {
		if !errors.Is(err, ErrNoVNI) {
			t.Errorf("%s: %v, want ErrNoVNI", what, err)
		}
	}
	if s := e.Status(); len(s.VNIs) != 0 || len(e.FDB()) != 0 {
		t.Errorf("status %+v, want no VNI", s)
	}
}

func TestCloseEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, newWire())
		synctest.Wait()
		if err := s.e.Run(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("second run beside the first: %v, want ErrClosed", err)
		}
		if err := s.e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-s.result; err != nil {
			t.Errorf("run: %v", err)
		}
		s.cancel()
	})
}

func TestUnderlayFailsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWire(), newCard(t)
		s := newSite(t, w)
		if err := s.e.AddVNI(VNIConfig{VNI: 10, Device: c}); err != nil {
			t.Fatal(err)
		}
		w.pipe <- syscall.EBADF
		if err := <-s.result; !errors.Is(err, syscall.EBADF) {
			t.Errorf("run: %v, want EBADF", err)
		}
		if c.closes.Load() != 1 || w.closes.Load() != 1 {
			t.Errorf("device closed %d times, underlay %d; want once", c.closes.Load(), w.closes.Load())
		}
		s.cancel()
	})
}

// errGone is what a device says that was deleted by somebody else.
var errGone = errors.New("file descriptor in bad state")

func TestDeviceVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c, d := newWire(), newCard(t), newCard(t)
		c.queues = 2
		s := newSite(t, w)
		for v, dev := range map[vxlan.VNI]*card{10: c, 11: d} {
			if err := s.e.AddVNI(VNIConfig{VNI: v, Device: dev}); err != nil {
				t.Fatal(err)
			}
		}
		c.pipe <- errGone
		c.pipe <- errGone // both of its queues
		synctest.Wait()
		if st := s.e.Status(); len(st.VNIs) != 1 || st.VNIs[0].VNI != 11 {
			t.Errorf("VNIs %+v, want 11 alone", st.VNIs)
		}
		if c.closes.Load() != 1 {
			t.Errorf("the device was closed %d times, want once", c.closes.Load())
		}
		select {
		case err := <-s.result:
			t.Fatalf("run ended with %v, though a VNI is left", err)
		default:
		}
		// A new device for the VNI can take the place.
		if err := s.e.AddVNI(VNIConfig{VNI: 10, Device: newCard(t)}); err != nil {
			t.Error(err)
		}
		if err := s.e.DelVNI(10); err != nil {
			t.Error(err)
		}
		d.pipe <- errGone
		err := <-s.result
		if !errors.Is(err, errGone) || !strings.Contains(err.Error(), "card0") || !strings.Contains(err.Error(), "11") {
			t.Errorf("run: %v, want its error, with the device and its VNI", err)
		}
		if w.closes.Load() != 1 || d.closes.Load() != 1 {
			t.Errorf("underlay closed %d times, device %d; want once", w.closes.Load(), d.closes.Load())
		}
		s.cancel()
	})
}

// A namespace that is removed takes all devices away at the same moment.
func TestAllDevicesVanishAtOnce(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, newWire())
			var cards []*card
			for v := range vxlan.VNI(4) {
				c := newCard(t)
				cards = append(cards, c)
				if err := s.e.AddVNI(VNIConfig{VNI: v, Device: c}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			for _, c := range cards {
				c.pipe <- errGone
			}
			synctest.Wait()
			select {
			case err := <-s.result:
				if !errors.Is(err, errGone) {
					t.Errorf("run: %v, want its error", err)
				}
			default:
				t.Error("run goes on without any device")
				s.cancel()
				<-s.result
			}
			for i, c := range cards {
				if n := c.closes.Load(); n != 1 {
					t.Errorf("device %d was closed %d times", i, n)
				}
			}
			s.cancel()
		})
		if t.Failed() {
			return
		}
	}
}

// VNIs come and go while frames flow in another; that one does not notice.
func TestVNIsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(transport.NetworkConfig{})
		a, b := on(t, n, vtepA), on(t, n, vtepB)
		sa, sb := a.join(10, alice, peers(vtepB)), b.join(10, bob, peers(vtepA))
		for round := range 20 {
			x, y := a.join(20, alice, peers(vtepB)), b.join(20, bob, peers(vtepA))
			sa.send(t, sa.to(bob))
			x.send(t, x.to(bob))
			if p, q := sb.take(), y.take(); len(p) != 1 || len(q) != 1 {
				t.Fatalf("round %d: %d frames in VNI 10, %d in 20; want 1, 1", round, len(p), len(q))
			}
			// Only one side: what comes for it is counted, no more.
			if err := b.e.DelVNI(20); err != nil {
				t.Fatal(err)
			}
			x.send(t, x.to(bob))
			if got := b.e.Status().Counters.RxDropUnknownVNI; got != uint64(round+1) {
				t.Fatalf("round %d: %d frames of an unknown VNI counted", round, got)
			}
			if err := a.e.DelVNI(20); err != nil {
				t.Fatal(err)
			}
			if err := x.dev.HostSend(x.to(bob)); err == nil {
				t.Error("the device of a deleted VNI still takes frames")
			}
		}
		if c := b.counters(10); c.RxFrames != 20 {
			t.Errorf("%d frames in VNI 10, want 20", c.RxFrames)
		}
		a.stop()
		b.stop()
	})
}

func TestPeersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(transport.NetworkConfig{})
		a, b, c := on(t, n, vtepA), on(t, n, vtepB), on(t, n, vtepC)
		sa := a.join(10, alice, nil)
		sb, sc := b.join(10, bob, peers(vtepA)), c.join(10, host, peers(vtepA))
		check := func(atB, atC int) {
			t.Helper()
			sa.send(t, sa.to(broadcast))
			if x, y := len(sb.take()), len(sc.take()); x != atB || y != atC {
				t.Errorf("broadcast: %d at b, %d at c; want %d, %d", x, y, atB, atC)
			}
		}
		check(0, 0)
		for _, step := range []struct {
			change   func(vxlan.VNI, netip.AddrPort) error
			peer     netip.AddrPort
			atB, atC int
		}{
			{a.e.AddPeer, vtepB, 1, 0}, {a.e.AddPeer, vtepC, 1, 1}, {a.e.DelPeer, vtepB, 0, 1}, {a.e.DelPeer, vtepC, 0, 0}, {a.e.AddPeer, vtepB, 1, 0},
		} {
			if err := step.change(10, step.peer); err != nil {
				t.Fatal(err)
			}
			check(step.atB, step.atC)
		}
		for _, s := range []*site{a, b, c} {
			s.stop()
		}
	})
}

// A peer that ends and comes back is served again without anybody's help.
func TestPeerRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(transport.NetworkConfig{})
		a := on(t, n, vtepA)
		sa := a.join(10, alice, peers(vtepB))
		for range 3 {
			b := on(t, n, vtepB)
			sb := b.join(10, bob, peers(vtepA))
			sa.send(t, sa.to(bob))
			sb.send(t, sb.to(alice))
			if x, y := len(sa.take()), len(sb.take()); x != 1 || y != 1 {
				t.Errorf("%d frames at a, %d at b; want 1, 1", x, y)
			}
			b.stop()
			sa.send(t, sa.to(bob))
		}
		a.stop()
	})
}

// Everything at once, for the race detector: frames both ways in one VNI, while
// others come and go, peers and entries change and somebody looks on.
func TestChangesWhileFramesFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := transport.NewNetwork(transport.NetworkConfig{})
		a, b := on(t, n, vtepA), on(t, n, vtepB)
		sa, sb := a.join(10, alice, peers(vtepB)), b.join(10, bob, peers(vtepA))
		const rounds = 200
		var tasks sync.WaitGroup
		task := func(f func(i int) error) {
			tasks.Go(func() {
				for i := range rounds {
					if err := f(i); err != nil {
						t.Errorf("round %d: %v", i, err)
						return
					}
				}
			})
		}
		task(func(int) error { return sa.dev.HostSend(sa.to(bob)) })
		task(func(int) error { return sb.dev.HostSend(sb.to(alice)) })
		task(func(int) error {
			x := tap.NewMemory(tap.MemoryConfig{})
			if err := a.e.AddVNI(VNIConfig{VNI: 11, Device: x, Peers: []netip.AddrPort{vtepB}, Ageing: time.Millisecond}); err != nil {
				return err
			}
			if err := x.HostSend(raw(broadcast, alice, 64)); err != nil {
				return err
			}
			return a.e.DelVNI(11)
		})
		task(func(int) error {
			if err := a.e.AddPeer(10, vtepC); err != nil {
				return err
			}
			return a.e.DelPeer(10, vtepC)
		})
		task(func(i int) error {
			mac := vxlan.MAC{2, 1, byte(i)}
			if err := b.e.AddStatic(10, StaticEntry{mac, vtepC}); err != nil {
				return err
			}
			return b.e.DelEntry(10, mac)
		})
		task(func(int) error {
			if s := a.e.Status(); len(s.VNIs) < 1 || len(a.e.FDB(10)) < 1 {
				return errors.New("VNI 10 is missing")
			}
			return nil
		})
		tasks.Wait()
		synctest.Wait()
		if x, y := len(sa.take()), len(sb.take()); x != rounds || y != rounds {
			t.Errorf("%d frames at a, %d at b; want %d each", x, y, rounds)
		}
		a.stop()
		b.stop()
	})
}
