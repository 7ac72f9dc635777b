package vtep

import (
	"context"
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
)

// BenchmarkCapture is BenchmarkWayOut of small frames while somebody captures, and
// somebody reads along.
func BenchmarkCapture(b *testing.B) {
	frames := make([]tap.Frame, 128)
	for i := range frames {
		frames[i].Bytes = packet{dst: alice, src: host, payload: 22}.frame(b)
	}
	for name, cfg := range map[string]*CaptureConfig{
		"off":   nil,
		"all":   {},
		"drops": {CaptureFilter: CaptureFilter{Drops: true}},
		"none":  {CaptureFilter: CaptureFilter{MAC: vxlan.MAC{2, 9}, IP: netip.MustParsePrefix("10.9.9.9/32")}},
	} {
		b.Run(name, func(b *testing.B) {
			p := toAlice(b)
			p.rig.wire.quiet = true
			if cfg != nil {
				c := p.rig.capture(*cfg)
				read := make(chan uint64)
				go func() {
					n := uint64(0)
					for {
						if _, err := c.Next(context.Background()); err != nil {
							read <- n
							return
						}
						n++
					}
				}()
				defer func() {
					c.Stop()
					if n := <-read + c.Missed(); name == "all" && n != uint64(b.N*len(frames)) {
						b.Errorf("%d frames captured or missed in %d rounds", n, b.N)
					}
				}()
			}
			b.ReportAllocs()
			for b.Loop() {
				p.tx.carry(p.w, frames)
			}
			perFrame(b, len(frames))
		})
	}
}
