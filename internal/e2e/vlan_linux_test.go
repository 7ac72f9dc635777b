package e2e

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/govxlan/govxlan/vtep"
)

// TestD35toD37InnerTags: what --vlan says happens to frames with VLAN tags, in
// both directions (RFC 7348 section 6.1).
func TestD35toD37InnerTags(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, offload := range []string{"auto", "off"} {
			for _, mode := range []string{"keep", "strip", "drop"} {
				t.Run(fmt.Sprintf("%s/offload=%s/%s", family(v6), offload, mode), func(t *testing.T) {
					t.Parallel()
					l := newLone(t, "vlan", v6, "--offload", offload, "--vlan", mode)
					var out, in uint64
					for i, tags := range [][]byte{nil, tagQ, tagQinQ, {0x81, 0, 0, 0}} {
						number := uint32(2 * i)
						plain := testFrame(broadcast, station(1), nil, 100, number)
						tagged := append(append(bytes.Clone(plain[:12]), tags...), plain[12:]...)
						want := tagged
						switch {
						case tags == nil || mode == "keep":
						case mode == "strip":
							want = plain
						default:
							want = nil
						}
						l.device.send(tagged)
						if want == nil {
							out++
							l.program.awaitCounters("dropped on the way out", func(c vtep.Counters) bool { return c.TxDropVLAN == out })
						} else if o := l.heard(); !bytes.Equal(o.payload[8:], want) {
							t.Errorf("tags %x: sent %x, want %x", tags, o.payload[8:], want)
						}
						tagged = append(append(bytes.Clone(plain[:12]), tags...), plain[12:]...)
						copy(tagged[6:], []byte{2, 0x5E, 0, 0, 0, 9})
						l.say(header(0x08, 0, l.vni, 0), tagged)
						if tags == nil || mode == "keep" {
							l.device.expect(tagged)
						} else {
							in++
							l.program.awaitCounters("dropped on the way in", func(c vtep.Counters) bool { return c.RxDropVLAN == in })
						}
					}
					l.silent()
				})
			}
		}
	}
}
