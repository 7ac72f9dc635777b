package e2e

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
)

// TestD23NeverFragments: with a TAP whose MTU is above what the underlay
// carries, frames of every size either leave in one piece or are dropped and
// counted, whatever else is in the same batch.
func TestD23NeverFragments(t *testing.T) {
	eachLone(t, "size", func(t *testing.T, l *lone) {
		most := 1500 - 36 // of a frame, behind the outer IP, UDP and VXLAN headers
		if l.v6 {
			most -= 20
		}
		eventually(t, func() error {
			if !strings.Contains(l.program.stderr.String(), "will not fit") {
				return fmt.Errorf("no warning that --mtu 1600 is too much: %q", l.program.stderr)
			}
			return nil
		})
		// Twice: one by one, and in bursts in which long and short alternate.
		var sizes []int
		for size := 60; size <= 14+1600; size++ {
			sizes = append(sizes, size)
		}
		for size := 60; size <= 14+1600; size += 3 {
			sizes = append(sizes, size, 14+1600+60-size, size)
		}
		var tooBig, number uint64
		for batch := range slices.Chunk(sizes, 48) {
			want := make(map[string]bool)
			for _, size := range batch {
				number++
				frame := testFrame(broadcast, station(1), nil, size, uint32(number))
				l.device.send(frame)
				if size > most {
					tooBig++
				} else {
					want[string(frame)] = true
				}
			}
			for len(want) > 0 {
				o := l.heard()
				if o.fragment {
					t.Fatal("a fragment was sent")
				}
				if len(o.payload) < vxlan.HeaderLen || !want[string(o.payload[vxlan.HeaderLen:])] {
					t.Fatalf("sent what was not there to be sent: %x", o.payload)
				}
				delete(want, string(o.payload[vxlan.HeaderLen:]))
			}
		}
		l.program.awaitCounters("every long frame counted", func(c vtep.Counters) bool { return c.TxDropTooBig >= tooBig })
		if c := l.program.counters(); c.TxDropTooBig != tooBig || c.TxFrames != number-tooBig {
			t.Errorf("%d sent, %d too big, want %d, %d", c.TxFrames, c.TxDropTooBig, number-tooBig, tooBig)
		}

		// The underlay shrinks under the running endpoint, then a superframe.
		must(t, l.a.SetMTU(underlayDevice, 1400))
		l.device.send(testFrame(broadcast, station(1), nil, most, 1))
		l.program.awaitCounters("the shrunk underlay noticed", func(c vtep.Counters) bool { return c.TxDropTooBig == tooBig+1 })
		must(t, l.a.SetMTU(underlayDevice, 1500))
		last := testFrame(broadcast, station(1), nil, most, 2)
		l.device.send(last)
		if o := l.heard(); o.fragment || !bytes.Equal(o.payload[vxlan.HeaderLen:], last) {
			t.Errorf("after the underlay grew again: %+v", o)
		}
	}, "--mtu", "1600")
}

// TestD23SuperframesNeverFragment: the same for what the stack hands over in
// one piece. TCP is told what fits (TestTooBigForDevice); until then it must not
// find a way by fragments.
func TestD23SuperframesNeverFragment(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			tn := kernelTunnel(t, "super", wiring{real: true}, v6, "--mtu", "1600")
			must(t, tn.b.SetMTU("vxlan0", 1600))
			wire := openPort(t, tn.b.Namespace, underlayDevice, false)
			path := openUDP(t, tn.a.Namespace, inner4A, tn.b.Namespace, inner4B)
			// In segments that fit: through. In longer ones: not, and counted.
			must(t, path.carrySegments(20*1200+100, 1200))
			must(t, path.setSegment(1500))
			_, err := path.a.WriteTo(make([]byte, 10*1500), path.b.LocalAddr())
			must(t, err)
			must(t, path.setSegment(0))
			tn.program.awaitCounters("10 segments too big", func(c vtep.Counters) bool { return c.TxDropTooBig == 10 })

			listener, err := tn.b.Listen("tcp", addrPort(inner4B, 0).String())
			must(t, err)
			defer listener.Close()
			conn, err := tn.a.Dial("tcp", listener.Addr().String())
			must(t, err)
			defer conn.Close()
			_, err = conn.Write(make([]byte, 30000))
			must(t, err)
			tn.program.awaitCounters("TCP's segments too big", func(c vtep.Counters) bool { return c.TxDropTooBig > 10 })
			// An end of the connection without its data being sent again.
			must(t, conn.(*net.TCPConn).SetLinger(0))
			for {
				packet := wire.recv(time.Time{})
				if packet == nil {
					break
				}
				if o, ok := parseOuter(packet); ok && o.fragment {
					t.Fatal("a fragment was sent")
				}
			}
		})
	}
}

