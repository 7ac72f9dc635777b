package e2e

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
)

// TestPersist: with --persist the device stays when the program ends, however it
// does, and the next one goes on with it; a container's address and route on it
// are as they were.
func TestPersist(t *testing.T) {
	t.Parallel()
	for _, offload := range []string{"auto", "off"} {
		t.Run(offload, func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "persist", 2, wiring{})
			a, b := hosts[0], hosts[1]
			b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
			must(t, b.AddAddr("vxlan0", "10.0.1.2/24"))
			must(t, a.Bridge("br0"))
			args := []string{"--vni", "4097", "--peer", b.ip4.String(), "--bridge", "br0", "--persist", "--offload", offload}
			must(t, a.AddAddr("br0", "10.0.1.1/24"))
			far := netip.MustParseAddr("10.0.1.2")

			index := 0
			for i, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
				p := up(t, a.Namespace, args...)
				ping(t, a.Namespace, far, 2)
				now := linkIndex(t, a.Namespace, p.device())
				if i > 0 && now != index {
					t.Errorf("the device has index %d, had %d", now, index)
				}
				index = now
				p.signal(s)
				p.exit()
				l, err := a.Link(p.device())
				must(t, err)
				if l.Bridge != "br0" {
					t.Errorf("after %v the device is %+v", s, l)
				}
			}
			// In the way of one that does not want it, which says what to do.
			refused(t, a.Namespace, 1, []string{"vx4097", "--persist"}, "--vni", "4097", "--peer", b.ip4.String())

			if o := run(t, a.Namespace, "down", "vx4097"); o.code != 0 {
				t.Errorf("down: %+v", o)
			}
			if _, err := a.Link("vx4097"); err == nil {
				t.Error("it is still there after down")
			}
		})
	}
}

// TestPersistRefuses: what is no device of ours to go on with, or to remove.
func TestPersistRefuses(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "persistno", 2, wiring{})
	a, b := hosts[0], hosts[1]
	must(t, a.Bridge("br0"))
	args := []string{"--vni", "4097", "--peer", b.ip4.String(), "--persist", "--name"}
	refused(t, a.Namespace, 1, []string{"br0", "bridge"}, append(args, "br0")...)
	p := up(t, a.Namespace, append(args, "vx1")...)
	refused(t, a.Namespace, 1, []string{"vx1", "open"}, append(args, "vx1", "--port", "4790")...)
	for name, words := range map[string]string{"br0": "bridge", "vx1": "open", "none": "no such device"} {
		o := run(t, a.Namespace, "down", name)
		if o.code != 1 || !strings.Contains(o.stderr, words) || strings.Count(o.stderr, "\n") != 1 {
			t.Errorf("down %s: %+v", name, o)
		}
	}
	p.signal(syscall.SIGTERM)
	p.exit()
	if o := run(t, a.Namespace, "down", "vx1", "none"); o.code != 1 {
		t.Errorf("one that is there, one that is not: %+v", o)
	}
	if _, err := a.Link("vx1"); err == nil {
		t.Error("it is still there")
	}
	// A start that fails half-way leaves none that was not there.
	before := snapshot(t, a.Namespace)
	refused(t, a.Namespace, 1, nil, append(args, "vx2", "--bridge", "vx9")...)
	if after := snapshot(t, a.Namespace); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
}
