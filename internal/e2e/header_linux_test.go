package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// eachLone runs f for IPv4 and IPv6 underlays, with and without offloads, and
// over packet sockets.
func eachLone(t *testing.T, label string, f func(t *testing.T, l *lone), flags ...string) {
	t.Helper()
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, how := range [][]string{{"--offload", "auto"}, {"--offload", "off"}, {"--transport", "packet"}} {
			t.Run(family(v6)+"/"+flagsName(how), func(t *testing.T) {
				t.Parallel()
				f(t, newLone(t, label, v6, slices.Concat(how, flags)...))
			})
		}
	}
}

// TestD1toD7HeaderSent: I flag set, all other bits zero, the VNI big endian over
// its whole range, and the frame behind it as it was, without a check sequence.
func TestD1toD7HeaderSent(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			l := newLone(t, "header", v6)
			for _, vni := range []vxlan.VNI{0, 1, 4097, 0xABCDEF, vxlan.MaxVNI} {
				l.start(vni, "--pmtu", "off") // its probes have DF set
				for _, size := range []int{60, 61, 1000, 1444} {
					frame := testFrame(broadcast, station(1), nil, size, uint32(size))
					l.device.send(frame)
					o := l.heard()
					want := append([]byte{0x08, 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0}, frame...)
					if !bytes.Equal(o.payload, want) {
						t.Errorf("VNI %v:\n got %x\nwant %x", vni, o.payload, want)
					}
					if o.ttl != 64 || o.tos != 0 || o.df {
						t.Errorf("VNI %v: outer TTL %d, TOS %#x, DF %v, want 64, 0, false", vni, o.ttl, o.tos, o.df)
					}
				}
			}
		})
	}
}

// TestD8FlagMissing: without the I flag the VNI is not valid, whatever else the
// header says.
func TestD8FlagMissing(t *testing.T) {
	eachLone(t, "iflag", func(t *testing.T, l *lone) {
		frame := testFrame(broadcast, station(2), nil, 60, 1)
		n := uint64(0)
		for flags := range 256 {
			if flags&0x08 == 0 {
				l.say(header(byte(flags), 0, l.vni, 0), frame)
				n++
			}
		}
		l.awaitDropped(n, 0, 0)
		l.silent()
	})
}

// TestD9toD11ReservedBitsIgnored: all 127 patterns of the R flags, every bit and
// many patterns of the 24 and 8 reserved bits: delivered.
func TestD9toD11ReservedBitsIgnored(t *testing.T) {
	eachLone(t, "reserved", func(t *testing.T, l *lone) {
		var headers [][]byte
		for flags := range 256 {
			if flags&0x08 != 0 {
				headers = append(headers, header(byte(flags), 0, l.vni, 0))
			}
		}
		for bit := range 24 {
			headers = append(headers, header(0x08, 1<<bit, l.vni, 0))
		}
		for last := range 256 {
			headers = append(headers, header(0x08, 0, l.vni, byte(last)))
		}
		for range 100 {
			headers = append(headers, header(byte(rand.Uint32())|0x08, rand.Uint32(), l.vni, byte(rand.Uint32())))
		}
		headers = append(headers, header(0xFF, 0xFFFFFF, l.vni, 0xFF))
		for i, h := range headers {
			frame := testFrame(broadcast, station(2), nil, 60+i, uint32(i))
			l.say(h, frame)
			l.device.expect(frame)
		}
	})
}

// TestD12UnknownVNI: a VNI that differs in one bit is another Ethernet.
func TestD12UnknownVNI(t *testing.T) {
	eachLone(t, "unknown", func(t *testing.T, l *lone) {
		for bit := range 24 {
			l.say(header(0x08, 0, l.vni^1<<bit, 0), testFrame(broadcast, station(2), nil, 60, uint32(bit)))
		}
		l.awaitDropped(0, 0, 24)
		l.silent()
		if e := l.program.entry(station(2).String()); e != nil {
			t.Errorf("a station of another VNI was learned: %+v", e)
		}
	})
}

