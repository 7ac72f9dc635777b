package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// withInner changes an IP frame of ipFrame: its TTL, its DF bit or flow label.
func withInner(f []byte, ttl uint8, df bool, label uint32) []byte {
	f = bytes.Clone(f)
	ip := f[14:]
	if ip[0]>>4 == 6 {
		binary.BigEndian.PutUint32(ip, binary.BigEndian.Uint32(ip)&^0xFFFFF|label)
		ip[7] = ttl
		return f
	}
	ip[8], ip[6], ip[10], ip[11] = ttl, 0, 0, 0
	if df {
		ip[6] = 0x40
	}
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum > 0xFFFF {
		sum = sum>>16 + sum&0xFFFF
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	return f
}

// innerFrames are broadcast frames that differ in what an outer header can take
// over.
func innerFrames() map[string][]byte {
	src := station(1)
	frames := map[string][]byte{"not IP": testFrame(broadcast, src, nil, 100, 1)}
	for ecn := range uint8(4) {
		for _, v6 := range []bool{false, true} {
			name := fmt.Sprintf("%s in, ECN %d", family(v6), ecn)
			frames[name] = withInner(ipFrame(broadcast, src, v6, 0x88|ecn, [2]uint16{1000, 9}, make([]byte, 40)), 3+ecn, ecn&1 != 0, 0xABC00+uint32(ecn))
		}
	}
	frames["TTL 255"] = withInner(ipFrame(broadcast, src, false, 0, [2]uint16{1, 2}, make([]byte, 40)), 255, true, 0)
	return frames
}

// nextOuter returns the next VXLAN packet that has this inner frame.
func nextOuter(t *testing.T, wire *packetPort, frame []byte) outer {
	t.Helper()
	limit := deadline()
	for {
		packet := wire.recv(limit)
		if packet == nil {
			t.Fatal("no packet with the frame was on the wire")
		}
		if o, ok := parseOuter(packet); ok && len(o.payload) > vxlan.HeaderLen && bytes.Equal(o.payload[vxlan.HeaderLen:], frame) {
			return o
		}
	}
}

// TestOuterAsKernel: the same inner frames, through the kernel's device and
// through us, with options of the same meaning, leave with the same outer
// fields (PROTOCOL B7 to B11, B43).
func TestOuterAsKernel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		flags  []string
		kernel netlab.VXLANConfig
		only   string // family of the underlay
	}{
		{"defaults", []string{"--ttl", "auto"}, netlab.VXLANConfig{}, ""},
		{"ttl 200", []string{"--ttl", "200"}, netlab.VXLANConfig{TTL: 200}, ""},
		{"ttl inherit", []string{"--ttl", "inherit"}, netlab.VXLANConfig{TTL: netlab.TTLInherit}, ""},
		{"tos 0xb8", []string{"--ttl", "auto", "--tos", "0xb8"}, netlab.VXLANConfig{TOS: 0xb8}, ""},
		{"tos inherit", []string{"--ttl", "auto", "--tos", "inherit"}, netlab.VXLANConfig{TOS: 1}, ""},
		{"df set", []string{"--ttl", "auto", "--df", "set"}, netlab.VXLANConfig{DF: netlab.DFSet}, "IPv4"},
		{"df inherit", []string{"--ttl", "auto", "--df", "inherit"}, netlab.VXLANConfig{DF: netlab.DFInherit}, "IPv4"},
		{"flow label 0x12345", []string{"--ttl", "auto", "--flow-label", "0x12345"}, netlab.VXLANConfig{FlowLabel: 0x12345}, "IPv6"},
		{"flow label inherit", []string{"--ttl", "auto", "--flow-label", "inherit"}, netlab.VXLANConfig{FlowLabelInherit: true}, "IPv6"},
		{"no checksum", []string{"--ttl", "auto", "--udp-csum=false"}, netlab.VXLANConfig{NoUDPChecksum: true}, "IPv4"},
		{"no checksum over IPv6", []string{"--ttl", "auto", "--udp-zero-csum6-tx"}, netlab.VXLANConfig{UDP6ZeroTx: true}, "IPv6"},
		{"all inherited", []string{"--ttl", "inherit", "--tos", "inherit", "--df", "inherit"},
			netlab.VXLANConfig{TTL: netlab.TTLInherit, TOS: 1, DF: netlab.DFInherit}, "IPv4"},
		{"all inherited", []string{"--ttl", "inherit", "--tos", "inherit", "--flow-label", "inherit"},
			netlab.VXLANConfig{TTL: netlab.TTLInherit, TOS: 1, FlowLabelInherit: true}, "IPv6"},
	} {
		for _, v6 := range []bool{false, true} {
			if c.only != "" && c.only != family(v6) {
				continue
			}
			t.Run(c.name+"/"+family(v6), func(t *testing.T) {
				t.Parallel()
				hosts := newHosts(t, "askernel", 2, wiring{real: true})
				a, b := hosts[0], hosts[1]
				for _, h := range hosts {
					h.quiet(t)
					// So that it shows who asks the system.
					must(t, h.Sysctl("net.ipv4.ip_default_ttl", "77"))
					must(t, h.Sysctl("net.ipv6.conf."+underlayDevice+".hop_limit", "77"))
				}
				c.kernel.VNI, c.kernel.Port = 4097, 4789
				b.kernelVTEP(t, c.kernel, v6, a)
				flags := append([]string{"--vni", "4097", "--ecn", "kernel", "--peer", b.ip(v6).String()}, c.flags...)
				p := up(t, a.Namespace, flags...)
				ours, theirs := openPort(t, a.Namespace, p.device(), false), openPort(t, b.Namespace, "vxlan0", false)
				fromUs, fromThem := openPort(t, b.Namespace, underlayDevice, false), openPort(t, a.Namespace, underlayDevice, false)
				for name, frame := range innerFrames() {
					ours.send(frame)
					us := nextOuter(t, fromUs, frame)
					theirs.send(frame)
					them := nextOuter(t, fromThem, frame)
					for _, f := range []struct {
						what     string
						us, them any
					}{
						{"TTL", us.ttl, them.ttl}, {"TOS", us.tos, them.tos}, {"DF", us.df, them.df},
						{"flow label", us.label, them.label}, {"absence of a checksum", us.checksum == 0, them.checksum == 0},
						{"port", us.dst.Port(), them.dst.Port()}, {"VXLAN header", fmt.Sprint(us.payload[:8]), fmt.Sprint(them.payload[:8])},
					} {
						if f.us != f.them {
							t.Errorf("%s: %s is %v, the kernel's %v", name, f.what, f.us, f.them)
						}
					}
				}
			})
		}
	}
}

