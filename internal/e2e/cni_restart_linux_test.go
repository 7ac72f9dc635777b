package e2e

import (
	"fmt"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// TestCNIPrivileges: an endpoint that has given up what it could has the VNI from
// the start, on the bridge that 'cni install' made: containers go on when it is
// started again, and neither goes with the last of them. A VNI that the plugin adds
// to such an endpoint works as well.
func TestCNIPrivileges(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "cnistart", 2, wiring{})
	h, far := hosts[0], hosts[1]
	c := newCNIHost(t, h, "fromstart")
	c.p.stop()
	far.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, h)
	must(t, far.AddAddr("vxlan0", inner4B.String()+"/24"))
	c.install(t, "--subnet", "10.0.1.0/24", "--range", "10.0.1.100-10.0.1.102", "--make-bridge")
	start := func() { c.restart(t, "--vni", "4097", "--peer", far.ip4.String(), "--bridge", "vxbr4097") }
	start()
	clean := c.unchanged(t)
	container := netlabtest.Namespace(t, c.lab, "container")
	must(t, container.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")) // which would speak at once
	c.add(t, container)
	// That the far end knows the container is from its announcement alone.
	eventually(t, func() error { return knows(far, "vxlan0", "02:42:0a:00:01:64") })
	ping(t, container, inner4B, 2)
	c.p.stop()
	c.wrong(t, "check", container, "no endpoint runs")
	start()
	ping(t, container, inner4B, 2)
	c.do(t, "check", container)
	c.do(t, "del", container)
	clean()

	conf := c.only(t, map[string]any{"vni": 4098, "name": "added"})
	if e := c.call(t, "ADD", "another", container.Path(), conf); e != nil {
		t.Fatal(e)
	}
	if e := c.call(t, "DEL", "another", container.Path(), conf); e != nil {
		t.Fatal(e)
	}
	clean()
}

// knows says whether a kernel's device has learned a MAC.
func knows(h *host, device, mac string) error {
	entries, err := h.FDB(device)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.MAC == mac {
			return nil
		}
	}
	return fmt.Errorf("%s has no %s: %v", device, mac, entries)
}
