package transport

import (
	"net"
	"net/netip"
	"testing"
)

// What the kernel drops at a socket, since nobody fetched it in time, is counted:
// no datagram is missing between those that arrive and the drops.
func TestDropsOfUDPSockets(t *testing.T) {
	for _, group := range []bool{false, true} {
		c := listen(t, UDPConfig{MulticastTTL: 1})
		to, r := c.Locals()[0], c.Receivers()[0]
		if group {
			at := netip.MustParseAddr("239.1.1.7")
			g, err := c.Join(at, "lo", func(error) {})
			if err != nil || g.State().Err != nil {
				t.Skip("lo takes no multicast here: ", err)
			}
			to, r = netip.AddrPortFrom(at, to.Port()), g
		}
		s, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		sent := uint64(0)
		for payload := make([]byte, 1400); c.Counters().RxQueueFull == 0; {
			for range 100 {
				if _, err := s.Write(payload); err != nil {
					t.Fatal(err)
				}
				sent++
			}
			if sent > 1_000_000 {
				t.Fatalf("%d datagrams are kept, and none counted as dropped", sent)
			}
		}
		dropped := c.Counters().RxQueueFull
		if got := collect(t, r, c, int(sent-dropped)); uint64(len(got))+dropped != sent {
			t.Errorf("%d sent, %d dropped, %d arrived", sent, dropped, len(got))
		}
		if n := c.Counters(); n != (Counters{RxQueueFull: dropped}) {
			t.Errorf("counted %+v", n)
		}
		if group {
			if err := r.(Group).Leave(); err != nil {
				t.Fatal(err)
			}
			if n := c.Counters(); n.RxQueueFull != dropped {
				t.Errorf("%d dropped, once the group is left; before it were %d", n.RxQueueFull, dropped)
			}
		}
	}
}
