package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// attacked is a VTEP on a shared network, the kernel's or ours, with VNI 4097. The
// test plays the two others: the friend is its peer, and the foe is somebody who can
// send datagrams to it.
type attacked struct {
	t       *testing.T
	h       *host
	program *program // nil: it is the kernel's
	device  string

	friend, foe *vtepSocket
}

// vtepSocket is a UDP socket on port 4789 of another host.
type vtepSocket struct {
	*net.UDPConn
	h  *host
	to *net.UDPAddr
}

// attack makes the same attack on the kernel's VTEP and on ours, and logs what each
// attack says of its success, one below the other.
func attack(t *testing.T, label string, flags []string, f func(*testing.T, *attacked) string) {
	t.Helper()
	t.Parallel()
	var results []string
	for _, system := range []string{"kernel", "govxlan"} {
		t.Run(system, func(t *testing.T) {
			results = append(results, fmt.Sprintf("%-8s %s", system, f(t, newAttacked(t, label, system, flags...))))
		})
	}
	t.Logf("\n%s", strings.Join(results, "\n"))
}

func newAttacked(t *testing.T, label, system string, flags ...string) *attacked {
	t.Helper()
	hosts := newHosts(t, label, 3, wiring{real: true})
	a := &attacked{t: t, h: hosts[0], device: "vxlan0"}
	a.h.quiet(t)
	join := func(h *host) *vtepSocket {
		c, err := h.ListenPacket("udp", addrPort(h.ip4, vxlan.Port).String())
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return &vtepSocket{UDPConn: c.(*net.UDPConn), h: h, to: udpAddr(a.h.ip4, vxlan.Port)}
	}
	a.friend, a.foe = join(hosts[1]), join(hosts[2])
	if system == "kernel" {
		a.h.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a.friend.h)
		return a
	}
	a.program = up(t, a.h.Namespace, append([]string{"--vni", "4097", "--peer", a.friend.h.ip4.String()}, flags...)...)
	a.device = a.program.device()
	return a
}

// port opens the device as its host sees it.
func (a *attacked) port() *packetPort {
	a.t.Helper()
	return openPort(a.t, a.h.Namespace, a.device, false)
}

// say sends a frame to the VTEP.
func (s *vtepSocket) say(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := s.WriteTo(append(header(8, 0, 4097, 0), frame...), s.to); err != nil {
		t.Fatalf("send to the VTEP: %v", err)
	}
}

// hears returns the frames that the VTEP sent to s up to one that is last, or what
// came within the time.
func (s *vtepSocket) hears(t *testing.T, within time.Duration, last []byte) (frames [][]byte) {
	t.Helper()
	must(t, s.SetReadDeadline(time.Now().Add(within)))
	b := make([]byte, 2000)
	for {
		n, err := s.Read(b)
		if err != nil {
			return frames
		}
		f := bytes.Clone(b[min(n, vxlan.HeaderLen):n])
		frames = append(frames, f)
		if bytes.Equal(f, last) {
			return frames
		}
	}
}

// Somebody who is no VTEP of ours sends frames into the VNI: whoever knows the VNI
// is let in by the kernel.
func TestAttackByStranger(t *testing.T) {
	attack(t, "stranger", nil, func(t *testing.T, a *attacked) string {
		port := a.port()
		f := testFrame(broadcast, station(9), nil, 100, 1)
		a.foe.say(t, f)
		if a.program == nil {
			port.expect(f)
			return "delivers the stranger's frame"
		}
		a.program.awaitCounters("one of a stranger", func(c vtep.Counters) bool { return c.RxDropUnknownVTEP == 1 })
		if got := port.recvTest(time.Time{}); got != nil {
			t.Errorf("delivered %x", got)
		}
		return "drops it (rx_drop_unknown_vtep)"
	})
}

