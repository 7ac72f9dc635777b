package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Somebody who has seen a packet sends it again, from the address that it came from.
// VXLAN has nothing to tell the second from the first.
func TestAttackByReplay(t *testing.T) {
	const again = 100
	attack(t, "replay", nil, func(t *testing.T, a *attacked) string {
		port := a.port()
		f := testFrame(broadcast, station(1), nil, 100, 1)
		for range 1 + again {
			a.friend.say(t, f)
		}
		for range 1 + again {
			port.expect(f)
		}
		return fmt.Sprintf("delivers it %d times", 1+again)
	})
}

// Within --wireguard each packet has a number, and comes once.
func TestAttackByReplayOnTunnel(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "wgreplay", 2, wiring{real: true})
	a, b := hosts[0], hosts[1]
	k := newKeys()
	a.quiet(t)
	b.quiet(t)
	up(t, b.Namespace, tunnelFlags(1, k.config(t, b, 1, a.ip4))...)
	p := up(t, a.Namespace, tunnelFlags(0, k.config(t, a, 0, b.ip4))...)
	shaken(t, a, inner4B)

	wire := openPort(t, b.Namespace, underlayDevice, true)
	near, far := openPort(t, a.Namespace, "vx4097", false), openPort(t, b.Namespace, "vx4097", false)
	const size = 700
	f := testFrame(broadcast, station(1), nil, size, 1)
	far.send(f)
	near.expect(f)
	var seen []byte
	for seen == nil {
		packet := wire.recv(deadline())
		if packet == nil {
			t.Fatal("nothing is on the wire")
		}
		if len(packet) > size && bytes.Equal(packet[26:30], b.ip4.AsSlice()) {
			seen = bytes.Clone(packet)
		}
	}
	const again = 100
	for range again {
		wire.send(seen)
	}
	// What is sent after them arrives after them.
	last := testFrame(broadcast, station(1), nil, 100, 2)
	far.send(last)
	near.expect(last)
	p.awaitCounters("none of them", func(c vtep.Counters) bool { return c.RxFrames >= 2 })
	t.Logf("govxlan --wireguard delivers it once, of %d times", 1+again)
}

// Somebody tells the VTEP that the way to its peer is narrow, by an ICMP error about a
// packet that was never sent: to make it slow, or to have packets cut into fragments that
// are then lost.
func TestAttackByICMP(t *testing.T) {
	attack(t, "icmp", nil, func(t *testing.T, a *attacked) string {
		port := a.port()
		// It is a VTEP at work: its first packet goes before the attack.
		port.send(testFrame(broadcast, station(7), nil, 100, 1))
		a.friend.hears(t, patience, testFrame(broadcast, station(7), nil, 100, 1))
		inner := ipFrame(station(2), station(7), false, 0, [2]uint16{1000, 2000}, make([]byte, 1300))
		udp := append([]byte{0xC3, 0x50, vxlan.Port >> 8, vxlan.Port & 0xFF, 0, 0, 0, 0}, header(8, 0, 4097, 0)...)
		udp = append(udp, inner...)
		binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
		ip := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0}
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(udp)))
		ip = append(append(ip, a.h.ip4.AsSlice()...), a.friend.h.ip4.AsSlice()...)
		binary.BigEndian.PutUint16(ip[10:], checksum.Checksum(ip, 0))
		quote := append(ip, udp...)[:500]
		wire := openPort(t, a.friend.h.Namespace, underlayDevice, false)

		// cut says whether a long frame arrives at the friend in fragments.
		number := uint32(100)
		cut := func() bool {
			t.Helper()
			wire.drain()
			number++
			f := testFrame(broadcast, station(7), nil, 1400, number)
			port.send(f)
			for {
				packet := wire.recv(time.Now().Add(patience))
				if packet == nil {
					t.Fatal("the long frame does not leave")
				}
				if len(packet) < 200 || !bytes.Equal(packet[26:30], a.h.ip4.AsSlice()) {
					continue
				}
				return binary.BigEndian.Uint16(packet[20:])&0x3FFF != 0
			}
		}
		if cut() {
			t.Fatal("cut before the attack")
		}
		if a.program == nil {
			eventually(t, func() error {
				must(t, tooBig(a.foe.h, a.h.ip4, quote, 1000))
				if !cut() {
					return fmt.Errorf("the kernel does not believe it")
				}
				return nil
			})
			return "believes it, and cuts its packets into fragments"
		}
		must(t, tooBig(a.foe.h, a.h.ip4, quote, 1000))
		for range 20 {
			if cut() {
				t.Fatal("packets are cut")
			}
		}
		if s := a.program.status(); s.VNIs[0].Peers[0].PathMTU != 0 {
			t.Errorf("it believes in a path MTU of %d", s.VNIs[0].Peers[0].PathMTU)
		}
		return "does not, and sends them whole"
	})
}
