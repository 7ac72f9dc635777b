package e2e

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// The packet mark as the kernel's device has it: the group below, the flags
// above (include/net/vxlan.h).
const (
	markDontLearn = 0x40 << 16
	markApplied   = 0x08 << 16
)

// setMark has frames sent with a packet mark from now on.
func (p *packetPort) setMark(mark int) {
	p.t.Helper()
	must(p.t, unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_MARK, mark))
}

// mark waits for the next test frame and returns its packet mark.
func (p *packetPort) mark() uint32 {
	p.t.Helper()
	must(p.t, unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVMARK, 1))
	for limit := deadline(); time.Now().Before(limit); {
		n, oobn, _, _, err := unix.Recvmsg(p.fd, p.buf, p.oob, 0)
		if err == unix.EAGAIN || err == unix.EINTR {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 10)
			continue
		}
		must(p.t, err)
		if _, ok := frameNumber(p.buf[:n]); !ok {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(p.oob[:oobn])
		must(p.t, err)
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_MARK && len(m.Data) >= 4 {
				return binary.NativeEndian.Uint32(m.Data)
			}
		}
		p.t.Fatal("the frame came without word of its mark")
	}
	p.t.Fatal("no frame arrived")
	return 0
}

// TestGroupPolicy: groups go to the kernel's device and come from it, with their
// flags (PROTOCOL B13).
func TestGroupPolicy(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "gbp", 2, wiring{real: true})
			a, b := hosts[0], hosts[1]
			a.quiet(t)
			b.quiet(t)
			b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, GBP: true}, v6, a)
			theirs := openPort(t, b.Namespace, "vxlan0", false)
			fromThem, fromUs := openPort(t, a.Namespace, underlayDevice, false), openPort(t, b.Namespace, underlayDevice, false)
			number := uint32(0)
			next := func(src vxlan.MAC) []byte {
				number++
				return testFrame(broadcast, src, nil, 100, number)
			}
			for _, c := range []struct {
				flag   string
				header []byte // the first four bytes
				mark   uint32
			}{
				{"0", []byte{0x08, 0, 0, 0}, 0},
				{"5", []byte{0x88, 0, 0, 5}, 5},
				{"0xabcd", []byte{0x88, 0, 0xAB, 0xCD}, 0xABCD},
				{"7,dont-learn", []byte{0x88, 0x40, 0, 7}, markDontLearn | 7},
				{"7,applied", []byte{0x88, 0x08, 0, 7}, markApplied | 7},
				{"65535,applied,dont-learn", []byte{0x88, 0x48, 0xFF, 0xFF}, markApplied | markDontLearn | 0xFFFF},
			} {
				p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip(v6).String(), "--gbp", c.flag)
				ours := openPort(t, a.Namespace, p.device(), false)
				frame := next(station(1))
				ours.send(frame)
				us := nextOuter(t, fromUs, frame)
				if !slices.Equal(us.payload[:4], c.header) {
					t.Errorf("--gbp %s: header %x, want %x", c.flag, us.payload[:8], c.header)
				}
				if mark := theirs.mark(); mark != c.mark {
					t.Errorf("--gbp %s: the kernel marked the frame %#x, want %#x", c.flag, mark, c.mark)
				}
				// And the same group from there.
				theirs.setMark(int(c.mark))
				station := vxlan.MAC{2, 0x5E, 0, 0, 7, byte(number)}
				frame = next(station)
				theirs.send(frame)
				if them := nextOuter(t, fromThem, frame); !slices.Equal(them.payload[:8], us.payload[:8]) {
					t.Errorf("mark %#x: the kernel sent header %x, we %x", c.mark, them.payload[:8], us.payload[:8])
				}
				ours.expect(frame)
				want := []vtep.GroupStatus{{Group: uint16(c.mark), RxFrames: 1}}
				if got := p.status().VNIs[0].Groups; !slices.Equal(got, want) {
					t.Errorf("groups seen: %+v, want %+v", got, want)
				}
				if learned := p.entry(station.String()) != nil; learned != (c.mark&markDontLearn == 0) {
					t.Errorf("mark %#x: learned is %v", c.mark, learned)
				}
				if o := run(t, a.Namespace, "status", "--control", p.control); !strings.Contains(o.stdout, fmt.Sprintf("groups: %d (1)", uint16(c.mark))) {
					t.Errorf("status does not show the group: %s%s", o.stdout, o.stderr)
				}
				p.stop()
			}
		})
	}
}

