package vtep

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
)

func TestStatus(t *testing.T) {
	r := newRig(t)
	r.wire.locals = append(r.wire.locals, netip.MustParseAddrPort("[fd00::203]:4789"))
	r.add(20, nil)
	p := r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepB, vtepA}
		c.Static = []StaticEntry{{bob, vtepB}}
		c.Device.(*card).features = tap.AllFeatures
		c.Device.(*card).queues = 2
	})
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	r.now += 1500 * time.Millisecond

	s := r.e.Status()
	if s.Local != "192.168.52.203,fd00::203" || s.Port != 4789 || s.Uptime != 1.5 {
		t.Errorf("status %+v", s)
	}
	if len(s.VNIs) != 2 || s.VNIs[0].VNI != 10 || s.VNIs[1].VNI != 20 {
		t.Fatalf("VNIs %+v, want 10 and 20", s.VNIs)
	}
	v := s.VNIs[0]
	if v.Device != "card0" || v.MAC != host || v.MTU != 1450 || v.Queues != 2 || v.Offload != "checksum,tso4,tso6,uso" || v.Entries != 2 {
		t.Errorf("VNI %+v", v)
	}
	if len(v.Peers) != 2 || v.Peers[0].VTEP != vtepA.Addr() || v.Peers[1].VTEP != vtepB.Addr() {
		t.Errorf("peers %+v, want them by address", v.Peers)
	}
	if v.Counters.RxFrames != 1 || v.Counters.RxBytes != 64 {
		t.Errorf("counters %+v", v.Counters)
	}

	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if vni := back["vnis"].([]any)[0].(map[string]any); vni["vni"] != 10.0 || vni["mac"] != "02:00:00:00:01:00" ||
		vni["peers"].([]any)[0].(map[string]any)["last_heard_s"] != 1.5 ||
		vni["peers"].([]any)[1].(map[string]any)["last_heard_s"] != nil {
		t.Errorf("as JSON: %s", text)
	}
}

func TestFDBShowsFloodListsThenEntries(t *testing.T) {
	r := newRig(t)
	q := r.add(20, peers(vtepC))
	p := r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepB, vtepA}
		c.Static = []StaticEntry{{bob, vtepB}}
	})
	p.arrive(vtepA.Addr(), raw(host, alice, 64))
	q.arrive(vtepC.Addr(), raw(host, alice, 64))
	line := func(e EntryStatus) string {
		return e.VNI.String() + " " + e.MAC.String() + " " + netip.AddrPortFrom(e.VTEP, e.Port).String() + " " + e.Kind
	}
	show := func(only ...vxlan.VNI) (lines []string) {
		for _, e := range r.e.FDB(only...) {
			lines = append(lines, line(e))
		}
		return lines
	}
	ten := []string{
		"10 00:00:00:00:00:00 192.168.52.205:4789 flood",
		"10 00:00:00:00:00:00 192.168.52.204:4789 flood",
		"10 02:00:00:00:02:00 192.168.52.204:4789 learned",
		"10 02:00:00:00:03:00 192.168.52.205:4789 static",
	}
	twenty := []string{
		"20 00:00:00:00:00:00 192.168.52.206:4789 flood",
		"20 02:00:00:00:02:00 192.168.52.206:4789 learned",
	}
	if got := show(); !slices.Equal(got, slices.Concat(ten, twenty)) {
		t.Errorf("all: %q", got)
	}
	if got := show(20); !slices.Equal(got, twenty) {
		t.Errorf("VNI 20: %q", got)
	}
	if got := show(30); got != nil {
		t.Errorf("VNI 30, which is not there: %q", got)
	}
}

func TestStatusOfSomeVNIs(t *testing.T) {
	r := newRig(t)
	for _, v := range []vxlan.VNI{30, 10, 20} {
		r.add(v, nil)
	}
	for _, tt := range []struct{ only, want []vxlan.VNI }{
		{nil, []vxlan.VNI{10, 20, 30}},
		{[]vxlan.VNI{20}, []vxlan.VNI{20}},
		{[]vxlan.VNI{30, 10, 30}, []vxlan.VNI{10, 30}},
		{[]vxlan.VNI{40}, []vxlan.VNI{}},
	} {
		got := []vxlan.VNI{}
		for _, v := range r.e.Status(tt.only...).VNIs {
			got = append(got, v.VNI)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("Status(%v) has %v, want %v", tt.only, got, tt.want)
		}
	}
}

func TestStatusCountsEntriesByKind(t *testing.T) {
	r := newRig(t)
	p := r.add(10, func(c *VNIConfig) {
		c.Peers = []netip.AddrPort{vtepA, vtepB}
		c.Static = []StaticEntry{{bob, vtepB}}
		c.MaxEntries = 100
		c.AllowUnknownVTEPs = true
	})
	r.add(20, func(c *VNIConfig) { c.MaxEntries = -1 })
	p.arrive(vtepC.Addr(), raw(host, alice, 64))
	s := r.e.Status()
	if got, want := s.VNIs[0].FDB, (FDBStatus{Learned: 1, Static: 1, Flood: 2, Limit: 100}); got != want {
		t.Errorf("VNI 10: %+v, want %+v", got, want)
	}
	if got := s.VNIs[1].FDB; got != (FDBStatus{}) {
		t.Errorf("VNI 20, which is empty and has no limit: %+v", got)
	}
	for _, peer := range s.VNIs[0].Peers {
		if peer.Stranger != (peer.VTEP == vtepC.Addr()) {
			t.Errorf("%v: stranger %v", peer.VTEP, peer.Stranger)
		}
	}
}

// slowCard is one whose name takes its time.
type slowCard struct {
	*card
	asked, told chan struct{}
}

func (c slowCard) Name() string {
	c.asked <- struct{}{}
	<-c.told
	return c.card.Name()
}

// TestStatusHoldsNothingUp: while somebody reads the status of a large endpoint,
// it goes on to change.
func TestStatusHoldsNothingUp(t *testing.T) {
	r := newRig(t)
	c := slowCard{newCard(t), make(chan struct{}), make(chan struct{})}
	if err := r.e.AddVNI(VNIConfig{VNI: 10, Device: c}); err != nil {
		t.Fatal(err)
	}
	read := make(chan Status)
	go func() { read <- r.e.Status() }()
	<-c.asked
	if err := r.e.AddPeer(10, vtepA); err != nil { // hangs if the lock is held
		t.Error(err)
	}
	close(c.told)
	if s := <-read; len(s.VNIs) != 1 || s.VNIs[0].Device != "card0" {
		t.Errorf("status %+v", s)
	}
}
