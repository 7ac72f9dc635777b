package e2e

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// accessPort joins a network stack of its own to one VLAN of a device, as a
// switch's access port does: this kernel may have neither VLAN devices nor
// bridges that filter. Superframes go through as they are.
func accessPort(t *testing.T, l *netlab.Lab, on *host, device string, vid uint16, addrs ...string) *netlab.Namespace {
	t.Helper()
	label := fmt.Sprintf("vlan%d", vid)
	stack := netlabtest.Namespace(t, l, label)
	must(t, stack.Sysctl("net.ipv6.conf.default.accept_dad", "0"))
	must(t, l.Veth(stack, "eth0", "", on.Namespace, label, "", 1450))
	for _, a := range addrs {
		must(t, stack.AddAddr("eth0", a))
	}
	trunk, access := openPort(t, on.Namespace, device, false), openPort(t, on.Namespace, label, false)
	for _, p := range []*packetPort{trunk, access} {
		must(t, unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1))
	}
	for _, way := range []struct {
		from, to *packetPort
		change   func(b []byte, tag int) []byte
	}{
		{trunk, access, func(b []byte, tag int) []byte {
			if tag&0xFFF != int(vid) {
				return nil
			}
			return b
		}},
		{access, trunk, func(b []byte, tag int) []byte { return pushTag(b, vid) }},
	} {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			relay(way.from, way.to, way.change, stop)
		}()
		t.Cleanup(func() { close(stop); <-stopped })
	}
	return stack
}

// pushTag puts a VLAN tag into a frame behind its virtio-net header, whose
// offsets follow.
func pushTag(b []byte, vid uint16) []byte {
	out := append(slices.Clone(b[:tap.HeaderLen+12]), 0x81, 0, byte(vid>>8), byte(vid))
	out = append(out, b[tap.HeaderLen+12:]...)
	for _, at := range []int{2, 6} { // length of all headers, start of the checksum
		if n := binary.NativeEndian.Uint16(out[at:]); n > 0 {
			binary.NativeEndian.PutUint16(out[at:], n+4)
		}
	}
	return out
}

// relay passes frames on until stop is closed. change gets the frame behind its
// virtio-net header, and its VLAN tag, -1 for none.
func relay(from, to *packetPort, change func(b []byte, tag int) []byte, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, oobn, _, _, err := unix.Recvmsg(from.fd, from.buf, from.oob, 0)
		if err != nil {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(from.fd), Events: unix.POLLIN}}, 5)
			continue
		}
		tag := -1
		messages, _ := unix.ParseSocketControlMessage(from.oob[:oobn])
		for _, m := range messages {
			if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20 &&
				binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
				tag = int(binary.NativeEndian.Uint16(m.Data[16:]))
			}
		}
		if b := change(from.buf[:n], tag); b != nil {
			// What a full queue loses, TCP sends again.
			_ = to.trySend(b)
		}
	}
}

// trunkLab is a trunk with two VLANs and frames without a tag on host a, and a
// kernel device for each of the three VNIs on host b.
func trunkLab(t *testing.T, w wiring, flags ...string) (a, b *host, p *program, vlans []*netlab.Namespace) {
	t.Helper()
	hosts := newHosts(t, "trunk", 2, w)
	a, b = hosts[0], hosts[1]
	for i, vni := range []uint32{4097, 5000, 5001} {
		name := fmt.Sprintf("vxlan%d", i)
		must(t, b.VXLAN(netlab.VXLANConfig{Name: name, VNI: vni, Local: b.ip4, Remotes: []netip.Addr{a.ip4}, MTU: 1450}))
		must(t, b.AddAddr(name, fmt.Sprintf("10.0.%d.103/24", i+1)))
		must(t, b.AddAddr(name, fmt.Sprintf("fd1%d::103/64", i)))
	}
	p = up(t, a.Namespace, append([]string{"--vni", "4097", "--vlan-map", "100=5000,200=5001", "--peer", b.ip4.String(),
		"--addr", "10.0.1.100/24", "--addr", "fd10::100/64"}, flags...)...)
	must(t, a.AwaitAddr(netip.MustParseAddr("fd10::100")))
	vlans = []*netlab.Namespace{a.Namespace}
	for i, vid := range []uint16{100, 200} {
		vlans = append(vlans, accessPort(t, a.lab, a, p.device(), vid,
			fmt.Sprintf("10.0.%d.100/24", i+2), fmt.Sprintf("fd1%d::100/64", i+1)))
	}
	return a, b, p, vlans
}

