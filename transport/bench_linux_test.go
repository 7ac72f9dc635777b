package transport

import (
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
)

// BenchmarkLoopback sends trains to ourselves and receives them: system calls
// and the kernel's UDP, with no wire between. One goroutine does both.
func BenchmarkLoopback(b *testing.B) {
	for _, bc := range []struct {
		name                  string
		cfg                   UDPConfig
		trains, count, stride int
	}{
		{"64 trains of 1 x 72", UDPConfig{}, 64, 1, 72},
		{"1 train of 128 x 72", UDPConfig{}, 1, 128, 72},
		{"16 trains of 64 x 72", UDPConfig{}, 16, 64, 72},
		{"1 train of 44 x 1472", UDPConfig{}, 1, 44, 1472},
		{"4 trains of 44 x 1472", UDPConfig{}, 4, 44, 1472},
		{"4 trains of 44 x 1472, NoGSO", UDPConfig{NoGSO: true}, 4, 44, 1472},
		{"4 trains of 44 x 1472, NoGRO", UDPConfig{NoGRO: true}, 4, 44, 1472},
	} {
		b.Run(bc.name, func(b *testing.B) {
			c := listen(b, bc.cfg)
			s, r := c.NewSender(), c.Receivers()[0]
			var trains []Train
			for range bc.trains {
				trains = append(trains, train(c.locals[0], bc.count, bc.stride, bc.stride, 0))
			}
			datagrams := bc.trains * bc.count
			b.SetBytes(int64(datagrams * bc.stride))
			b.ReportAllocs()
			got := make([]Train, 64)
			for b.Loop() {
				if n, err := s.Send(trains); n != len(trains) || err != nil {
					b.Fatalf("sent %d, %v", n, err)
				}
				for left := datagrams; left > 0; {
					n, err := r.Recv(got)
					if err != nil {
						b.Fatal(err)
					}
					for i := range n {
						left -= got[i].Len()
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(datagrams), "ns/datagram")
		})
	}
}

// BenchmarkWireSend sends trains over a veth pair to a host that drops them,
// with the pair's offloads and without, as over a real wire.
func BenchmarkWireSend(b *testing.B) {
	for _, offloads := range []string{"veth", "wire"} {
		for _, bc := range []struct {
			name string
			open func(netns string, local netip.Addr) (Conn, error)
		}{
			{"UDP_SEGMENT", func(netns string, local netip.Addr) (Conn, error) {
				return ListenUDP(UDPConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: netns})
			}},
			{"packet, segmented by the kernel", func(netns string, local netip.Addr) (Conn, error) {
				return ListenPacket(PacketConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: netns})
			}},
			{"packet, one by one", func(netns string, local netip.Addr) (Conn, error) {
				return ListenPacket(PacketConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: netns, NoGSO: true})
			}},
			{"packet, one by one, no checksum", func(netns string, local netip.Addr) (Conn, error) {
				return ListenPacket(PacketConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: netns, ZeroChecksum4: true})
			}},
		} {
			b.Run(offloads+"/"+bc.name, func(b *testing.B) {
				h := newHosts(b, 1500)
				for _, ns := range []*netlab.Namespace{h.a, h.b} {
					if err := ns.SetOffloads("ens160", offloads == "veth"); err != nil {
						b.Fatal(err)
					}
				}
				c, err := bc.open(h.a.Path(), h.a4)
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				sink := listen(b, UDPConfig{Local: []netip.Addr{h.b4}, Port: wirePort, Netns: h.b.Path()})
				if err := refuseAll(sink.receivers[0]); err != nil {
					b.Fatal(err)
				}
				s := c.NewSender()
				const count, size = 44, 1472
				trains := []Train{train(sink.locals[0], count, size, size, 1)}
				if p, ok := c.(*packetConn); ok {
					if _, err := s.Send(trains); err != nil {
						b.Fatal(err)
					}
					awaitHop(b, p, sink.locals[0], "known", isDirect)
				}
				b.SetBytes(count * size)
				for b.Loop() {
					if n, err := s.Send(trains); n != 1 || err != nil {
						b.Fatalf("sent %d, %v", n, err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/count, "ns/datagram")
			})
		}
	}
}