// TestGroupAccept: frames of other groups are dropped and counted, unless they
// say that policy was applied.
func TestGroupAccept(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "accept", 2, wiring{real: true})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, GBP: true}, false, a)
	p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--gbp-accept", "5,6", "--gbp-accept", "0x700")
	ours, theirs := openPort(t, a.Namespace, p.device(), false), openPort(t, b.Namespace, "vxlan0", false)
	drops := uint64(0)
	for i, c := range []struct {
		mark      int
		delivered bool
	}{{5, true}, {6, true}, {0x700, true}, {7, false}, {0, false}, {4, false}, {markApplied | 7, true}, {markDontLearn | 7, false}, {5, true}} {
		theirs.setMark(c.mark)
		frame := testFrame(broadcast, station(1), nil, 100, uint32(i))
		theirs.send(frame)
		if c.delivered {
			ours.expect(frame)
			continue
		}
		drops++
		p.awaitCounters("dropped", func(c vtep.Counters) bool { return c.RxDropGroup == drops })
	}
	if f := ours.recvTest(time.Time{}); f != nil {
		t.Errorf("delivered: %x", f)
	}
}

// TestReservedBitsAsKernel: the same headers are delivered and dropped by us and
// by the kernel's device with the same choice (PROTOCOL B5).
func TestReservedBitsAsKernel(t *testing.T) {
	t.Parallel()
	mask := func(m uint64) *uint64 { return &m }
	for _, c := range []struct {
		name   string
		flags  []string
		kernel netlab.VXLANConfig
	}{
		{"strict", []string{"--reserved-bits", "strict"}, netlab.VXLANConfig{}},
		{"strict, GBP", []string{"--reserved-bits", "strict", "--gbp", "0"}, netlab.VXLANConfig{GBP: true}},
		{"ignore", nil, netlab.VXLANConfig{ReservedBits: mask(0)}},
		{"last byte", []string{"--reserved-bits", "0xff"}, netlab.VXLANConfig{ReservedBits: mask(0xFF)}},
		{"first byte", []string{"--reserved-bits", "0xf700000000000000"}, netlab.VXLANConfig{ReservedBits: mask(0xF7 << 56)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "strict", 3, wiring{real: true})
			a, b, peer := hosts[0], hosts[1], hosts[2]
			a.quiet(t)
			b.quiet(t)
			c.kernel.VNI = 4097
			b.kernelVTEP(t, c.kernel, false, peer)
			p := up(t, a.Namespace, append([]string{"--vni", "4097", "--peer", peer.ip4.String()}, c.flags...)...)
			ours, theirs := openPort(t, a.Namespace, p.device(), false), openPort(t, b.Namespace, "vxlan0", false)
			socket, err := peer.ListenPacket("udp", addrPort(peer.ip4, vxlan.Port).String())
			must(t, err)
			defer socket.Close()
			var headers [][]byte
			for bit := range 64 {
				h := make([]byte, 8)
				binary.BigEndian.PutUint64(h, 0x08<<56|4097<<8|1<<bit)
				if bit == 59 || bit >= 8 && bit < 32 {
					continue // the I flag and the VNI
				}
				headers = append(headers, h)
			}
			headers = append(headers, header(0x88, 0x080005, 4097, 0), header(0xFF, 0xFFFFFF, 4097, 0xFF), header(0x08, 0, 4097, 0))
			last := uint32(len(headers) - 1)
			for i, h := range headers {
				frame := append(h, testFrame(broadcast, station(2), nil, 100, uint32(i))...)
				for _, to := range []*host{a, b} {
					_, err := socket.WriteTo(frame, udpAddr(to.ip4, vxlan.Port))
					must(t, err)
				}
			}
			us, them := ours.numbersUntil(last), theirs.numbersUntil(last)
			if !slices.Equal(us, them) {
				t.Errorf("delivered by us: %v\nby the kernel: %v", us, them)
			}
			dropped := uint64(len(headers) - len(us))
			p.awaitCounters("dropped", func(c vtep.Counters) bool { return c.RxDropReservedBits == dropped })
			t.Logf("%d of %d delivered", len(us), len(headers))
		})
	}
}
