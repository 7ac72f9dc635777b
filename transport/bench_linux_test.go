package transport

import (
	"testing"
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