// TestOuterFlags: what the flags put on the wire, said in numbers.
func TestOuterFlags(t *testing.T) {
	t.Parallel()
	type want struct {
		ttl, tos uint8
		df       bool
		label    uint32
	}
	frame4 := withInner(ipFrame(broadcast, station(1), false, 0x8A, [2]uint16{1, 2}, make([]byte, 40)), 9, true, 0)
	frame6 := withInner(ipFrame(broadcast, station(1), true, 0x8B, [2]uint16{1, 2}, make([]byte, 40)), 8, false, 0x54321)
	other := testFrame(broadcast, station(1), nil, 100, 1)
	for _, c := range []struct {
		flags                   []string
		v6                      bool
		inner4, inner6, unknown want
	}{
		{nil, false, want{64, 2, false, 0}, want{64, 3, false, 0}, want{64, 0, false, 0}},
		{nil, true, want{64, 2, false, 0}, want{64, 3, false, 0}, want{64, 0, false, 0}},
		{[]string{"--ttl", "1", "--tos", "0x28", "--df", "set"}, false, want{1, 0x2A, true, 0}, want{1, 0x2B, true, 0}, want{1, 0x28, true, 0}},
		{[]string{"--ttl", "255", "--tos", "252", "--flow-label", "1048575"}, true, want{255, 0xFE, false, 0xFFFFF}, want{255, 0xFF, false, 0xFFFFF}, want{255, 0xFC, false, 0xFFFFF}},
		{[]string{"--ttl", "inherit", "--tos", "inherit", "--df", "inherit"}, false, want{9, 0x8A, true, 0}, want{8, 0x8B, true, 0}, want{64, 0, false, 0}},
		{[]string{"--ttl", "inherit", "--tos", "inherit", "--flow-label", "inherit"}, true, want{9, 0x8A, false, 0}, want{8, 0x8B, false, 0x54321}, want{64, 0, false, 0}},
		{[]string{"--ecn", "kernel"}, false, want{64, 2, false, 0}, want{64, 2, false, 0}, want{64, 0, false, 0}},
	} {
		for _, offload := range []string{"auto", "off"} {
			t.Run(fmt.Sprint(family(c.v6), c.flags, offload), func(t *testing.T) {
				t.Parallel()
				l := newLone(t, "oflags", c.v6, append([]string{"--offload", offload}, c.flags...)...)
				for frame, w := range map[string]want{string(frame4): c.inner4, string(frame6): c.inner6, string(other): c.unknown} {
					l.device.send([]byte(frame))
					o := nextOuter(t, l.wire, []byte(frame))
					if got := (want{o.ttl, o.tos, o.df, o.label}); got != w {
						t.Errorf("frame of type %x: %+v, want %+v", frame[12:14], got, w)
					}
					if o.fragment || o.checksum == 0 {
						t.Errorf("fragment %v, checksum %#x", o.fragment, o.checksum)
					}
				}
			})
		}
	}
}

