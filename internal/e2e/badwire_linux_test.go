package e2e

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// faults are probabilities for each packet on a wire.
type faults struct{ lose, duplicate, delay, corrupt float64 }

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