// With --allow strangers of a prefix speak, and a reload changes who.
func TestAllowedStranger(t *testing.T) {
	t.Parallel()
	a := &attacked{t: t}
	hosts := newHosts(t, "allow", 3, wiring{real: true})
	a.h = hosts[0]
	a.h.quiet(t)
	file := filepath.Join(t.TempDir(), "govxlan.yaml")
	write := func(allow string) {
		must(t, os.WriteFile(file, []byte("local: 192.168.52.203\nvnis:\n  - {vni: 4097, peers: [192.168.52.204], allow: ["+allow+"]}\n"), 0o600))
	}
	write(`"192.168.52.205/32"`)
	a.program = up(t, a.h.Namespace, "--config", file)
	a.device = a.program.device()
	c, err := hosts[2].ListenPacket("udp", "192.168.52.205:4789")
	must(t, err)
	t.Cleanup(func() { c.Close() })
	foe := &vtepSocket{UDPConn: c.(*net.UDPConn), h: hosts[2], to: udpAddr(a.h.ip4, vxlan.Port)}
	port := a.port()
	f := testFrame(broadcast, station(9), nil, 100, 1)
	foe.say(t, f)
	port.expect(f)
	if e := a.program.entry(station(9).String()); e == nil || e.VTEP != hosts[2].ip4 {
		t.Errorf("entry %+v", e)
	}
	write("192.168.53.0/24")
	if o := a.program.ask("reload"); o.code != 0 || !strings.HasPrefix(o.stdout, "changed VNI 4097: allow\n") {
		t.Errorf("reload: %+v", o)
	}
	if e := a.program.entry(station(9).String()); e != nil {
		t.Errorf("after the reload there is still %+v", e)
	}
	foe.say(t, f)
	a.program.awaitCounters("one of a stranger", func(c vtep.Counters) bool { return c.RxDropUnknownVTEP == 1 && c.RxFrames == 1 })
}

// A VTEP that is let in sends with the MAC of a station behind another one, to get
// its frames: the kernel believes whoever spoke last.
func TestAttackOnMAC(t *testing.T) {
	attack(t, "hijack", []string{"--allow", "192.168.52.0/24"}, func(t *testing.T, a *attacked) string {
		port := a.port()
		victim := station(1)
		sent := 0
		say := func(s *vtepSocket) {
			sent++
			f := testFrame(broadcast, victim, nil, 100, uint32(sent))
			s.say(t, f)
			if a.program == nil {
				port.expect(f)
				return
			}
			a.program.awaitCounters("all", func(c vtep.Counters) bool { return c.RxFrames+c.RxDropMACHeld == uint64(sent) })
		}
		for range 10 {
			say(a.friend)
			say(a.foe)
		}
		// The host answers the station.
		answer := testFrame(victim, station(7), nil, 100, 1000)
		port.send(answer)
		toFriend := a.friend.hears(t, 2*time.Second, answer)
		toFoe := a.foe.hears(t, 100*time.Millisecond, answer)
		got := func(frames [][]byte) bool { return len(frames) > 0 && bytes.Equal(frames[len(frames)-1], answer) }
		if a.program == nil {
			if got(toFriend) || !got(toFoe) {
				t.Errorf("the kernel sent to the friend %x, to the foe %x", toFriend, toFoe)
			}
			return "sends the station's frames to the foe"
		}
		if !got(toFriend) || got(toFoe) {
			t.Errorf("sent to the friend %x, to the foe %x", toFriend, toFoe)
		}
		c := a.program.counters()
		if c.RxDropMACHeld != 8 || c.RxFrames != 12 {
			t.Errorf("counters %+v", c)
		}
		if e := a.program.entry(victim.String()); e == nil || !e.Held || e.VTEP != a.friend.h.ip4 {
			t.Errorf("entry %+v", e)
		}
		if out := a.program.ask("fdb", "show").stdout; !strings.Contains(out, "learned, held") {
			t.Errorf("fdb show:\n%s", out)
		}
		eventually(t, func() error {
			if n := strings.Count(a.program.stderr.String(), "keeps moving between VTEPs"); n != 1 {
				return fmt.Errorf("told %d times", n)
			}
			return nil
		})
		// IP to the device itself is what programs in the kernel would carry.
		status := a.program.status().VNIs[0]
		own := func(n byte) []byte { return ipFrame(status.MAC, victim, false, 0, [2]uint16{1, 2}, []byte{n}) }
		a.foe.say(t, own(1))
		a.program.awaitCounters("one more held", func(c vtep.Counters) bool { return c.RxDropMACHeld == 9 })
		a.friend.say(t, own(2))
		a.program.awaitCounters("the station's", func(c vtep.Counters) bool { return c.RxFrames == 13 && c.RxDropMACHeld == 9 })
		return "holds the MAC, sends its frames to the friend and drops the foe's (rx_drop_mac_held)"
	})
}