// TestFlowLabelAuto: the system's own label tells flows apart (RFC 6438).
func TestFlowLabelAuto(t *testing.T) {
	t.Parallel()
	l := newLone(t, "autolabel", true, "--flow-label", "auto")
	frame := testFrame(broadcast, station(1), nil, 100, 1)
	l.device.send(frame)
	if o := nextOuter(t, l.wire, frame); o.label == 0 {
		t.Error("the flow label is 0")
	}
}

// TestECNPairs: all 16 pairs of outer and inner ECN fields on the way in, over
// both families, by both sets of rules (RFC 6040 section 4.2, PROTOCOL B44).
func TestECNPairs(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, rules := range []string{"rfc6040", "kernel"} {
			t.Run(family(v6)+"/"+rules, func(t *testing.T) {
				t.Parallel()
				l := newLone(t, "ecnpairs", v6, "--ecn", rules)
				decap := vxlan.DecapECN
				if rules == "kernel" {
					decap = vxlan.KernelDecapECN
				}
				var drops, alerts uint64
				for outerECN := range vxlan.ECN(4) {
					l.setTOS(0x40 | int(outerECN))
					for inner := range vxlan.ECN(4) {
						for _, inner6 := range []bool{false, true} {
							frame := func(e vxlan.ECN) []byte {
								return ipFrame(broadcast, station(2), inner6, 0x88|uint8(e), [2]uint16{7, 9}, []byte{byte(outerECN), byte(inner)})
							}
							l.say(header(0x08, 0, l.vni, 0), frame(inner))
							e, verdict := decap(outerECN, inner)
							switch verdict {
							case vxlan.ECNDrop:
								drops++
								l.program.awaitCounters("dropped", func(c vtep.Counters) bool { return c.RxDropECN == drops })
								continue
							case vxlan.ECNAlert:
								alerts++
							}
							want, limit := frame(e), deadline()
							for {
								got := l.device.recv(limit)
								if got == nil {
									t.Fatalf("outer %v, inner %v: nothing arrived", outerECN, inner)
								}
								if bytes.Equal(got, want) {
									break
								}
								if got[11] == 2 && got[12] == want[12] {
									t.Fatalf("outer %v, inner %v:\n got %x\nwant %x", outerECN, inner, got, want)
								}
							}
						}
					}
				}
				l.program.awaitCounters("alerts", func(c vtep.Counters) bool { return c.RxECNAlert == alerts && c.RxDropECN == 2 })
			})
		}
	}
}

