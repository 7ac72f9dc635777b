package vtep

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vxlan"
)

// What ChangeVNI changes holds from the next batch on, and all else stays.
func TestChangeVNI(t *testing.T) {
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) { c.Peers = append(c.Peers[:0], vtepA) })
	cfg := VNIConfig{VNI: 10}
	change := func(f func(*VNIConfig)) {
		t.Helper()
		f(&cfg)
		if err := r.e.ChangeVNI(cfg); err != nil {
			t.Fatal(err)
		}
	}
	p.arrive(vtepA.Addr(), raw(host, bob, 64))
	if n := p.o.table.Learned(); n != 1 {
		t.Fatalf("%d learned entries", n)
	}

	change(func(c *VNIConfig) { c.DisableLearning = true })
	p.arrive(vtepA.Addr(), raw(host, guest, 64))
	if n := p.o.table.Learned(); n != 1 {
		t.Errorf("%d learned entries with learning off, want the one from before", n)
	}
	change(func(c *VNIConfig) { c.DisableLearning, c.MaxEntries = false, 1 })
	p.arrive(vtepA.Addr(), raw(host, guest, 64))
	if c := p.o.table; c.Learned() != 1 || c.MaxEntries() != 1 {
		t.Errorf("%d learned entries of %d at most", c.Learned(), c.MaxEntries())
	}

	change(func(c *VNIConfig) { c.Outer.TOS = 0xb8 })
	if sent := p.send(raw(bob, host, 64)); len(sent) != 1 || sent[0].TOS != 0xb8 {
		t.Errorf("sent %+v, want TOS 0xb8", sent)
	}

	change(func(c *VNIConfig) { c.Ageing = time.Minute })
	if a := p.o.table.Ageing(); a != time.Minute {
		t.Errorf("ageing %v", a)
	}

	// Strangers come and go with the permission.
	p.arrive(vtepB.Addr(), raw(host, guest, 64))
	if p.o.sender(vtepB.Addr()) != nil {
		t.Error("a stranger is let in")
	}
	change(func(c *VNIConfig) { c.AllowUnknownVTEPs, c.MaxEntries = true, 0 })
	p.arrive(vtepB.Addr(), raw(host, guest, 64))
	if p.o.sender(vtepB.Addr()) == nil || p.o.table.Learned() != 2 {
		t.Error("a stranger is not let in")
	}
	change(func(c *VNIConfig) { c.AllowUnknownVTEPs = false })
	if p.o.sender(vtepB.Addr()) != nil || p.o.table.Learned() != 1 {
		t.Error("a stranger, or what was learned from it, is still there")
	}

	// Neighbours stay when only the mode changes.
	neighbour := Neighbour{IP: bob4, MAC: bob}
	if err := r.e.AddNeighbour(10, neighbour); !errors.Is(err, ErrARPFlood) {
		t.Errorf("neighbour with flood: %v", err)
	}
	change(func(c *VNIConfig) { c.ARP, c.Neighbours = ARPSuppress, []Neighbour{neighbour} })
	change(func(c *VNIConfig) { c.ARP, c.Neighbours = ARPProxy, nil })
	if n := r.e.Neighbours(10); len(n) != 1 || r.e.Status().VNIs[0].ARP != "proxy" {
		t.Errorf("neighbours %+v", n)
	}

	// What is wrong changes nothing.
	was := p.o.policy.Load()
	for _, bad := range []func(*VNIConfig){
		func(c *VNIConfig) { c.Outer.TOS = 1 },
		func(c *VNIConfig) { c.VLAN = VLANDrop + 1 },
		func(c *VNIConfig) { c.Guard.AntiSpoof = AntiSpoofIP + 1 },
		func(c *VNIConfig) { c.Guard.LocalMACs = []vxlan.MAC{bob} },
		func(c *VNIConfig) { c.Guard.AntiSpoof, c.Guard.LocalMACs = AntiSpoofMAC, []vxlan.MAC{group} },
		func(c *VNIConfig) { c.Guard.AntiSpoof, c.Guard.LocalIPs = AntiSpoofIP, make([]netip.Prefix, 1) },
		func(c *VNIConfig) { c.Guard.Allow = make([]netip.Prefix, 1) },
		func(c *VNIConfig) { c.Guard.Damping.Hold = -1 },
		func(c *VNIConfig) { c.Guard.Storm.Burst = 1 },
		func(c *VNIConfig) { c.Guard.LearnRate.PerSecond = -1 },
		func(c *VNIConfig) { c.ReservedBits = 1 << 59 },
		func(c *VNIConfig) { c.ARP, c.Neighbours = ARPFlood, []Neighbour{neighbour} },
	} {
		wrong := cfg
		bad(&wrong)
		if err := r.e.ChangeVNI(wrong); err == nil {
			t.Errorf("%+v is accepted", wrong)
		}
	}
	if p.o.policy.Load() != was {
		t.Error("a refused change has changed something")
	}
	if err := r.e.ChangeVNI(VNIConfig{VNI: 11}); !errors.Is(err, ErrNoVNI) {
		t.Errorf("change a VNI that is not there: %v", err)
	}
	if n, err := r.e.Flush(10, fdb.Filter{}); err != nil || n != 1 {
		t.Errorf("flushed %d, %v", n, err)
	}
}
