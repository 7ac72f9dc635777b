package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// faults are probabilities for each packet on a wire. mark is that of a mark of
// congestion, for packets that may carry one.
type faults struct{ lose, duplicate, delay, corrupt, mark float64 }

// badWire joins two hosts by a wire that mistreats packets: a namespace in the
// middle in which the test passes them on by hand.
func badWire(t *testing.T, label string, f faults) (a, b *host) {
	t.Helper()
	lab := netlabtest.New(t, label)
	middle := netlabtest.Namespace(t, lab, "middle")
	must(t, middle.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"))
	var hosts []*host
	var ports []*packetPort
	for i, name := range []string{"hostA", "hostB"} {
		h := &host{Namespace: netlabtest.Namespace(t, lab, name), lab: lab, ip4: netip.AddrFrom4([4]byte{192, 168, 52, byte(203 + i)})}
		port := []string{"left", "right"}[i]
		must(t, lab.Veth(h.Namespace, underlayDevice, h.ip4.String()+"/24", middle, port, "", 0))
		must(t, h.SetOffloads(underlayDevice, false))
		must(t, middle.SetOffloads(port, false))
		hosts, ports = append(hosts, h), append(ports, openPort(t, middle, port, false))
	}
	for i, from := range ports {
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			passOn(from, ports[1-i], f, rand.New(rand.NewPCG(uint64(i), 1)), stop)
		}()
		t.Cleanup(func() { close(stop); <-stopped })
	}
	return hosts[0], hosts[1]
}

// passOn carries packets one way until stop is closed.
func passOn(from, to *packetPort, f faults, random *rand.Rand, stop <-chan struct{}) {
	var late []byte // overtaken by the next
	for {
		select {
		case <-stop:
			return
		default:
		}
		packet := from.recv(time.Now().Add(5 * time.Millisecond))
		if packet == nil {
			if late != nil {
				_ = to.trySend(late)
				late = nil
			}
			continue
		}
		chance := func(p float64) bool { return random.Float64() < p }
		if chance(f.lose) {
			continue
		}
		if chance(f.corrupt) {
			// Behind the Ethernet header: its check sequence is not simulated.
			bit := 14*8 + random.IntN((len(packet)-14)*8)
			packet[bit/8] ^= 1 << (bit % 8)
		}
		if chance(f.mark) {
			markCongestion(packet)
		}
		if late == nil && chance(f.delay) {
			late = append([]byte(nil), packet...)
			continue
		}
		// A full queue loses it, as it does on a real wire.
		_ = to.trySend(packet)
		if chance(f.duplicate) {
			_ = to.trySend(packet)
		}
		if late != nil {
			_ = to.trySend(late)
			late = nil
		}
	}
}

// TestBadWire: over a wire that loses, duplicates, reorders and damages packets
// TCP still carries every byte as it was sent: nothing is put together that did
// not belong together.
func TestBadWire(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]faults{
		"reordered":  {delay: 0.05},
		"duplicated": {duplicate: 0.05},
		"all faults": {lose: 0.003, duplicate: 0.01, delay: 0.02, corrupt: 0.005},
	} {
		for _, far := range []string{"kernel", "govxlan"} {
			for _, offload := range []string{"auto", "off"} {
				t.Run(name+"/"+far+"/offload="+offload, func(t *testing.T) {
					t.Parallel()
					a, b := badWire(t, "bad", f)
					up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String()+"/24", "--offload", offload)
					if far == "kernel" {
						b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
						must(t, b.AddAddr("vxlan0", inner4B.String()+"/24"))
					} else {
						up(t, b.Namespace, "--vni", "4097", "--peer", a.ip4.String(), "--addr", inner4B.String()+"/24", "--offload", offload)
					}
					must(t, transfer(a.Namespace, b.Namespace, inner4B, 1<<20))
					must(t, transfer(b.Namespace, a.Namespace, inner4A, 1<<20))
				})
			}
		}
	}
}

// markCongestion does to an IPv4 packet what a router does that is about to lose
// packets (RFC 3168).
func markCongestion(packet []byte) {
	if packet[12] != 0x08 || packet[13] != 0 || packet[15]&3 == 0 {
		return
	}
	packet[15] |= 3
	packet[24], packet[25] = 0, 0
	var sum uint32
	for i := 14; i < 34; i += 2 {
		sum += uint32(packet[i])<<8 | uint32(packet[i+1])
	}
	for sum > 0xFFFF {
		sum = sum>>16 + sum&0xFFFF
	}
	packet[24], packet[25] = ^byte(sum>>8), ^byte(sum)
}

// TestCongestionHeard: marks that routers of the underlay set reach the inner
// TCP, which answers by slowing down, and lose nothing.
func TestCongestionHeard(t *testing.T) {
	t.Parallel()
	for _, offload := range []string{"auto", "off"} {
		t.Run("offload="+offload, func(t *testing.T) {
			t.Parallel()
			a, b := badWire(t, "mark", faults{mark: 0.05})
			for _, h := range []*host{a, b} {
				must(t, h.Sysctl("net.ipv4.tcp_ecn", "1"))
			}
			p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String()+"/24", "--offload", offload)
			b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
			must(t, b.AddAddr("vxlan0", inner4B.String()+"/24"))
			must(t, transfer(a.Namespace, b.Namespace, inner4B, 1<<20))
			must(t, transfer(b.Namespace, a.Namespace, inner4A, 1<<20))
			for _, h := range []*host{a, b} {
				if n := netstat(t, h.Namespace, "InCEPkts"); n < 10 {
					t.Errorf("%s: %d packets with a mark of congestion arrived, want more", h.Label(), n)
				}
			}
			if c := p.counters(); c.RxDropECN > 0 {
				t.Errorf("counters: %+v", c)
			}
		})
	}
}

// netstat reads one counter of the namespace's IP stack.
func netstat(t *testing.T, ns *netlab.Namespace, name string) (n int) {
	t.Helper()
	must(t, ns.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/netstat")
		if err != nil {
			return err
		}
		lines := strings.Split(string(text), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			if at := slices.Index(names, name); at >= 0 {
				n, err = strconv.Atoi(values[at])
				return err
			}
		}
		return fmt.Errorf("no counter %s", name)
	}))
	return n
}