// TestZeroChecksum6: over IPv6, packets without a UDP checksum are taken only
// when switched on (RFC 6936 section 4), from the kernel's device too.
func TestZeroChecksum6(t *testing.T) {
	t.Parallel()
	for _, accept := range []bool{false, true} {
		t.Run(fmt.Sprintf("accept=%v", accept), func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "zero6", 2, wiring{real: true})
			a, b := hosts[0], hosts[1]
			a.quiet(t)
			b.quiet(t)
			b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, UDP6ZeroTx: true, UDP6ZeroRx: true}, true, a)
			p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip6.String(), "--udp-zero-csum6-tx", fmt.Sprintf("--udp-zero-csum6-rx=%v", accept))
			ours, theirs := openPort(t, a.Namespace, p.device(), false), openPort(t, b.Namespace, "vxlan0", false)
			frame := testFrame(broadcast, station(1), nil, 100, 1)
			ours.send(frame)
			theirs.expect(frame)
			wire := openPort(t, a.Namespace, underlayDevice, false)
			frame = testFrame(broadcast, station(2), nil, 100, 2)
			theirs.send(frame)
			if o := nextOuter(t, wire, frame); o.checksum != 0 {
				t.Fatalf("the kernel sent checksum %#x", o.checksum)
			}
			if accept {
				ours.expect(frame)
				return
			}
			eventually(t, func() error {
				if n := snmp6(t, a.Namespace, "Udp6InCsumErrors"); n == 0 {
					return fmt.Errorf("no checksum error was counted")
				}
				return nil
			})
			if f := ours.recvTest(time.Time{}); f != nil {
				t.Errorf("delivered: %x", f)
			}
		})
	}
}

// TestInheritingCarries: bulk transfers and pings with every field taken over,
// and without checksums, with the kernel at the other end.
func TestInheritingCarries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		v6    bool
		flags []string
	}{
		{false, []string{"--ttl", "inherit", "--tos", "inherit", "--df", "inherit"}},
		{true, []string{"--ttl", "inherit", "--tos", "inherit", "--flow-label", "inherit"}},
		{false, []string{"--udp-csum=false"}},
	} {
		for _, real := range []bool{false, true} {
			t.Run(fmt.Sprint(c.flags, real), func(t *testing.T) {
				t.Parallel()
				tn := kernelTunnel(t, "inherit", wiring{real: real}, c.v6, c.flags...)
				for _, h := range []*host{tn.a, tn.b} {
					must(t, h.Sysctl("net.ipv4.tcp_ecn", "1"))
				}
				ping(t, tn.a.Namespace, inner4B, 2)
				ping(t, tn.a.Namespace, inner6B, 2)
				must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 4<<20))
				must(t, transfer(tn.b.Namespace, tn.a.Namespace, inner6A, 4<<20))
				must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner6B, 4<<20))
			})
		}
	}
}

// snmp6 reads one counter of the namespace's IPv6 stack.
func snmp6(t *testing.T, ns *netlab.Namespace, name string) (n int) {
	t.Helper()
	must(t, ns.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if err != nil {
			return err
		}
		for _, line := range strings.Split(string(text), "\n") {
			if f := strings.Fields(line); len(f) == 2 && f[0] == name {
				n, err = strconv.Atoi(f[1])
				return err
			}
		}
		return fmt.Errorf("no counter %s", name)
	}))
	return n
}