// floodMACs are those of a flood. The kernel's table gets slower with its square.
var floodMACs = map[bool]uint32{true: 200_000, false: 80_000}

// flood sends frames from so many MACs, and returns how long that took, until all
// that arrived has been looked at.
func (a *attacked) flood(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	f := testFrame(station(3), station(0), nil, 60, 0)
	packet := append(header(8, 0, 4097, 0), f...)
	mac := packet[vxlan.HeaderLen+6:]
	// On a busy machine many are lost before the VTEP sees them: then it takes more.
	enough := func() bool {
		if a.program == nil {
			return true
		}
		c := a.program.counters()
		return c.RxNotLearnedFull+c.RxNotLearnedRate > 0
	}
	n := floodMACs[a.program != nil]
	for i := uint32(0); i < n || i < 10*n && (i%10_000 != 0 || !enough()); i++ {
		mac[0], mac[1] = 0x06, 0
		binary.BigEndian.PutUint32(mac[2:], i)
		if _, err := a.friend.WriteTo(packet, a.friend.to); err != nil {
			t.Fatal(err)
		}
	}
	a.settle(t)
	return time.Since(begin)
}

// settle waits until what the friend sent so far has been looked at: a frame that it
// sends afterwards, from the same socket, arrives.
func (a *attacked) settle(t *testing.T) {
	t.Helper()
	port := a.port()
	last := testFrame(station(3), station(1), nil, 100, 77)
	eventually(t, func() error {
		a.friend.say(t, last)
		for f := port.recvTest(time.Now().Add(100 * time.Millisecond)); f != nil; f = port.recvTest(time.Now().Add(100 * time.Millisecond)) {
			if bytes.Equal(f, last) {
				return nil
			}
		}
		return fmt.Errorf("the last frame does not arrive")
	})
}

// A VTEP that is let in sends from so many MACs: the kernel's table has no bound by
// default.
func TestAttackOnTable(t *testing.T) {
	attack(t, "flood", nil, func(t *testing.T, a *attacked) string {
		a.settle(t) // station 1 is learned
		took := a.flood(t)
		if a.program != nil {
			return a.afterFlood(t, took, fdb.DefaultMaxEntries)
		}
		entries, err := a.h.FDB(a.device)
		must(t, err)
		if len(entries) <= fdb.DefaultMaxEntries {
			t.Errorf("%d entries", len(entries))
		}
		return fmt.Sprintf("has %d entries of %d", len(entries), floodMACs[false])
	})
}

// The same, and new MACs are learned at a bounded rate.
func TestAttackOnTableByRate(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, "floodrate", "govxlan", "--learn-rate", "100/s,1000")
	a.settle(t)
	took := a.flood(t)
	t.Log(a.afterFlood(t, took, 1000+int(100*took/time.Second)+1))
}

// afterFlood looks at the table after a flood, which may have learned at most so
// many MACs.
func (a *attacked) afterFlood(t *testing.T, took time.Duration, most int) string {
	t.Helper()
	s := a.program.status().VNIs[0]
	c, learned := s.Counters, s.FDB.Learned
	refused := c.RxNotLearnedFull + c.RxNotLearnedRate
	// All that was delivered was learned, refused, or is of station 1.
	if rest := c.RxFrames - uint64(learned) - refused; learned > most || learned < 1000 || refused == 0 || rest > 1000 {
		t.Errorf("%d entries in %v, counters %+v", learned, took, c)
	}
	if e := a.program.entry(station(1).String()); e == nil || e.VTEP != a.friend.h.ip4 {
		t.Errorf("the station from before: %+v", e)
	}
	return fmt.Sprintf("has %d entries of %d, delivers %d frames without learning", learned, floodMACs[true], refused)
}