// TestD24FragmentsReceived: outer fragments made by others on the way are put
// together again (by the host's IP), which RFC 7348 section 4.3 leaves free.
func TestD24FragmentsReceived(t *testing.T) {
	eachLone(t, "frags", func(t *testing.T, l *lone) {
		must(t, l.b.SetMTU(underlayDevice, 1300))
		for i, size := range []int{1250, 1300, 1400, 1444} {
			frame := testFrame(broadcast, station(2), nil, size, uint32(i))
			l.say(header(0x08, 0, l.vni, 0), frame)
			l.device.expect(frame)
		}
		// A tag is not counted in the MTU.
		mtu := l.program.status().VNIs[0].MTU
		frame := testFrame(broadcast, station(2), tagQ, 18+mtu, 10)
		l.say(header(0x08, 0, l.vni, 0), frame)
		l.device.expect(frame)
		// One longer than the overlay's MTU has nowhere to go.
		l.say(header(0x08, 0, l.vni, 0), testFrame(broadcast, station(2), nil, 15+mtu, 11))
		l.program.awaitCounters("one oversize", func(c vtep.Counters) bool { return c.RxDropOversize == 1 })
		l.silent()
	})
}

// TestD25OverlayMTU: the TAP's MTU is what the underlay carries, by interface
// or by route, less 50 over IPv4 and 70 over IPv6; --mtu overrides it, with a
// warning when that is too much.
func TestD25OverlayMTU(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "mtu", 2, wiring{mtu: 9000})
	a, b := hosts[0], hosts[1]
	route := func(mtu int) {
		t.Helper()
		must(t, a.Do(func() error {
			link, err := netlink.LinkByName(underlayDevice)
			if err != nil {
				return err
			}
			host := &net.IPNet{IP: b.ip4.AsSlice(), Mask: net.CIDRMask(32, 32)}
			return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: host, MTU: mtu, Scope: netlink.SCOPE_LINK})
		}))
	}
	check := func(want int, warn bool, flags ...string) {
		t.Helper()
		p := up(t, a.Namespace, append([]string{"--vni", "4097"}, flags...)...)
		link, err := a.Link(p.device())
		must(t, err)
		if link.MTU != want || !strings.Contains(p.upLine(), fmt.Sprintf(" mtu %d ", want)) {
			t.Errorf("%v: MTU %d, want %d: %s", flags, link.MTU, want, p.upLine())
		}
		p.stop() // all that it wrote has arrived then
		if warned := strings.Contains(p.stderr.String(), "WARN"); warned != warn {
			t.Errorf("%v: warned %v, want %v: %s", flags, warned, warn, p.stderr)
		}
	}
	peer4, peer6 := b.ip4.String(), b.ip6.String()
	check(8950, false, "--peer", peer4)
	check(8930, false, "--peer", peer6)
	check(8930, false, "--peer", peer4, "--peer", peer6)
	check(8950, false, "--local", a.ip4.String())
	check(1300, false, "--peer", peer4, "--mtu", "1300")
	check(8951, true, "--peer", peer4, "--mtu", "8951")
	route(1400)
	check(1350, false, "--peer", peer4)
	must(t, a.SetMTU(underlayDevice, 1500))
	must(t, b.SetMTU(underlayDevice, 1500))
	route(0)
	check(1450, false, "--peer", peer4)
	check(1430, false, "--peer", peer6)
}

// TestJumboUnderlay: an underlay of 9000 bytes gives an overlay of 8950 that
// carries what it promises.
func TestJumboUnderlay(t *testing.T) {
	t.Parallel()
	for _, real := range []bool{false, true} {
		for _, offload := range []string{"auto", "off"} {
			t.Run(fmt.Sprintf("real=%v/offload=%s", real, offload), func(t *testing.T) {
				t.Parallel()
				tn := kernelTunnel(t, "jumbo", wiring{mtu: 9000, real: real}, false, "--offload", offload)
				ping(t, tn.a.Namespace, inner4B, 3, "-M", "do", "-s", "8922")
				must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 8<<20))
				path := openUDP(t, tn.a.Namespace, inner4A, tn.b.Namespace, inner4B)
				for _, p := range []udpPath{path, path.reverse()} {
					must(t, p.carry([]int{64, 8921, 8922, 8923, 30000}))
					must(t, p.carrySegments(6*8922, 8922))
				}
				a, b := tn.ends(t)
				frames := [][]byte{testFrame(station(1), station(2), nil, 8964, 1), testFrame(station(1), station(2), nil, 8963, 2)}
				must(t, carryAll(a, b, frames))
				must(t, carryAll(b, a, frames))
			})
		}
	}
}

// TestPeerWithLargerMTU: where a peer's overlay MTU is larger than
// ours its frames are dropped and counted, and those that fit still arrive.
func TestPeerWithLargerMTU(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "small", 2, wiring{mtu: 9000})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, MTU: 8950}, false, a)
	p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--mtu", "1450")
	near, far := openPort(t, a.Namespace, p.device(), false), openPort(t, b.Namespace, "vxlan0", false)
	for i := range uint32(30) {
		far.send(testFrame(broadcast, station(2), nil, 1465+int(i)*50, 100+i))
		fits := testFrame(broadcast, station(2), nil, 1464, i)
		far.send(fits)
		near.expect(fits)
	}
	p.awaitCounters("30 oversize", func(c vtep.Counters) bool { return c.RxDropOversize == 30 })
}