// TestD13Garbage: whatever arrives on the port is delivered or counted, and the
// program lives on.
func TestD13Garbage(t *testing.T) {
	eachLone(t, "garbage", func(t *testing.T, l *lone) {
		random := rand.New(rand.NewPCG(7, 7))
		noise := func(n int) []byte {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			return b
		}
		var bad, short, other, sent uint64
		counted := func() {
			t.Helper()
			eventually(t, func() error {
				s := l.program.status()
				c, v := s.Counters, s.VNIs[0].Counters
				dropped := v.RxDropInvalidSource + v.RxDropOwnMAC + v.RxDropStaticMAC + v.RxDropECN + v.RxDropOversize + v.RxDropDevice + v.RxDropUnknownVTEP
				if c.RxDropBadHeader != bad || c.RxDropShortFrame != short || c.RxDropUnknownVNI != other || v.RxFrames+dropped != sent {
					return fmt.Errorf("counted %+v %+v, want %d bad headers, %d short frames, %d of other VNIs, %d frames", c, v, bad, short, other, sent)
				}
				return nil
			})
		}
		// Every length, with each thing that can be wrong with the header.
		for n := range 101 {
			l.say(make([]byte, n)) // I flag clear
			if n > 0 {
				bad++
			} // else there is no header to be bad: a datagram without content
			b := noise(n)
			if n > 0 {
				b[0] |= 0x08
			}
			if n >= 8 {
				copy(b[4:], []byte{0xFF, 0xFF, 0xFF})
			}
			l.say(b)
			switch {
			case n == 0:
			case n < 8:
				bad++
			case n < 22:
				short++
			default:
				other++
			}
			if n < 8 {
				continue
			}
			l.say(header(0x08, 0, l.vni, 0), noise(n-8)) // any Ethernet frame
			if n < 22 {
				short++
			} else {
				sent++
			}
			counted()
		}
		// Frames that claim to be IP, TCP, UDP, ARP, tagged, and are broken or cut.
		for round := range 20 {
			for range 50 {
				v6 := random.IntN(2) == 0
				f := ipFrame(station(3), station(4), v6, 0, [2]uint16{uint16(random.Uint32() | 1), 9}, noise(random.IntN(300)))
				switch random.IntN(5) {
				case 0:
					f[12], f[13] = 0x81, 0x00
				case 1:
					f[12], f[13] = 0x08, 0x06
				case 2:
					f[14+9] = 6 // TCP
				}
				for range random.IntN(4) {
					f[12+random.IntN(min(len(f)-12, 50))] = byte(random.Uint32())
				}
				f = f[:14+random.IntN(len(f)-13)]
				l.say(header(0x08, 0, l.vni, 0), f)
				sent++
			}
			// A few as long as a datagram can be.
			l.say(header(0x08, 0, l.vni, 0), testFrame(station(3), station(4), nil, 65000, uint32(round)))
			f := ipFrame(station(3), station(4), true, 0, [2]uint16{1, 2}, noise(60000))
			f[14+6] = byte(random.Uint32())
			l.say(header(0x08, 0, l.vni, 0), f)
			if l.defragments() {
				sent += 2
			}
			counted()
		}
		l.device.drain()
		frame := testFrame(broadcast, station(2), nil, 60, 1)
		l.say(header(0x08, 0, l.vni, 0), frame)
		l.device.expect(frame)
		if l.defragments() {
			l.program.awaitCounters("oversize frames counted", func(c vtep.Counters) bool { return c.RxDropOversize >= 20 })
		}
	})
}

// TestBadSources: frames whose source cannot be a station, or is the endpoint's
// own device, are dropped, counted and not learned.
func TestBadSources(t *testing.T) {
	eachLone(t, "source", func(t *testing.T, l *lone) {
		own := l.program.status().VNIs[0].MAC
		for i, src := range []vxlan.MAC{{}, broadcast, {0x01, 0, 0x5E, 0, 0, 1}, {0x33, 0x33, 0, 0, 0, 1}, own} {
			l.say(header(0x08, 0, l.vni, 0), testFrame(station(1), src, nil, 60, uint32(i)))
		}
		l.program.awaitCounters("4 invalid sources and 1 own", func(c vtep.Counters) bool {
			return c.RxDropInvalidSource == 4 && c.RxDropOwnMAC == 1
		})
		l.silent()
		if s := l.program.status().VNIs[0]; s.Entries != 0 || s.Counters.RxFrames != 0 {
			t.Errorf("%d entries, %+v", s.Entries, s.Counters)
		}
	})
}

// TestPaddedFrames: short IP packets that some network card or switch padded to
// Ethernet's minimum arrive as they were sent, many of one flow too.
func TestPaddedFrames(t *testing.T) {
	eachLone(t, "padded", func(t *testing.T, l *lone) {
		for _, v6 := range []bool{false, true} {
			for n := range 18 {
				frame := ipFrame(broadcast, station(2), v6, 0, [2]uint16{7, 9}, make([]byte, n))
				for _, padding := range []int{0, 1, 2, 7, 18} {
					padded := append(bytes.Clone(frame), bytes.Repeat([]byte{0xA5}, padding)...)
					for range 3 {
						l.say(header(0x08, 0, l.vni, 0), padded)
						for {
							got := l.device.recv(deadline())
							if got == nil {
								t.Fatalf("%d bytes with %d of padding did not arrive", len(frame), padding)
							}
							if got[11] != 2 {
								continue
							}
							if !bytes.Equal(got, padded) {
								t.Fatalf("%d bytes with %d of padding:\n got %x\nwant %x", len(frame), padding, got, padded)
							}
							break
						}
					}
				}
			}
		}
	})
}