// A VTEP that is let in, and then the host itself, sends broadcast as fast as it can.
func TestAttackByStorm(t *testing.T) {
	const storm = 20_000
	attack(t, "storm", []string{"--storm-control", "100/s,200"}, func(t *testing.T, a *attacked) string {
		a.settle(t)
		port := a.port()
		begin := time.Now()
		for i := range storm {
			a.friend.say(t, testFrame(broadcast, station(1), nil, 60, uint32(i)))
		}
		in := 0
		a.settle(t)
		for f := port.recvTest(time.Time{}); f != nil; f = port.recvTest(time.Time{}) {
			if f[0] == 0xFF {
				in++
			}
		}
		most := 200 + int(100*time.Since(begin)/time.Second) + 1
		wire := openPort(t, a.friend.h.Namespace, underlayDevice, false)
		begin = time.Now()
		burst := func() {
			for i := range storm / 100 {
				port.send(testFrame(broadcast, station(2), nil, 60, uint32(i)))
			}
		}
		if a.program == nil {
			out := 0
			eventually(t, func() error {
				burst()
				for p := wire.recv(time.Time{}); p != nil; p = wire.recv(time.Time{}) {
					if o, ok := parseOuter(p); ok && len(o.payload) > 8 && o.payload[8] == 0xFF {
						out++
					}
				}
				if out < storm/10 {
					return fmt.Errorf("%d left", out)
				}
				return nil
			})
			if in < storm/2 {
				t.Errorf("%d arrived", in)
			}
			return fmt.Sprintf("delivers %d of %d, sends %d of the host's", in, storm, out)
		}
		if c := a.program.counters(); in > most || in < 200 || c.RxDropStorm == 0 || c.RxBroadcast > uint64(most) {
			t.Errorf("%d delivered, at most %d: counters %+v", in, most, c)
		}
		// What its queue has no room for, the TAP loses.
		a.program.awaitCounters("what the host sent", func(c vtep.Counters) bool { burst(); return c.TxFlooded+c.TxDropStorm >= storm/10 })
		c := a.program.counters()
		if most := 200 + uint64(100*time.Since(begin)/time.Second) + 1; c.TxFlooded > most || c.TxDropStorm == 0 {
			t.Errorf("at most %d: counters %+v", most, c)
		}
		return fmt.Sprintf("delivers %d of %d, sends %d of %d of the host's (rx_drop_storm, tx_drop_storm)", in, storm, c.TxFlooded, c.TxFlooded+c.TxDropStorm)
	})
}

// The host, or a station behind its device, sends with the MAC and the address of
// another.
func TestAttackBySpoofing(t *testing.T) {
	attack(t, "spoof", []string{"--anti-spoof", "ip", "--addr", inner4A.String() + "/24", "--local-mac", station(7).String(), "--mac", station(8).String()}, func(t *testing.T, a *attacked) string {
		a.settle(t) // station 1 is learned: to it programs in the kernel would send
		port := a.port()
		other := ipFrame(station(1), station(8), false, 0, [2]uint16{1, 2}, []byte{5})
		other[26+3]++ // of the source address
		false4 := [][]byte{
			ipFrame(station(1), station(9), false, 0, [2]uint16{1, 2}, []byte{4}), // MAC
			other, // address
			testFrame(station(1), station(9), nil, 100, 5),
		}
		true4 := [][]byte{
			ipFrame(station(1), station(8), false, 0, [2]uint16{1, 2}, []byte{6}),
			ipFrame(station(1), station(7), false, 0, [2]uint16{1, 2}, []byte{7}),
		}
		for _, f := range false4 {
			port.send(f)
		}
		if a.program != nil {
			a.program.awaitCounters("what is forged", func(c vtep.Counters) bool { return c.TxDropSpoofed == 3 })
		}
		heard := 0
		for _, f := range true4 {
			port.send(f)
			got := a.friend.hears(t, patience, f)
			if len(got) == 0 || !bytes.Equal(got[len(got)-1], f) {
				t.Fatalf("what is true is not sent, but %x", got)
			}
			for _, g := range got[:len(got)-1] {
				for _, f := range false4 {
					if bytes.Equal(f, g) {
						heard++
					}
				}
			}
		}
		if a.program == nil {
			if heard != 3 {
				t.Errorf("the kernel sent %d forged frames", heard)
			}
			return "sends 3 of 3 forged frames"
		}
		// A frame is heard a moment before it is counted.
		a.program.awaitCounters("what is true", func(c vtep.Counters) bool { return c.TxFrames >= 2 })
		c := a.program.counters()
		if heard != 0 || c.TxDropSpoofed != 3 || c.TxFrames != 2 {
			t.Errorf("%d forged frames heard, counters %+v", heard, c)
		}
		return "drops 3 of 3 (tx_drop_spoofed)"
	})
}