// TestD38Trunk: one TAP, three VNIs told apart by their VLAN tags, each with a
// kernel device at the far end, in both families, superframes and all.
func TestD38Trunk(t *testing.T) {
	t.Parallel()
	for _, w := range []struct {
		name string
		wiring
	}{{"veth", wiring{}}, {"wire", wiring{real: true}}} {
		for _, offload := range []string{"auto", "off"} {
			t.Run(w.name+"/offload="+offload, func(t *testing.T) {
				t.Parallel()
				_, b, p, vlans := trunkLab(t, w.wiring, "--offload", offload)
				if !strings.HasSuffix(p.upLine(), " vlans 100=5000,200=5001") {
					t.Errorf("it printed %q", p.upLine())
				}
				for i, ns := range vlans {
					far4, far6 := netip.MustParseAddr(fmt.Sprintf("10.0.%d.103", i+1)), netip.MustParseAddr(fmt.Sprintf("fd1%d::103", i))
					near4, near6 := netip.MustParseAddr(fmt.Sprintf("10.0.%d.100", i+1)), netip.MustParseAddr(fmt.Sprintf("fd1%d::100", i))
					ping(t, ns, far4, 2)
					ping(t, ns, far6, 2)
					for _, err := range []error{
						transfer(ns, b.Namespace, far4, 4<<20), transfer(b.Namespace, ns, near4, 4<<20),
						transfer(ns, b.Namespace, far6, 4<<20), transfer(b.Namespace, ns, near6, 4<<20),
					} {
						if err != nil {
							t.Errorf("VLAN %d: %v", i, err)
						}
					}
				}
				s := p.status()
				if len(s.VNIs) != 3 {
					t.Fatalf("%d VNIs", len(s.VNIs))
				}
				for i, want := range []uint16{0, 100, 200} {
					v := s.VNIs[i]
					if v.VLAN != want || v.Device != "vx4097" || v.Counters.TxBytes < 8<<20 || v.Counters.RxBytes < 8<<20 {
						t.Errorf("VNI %v: VLAN %d, device %s, %+v", v.VNI, v.VLAN, v.Device, v.Counters)
					}
					if offload == "auto" && v.Offload != "checksum,tso4,tso6,uso" {
						t.Errorf("VNI %v: the kernel took offloads back: %s", v.VNI, v.Offload)
					}
				}
			})
		}
	}
}

// TestD38TrunkFrames: tags on both sides, and what belongs to no VNI.
func TestD38TrunkFrames(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			l := newLone(t, "trunkf", v6)
			l.program.stop()
			flags := []string{"--peer", l.b.ip(v6).String(), "--vlan-map", "100=5000", "--vlan-map", "200=5001"}
			l.program = up(t, l.a.Namespace, flags...)
			l.device = openPort(t, l.a.Namespace, l.program.device(), false)
			tag := func(f []byte, vid uint16) []byte {
				return append(append(slices.Clone(f[:12]), 0x81, 0, byte(vid>>8), byte(vid)), f[12:]...)
			}
			for i, vid := range []uint16{100, 200} {
				f := testFrame(broadcast, station(1), nil, 100, uint32(i))
				l.device.send(tag(f, vid|0xE000))
				if o := l.heard(); !slices.Equal(o.payload, append(header(0x08, 0, vxlan.VNI(5000+i), 0), f...)) {
					t.Errorf("VLAN %d: sent %x", vid, o.payload)
				}
				f = testFrame(broadcast, station(2), nil, 100, uint32(10+i))
				l.say(header(0x08, 0, vxlan.VNI(5000+i), 0), f)
				l.device.expect(tag(f, vid))
				f = testFrame(broadcast, station(2), tagQ, 100, uint32(20+i))
				l.say(header(0x08, 0, vxlan.VNI(5000+i), 0), f)
				l.device.expect(tag(f, vid))
			}
			l.device.send(testFrame(broadcast, station(1), nil, 100, 30))
			l.device.send(tag(testFrame(broadcast, station(1), nil, 100, 31), 300))
			eventually(t, func() error {
				if c := l.program.status().Counters; c.TxDropUnknownVLAN != 2 {
					return fmt.Errorf("counters %+v", c)
				}
				return nil
			})
			if packet := l.wire.recv(time.Now()); packet != nil {
				if o, ok := parseOuter(packet); ok {
					t.Errorf("sent: %x", o.payload)
				}
			}
		})
	}
}

// TestTrunkLost: a trunk that somebody deletes ends the program, with a word.
func TestTrunkLost(t *testing.T) {
	t.Parallel()
	a, _, p, _ := trunkLab(t, wiring{})
	if n := len(p.status().VNIs); n != 3 {
		t.Errorf("%d VNIs", n)
	}
	must(t, a.DelLink(p.device()))
	if code := p.exit(); code != 1 || !strings.Contains(p.stderr.String(), "is gone") {
		t.Errorf("exit status %d, %s", code, p.stderr)
	}
}
