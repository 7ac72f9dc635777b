package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// impairment is what a link does to packets, each as a share of them.
type impairment struct {
	lose   float64
	double float64
	alter  float64 // turns one bit over
	hold   float64 // until some others have overtaken it
}

// badLink joins two hosts and impairs what passes. Not every kernel has netem, and
// this one remembers what it did.
type badLink struct {
	mu   sync.Mutex
	does impairment
	lost map[uint32]bool
	done impairment // how many, not shares
}

func newBadLink() *badLink { return &badLink{lost: make(map[uint32]bool)} }

// set has the link do this from now on, and forget what it did.
func (l *badLink) set(i impairment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.does, l.done = i, impairment{}
	clear(l.lost)
}

// has says what the link did, and which test frames it has lost or altered.
func (l *badLink) has() (done impairment, lost map[uint32]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost = make(map[uint32]bool)
	for n := range l.lost {
		lost[n] = true
	}
	return l.done, lost
}

// run carries packets between two devices until the test ends.
func (l *badLink) run(t *testing.T, ns *netlab.Namespace, a, b string) {
	t.Helper()
	ports := []*packetPort{openPort(t, ns, a, false), openPort(t, ns, b, false)}
	stop := make(chan struct{})
	var ways sync.WaitGroup
	for i := range ports {
		ways.Go(func() { l.carry(ports[i], ports[1-i], rand.New(rand.NewPCG(uint64(i), 1)), stop) })
	}
	// Before the sockets are closed.
	t.Cleanup(func() { close(stop); ways.Wait() })
}

func (l *badLink) carry(from, to *packetPort, random *rand.Rand, stop <-chan struct{}) {
	type held struct {
		packet []byte
		behind int // so many others
	}
	var waiting []held
	for {
		select {
		case <-stop:
			return
		default:
		}
		p := from.recv(time.Now().Add(20 * time.Millisecond))
		if p == nil { // nobody is there to overtake
			for _, h := range waiting {
				forward(to, h.packet)
			}
			waiting = nil
			continue
		}
		copies, hold := l.impair(p, random)
		if hold {
			waiting = append(waiting, held{bytes.Clone(p), 1 + random.IntN(3)})
			continue
		}
		for range copies {
			forward(to, p)
		}
		for i := range waiting {
			if waiting[i].behind--; waiting[i].behind == 0 {
				forward(to, waiting[i].packet)
			}
		}
		waiting = slices.DeleteFunc(waiting, func(h held) bool { return h.behind == 0 })
	}
}

// forward sends a packet. Where the device is down it is lost, as on any wire.
func forward(to *packetPort, packet []byte) {
	for {
		switch _, err := unix.Write(to.fd, packet); err {
		case unix.EINTR, unix.EAGAIN, unix.ENOBUFS:
			time.Sleep(50 * time.Microsecond)
		default:
			return
		}
	}
}

// impair decides what becomes of a packet, and alters it if that is it.
func (l *badLink) impair(p []byte, random *rand.Rand) (copies int, hold bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	spoil := func() {
		const outer = vxlan.EthernetLen + 20 + vxlan.UDPLen + vxlan.HeaderLen
		if len(p) > outer {
			if n, ok := frameNumber(p[outer:]); ok {
				l.lost[n] = true
			}
		}
	}
	switch does := l.does; {
	case random.Float64() < does.lose:
		spoil()
		l.done.lose++
		return 0, false
	case random.Float64() < does.double:
		l.done.double++
		return 2, false
	case random.Float64() < does.alter:
		spoil()
		l.done.alter++
		p[random.IntN(len(p))] ^= 1 << random.IntN(8)
	case random.Float64() < does.hold:
		l.done.hold++
		return 0, true
	}
	return 1, false
}

// TestBadLink: an underlay that loses, doubles, alters and reorders packets. TCP
// through the overlay arrives whole; of single frames all arrive that the link did
// not spoil, each once unless it doubled them.
func TestBadLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		impairment
	}{
		{"loses", impairment{lose: 0.03}},
		{"doubles", impairment{double: 0.1}},
		{"reorders", impairment{hold: 0.1}},
		{"alters", impairment{alter: 0.02}},
		{"all of it", impairment{0.01, 0.03, 0.01, 0.03}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			link := newBadLink()
			tn := kernelTunnel(t, "badlink", wiring{real: true, bad: link}, false)
			near, far := openPort(t, tn.a.Namespace, tn.program.device(), false), openPort(t, tn.b.Namespace, "vxlan0", false)
			passes(t, near, far, patience) // each knows where stations 0 and 1 are
			// Programs are attached a moment after the start: what is compared comes later.
			must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 1<<20))
			before := tn.program.health()

			link.set(c.impairment)
			must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 1<<20))
			did, _ := link.has()
			if did.lose+did.double+did.alter+did.hold == 0 {
				t.Error("the link did nothing")
			}

			for i, way := range [][2]*packetPort{{near, far}, {far, near}} {
				near.drain()
				far.drain()
				link.set(c.impairment)
				const count, window = 1000, 20
				first := uint32(1000 * (i + 1))
				frame := func(n uint32) []byte { return testFrame(station(byte(1-i)), station(byte(i)), nil, 200, n) }
				got := make(map[uint32]int)
				strange := 0
				// come waits until all came that can.
				come := func(last uint32) {
					eventually(t, func() error {
						for f := way[1].recvTest(time.Time{}); f != nil; f = way[1].recvTest(time.Time{}) {
							if n, _ := frameNumber(f); n >= first && n < last && bytes.Equal(f, frame(n)) {
								got[n]++
							} else {
								strange++
							}
						}
						_, spoilt := link.has()
						for n := first; n < last; n++ {
							if got[n] == 0 && !spoilt[n] {
								return fmt.Errorf("frame %d does not arrive", n)
							}
						}
						return nil
					})
				}
				for n := first; n < first+count; n++ {
					way[0].send(frame(n))
					if (n+1)%window == 0 {
						come(n + 1)
					}
				}
				did, spoilt := link.has()
				twice := 0
				for n, times := range got {
					if times > 1 {
						twice += times - 1
					}
					if spoilt[n] && did.alter == 0 {
						t.Errorf("frame %d was lost and arrived", n)
					}
				}
				if twice > int(did.double) || strange > int(did.alter) {
					t.Errorf("%d arrived again, %d altered; the link did %+v", twice, strange, did)
				}
			}

			link.set(impairment{})
			took := passes(t, near, far, recovery)
			tn.program.compare(before, took)
		})
	}
}
