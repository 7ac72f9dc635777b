package transport

import (
	"net/netip"
	"testing"
)

// Nothing is allocated per send or receive, whatever way the trains go.
func TestSendAndRecvAllocateNothing(t *testing.T) {
	eachKind(t, allocateNothing)
}

func allocateNothing(t *testing.T, k kind) {
	for _, local := range []netip.Addr{loopback4, loopback6} {
		for _, cfg := range []UDPConfig{{}, {NoGSO: true}, {NoGRO: true}} {
			cfg.Local = []netip.Addr{local}
			c := k.listen(t, cfg)
			s, r := c.NewSender(), c.Receivers()[0]
			trains := []Train{
				train(c.Locals()[0], 1, 100, 100, 1), train(c.Locals()[0], 40, 1000, 100, 2), train(c.Locals()[0], 128, 64, 64, 3),
			}
			trains[1].TOS = 3
			total := 0
			for i := range trains {
				total += trains[i].Len()
			}
			got := make([]Train, 64)
			n := testing.AllocsPerRun(100, func() {
				if n, err := s.Send(trains); n != len(trains) || err != nil {
					t.Fatalf("sent %d, %v", n, err)
				}
				for left := total; left > 0; {
					n, err := r.Recv(got)
					if err != nil {
						t.Fatal(err)
					}
					for i := range n {
						left -= got[i].Len()
					}
				}
			})
			if n != 0 {
				t.Errorf("%+v: %v allocations", cfg, n)
			}
		}
	}
	// Errors neither: a link that is down gives one for each train.
	c := k.listen(t, UDPConfig{})
	s := c.NewSender()
	tooLong := []Train{train(c.Locals()[0], 1, MaxBytes+100, MaxBytes+100, 1)}
	six := []Train{train(netip.AddrPortFrom(loopback6, 1), 1, 10, 10, 1)}
	if n := testing.AllocsPerRun(100, func() {
		if n, err := s.Send(tooLong); n != 0 || err == nil {
			t.Fatal("a datagram that is too long was sent")
		}
		if n, err := s.Send(six); n != 0 || err == nil {
			t.Fatal("IPv6 was sent without an IPv6 address")
		}
	}); n != 0 {
		t.Errorf("errors: %v allocations", n)
	}
}