// Programs in the kernel do not send for a VNI whose frames are checked, and receive
// for it.
func TestAntiSpoofBesidePrograms(t *testing.T) {
	t.Parallel()
	a, _, pa, pb := acceleratedPair(t, "spoofbpf", "--anti-spoof", "ip")
	if s := pa.status(); s.VNIs[0].Datapath != "ebpf" {
		t.Fatalf("datapath %q (%s)", s.VNIs[0].Datapath, s.VNIs[0].Reason)
	}
	before := pa.counters()
	stopped(pa, pb, func() {
		if err := firstGood(3, func() error { return pingOnce(a.Namespace, inner4B, 100) }); err == nil {
			t.Error("frames left without being checked")
		}
	})
	port := openPort(t, a.Namespace, pa.device(), false)
	own, far := pa.status().VNIs[0].MAC, pb.status().VNIs[0].MAC
	forged := ipFrame(far, own, false, 0, [2]uint16{1, 2}, []byte{1})
	copy(forged[26:], []byte{10, 0, 1, 99}) // its source address
	for range 3 {
		port.send(forged)
	}
	pa.awaitCounters("what is forged", func(c vtep.Counters) bool { return c.TxDropSpoofed == before.TxDropSpoofed+3 })
	ping(t, a.Namespace, inner4B, 3)
}

// A reload changes what may be sent, with the addresses of the device.
func TestGuardReload(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "guardreload", 2, wiring{})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	file := filepath.Join(t.TempDir(), "govxlan.yaml")
	write := func(more string) {
		must(t, os.WriteFile(file, []byte("local: 192.168.52.203\nvnis:\n  - {vni: 4097, peers: [192.168.52.204], "+more+"}\n"), 0o600))
	}
	write("addr: [" + inner4A.String() + "/24], anti-spoof: ip")
	p := up(t, a.Namespace, "--config", file)
	c, err := b.ListenPacket("udp", addrPort(b.ip4, vxlan.Port).String())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	port := openPort(t, a.Namespace, p.device(), false)
	var c0 vtep.Counters
	try := func(what string, sent bool) {
		t.Helper()
		port.send(ipFrame(station(1), p.status().VNIs[0].MAC, false, 0, [2]uint16{1, 2}, []byte(what)))
		before := c0
		p.awaitCounters("one more", func(c vtep.Counters) bool {
			c0 = c
			return c.TxFrames+c.TxDropSpoofed > before.TxFrames+before.TxDropSpoofed
		})
		if got := c0.TxDropSpoofed == before.TxDropSpoofed; got != sent {
			t.Errorf("%s: sent %v, want %v", what, got, sent)
		}
	}
	try("the device's address", true)
	for _, step := range []struct {
		config, told string
		sent         bool
	}{
		{"addr: [10.0.1.99/24], anti-spoof: ip", "changed VNI 4097: addr\n", false},
		{"addr: [10.0.1.99/24], anti-spoof: ip, local-ip: " + inner4A.String(), "changed VNI 4097: local-ip\n", true},
		{"addr: [10.0.1.99/24], anti-spoof: mac, local-mac: [\"02:00:00:00:00:09\"]", "changed VNI 4097: anti-spoof, local-mac, local-ip\n", true},
		{"addr: [10.0.1.99/24], anti-spoof: ip, storm-control: 10, learn-rate: 5, mac-moves: 0", "changed VNI 4097: mac-moves, learn-rate, storm-control, anti-spoof, local-mac\n", false},
	} {
		write(step.config)
		if o := p.ask("reload"); o.code != 0 || !strings.HasPrefix(o.stdout, step.told) {
			t.Errorf("reload: %+v, want %q", o, step.told)
		}
		try(step.config, step.sent)
	}
	write("addr: [10.0.1.99/24], anti-spoof: sometimes")
	p.denied(1, `anti-spoof "sometimes": give off, mac or ip`, "reload")
	try("what was wrong changed nothing", false)
}
