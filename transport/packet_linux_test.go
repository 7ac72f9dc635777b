package transport

import (
	"net/netip"
	"testing"
)

func TestPacketSmoke(t *testing.T) {
	h := newHosts(t, 1500)
	for _, v6 := range []bool{false, true} {
		a, b := h.a4, h.b4
		if v6 {
			a, b = h.a6, h.b6
		}
		c, err := ListenPacket(PacketConfig{Local: []netip.Addr{a}, Netns: h.a.Path()})
		if err != nil {
			t.Fatal(err)
		}
		d, err := ListenPacket(PacketConfig{Local: []netip.Addr{b}, Netns: h.b.Path()})
		if err != nil {
			t.Fatal(err)
		}
		s, r := c.NewSender(), d.Receivers()[0]
		for i := range 3 {
			tr := train(d.Locals()[0], 40, 1000, 500, byte(i))
			if n, err := s.Send([]Train{tr}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			if err := same(collect(t, r, d, 40), tr); err != nil {
				t.Fatal(err)
			}
		}
		st := s.(*packetSender).last.state.Load()
		t.Logf("%+v", st)
		for _, p := range h.seen(t) {
			checkPacket(t, p, v6, false, 64)
		}
		c.Close()
		d.Close()
	}
}
